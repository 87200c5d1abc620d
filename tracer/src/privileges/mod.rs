//! What may still be done once everything is attached: as little as the run needs.
//!
//! Capabilities belong to threads, so each gives up its own when it begins its work: `keep` leaves the
//! thread with what is named and drops the rest for good, the bounding set included, and no
//! program it would start gets any back. What a thread needs, and why, is said here, in `main_thread`,
//! [`poller`], [`conntrack`], [`names`] and [`writer`].

use std::fmt::Write;
use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// A capability that is kept, and the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// One capability.
    pub capability: CapabilitySet,
    /// What it is for, to follow "CAP_X: ".
    pub reason: &'static str,
}

const fn need(capability: CapabilitySet, reason: &'static str) -> Need {
    Need { capability, reason }
}

const BPF: Need =
    need(CapabilitySet::BPF, "this kernel wants it for every bpf(2) call, reading a map included");
const NAMESPACES: Need = need(CapabilitySet::SYS_ADMIN, "entering network namespaces");
const OTHERS_NAMESPACES: Need =
    need(CapabilitySet::SYS_PTRACE, "finding the network namespaces of processes");
const SOCKETS_NAMESPACES: Need =
    need(CapabilitySet::NET_ADMIN, "finding network namespaces that only a socket leads to");
const DESCRIPTORS: Need =
    need(CapabilitySet::DAC_READ_SEARCH, "counting descriptors of processes of other users");
const OTHERS_MEMORY: Need =
    need(CapabilitySet::SYS_PTRACE, "reading maps and tables of methods of processes");
const OTHERS_FILES: Need =
    need(CapabilitySet::DAC_READ_SEARCH, "reading symbols of programs of other users");
const MAPPED_FILES: Need =
    need(CapabilitySet::CHECKPOINT_RESTORE, "reading symbols of files that were deleted");
const ENDING: Need = need(CapabilitySet::NET_ADMIN, "ending sockets");
const CONNTRACK: Need =
    need(CapabilitySet::NET_ADMIN, "asking conntrack where connections really go");
const THEIR_GROUP: Need =
    need(CapabilitySet::SETGID, "asking a JVM with the rights of its user only");
const THEIR_USER: Need =
    need(CapabilitySet::SETUID, "asking a JVM with the rights of its user only");
const CONTAINERS: Need = need(
    CapabilitySet::DAC_READ_SEARCH,
    "reading names of containers in files of root, as another user",
);
const EXECUTABLES: Need =
    need(CapabilitySet::SYS_PTRACE, "reading which executable a process of another user runs");

/// What of the run decides what is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circumstances {
    /// bpf(2) is refused without CAP_BPF even to who has the descriptors (before 5.19, where
    /// `kernel.unprivileged_bpf_disabled` is set).
    pub bpf_wants_capability: bool,
    /// Only one network namespace is looked at: it is entered once, and for good.
    pub one_namespace: bool,
    /// It does not run as root, so that files of root cannot be read without a capability.
    pub other_user: bool,
    /// Descriptors of processes are counted, and the kernel does not tell their number (before 6.2).
    pub lists_descriptors: bool,
}

/// Whether this process runs as another user than root.
#[must_use]
pub fn is_other_user() -> bool {
    !rustix::process::geteuid().is_root()
}

/// What the thread needs that takes records and feeds the outputs; `executables` when it also reads which
/// programs processes run.
#[must_use]
pub fn main_thread(executables: bool, circumstances: Circumstances) -> Vec<Need> {
    let mut needs = Vec::new();
    needs.extend(executables.then_some(EXECUTABLES));
    needs.extend(circumstances.other_user.then_some(CONTAINERS));
    needs.extend(circumstances.bpf_wants_capability.then_some(BPF));
    needs
}

