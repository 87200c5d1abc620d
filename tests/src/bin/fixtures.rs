//! `fixtures [FOLDER CC FLAGS...]`: compiles the Java and C programs of the live tests, for a machine without
//! compilers. With a folder the C programs go there, compiled by CC: for another architecture.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.as_slice() {
        [] => tests::java::compile_all(),
        [folder, cc, flags @ ..] => {
            tests::java::compile_java()?;
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            tests::java::compile_native(&PathBuf::from(folder), cc, &flags)
        }
        [_] => anyhow::bail!("fixtures takes a folder and a C compiler, or nothing"),
    }
}
