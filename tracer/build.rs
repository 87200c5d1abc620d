//! Tells the crate where its eBPF objects are, those that are committed or those that the environment names, and
//! what `--version --verbose` says.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Names another object to carry; the one with the programs for stacks stands beside it.
const CHOSEN: &str = "TCPTRAIL_EBPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={CHOSEN}");
    let chosen = env::var_os(CHOSEN).filter(|path| !path.is_empty()).map(PathBuf::from);
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let object = chosen.clone().unwrap_or_else(|| manifest.join("ebpf/tcptrail-ebpf.o"));
    let object = std::path::absolute(&object).unwrap_or(object);
    let stacks = object.with_file_name("tcptrail-stacks.o");
    about(&manifest, chosen.is_some());
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

/// For `--version --verbose`.
fn about(manifest: &Path, chosen: bool) {
    let sums = manifest.join("ebpf/SHA256SUMS");
    println!("cargo::rerun-if-changed={}", sums.display());
    let sums = fs::read_to_string(sums).unwrap_or_default();
    for (variable, object) in
        [("TCPTRAIL_EBPF_SUM", "tcptrail-ebpf.o"), ("TCPTRAIL_STACKS_SUM", "tcptrail-stacks.o")]
    {
        let sum = sums.lines().find_map(|line| line.strip_suffix(object)).map(str::trim);
        let said = match sum {
            Some(sum) if !chosen => format!("{object} sha256:{sum}"),
            _ => format!("{object} chosen by {CHOSEN}"),
        };
        println!("cargo::rustc-env={variable}={said}");
    }
    let features: Vec<String> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase()))
        .filter(|feature| feature != "default")
        .collect();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(" ") };
    println!("cargo::rustc-env=TCPTRAIL_FEATURES={features}");
    println!("cargo::rustc-env=TCPTRAIL_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo::rustc-env=TCPTRAIL_COMMIT={}", commit(manifest));
}

/// What `cargo xtask dist` says, or what `cargo package` wrote down. git is not asked: each commit would then
/// compile everything again.
fn commit(manifest: &Path) -> String {
    const GIVEN: &str = "TCPTRAIL_COMMIT";
    println!("cargo::rerun-if-env-changed={GIVEN}");
    let packaged = || {
        let text = fs::read_to_string(manifest.join(".cargo_vcs_info.json")).ok()?;
        let (_, rest) = text.split_once("\"sha1\"")?;
        rest.split('"').nth(1).map(str::to_owned)
    };
    env::var(GIVEN)
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(packaged)
        .unwrap_or_else(|| "not known: not a release".to_owned())
}
