//! The static binary for an architecture, and the commit that it is made from.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, must, quietly, root, target};
use crate::setup;

/// Cargo's profile of what is shipped.
pub(super) const PROFILE: &str = "dist";

/// What a release is made from.
pub(crate) struct Commit {
    /// Its name, with `-modified` when the work tree is not it.
    pub(crate) name: String,
    /// When it was made, in seconds: the time of everything in a release.
    pub(crate) epoch: String,
}

impl Commit {
    /// Of this checkout.
    pub(crate) fn here() -> Result<Commit> {
        let git = |args: &[&str]| {
            let said = quietly(Command::new("git").args(args).current_dir(root()));
            said.map(|said| said.trim().to_owned()).with_context(|| {
                format!("`git {}` failed: releases are made in a git checkout", args.join(" "))
            })
        };
        let mut name = git(&["rev-parse", "HEAD"])?;
        if !git(&["status", "--porcelain"])?.is_empty() {
            name.push_str("-modified");
        }
        Ok(Commit { name, epoch: git(&["log", "-1", "--format=%ct"])? })
    }

    /// Whether the work tree is not what was committed.
    pub(super) fn is_modified(&self) -> bool {
        self.name.ends_with("-modified")
    }
}

/// What rustc calls the static target of an architecture.
pub(crate) fn triple(arch: &str) -> String {
    format!("{arch}-unknown-linux-musl")
}

/// Has cargo link for a static target. No C compiler for another architecture is needed: rustc brings musl and a
/// linker.
pub(crate) fn for_target(cargo: &mut Command, triple: &str) -> Result<()> {
    if !setup::has_target(triple) {
        bail!("rustc has no `std` for {triple}: run `rustup target add {triple}`");
    }
    let linker = format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase().replace('-', "_"));
    cargo.env(linker, "rust-lld");
    Ok(())
}

/// Builds the static binary for one architecture, as it is shipped.
pub(crate) fn build_static(arch: &str) -> Result<PathBuf> {
    let triple = triple(arch);
    let commit = Commit::here()?;
    let mut build = cargo();
    for_target(&mut build, &triple)?;
    build.args(["build", "--locked", "--package", "tracer", "--target", &triple]);
    build.args(["--profile", PROFILE]);
    build
        .env("TCPTRAIL_COMMIT", &commit.name)
        .env("SOURCE_DATE_EPOCH", &commit.epoch)
        .env("CARGO_ENCODED_RUSTFLAGS", crate::ebpf_cargo::remapped(&[]).join("\u{1f}"));
    must(&mut build, &format!("build tcptrail for {triple}"), "fix what the compiler says above")?;
    let binary = target().join(&triple).join(PROFILE).join("tcptrail");
    let bytes = fs::read(&binary).with_context(|| format!("there is no {}", binary.display()))?;
    if copies_slowly(&bytes) {
        bail!(
            "musl's `memcpy` is in {}, which makes `tail --json` take twice the time: `kernel/copy.rs` did not take its \
             place. Look at what is linked before the C library",
            binary.display()
        );
    }
    eprintln!("xtask: {}: {:.1} MiB", binary.display(), bytes.len() as f64 / f64::from(1 << 20));
    Ok(binary)
}

/// Whether musl's `memcpy` for x86-64 is in a binary.
fn copies_slowly(binary: &[u8]) -> bool {
    // movsb; dec %rdx; test $7,%edi: how it comes to an address that words can be copied to.
    const TO_ALIGN: [u8; 10] = [0xa4, 0x48, 0xff, 0xca, 0xf7, 0xc7, 7, 0, 0, 0];
    binary.windows(TO_ALIGN.len()).any(|bytes| bytes == TO_ALIGN)
}

#[cfg(test)]
mod tests {
    use super::copies_slowly;

    #[test]
    fn a_binary_with_the_slow_memcpy_is_told_from_one_without() {
        // As disassembled from a static binary: test $7,%edi; je; movsb; dec %rdx; test $7,%edi; jne.
        let musl = b"\xf7\xc7\x07\0\0\0\x74\x0c\xa4\x48\xff\xca\xf7\xc7\x07\0\0\0\x75\xf4";
        assert!(copies_slowly(musl));
        assert!(!copies_slowly(&musl[..16]));
    }
}
