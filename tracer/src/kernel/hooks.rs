//! The tracepoints, and what is missing without them.

use tracer_common::names;

/// A tracepoint and whether it serves.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Name of tracepoint and program.
    pub name: &'static str,
    /// Nothing works without it.
    pub required: bool,
    /// What is missing without it.
    pub cost: &'static str,
    /// Works, or the kernel's words.
    pub outcome: Result<(), String>,
}

/// The tracepoints, in the order they are attached: state changes first, so that nothing later
/// refers to a socket whose birth was not seen.
pub(super) const HOOKS: [(&str, bool, &str); 7] = [
    (names::SET_STATE, true, "nothing can be traced"),
    (names::RETRANSMIT, false, "retransmits are counted, but not shown when they happen"),
    (names::RETRANSMIT_SYNACK, false, "SYN-ACK retransmits are not shown when they happen"),
    (
        names::SEND_RESET,
        false,
        "RSTs that this machine sends are inferred, and their reason is unknown",
    ),
    (names::RECEIVE_RESET, false, "received RSTs are inferred from the socket's error"),
    (names::ERROR_REPORT, false, "errors that do not close a connection are not seen"),
    (names::KFREE_SKB, false, "segments that this kernel drops are not shown"),
];
