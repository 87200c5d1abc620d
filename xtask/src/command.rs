//! Paths, and external commands whose failures read as one sentence.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    // The value at run time wins: a target directory shared between two checkouts may hold an
    // xtask compiled in the other one.
    let here = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or(here.clone(), Path::to_path_buf)
}

/// The target directory: an outer `CARGO_TARGET_DIR` is honoured.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => {
            env::current_dir().map_or_else(|_| PathBuf::from(&dir), |cwd| cwd.join(&dir))
        }
        _ => root().join("target"),
    }
}

/// The release binary.
pub(crate) fn binary() -> PathBuf {
    target().join("release/tcptrail")
}

/// The cargo that runs this xtask, without what it set for xtask itself.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).env("CARGO_TARGET_DIR", target());
    for (name, _) in env::vars_os() {
        if is_for_xtask(&name) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Variables that cargo sets for the package it runs; `CARGO_HOME`, `CARGO_NET_*` and the like
/// are the user's.
fn is_for_xtask(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || matches!(name, "LD_LIBRARY_PATH" | "OUT_DIR" | "CARGO_PRIMARY_PACKAGE")
    })
}

/// Variables that choose a compiler or its flags: right for the host, wrong for eBPF.
pub(crate) fn chooses_compiler(name: &str) -> bool {
    name.starts_with("RUSTC")
        || name.starts_with("CARGO_BUILD_")
        || name.starts_with("CARGO_PROFILE_")
        || (name.starts_with("CARGO_TARGET_") && name != "CARGO_TARGET_DIR")
        || matches!(name, "CARGO" | "RUSTFLAGS" | "CARGO_ENCODED_RUSTFLAGS" | "RUSTUP_TOOLCHAIN")
        || matches!(name, "RUSTDOC" | "RUSTDOCFLAGS" | "CARGO_ENCODED_RUSTDOCFLAGS")
}

/// Runs `command`; when it fails the error says so and what a person can do.
pub(crate) fn must(command: &mut Command, what: &str, advice: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not start {} to {what}: {advice}", shown(command)))?;
    if !status.success() {
        bail!("could not {what} ({} ended with {}): {advice}", shown(command), ending(status));
    }
    Ok(())
}

/// What `command` prints on stdout, or nothing when it cannot run or fails.
pub(crate) fn quietly(command: &mut Command) -> Option<String> {
    let Output { status, stdout, .. } =
        command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    status.success().then(|| String::from_utf8_lossy(&stdout).into_owned())
}

/// Runs `command` for at most `limit`; whether it succeeded.
pub(crate) fn within(command: &mut Command, limit: Duration) -> bool {
    // rustup prints a backtrace with every download that fails, if that is asked for.
    command.stdin(Stdio::null()).env("RUST_BACKTRACE", "0");
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(50)),
            _ => {
                stop(&mut child);
                return false;
            }
        }
    }
}

fn stop(child: &mut Child) {
    // It may have ended in between, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// `program`, to be run as root: through sudo when this process is not.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg("--").arg(program);
    sudo
}

/// Where `program` is: on PATH, or where root's tools are.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// An exit status as this process's own.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => format!("signal {}", status.signal().unwrap_or(0)),
    }
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut text = format!("`{}", program.to_string_lossy());
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text.push('`');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cargo_set_for_xtask_is_dropped() {
        for (name, dropped) in [
            ("CARGO_PKG_NAME", true),
            ("CARGO_MANIFEST_DIR", true),
            ("CARGO_HOME", false),
            ("CARGO_TARGET_DIR", false),
        ] {
            assert_eq!(is_for_xtask(OsStr::new(name)), dropped, "{name}");
        }
    }

    #[test]
    fn the_host_compiler_does_not_leak_into_ebpf() {
        for (name, leaks) in [
            ("RUSTFLAGS", true),
            ("RUSTUP_TOOLCHAIN", true),
            ("RUSTC_WRAPPER", true),
            ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", true),
            ("CARGO_TARGET_DIR", false),
            ("RUSTUP_HOME", false),
        ] {
            assert_eq!(chooses_compiler(name), leaks, "{name}");
        }
    }

    #[test]
    fn a_command_that_hangs_is_given_up() {
        let start = Instant::now();
        assert!(!within(Command::new("sleep").arg("30"), Duration::from_millis(100)));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
