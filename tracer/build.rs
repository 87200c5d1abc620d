//! Tells the crate where its eBPF objects are: those that are committed, or those that the environment names.

use std::env;
use std::path::PathBuf;

/// Names another object to carry; the one with the programs for stacks stands beside it.
const CHOSEN: &str = "TCPTRAIL_EBPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={CHOSEN}");
    let chosen = env::var_os(CHOSEN).filter(|path| !path.is_empty()).map(PathBuf::from);
    let own = || {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
        manifest.join("ebpf/tcptrail-ebpf.o")
    };
    let object = chosen.unwrap_or_else(own);
    let object = std::path::absolute(&object).unwrap_or(object);
    let stacks = object.with_file_name("tcptrail-stacks.o");
    for (variable, object) in [(CHOSEN, object), ("TCPTRAIL_STACKS_OBJECT", stacks)] {
        println!("cargo::rerun-if-changed={}", object.display());
        if !object.is_file() {
            println!(
                "cargo::error=there is no eBPF object {}: take it from a checkout (tracer/ebpf), or build it \
                 with `cargo xtask ebpf`",
                object.display()
            );
        }
        println!("cargo::rustc-env={variable}={}", object.display());
    }
}
