//! Finds the eBPF object that `cargo xtask build` made and tells the crate where it is.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What the object is made from, relative to the workspace.
const SOURCES: [&str; 3] = ["tracer-ebpf/src", "tracer-ebpf/Cargo.toml", "tracer-common/src"];

fn main() {
    println!("cargo::rerun-if-env-changed=TCPTRAIL_EBPF_OBJECT");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let workspace = manifest.parent().map(Path::to_path_buf).unwrap_or_default();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }

    let given = env::var_os("TCPTRAIL_EBPF_OBJECT").filter(|path| !path.is_empty());
    let object = given.as_ref().map_or_else(|| default_object(&workspace), PathBuf::from);
    let object = std::path::absolute(&object).unwrap_or(object);
    // While it is missing this makes cargo run the script again each time, as it should.
    println!("cargo::rerun-if-changed={}", object.display());

    let Some(built) = modified(&object) else {
        println!(
            "cargo::error=the eBPF programs are not built (no {}): run `cargo xtask build`",
            object.display()
        );
        return;
    };
    // Whoever names an object has chosen it; only our own can be stale.
    let newest = SOURCES.iter().filter_map(|source| newest(&workspace.join(source))).max();
    if given.is_none() && newest.is_some_and(|newest| newest > built) {
        println!(
            "cargo::error=the eBPF programs are older than their sources: run `cargo xtask build`"
        );
        return;
    }
    println!("cargo::rustc-env=TCPTRAIL_EBPF_OBJECT={}", object.display());
    // The programs that take stacks stand beside it.
    let stacks = object.with_file_name("tcptrail-stacks.o");
    println!("cargo::rerun-if-changed={}", stacks.display());
    if !stacks.is_file() {
        println!(
            "cargo::error=the eBPF programs for stacks are not built (no {}): run `cargo xtask build`",
            stacks.display()
        );
        return;
    }
    println!("cargo::rustc-env=TCPTRAIL_STACKS_OBJECT={}", stacks.display());
}

/// `ebpf/tcptrail-ebpf.o` in the target directory, which cargo does not name to build scripts:
/// one of the directories above OUT_DIR.
fn default_object(workspace: &Path) -> PathBuf {
    let object = |target: &Path| target.join("ebpf/tcptrail-ebpf.o");
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    if let Some(found) = out.ancestors().take(8).map(object).find(|object| object.is_file()) {
        return found;
    }
    match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        Some(target) => object(Path::new(&target)),
        None => object(&workspace.join("target")),
    }
}

fn newest(path: &Path) -> Option<SystemTime> {
    let inside = fs::read_dir(path).into_iter().flatten().flatten();
    modified(path).max(inside.filter_map(|entry| newest(&entry.path())).max())
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}
