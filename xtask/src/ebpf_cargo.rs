//! Cargo for the eBPF programs, such that what it makes does not depend on where it is made.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::command::{chooses_compiler, must, root, target};
use crate::setup::Toolchain;

const BPF_TARGET: &str = "bpfel-unknown-none";
/// Set when xtask is to act as rustc.
const WRAPPER: &str = "XTASK_AS_RUSTC";

/// Cargo for the eBPF crate, with `verb` (`build` or `clippy`) and its target filled in, for kernels of
/// `arch`.
pub(crate) fn ebpf_cargo_for(toolchain: &Toolchain, verb: &str, arch: &str) -> Result<Command> {
    // So that `without_paths` finds them.
    let mut fetch = nightly_cargo(toolchain);
    fetch.args(["fetch", "--locked", "--quiet"]);
    must(&mut fetch, "download what the eBPF programs use", "check the network")?;
    let mut command = nightly_cargo(toolchain);
    command.args([verb, "-Z", "build-std=core", "--locked", "--release", "--target", BPF_TARGET]);
    // The encoded form allows a space in a path.
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", toolchain.linker.display()),
        "-Clink-arg=--btf".to_owned(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
    ];
    flags.extend(without_paths(&toolchain.sysroot, arch));
    command
        // The linker's LLVM is the compiler's, and not what xtask itself was started with.
        .env("LD_LIBRARY_PATH", toolchain.sysroot.join("lib"))
        .env("CARGO_TARGET_DIR", ebpf_target(arch))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    wrap_rustc(&mut command)?;
    Ok(command)
}

/// The pinned toolchain's cargo in the directory of the eBPF crate, without what was set for xtask or for the
/// host's compiler.
fn nightly_cargo(toolchain: &Toolchain) -> Command {
    // Through rustup by name: the first cargo on PATH need not be rustup's.
    let mut command = Command::new("rustup");
    command.args(["run", &toolchain.name, "cargo"]).current_dir(root().join("tracer-ebpf"));
    for (name, _) in env::vars_os() {
        let leaks = name.to_str().is_some_and(|name| {
            chooses_compiler(name)
                || name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
        });
        if leaks {
            command.env_remove(name);
        }
    }
    command
}

/// Flags that keep this machine's paths out of the objects: the line information of BTF names source files.
fn without_paths(sysroot: &Path, arch: &str) -> Vec<String> {
    let mut more = vec![(sysroot.join("lib/rustlib/src/rust"), "rust".to_owned())];
    for registry in registries() {
        for bindings in std::fs::read_dir(&registry).into_iter().flatten().flatten() {
            let name = bindings.file_name().to_string_lossy().into_owned();
            // Helpers are the same for all architectures, and stand in a file for each.
            if name.starts_with("aya-ebpf-bindings-") {
                let own = bindings.path().join("src").join(arch);
                more.push((own, format!("crates/{name}/src/arch")));
            }
        }
    }
    remapped(&more)
}

/// Flags for rustc that give the sources here and of other crates, and these, names that are the same on all
/// machines.
pub(crate) fn remapped(more: &[(PathBuf, String)]) -> Vec<String> {
    let crates = registries().into_iter().map(|registry| (registry, "crates".to_owned()));
    // The last that fits is taken.
    let all = crates.chain([(root(), "tcptrail".to_owned())]).chain(more.iter().cloned());
    all.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
}

/// Where cargo has unpacked crates: a directory for each registry, whose name is a hash.
fn registries() -> Vec<PathBuf> {
    let all = std::fs::read_dir(cargo_home().join("registry/src")).into_iter().flatten();
    all.flatten().map(|registry| registry.path()).collect()
}

pub(crate) fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

/// Where the eBPF programs for kernels of `arch` are built.
pub(crate) fn ebpf_target(arch: &str) -> PathBuf {
    target().join("ebpf").join(arch)
}

/// An eBPF program as cargo makes it.
pub(crate) fn built(arch: &str, program: &str) -> PathBuf {
    ebpf_target(arch).join(BPF_TARGET).join("release").join(program)
}

/// Lets cargo call xtask in place of rustc for the eBPF programs.
pub(crate) fn wrap_rustc(cargo: &mut Command) -> Result<()> {
    let own = env::current_exe().context("could not find xtask's own path")?;
    cargo.env("RUSTC_WRAPPER", own).env(WRAPPER, "1");
    Ok(())
}

/// As cargo's wrapper of rustc: becomes rustc, with a crate identity that names no directory.
///
/// Cargo makes `-C metadata` from, among others, the paths of the sources of `core` and of tracer-common, and
/// names of symbols contain a hash of it.
pub(crate) fn as_rustc() -> Option<ExitCode> {
    env::var_os(WRAPPER)?;
    let mut args = env::args_os().skip(1);
    let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
    let error =
        Command::new(args.next()?).args(args.map(|arg| without_directory(arg, &package))).exec();
    eprintln!("xtask: could not start rustc: {error}");
    Some(ExitCode::FAILURE)
}

fn without_directory(arg: OsString, package: &str) -> OsString {
    if arg.to_string_lossy().starts_with("metadata=") {
        return format!("metadata={package}").into();
    }
    arg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_of_a_crate_names_no_directory() {
        let check = |arg: &str, expect: &str| {
            assert_eq!(without_directory(arg.into(), "tracer-common"), expect);
        };
        check("metadata=0123abc", "metadata=tracer-common");
        check("extra-filename=-0123abc", "extra-filename=-0123abc");
        check("src/lib.rs", "src/lib.rs");
    }
}