/// What the thread needs that walks sockets and descriptors.
#[must_use]
pub fn poller(circumstances: Circumstances) -> Vec<Need> {
    let mut needs = Vec::new();
    if !circumstances.one_namespace {
        needs.extend([NAMESPACES, OTHERS_NAMESPACES, SOCKETS_NAMESPACES]);
    }
    needs.extend(circumstances.lists_descriptors.then_some(DESCRIPTORS));
    needs.extend(circumstances.bpf_wants_capability.then_some(BPF));
    needs
}

/// What the thread needs that ends sockets.
#[must_use]
pub fn destroyer() -> Vec<Need> {
    vec![ENDING, NAMESPACES, OTHERS_NAMESPACES]
}

/// What the thread needs that asks conntrack. It keeps no other than the walking one where that enters namespaces.
#[must_use]
pub fn conntrack(circumstances: Circumstances) -> Vec<Need> {
    let mut needs = vec![CONNTRACK];
    if !circumstances.one_namespace {
        needs.extend([NAMESPACES, OTHERS_NAMESPACES]);
    }
    needs
}

/// Whether the calling thread may ask conntrack.
#[must_use]
pub fn may_ask_conntrack() -> bool {
    held().is_ok_and(|held| held.contains(CONNTRACK.capability))
}

/// What the threads need that ask DNS.
#[must_use]
pub const fn resolver() -> &'static [Need] {
    &[]
}

/// What the thread needs that names stacks; `attach` when it may ask JVMs.
#[must_use]
pub fn names(attach: bool) -> Vec<Need> {
    let mut needs = vec![OTHERS_MEMORY, OTHERS_FILES, MAPPED_FILES];
    if attach {
        needs.extend([THEIR_GROUP, THEIR_USER]);
    }
    needs
}

/// What the thread needs that writes the output.
#[must_use]
pub const fn writer() -> &'static [Need] {
    &[]
}

/// Leaves the calling thread with these capabilities, as far as it has them, for good. Returns which
/// it still has.
///
/// # Errors
/// When the kernel refuses; then the thread may have more than was asked for.
pub fn keep(needs: &[Need]) -> io::Result<CapabilitySet> {
    let mut wanted = needs.iter().fold(CapabilitySet::empty(), |all, need| all | need.capability);
    let had = capabilities(None)?;
    // Who is to have CAP_BPF and never had it loaded the programs by CAP_SYS_ADMIN, which includes it.
    if (wanted - had.permitted).contains(CapabilitySet::BPF) {
        wanted |= CapabilitySet::SYS_ADMIN;
    }
    // The bounding set is lowered with CAP_SETPCAP only, so it comes first. Without it no_new_privs
    // does the same: no execve raises anything.
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for capability in all_there_are().filter(|&capability| !wanted.contains(capability)) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    // Kernels have had the ambient set since 4.3.
    clear_ambient_capability_set()?;
    let kept = CapabilitySets {
        effective: had.permitted & wanted,
        permitted: had.permitted & wanted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, kept)?;
    set_no_new_privs(true)?;
    Ok(kept.permitted)
}

/// [`keep`]; a refusal, which only a sandbox around us can cause, is said and not fatal.
pub fn keep_only(needs: &[Need]) {
    if let Err(error) = keep(needs) {
        eprintln!("tcptrail: privileges that are not needed cannot be given up: {error}");
    }
}

/// Whether `work` is refused to a thread without capabilities. They are laid down for as long as it
/// takes.
///
/// # Errors
/// When they cannot be laid down or taken up again.
pub fn is_refused_without(work: impl FnOnce() -> bool) -> io::Result<bool> {
    let had = capabilities(None)?;
    set_capabilities(None, CapabilitySets { effective: CapabilitySet::empty(), ..had })?;
    let works = work();
    set_capabilities(None, had)?;
    Ok(!works)
}

/// What is not seen for want of a capability that this thread does not have, in a sentence.
#[must_use]
pub fn shortfall(circumstances: Circumstances) -> Option<&'static str> {
    let held = held().ok()?;
    if circumstances.one_namespace {
        None
    } else if !held.contains(CapabilitySet::SYS_ADMIN) {
        Some(
            "without CAP_SYS_ADMIN sockets of other network namespaces are seen only when they change, and not their TIME_WAIT",
        )
    } else if !held.contains(CapabilitySet::SYS_PTRACE) {
        Some(
            "without CAP_SYS_PTRACE only network namespaces with a name are found: sockets of others are seen only when they change",
        )
    } else {
        None
    }
}

