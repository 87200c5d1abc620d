//! What a kernel's BTF says, for the loader.

use tracer_common::globals::Layout;

/// An optional field the kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The field, as `struct.path`.
    pub field: String,
    /// What the operator does not get to see for it.
    pub cost: &'static str,
}

/// What `kfree_skb` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropArgs {
    /// That a packet went, not why: nothing that helps.
    Nothing,
    /// Why.
    Reason,
    /// Why, and whose it was.
    ReasonAndSocket,
}

/// What a kernel's BTF says, for the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The offsets, absent fields 0.
    pub layout: Layout,
    /// The absent fields.
    pub missing: Vec<Missing>,
    /// `tcp_send_reset` has a reason argument.
    pub send_reset_has_reason: bool,
    /// `tcp_retransmit_skb` has an error argument: it is called for what was not sent, too (6.17 and later).
    pub retransmit_has_error: bool,
    /// `bpf_get_socket_cookie` may be called in tracing programs (5.12 and later).
    pub cookie_helper: bool,
    /// `bpf_sock_from_file` exists (5.11 and later).
    pub sock_from_file: bool,
    /// `bpf_get_current_task_btf` exists (5.11 and later).
    pub task_btf: bool,
    /// Names of `enum sk_rst_reason` by number, in lower case without their prefix; empty before
    /// 6.10.
    pub reset_reasons: Vec<String>,
    /// Names of `enum skb_drop_reason` by number, as the kernel has them but for their prefix; empty before 5.17.
    pub drop_reasons: Vec<String>,
    /// `kfree_skb` has the reason, and since 6.11 the socket: as an argument each.
    pub drop_args: DropArgs,
    /// Those of the tracepoints of [`tracer_common::names`] the kernel has.
    pub tracepoints: Vec<&'static str>,
}

impl Resolved {
    /// Whether the programs find the socket of a file.
    pub fn sees_files(&self) -> bool {
        self.sock_from_file || self.layout.file_private != 0
    }

    /// Whether `kfree_skb` says what is told of drops, and the program can read the segment.
    pub fn tells_drops(&self) -> bool {
        let layout = &self.layout;
        let needed =
            [layout.skb_head, layout.skb_protocol, layout.skb_network_header, layout.skb_iif];
        self.drop_args != DropArgs::Nothing
            && !self.drop_reasons.is_empty()
            && needed.iter().all(|&offset| offset != 0)
    }

    /// What this kernel lacks that is neither a field nor a tracepoint, and what that costs.
    pub fn lacks(&self) -> Vec<(&'static str, &'static str)> {
        let mut lacks = Vec::new();
        if !self.cookie_helper {
            lacks.push((
                "socket cookies",
                "conn is tcptrail's own number instead of the cookie; tcptrail tells sockets apart by their ports and by time",
            ));
        }
        if !self.send_reset_has_reason {
            lacks.push(("reason of tcp_send_reset", "the reason of sent RSTs is unknown"));
        }
        lacks
    }

    /// Whether the kernel has that tracepoint.
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoints.contains(&name)
    }
}
