//! `fixtures`: compiles the Java and C programs of the live tests, for a machine without compilers.

use anyhow::Result;

fn main() -> Result<()> {
    tests::java::compile_all()
}
