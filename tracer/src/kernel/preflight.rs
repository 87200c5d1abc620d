//! What can be known before anything is loaded: privileges and BTF.
//!
//! Nothing is refused for its version number: distributions give older kernels what newer ones have. What a kernel
//! lacks shows when it is tried.

use std::fs;
use std::io;
use std::path::Path;

use thiserror::Error;

use super::btf::Btf;
use super::layout::{self, LayoutError, Resolved};

/// BTF of the running kernel.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Capabilities by number (`linux/capability.h`), as `CapEff` of `/proc/self/status` has them.
const CAP_SYS_ADMIN: u8 = 21;
const CAP_PERFMON: u8 = 38;
const CAP_BPF: u8 = 39;

/// Why nothing can be traced here. Each text is a sentence with its remedy.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// Neither root nor the capabilities.
    #[error(
        "not permitted to load eBPF programs: run as root (sudo tcptrail ...), or give it CAP_BPF and CAP_PERFMON"
    )]
    NotPermitted,
    /// The kernel was built without it, or sysfs is not there.
    #[error(
        "no BTF of the running kernel at {VMLINUX_BTF} ({0}): tcptrail needs a kernel with CONFIG_DEBUG_INFO_BTF=y (all current distributions have it) and /sys mounted"
    )]
    NoBtf(io::Error),
    /// Its `struct sock` is laid out as before 5.6.
    #[error(
        "kernel {0} is too old for tcptrail, which needs Linux 5.8 or later: it keeps the protocol of a socket as kernels before 5.6 did"
    )]
    TooOld(String),
    /// The kernel's structs are not what they should be.
    #[error("the running kernel cannot be read: {0}")]
    Layout(#[from] LayoutError),
}

/// Capabilities this process has in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Loading programs.
    pub bpf: bool,
    /// Tracing programs.
    pub perfmon: bool,
    /// Entering network namespaces; includes the other two.
    pub sys_admin: bool,
}

impl Capabilities {
    /// Of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::parse(&status)
    }

    fn parse(status: &str) -> Self {
        let bits = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        let has = |cap: u8| bits & 1 << cap != 0;
        let sys_admin = has(CAP_SYS_ADMIN);
        Capabilities {
            bpf: has(CAP_BPF) || sys_admin,
            perfmon: has(CAP_PERFMON) || sys_admin,
            sys_admin,
        }
    }
}

/// `uname -r` and `uname -m`.
#[must_use]
pub fn kernel_names() -> (String, String) {
    let uname = rustix::system::uname();
    (uname.release().to_string_lossy().into_owned(), uname.machine().to_string_lossy().into_owned())
}

/// Whether a task may be preempted while it is in the kernel. `uname -v` of such a kernel has `PREEMPT`, also
/// of one that can be told at boot (`PREEMPT_DYNAMIC`), with `_RT`, and whatever is in brackets behind
/// (`UTS_VERSION`).
#[must_use]
pub fn is_preemptible() -> bool {
    rustix::system::uname().version().to_bytes().windows(7).any(|part| part == b"PREEMPT")
}

/// Major and minor number of a release like `6.18.44-cloud-amd64`.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Checks what can be checked without loading, and resolves the layout.
///
/// # Errors
/// The first thing that makes tracing impossible.
pub fn check() -> Result<Resolved, PreflightError> {
    let capabilities = Capabilities::of_this_process();
    if !capabilities.bpf || !capabilities.perfmon {
        return Err(PreflightError::NotPermitted);
    }
    resolve()
}

/// Resolves the layout of the running kernel.
///
/// # Errors
/// When there is no BTF, or it lacks what the programs need.
pub fn resolve() -> Result<Resolved, PreflightError> {
    let bytes = fs::read(Path::new(VMLINUX_BTF)).map_err(PreflightError::NoBtf)?;
    let btf = Btf::parse(bytes).map_err(LayoutError::from)?;
    match layout::resolve(&btf) {
        Err(LayoutError::TooOld) => Err(PreflightError::TooOld(kernel_names().0)),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        let check = |hex: &str, bpf, perfmon, sys_admin| {
            let status = format!("Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t{hex}\n");
            assert_eq!(Capabilities::parse(&status), Capabilities { bpf, perfmon, sys_admin });
        };
        check("000001ffffffffff", true, true, true);
        check("0000000000000000", false, false, false);
        check("000000c000000000", true, true, false);
        check("0000000000200000", true, true, true);
        check("nonsense", false, false, false);
    }

    #[test]
    fn versions_of_all_distributions_are_read() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.4.0-150-generic"), Some((5, 4)));
        assert_eq!(version("7.2+deb13"), Some((7, 2)));
        assert_eq!(version("nonsense"), None);
    }
}