/// What the calling thread may do now.
///
/// # Errors
/// When the kernel does not say.
pub fn held() -> io::Result<CapabilitySet> {
    Ok(capabilities(None)?.permitted)
}

/// Every capability the running kernel knows, those that are younger than this program too.
fn all_there_are() -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS)
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        // The first number without a capability is refused (`cap_valid`).
        .take_while(|&capability| capability_is_in_bounding_set(capability).is_ok())
}

/// `CAP_BPF, CAP_PERFMON`, or `none`.
#[must_use]
pub fn in_words(set: CapabilitySet) -> String {
    let mut text = String::new();
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if !set.contains(one) {
            continue;
        }
        let comma = if text.is_empty() { "" } else { ", " };
        // A write to a String cannot fail.
        let _ = match one.iter_names().next() {
            Some((name, _)) => write!(text, "{comma}CAP_{name}"),
            None => write!(text, "{comma}capability {number}"),
        };
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Circumstances = Circumstances {
        bpf_wants_capability: false,
        one_namespace: false,
        other_user: false,
        lists_descriptors: false,
    };

    fn sum(needs: &[Need]) -> String {
        in_words(needs.iter().fold(CapabilitySet::empty(), |all, need| all | need.capability))
    }

    #[test]
    fn each_part_keeps_what_it_needs_and_no_more() {
        let old = Circumstances { bpf_wants_capability: true, ..PLAIN };
        let one = Circumstances { one_namespace: true, ..PLAIN };
        let check = |needs: &[Need], expect: &str| assert_eq!(sum(needs), expect);
        check(&main_thread(false, PLAIN), "none");
        check(&main_thread(false, one), "none");
        check(&main_thread(false, old), "CAP_BPF");
        check(&main_thread(true, PLAIN), "CAP_SYS_PTRACE");
        let user = Circumstances { other_user: true, ..PLAIN };
        check(&main_thread(false, user), "CAP_DAC_READ_SEARCH");
        check(&poller(PLAIN), "CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN");
        check(&poller(one), "none");
        check(&poller(Circumstances { one_namespace: true, ..old }), "CAP_BPF");
        check(&poller(Circumstances { lists_descriptors: true, ..one }), "CAP_DAC_READ_SEARCH");
        check(&destroyer(), "CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN");
        check(&conntrack(PLAIN), "CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN");
        check(&conntrack(one), "CAP_NET_ADMIN");
        check(resolver(), "none");
        check(writer(), "none");
        let names_only = "CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE";
        check(&names(false), names_only);
        check(
            &names(true),
            "CAP_DAC_READ_SEARCH, CAP_SETGID, CAP_SETUID, CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE",
        );
    }

    #[test]
    fn what_is_given_up_is_gone_for_good() {
        // Threads have capabilities of their own: this one is for throwing away.
        let thread = std::thread::spawn(|| {
            let had = held().expect("the kernel says");
            let kept = keep(&[OTHERS_NAMESPACES]).expect("giving up is always allowed");
            assert_eq!(kept, had & CapabilitySet::SYS_PTRACE);
            assert_eq!(held().expect("the kernel says"), kept);
            let all = CapabilitySets { effective: had, permitted: had, inheritable: had };
            assert!((had & !kept).is_empty() || set_capabilities(None, all).is_err());
            let status = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        });
        thread.join().expect("no assertion failed");
    }

    #[test]
    fn sets_are_named() {
        assert_eq!(in_words(CapabilitySet::empty()), "none");
        assert_eq!(in_words(CapabilitySet::BPF | CapabilitySet::CHOWN), "CAP_CHOWN, CAP_BPF");
        assert_eq!(in_words(CapabilitySet::from_bits_retain(1 << 63)), "capability 63");
    }
}
