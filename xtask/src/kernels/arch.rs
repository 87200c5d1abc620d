//! What differs between the architectures whose kernels are booted.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// An architecture that guests have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// By the name that Linux and Rust have for it.
    pub(crate) fn of(name: &str) -> Result<Arch> {
        match name {
            "x86_64" => Ok(Arch::X86_64),
            "aarch64" => Ok(Arch::Aarch64),
            _ => bail!("kernels are booted for x86_64 and aarch64, not for {name}"),
        }
    }

    /// Whether programs of this machine run there.
    pub(super) fn is_own(self) -> bool {
        Arch::of(env::consts::ARCH).is_ok_and(|own| own == self)
    }

    /// The name that Linux and Rust have for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// Debian's name for it.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        }
    }

    /// Kernels that are booted by default. x86: one of each change that matters to a tracer: no cookie and no error
    /// report; the oldest with both; reasons of resets; the newest layouts. aarch64: without and with programs on
    /// functions, and one with larger pages.
    pub(super) fn series(self) -> &'static [&'static str] {
        match self {
            Arch::X86_64 => &["5.10", "6.1", "6.12", "6.16", "6.18", "7.2"],
            Arch::Aarch64 => &["6.1", "6.12", "6.12-16k"],
        }
    }

    /// A series as it was asked for, and the end of the names of its packages.
    pub(super) fn flavour(self, wanted: &str) -> (&str, &'static str) {
        match self {
            Arch::X86_64 => (wanted, "-cloud-amd64"),
            Arch::Aarch64 => match wanted.strip_suffix("-16k") {
                Some(series) => (series, "-arm64-16k"),
                None => (wanted, "-cloud-arm64"),
            },
        }
    }

    /// The emulator, and Debian's package that has it.
    pub(super) fn emulator(self) -> (&'static str, &'static str) {
        match self {
            Arch::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Arch::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm"),
        }
    }

    /// Adds machine and processor, a serial port for the kernel's console, and one for the first process's words,
    /// which are QEMU's stdout.
    pub(super) fn machine(self, qemu: &mut Command, console: &Path) {
        let console = format!("file:{}", console.display());
        match self {
            // Copying by `rep movsb`, which a kernel prefers where it is said to be fast, is emulated byte by byte.
            Arch::X86_64 => qemu.args(["-cpu", "max,-erms", "-M", "pc"]).args([
                "-serial",
                console.as_str(),
                "-serial",
                "stdio",
            ]),
            // Signing addresses by the architecture's own cipher takes most of an emulated processor's time.
            Arch::Aarch64 => qemu.args(["-cpu", "max,pauth-impdef=on", "-M", "virt"]).args([
                "-serial",
                console.as_str(),
                "-chardev",
                "stdio,id=words",
                "-device",
                "pci-serial,chardev=words",
            ]),
        };
    }

    /// What the kernel is told of its machine. `CONSOLE` and `WORDS` reach the first process's environment.
    pub(super) fn command_line(self) -> &'static str {
        match self {
            // An emulated processor's clock is right, and nobody's secrets are there to be protected.
            Arch::X86_64 => {
                "console=ttyS0 CONSOLE=ttyS0 WORDS=ttyS1 tsc=reliable mitigations=off random.trust_cpu=on"
            }
            Arch::Aarch64 => "console=ttyAMA0 CONSOLE=ttyAMA0 WORDS=ttyS0 mitigations=off",
        }
    }
}
