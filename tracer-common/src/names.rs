//! Names of programs, maps and globals in the eBPF object, as the loader looks them up.
//!
//! The `section` of a `tp_btf` program is `tp_btf/<tracepoint>`; a program is named after its
//! tracepoint, so one constant serves both.

/// tp_btf: every change of `sk_state` (`inet_sk_state_store`, `inet_sk_set_state`).
pub const SET_STATE: &str = "inet_sock_set_state";
/// tp_btf on [`SET_STATE`] again: for what the kernel skips the first program for.
pub const SET_STATE_MISSED: &str = "set_state_missed";
/// tp_btf: a segment was sent again (`__tcp_retransmit_skb`).
pub const RETRANSMIT: &str = "tcp_retransmit_skb";
/// tp_btf: a SYN-ACK was sent again (`tcp_rtx_synack`).
pub const RETRANSMIT_SYNACK: &str = "tcp_retransmit_synack";
/// tp_btf: a RST was sent (`tcp_v4_send_reset`, `tcp_v6_send_reset`, `tcp_send_active_reset`).
pub const SEND_RESET: &str = "tcp_send_reset";
/// tp_btf: a RST was received for a socket (`tcp_reset`).
pub const RECEIVE_RESET: &str = "tcp_receive_reset";
/// tp_btf: an error was put on a socket (`sk_error_report`), 5.15 and later.
pub const ERROR_REPORT: &str = "inet_sk_error_report";
/// tp_btf: a packet was thrown away (`kfree_skb_reason`, `sk_skb_reason_drop`); with a reason since 5.17.
pub const KFREE_SKB: &str = "kfree_skb";
/// iter/tcp: every TCP socket, request socket and mini-socket of one network namespace.
pub const ITER_TCP: &str = "iter_tcp";
/// iter/tcp: the request sockets and mini-sockets of one network namespace.
pub const ITER_MINIS: &str = "iter_minis";
/// iter/task_file: every open socket descriptor of every process.
pub const ITER_FILES: &str = "iter_files";

/// The one ring buffer all tracepoint programs write to.
pub const RING: &str = "RING";
/// Per-CPU array of one [`crate::wire::Drops`]: lost records by [`crate::wire::RecordKind`].
pub const DROPS: &str = "DROPS";
/// Per-CPU array of [`crate::globals::Pace`]: how many drops of a kind were told in this second.
pub const DROP_PACE: &str = "DROP_PACE";
/// Hash of [`crate::descriptors::Descriptors`] by process.
pub const DESCRIPTORS: &str = "DESCRIPTORS";
/// Global of type [`crate::globals::Layout`].
pub const LAYOUT: &str = "LAYOUT";
/// Global of type [`crate::globals::Filter`].
pub const FILTER: &str = "FILTER";
/// Global of type [`crate::globals::Settings`].
pub const SETTINGS: &str = "SETTINGS";
/// Global of type [`crate::globals::DropSettings`].
pub const DROP_SETTINGS: &str = "DROP_SETTINGS";

/// tp_btf on [`SET_STATE`]: the stack of connect(). This and the following are in the second object.
pub const STACK_CONNECT: &str = "stack_connect";
/// tp_btf on [`SET_STATE`] again: for what the kernel skips `STACK_CONNECT` for. So with all `_MISSED`.
pub const STACK_CONNECT_MISSED: &str = "stack_connect_missed";
/// fexit on `inet_csk_accept`: the stack of accept().
pub const STACK_ACCEPT: &str = "stack_accept";
/// fexit on `inet_csk_accept` again.
pub const STACK_ACCEPT_MISSED: &str = "stack_accept_missed";
/// As `STACK_ACCEPT`, where the function has four arguments.
pub const STACK_ACCEPT_4: &str = "stack_accept_4";
/// As `STACK_ACCEPT_MISSED`, where the function has four arguments.
pub const STACK_ACCEPT_4_MISSED: &str = "stack_accept_4_missed";
/// tp_btf on `sys_exit`: the stack of accept(), where fexit is not permitted, and of what readers do next.
pub const STACK_ACCEPT_EXIT: &str = "stack_accept_exit";
/// tp_btf on `tcp_rcv_space_adjust`: the stack of whoever reads.
pub const STACK_READ: &str = "stack_read";
/// tp_btf on `tcp_rcv_space_adjust` again.
pub const STACK_READ_MISSED: &str = "stack_read_missed";
/// tp_btf on `sock_send_length`: the stack of readers that send.
pub const STACK_SEND: &str = "stack_send";
/// Ring of [`crate::stack::StackHead`] and [`crate::stack::StackRecord`].
pub const STACK_RING: &str = "STACK_RING";
/// Per-CPU array of one `u64`: stacks that found the ring full.
pub const STACK_DROPS: &str = "STACK_DROPS";
/// Hashes of stacks that were written whole.
pub const STACK_KNOWN: &str = "KNOWN";
/// Hash of [`crate::stack::CodeRange`] by pid.
pub const INTERPRETERS: &str = "INTERPRETERS";
/// Global of type [`crate::stack::StackSettings`].
pub const STACK_SETTINGS: &str = "STACK_SETTINGS";
