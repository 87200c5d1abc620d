//! The emulator: the installed one, or unpacked beside the kernels. A machine may have other tools of QEMU, in a version
//! that the emulator's package would have apt remove.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::arch::Arch;
use crate::command::{must, quietly, target};
use crate::setup;

/// How it is started.
pub(crate) struct Emulator {
    program: PathBuf,
    /// Where its libraries, modules and firmware are, if it is not installed.
    root: Option<PathBuf>,
}

impl Emulator {
    /// Installs it, or unpacks it where it cannot be installed.
    pub(super) fn of(arch: Arch) -> Result<Emulator> {
        let (program, package) = arch.emulator();
        let Err(error) = setup::required(&[(program, package)], "kernels in QEMU") else {
            return Ok(Emulator { program: program.into(), root: None });
        };
        eprintln!("xtask: {error:#}");
        let root = unpacked(program, package)?;
        Ok(Emulator { program: root.join("usr/bin").join(program), root: Some(root) })
    }

    /// Makes it end when this process is killed: no guest is left behind.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.program);
        if let Some(root) = &self.root {
            let folder = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
            // Debian 12 still has some libraries outside of `usr`.
            let libraries = [root.join("usr").join(&folder), root.join(&folder)];
            command.env("QEMU_MODULE_DIR", libraries[0].join("qemu"));
            let [usr, other] = libraries.map(|path| path.display().to_string());
            command.env("LD_LIBRARY_PATH", format!("{usr}:{other}"));
            for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
                command.arg("-L").arg(root.join(firmware));
            }
        }
        command
    }

    /// For messages.
    pub(super) fn name(&self) -> String {
        self.program.display().to_string()
    }
}

/// The package and what of its needs is not installed, unpacked; nothing is installed or removed.
fn unpacked(program: &str, package: &str) -> Result<PathBuf> {
    let dir = target().join("kernels/emulator").join(package);
    let root = dir.join("root");
    if root.join("usr/bin").join(program).is_file() {
        return Ok(root);
    }
    let mut simulated = Command::new("apt-get");
    simulated.args(["-s", "install", "--no-install-recommends", package]).env("LC_ALL", "C");
    let packages = to_install(&quietly(&mut simulated).unwrap_or_default());
    ensure!(!packages.is_empty(), "apt-get does not offer {package}: install {program} by hand");
    eprintln!(
        "xtask: {package} cannot be installed beside what is installed here; unpacking it and {} more into {}",
        packages.len() - 1,
        dir.display()
    );
    fs::create_dir_all(&root).with_context(|| format!("could not make {}", root.display()))?;
    let mut download = Command::new("apt-get");
    download.args(["-q", "download"]).args(&packages).current_dir(&dir);
    must(&mut download, "download packages", "run it by hand and see what apt-get says")?;
    for file in fs::read_dir(&dir)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&path).arg(&root);
            must(&mut unpack, "unpack a package", "check the disk's free space")?;
            fs::remove_file(&path)?;
        }
    }
    Ok(root)
}

/// What `apt-get -s install` says it would install.
fn to_install(simulated: &str) -> Vec<String> {
    let names = simulated.lines().filter_map(|line| line.strip_prefix("Inst "));
    names.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_installed_is_read_and_what_would_go_is_not() {
        let said = "Remv qemu-utils [1:10.0.2]\nInst seabios (1.16.2-1 Debian:12.15/oldstable [all])\n\
                    Inst qemu-system-x86 (1:7.2 Debian:12.15/oldstable [amd64])\nConf seabios (1.16.2-1)\n";
        assert_eq!(to_install(said), ["seabios", "qemu-system-x86"]);
    }
}
