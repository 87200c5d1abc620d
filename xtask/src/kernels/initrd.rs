//! What a guest boots: the root that all share, and its kernel's own modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::packages::Kernel;
use super::stage::{Stage, archive};
use crate::command::{find, must, quietly, target};

/// Modules the live tests make the kernel use; those a kernel does not have are built in or not
/// needed there.
const MODULES: [&str; 22] = [
    "veth",
    "tun",
    "dummy",
    "nf_tables",
    "nf_tables_set",
    "nft_limit",
    "nft_counter",
    "nft_ct",
    "nft_reject",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_chain_nat",
    "nft_numgen",
    "nft_quota",
    "nfnetlink",
    "inet_diag",
    "tcp_diag",
    "mptcp_diag",
    "unix_diag",
    "udp_diag",
    "sch_netem",
    "overlay",
];

/// The shared archive and a kernel's own, with its modules, as one.
pub(crate) fn initrd(kernel: &Kernel, base: &Path) -> Result<PathBuf> {
    let dir = target().join("kernels").join(format!("guest-{}", kernel.release));
    let own = Stage::empty(dir.join("own"))?;
    own.folder("modules")?;
    let into = own.dir.join("modules");
    let mut order = String::new();
    for (number, module) in modules(kernel)?.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let (plain, unpack) = match name.rsplit_once('.') {
            Some((plain, "xz")) => (plain, Some("xz")),
            Some((plain, "zst")) => (plain, Some("zstd")),
            _ => (&*name, None),
        };
        let plain = format!("{number:02}-{plain}");
        let to = into.join(&plain);
        match unpack {
            None => {
                fs::copy(module, &to)
                    .with_context(|| format!("could not copy {}", module.display()))?;
            }
            Some(program) => {
                let mut unpack = Command::new(program);
                unpack.arg("-dc").arg(module).stdout(fs::File::create(&to)?);
                must(&mut unpack, "unpack a module", "remove the target directory's kernels")?;
            }
        }
        order.push_str(&plain);
        order.push('\n');
    }
    fs::write(into.join("order"), order)?;
    let packed = dir.join("own.cpio");
    archive(&own.dir, &packed)?;
    let both = dir.join("initrd");
    let mut bytes = fs::read(base)?;
    bytes.extend(fs::read(packed)?);
    fs::write(&both, bytes)?;
    Ok(both)
}

/// Files of the wanted modules, each after those it needs.
fn modules(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = Vec::new();
    let modprobe = find("modprobe").context("modprobe is not here: install kmod")?;
    for name in MODULES {
        let mut depends = Command::new(&modprobe);
        // Not with the options that this machine's modprobe.d gives.
        depends.args(["-C", "/dev/null"]).arg("-d").arg(&kernel.dir).args([
            "-S",
            &kernel.release,
            "--show-depends",
            name,
        ]);
        for line in quietly(&mut depends).unwrap_or_default().lines() {
            if let Some(path) = line.strip_prefix("insmod ") {
                let path = PathBuf::from(path.trim());
                if !all.contains(&path) {
                    all.push(path);
                }
            }
        }
    }
    if all.is_empty() {
        bail!("modprobe finds no module of {}", kernel.release);
    }
    Ok(all)
}
