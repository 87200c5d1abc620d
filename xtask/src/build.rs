//! `build`: the eBPF object first, then the binary that carries it.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::command::{cargo, chooses_compiler, must, root, target};
use crate::setup::{self, Compiler, Toolchain};

const BPF_TARGET: &str = "bpfel-unknown-none";
/// What cargo makes of the eBPF crate, and what tracer's build script looks for.
const OBJECTS: [(&str, &str); 2] =
    [("tcptrail-ebpf", "tcptrail-ebpf.o"), ("tcptrail-stacks", "tcptrail-stacks.o")];

pub(crate) fn verb() -> Result<ExitCode> {
    all(&setup::toolchain()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds everything that `run` and `test` use.
pub(crate) fn all(toolchain: &Toolchain) -> Result<()> {
    ebpf(toolchain)?;
    must(
        cargo().args(["build", "--release", "--package", "tracer"]),
        "build tcptrail",
        "fix what the compiler says above",
    )
}

/// Builds the eBPF programs and puts the object where tracer's build script looks for it.
pub(crate) fn ebpf(toolchain: &Toolchain) -> Result<()> {
    let mut build = ebpf_cargo(toolchain, "build");
    must(&mut build, "build the eBPF programs", "fix what the compiler says above")?;
    for (program, object) in OBJECTS {
        let built = ebpf_target().join(BPF_TARGET).join("release").join(program);
        place(&built, &ebpf_target().join(object))?;
    }
    Ok(())
}

/// The directory of the eBPF objects.
pub(crate) fn objects() -> PathBuf {
    ebpf_target()
}

/// The floor program that `bench` measures against, built with the others.
pub(crate) fn floor() -> PathBuf {
    ebpf_target().join(BPF_TARGET).join("release/bench-floor")
}

/// Cargo for the eBPF crate, with `verb` (`build` or `clippy`) and its target filled in.
pub(crate) fn ebpf_cargo(toolchain: &Toolchain, verb: &str) -> Command {
    ebpf_cargo_for(toolchain, verb, env::consts::ARCH)
}

/// The same for kernels of another architecture, beside this machine's own build.
pub(crate) fn ebpf_cargo_for(toolchain: &Toolchain, verb: &str, arch: &str) -> Command {
    let mut command = match &toolchain.compiler {
        Compiler::Debian => {
            // Clippy is started by its own name: `cargo clippy` would search PATH, where
            // rustup's stands first and brings a compiler without eBPF.
            let program = if verb == "clippy" { "/usr/bin/cargo-clippy" } else { "/usr/bin/cargo" };
            Command::new(program)
        }
        Compiler::Nightly(name) => {
            // Through rustup by name: the first cargo on PATH need not be rustup's.
            let mut rustup = Command::new("rustup");
            rustup.args(["run", name, "cargo"]);
            rustup
        }
    };
    for (name, _) in env::vars_os() {
        let leaks = name.to_str().is_some_and(|name| {
            chooses_compiler(name)
                || name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                // Names the libraries of the toolchain that runs xtask.
                || name == "LD_LIBRARY_PATH"
        });
        if leaks {
            command.env_remove(name);
        }
    }
    match &toolchain.compiler {
        Compiler::Debian => {
            // The `core` that Debian ships for this target is not on the stable list.
            command
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", "/usr/bin/rustc")
                .env("CARGO", "/usr/bin/cargo")
                .arg(verb);
        }
        Compiler::Nightly(_) => {
            command.args([verb, "-Z", "build-std=core"]);
        }
    }
    let own = arch == env::consts::ARCH;
    let built_in = if own { ebpf_target() } else { ebpf_target().join(arch) };
    // The encoded form allows a space in the linker's path.
    let flags = [
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", toolchain.linker.display()),
        "-Clink-arg=--btf".to_owned(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
    ];
    command
        .args(["--release", "--target", BPF_TARGET])
        .current_dir(root().join("tracer-ebpf"))
        .env("CARGO_TARGET_DIR", built_in)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    command
}

fn ebpf_target() -> PathBuf {
    target().join("ebpf")
}

/// Copies `built` to `object` if it differs, and makes `object` newer than every source.
///
/// The time is touched only when a source is newer: otherwise cargo would build the tracer anew
/// each time. A checkout makes sources new without changing what comes out of them.
fn place(built: &Path, object: &Path) -> Result<()> {
    let bytes = fs::read(built)
        .with_context(|| format!("the eBPF build left no object at {}", built.display()))?;
    let failed = || format!("could not write {}: check its permissions", object.display());
    if fs::read(object).ok().as_ref() != Some(&bytes) {
        fs::write(object, &bytes).with_context(failed)?;
    } else if modified(object) < newest_source() {
        let file = File::options().append(true).open(object).with_context(failed)?;
        file.set_modified(SystemTime::now()).with_context(failed)?;
    }
    Ok(())
}

fn newest_source() -> Option<SystemTime> {
    let root = root();
    ["tracer-ebpf/src", "tracer-ebpf/Cargo.toml", "tracer-common/src"]
        .iter()
        .filter_map(|path| newest(&root.join(path)))
        .max()
}

fn newest(path: &Path) -> Option<SystemTime> {
    let inside = fs::read_dir(path).into_iter().flatten().flatten();
    let newest_inside = inside.filter_map(|entry| newest(&entry.path())).max();
    // A directory's own time changes when a file in it is removed, which is a change too.
    modified(path).max(newest_inside)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}
