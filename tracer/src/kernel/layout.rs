//! Fills in [`Layout`], the field offsets the eBPF programs read by, from a kernel's BTF.
//!
//! One table says for each field where it comes from, how many bytes the programs load there, and what
//! the operator loses where a kernel does not have it. A field that is there but not as the
//! programs would load it counts as absent: no figure is better than a wrong one.

use thiserror::Error;
use tracer_common::globals::Layout;
use tracer_common::names;

use super::btf::{Btf, BtfError, Field, Shape};
pub use super::resolved::{DropArgs, Missing, Resolved};

/// Why the programs cannot work on this kernel at all.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// `sk_protocol` shares its bytes with other fields, as before 5.6.
    #[error("kernel too old (needs 5.8)")]
    TooOld,
    /// A field that nothing works without is not there.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// A field that nothing works without has another type than the programs expect.
    #[error("the kernel's {field} is not {want}")]
    WrongType {
        /// The field, as `struct.path`.
        field: String,
        /// What the programs load.
        want: String,
    },
}

/// What the programs load.
#[derive(Clone, Copy)]
enum Want {
    /// That many bytes.
    Bytes(u32),
    /// A pointer.
    Pointer,
    /// The address of the first of a row of pointers.
    PointerArray,
}

impl Want {
    fn is(self, field: &Field) -> bool {
        match self {
            Want::Bytes(size) => field.size == size,
            Want::Pointer => field.shape == Shape::Pointer,
            Want::PointerArray => field.shape == Shape::PointerArray,
        }
    }

    fn words(self) -> String {
        match self {
            Want::Bytes(1) => "1 byte wide".into(),
            Want::Bytes(size) => format!("{size} bytes wide"),
            Want::Pointer => "a pointer".into(),
            Want::PointerArray => "an array of pointers".into(),
        }
    }
}

/// What becomes of a kernel without the field.
#[derive(Clone, Copy)]
enum Need {
    Required,
    /// It works, at this cost.
    Optional(&'static str),
}

/// One field of [`Layout`] and where it comes from.
struct Row {
    slot: fn(&mut Layout) -> &mut u32,
    root: &'static str,
    /// Its names, the newest first.
    paths: &'static [&'static str],
    want: Want,
    need: Need,
}

impl Row {
    fn name(&self) -> String {
        format!("{}.{}", self.root, self.paths[0])
    }
}

use Need::{Optional, Required};
use Want::{Bytes, Pointer, PointerArray};

const NO_IPV6: Need = Optional("IPv6 connections are not seen");
const NO_CGROUP: Need = Optional("cgroups and containers are unknown");
const NO_FILES: Need =
    Optional("the owners of sockets are unknown if bpf_sock_from_file is missing too");
const NO_KINDS: Need = Optional("the kinds of other file descriptors are unknown");
const NO_TIME_WAITS: Need = Optional(
    "if tcp_max_tw_buckets is reached, tcptrail notices connections without TIME_WAIT later, at its next look",
);
const CAUSE_UNKNOWN: &str = "the cause of a retransmit is unknown";
const NO_CAUSE: Need = Optional(CAUSE_UNKNOWN);
const NO_DROPS: Need = Optional("segments that the kernel drops are not shown");
const NO_INODE: Need = Optional("socket inodes are not shown");

macro_rules! row {
    ($slot:ident, $root:literal, [$($path:literal),+], $want:expr, $need:expr) => {
        Row { slot: |l| &mut l.$slot, root: $root, paths: &[$($path),+], want: $want, need: $need }
    };
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // struct sock_common, the head of full sockets, request sockets and mini-sockets alike. The
    // address and port pairs are unions of the pair as one number and a struct of the two.
    row!(daddr, "sock", ["__sk_common.skc_daddr"], Bytes(4), Required),
    row!(rcv_saddr, "sock", ["__sk_common.skc_rcv_saddr"], Bytes(4), Required),
    row!(dport, "sock", ["__sk_common.skc_dport"], Bytes(2), Required),
    row!(num, "sock", ["__sk_common.skc_num"], Bytes(2), Required),
    row!(family, "sock", ["__sk_common.skc_family"], Bytes(2), Required),
    row!(state, "sock", ["__sk_common.skc_state"], Bytes(1), Required),
    // possible_net_t: a struct that is empty where the kernel was built without CONFIG_NET_NS.
    row!(net, "sock", ["__sk_common.skc_net.net"], Pointer, Required),
    // Signed there; an index is positive.
    row!(bound_dev_if, "sock", ["__sk_common.skc_bound_dev_if"], Bytes(4),
        Optional("the interfaces of link-local addresses are not shown")),
    // Only with CONFIG_IPV6.
    row!(v6_daddr, "sock", ["__sk_common.skc_v6_daddr"], Bytes(16), NO_IPV6),
    row!(v6_rcv_saddr, "sock", ["__sk_common.skc_v6_rcv_saddr"], Bytes(16), NO_IPV6),
    // atomic64_t, 0 until somebody asks for the cookie.
    row!(cookie, "sock", ["__sk_common.skc_cookie"], Bytes(8), Required),
    // Union of skc_flags (unsigned long), skc_listener (request) and skc_tw_dr (mini-socket).
    row!(flags, "sock", ["__sk_common.skc_flags"], Bytes(8), Required),

    // struct sock. sk_protocol is u16 since 5.6, before that 8 bits of a word.
    row!(protocol, "sock", ["sk_protocol"], Bytes(2), Required),
    row!(err, "sock", ["sk_err"], Bytes(4), Required),
    row!(shutdown, "sock", ["sk_shutdown"], Bytes(1), Required),
    row!(socket, "sock", ["sk_socket"], Pointer, Required),
    // struct sock_cgroup_data. The pointer came with 5.15 (and with late updates of 5.10); before
    // that a union of a number and packed fields stood there, with no member of this name.
    row!(cgroup, "sock", ["sk_cgrp_data.cgroup"], Pointer, NO_CGROUP),
    // kuid_t.
    row!(uid, "sock", ["sk_uid"], Bytes(4), Optional("the users of sockets are not shown")),
    row!(ack_backlog, "sock", ["sk_ack_backlog"], Bytes(4), Required),
    row!(max_ack_backlog, "sock", ["sk_max_ack_backlog"], Bytes(4), Required),

    // struct tcp_sock { inet_connection_sock inet_conn { inet_sock icsk_inet { sock sk } } }.
    row!(sport, "tcp_sock", ["inet_conn.icsk_inet.inet_sport"], Bytes(2),
        Required),
    row!(srtt_us, "tcp_sock", ["srtt_us"], Bytes(4), Required),
    row!(total_retrans, "tcp_sock", ["total_retrans"], Bytes(4), Required),
    row!(bytes_sent, "tcp_sock", ["bytes_sent"], Bytes(8), Required),
    row!(bytes_retrans, "tcp_sock", ["bytes_retrans"], Bytes(8), Required),
    row!(bytes_received, "tcp_sock", ["bytes_received"], Bytes(8), Required),
    row!(rcv_nxt, "tcp_sock", ["rcv_nxt"], Bytes(4), Required),
    row!(copied_seq, "tcp_sock", ["copied_seq"], Bytes(4), Required),
    row!(write_seq, "tcp_sock", ["write_seq"], Bytes(4), Required),
    row!(snd_una, "tcp_sock", ["snd_una"], Bytes(4), Required),
    // An anonymous struct type, not a pointer, inside struct inet_connection_sock.
    row!(lrcvtime, "tcp_sock", ["inet_conn.icsk_ack.lrcvtime"], Bytes(4), Required),
    row!(lsndtime, "tcp_sock", ["lsndtime"], Bytes(4), Required),
    row!(rcv_tstamp, "tcp_sock", ["rcv_tstamp"], Bytes(4), Required),
    row!(icsk_retransmits, "tcp_sock", ["inet_conn.icsk_retransmits"], Bytes(1),
        Required),
    row!(icsk_probes_out, "tcp_sock", ["inet_conn.icsk_probes_out"], Bytes(1),
        Required),

    // struct tcp_request_sock { inet_request_sock req { request_sock req } }.
    row!(num_retrans, "tcp_request_sock", ["req.req.num_retrans"], Bytes(1),
        Optional("SYN-ACK retransmits are not counted")),
    row!(rsk_expires, "tcp_request_sock", ["req.req.rsk_timer.expires"], Bytes(8),
        Required),

    // struct tcp_timewait_sock { inet_timewait_sock tw_sk }.
    row!(tw_substate, "tcp_timewait_sock", ["tw_sk.tw_substate"], Bytes(1),
        Required),
    row!(tw_expires, "tcp_timewait_sock", ["tw_sk.tw_timer.expires"], Bytes(8),
        Required),

    // struct net { ns_common ns }.
    row!(net_inum, "net", ["ns.inum"], Bytes(4), Required),
    row!(cgroup_kn, "cgroup", ["kn"], Pointer, NO_CGROUP),
    row!(cgroup_level, "cgroup", ["level"], Bytes(4), Optional("a cgroup filter does not reach below the cgroup")),
    // Since 6.1; before that `ancestor_ids`, of integers.
    row!(cgroup_ancestors, "cgroup", ["ancestors"], PointerArray,
        Optional("a cgroup filter does not reach below the cgroup")),
    // A plain u64 since 5.5, before that a union of number and generation.
    row!(kn_id, "kernfs_node", ["id"], Bytes(8), NO_CGROUP),
    row!(socket_sk, "socket", ["sk"], Pointer, Required),
    row!(socket_file, "socket", ["file"], Pointer, NO_INODE),
    row!(file_inode, "file", ["f_inode"], Pointer, NO_INODE),
    // unsigned long, u64 by 7.2.
    row!(inode_ino, "inode", ["i_ino"], Bytes(8), NO_INODE),
    // Only for kernels without bpf_sock_from_file.
    row!(file_private, "file", ["private_data"], Pointer, NO_FILES),
    row!(task_tgid, "task_struct", ["tgid"], Bytes(4), Required),
    row!(task_comm, "task_struct", ["comm"], Bytes(16), Required),
    // Renamed in 5.5.
    row!(task_start, "task_struct", ["start_boottime", "real_start_time"], Bytes(8),
        Required),
    row!(task_leader, "task_struct", ["group_leader"], Pointer,
        Optional("the names of processes are unknown")),
    row!(task_flags, "task_struct", ["flags"], Bytes(4),
        Optional("sockets that end with their process look like sockets that it closed")),
    // umode_t; stands first, so its offset cannot say that it is not there.
    row!(inode_mode, "inode", ["i_mode"], Bytes(2), Required),
    row!(inode_sb, "inode", ["i_sb"], Pointer, NO_KINDS),
    row!(sb_magic, "super_block", ["s_magic"], Bytes(8), NO_KINDS),
    row!(file_dentry, "file", ["f_path.dentry"], Pointer, NO_KINDS),
    row!(dentry_parent, "dentry", ["d_parent"], Pointer, NO_KINDS),
    row!(dentry_name, "dentry", ["d_name.name"], Pointer, NO_KINDS),
    row!(defer_accept, "tcp_sock", ["inet_conn.icsk_accept_queue.rskq_defer_accept"], Bytes(1),
        Optional("tcptrail does not see that a listener has TCP_DEFER_ACCEPT")),
    // Embedded but for 5.17 to 6.0, where it is a pointer. Renamed in 5.19.
    row!(tw_count, "net", ["ipv4.tcp_death_row.tw_refcount", "ipv4.tcp_death_row.tw_count"],
        Bytes(4), NO_TIME_WAITS),
    row!(tw_max, "net", ["ipv4.tcp_death_row.sysctl_max_tw_buckets"], Bytes(4), NO_TIME_WAITS),
    // Room for each protocol's own; TCP's struct tcp_skb_cb begins with seq and end_seq.
    row!(skb_cb, "sk_buff", ["cb"], Bytes(48), Optional("a retransmitted FIN looks like retransmitted data")),
    // Since 5.18 in groups without a name.
    row!(skb_head, "sk_buff", ["head"], Pointer, NO_DROPS),
    row!(skb_network_header, "sk_buff", ["network_header"], Bytes(2), NO_DROPS),
    row!(skb_transport_header, "sk_buff", ["transport_header"], Bytes(2), NO_DROPS),
    row!(skb_len, "sk_buff", ["len"], Bytes(4), NO_DROPS),
    row!(skb_protocol, "sk_buff", ["protocol"], Bytes(2), NO_DROPS),
    row!(skb_iif, "sk_buff", ["skb_iif"], Bytes(4), NO_DROPS),
    row!(skb_dev, "sk_buff", ["dev"], Pointer, NO_DROPS),
    row!(skb_sk, "sk_buff", ["sk"], Pointer, NO_DROPS),
    row!(skb_dst, "sk_buff", ["_skb_refdst"], Bytes(8), NO_DROPS),
    row!(netdev_net, "net_device", ["nd_net.net"], Pointer, NO_DROPS),
    row!(rt_flags, "rtable", ["rt_flags"], Bytes(4), NO_DROPS),
    row!(rt6_flags, "rt6_info", ["rt6i_flags"], Bytes(4), NO_DROPS),
    row!(icsk_pending, "tcp_sock", ["inet_conn.icsk_pending"], Bytes(1), NO_CAUSE),
    row!(icsk_rto, "tcp_sock", ["inet_conn.icsk_rto"], Bytes(4), NO_CAUSE),
    row!(dsack_dups, "tcp_sock", ["dsack_dups"], Bytes(4),
        Optional("unnecessary retransmits are not recognised")),
];

/// The third ACK came, and nothing after it: `tcp_check_req` with `TCP_DEFER_ACCEPT`.
const ACKED: &str = "req.acked";

/// In which phase of congestion control a socket is (`enum tcp_ca_state`).
const CA_STATE: &str = "inet_conn.icsk_ca_state";

/// What a tracepoint's typedef is named after its own name.
const TRACE_PREFIX: &str = "btf_trace_";

const TRACEPOINTS: [&str; 7] = [
    names::SET_STATE,
    names::RETRANSMIT,
    names::RETRANSMIT_SYNACK,
    names::SEND_RESET,
    names::RECEIVE_RESET,
    names::ERROR_REPORT,
    names::KFREE_SKB,
];

/// The structs and paths [`resolve`] may ask for, for those who cut BTF down to them.
pub fn paths() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.iter().flat_map(|row| row.paths.iter().map(|&path| (row.root, path)))
}

/// The typedefs [`resolve`] may ask for.
pub fn typedefs() -> impl Iterator<Item = String> {
    TRACEPOINTS.iter().map(|name| format!("{TRACE_PREFIX}{name}"))
}

/// Looks up everything the programs need to know of this kernel.
pub fn resolve(btf: &Btf) -> Result<Resolved, LayoutError> {
    let mut layout = Layout::default();
    let mut missing = Vec::new();
    for row in ROWS {
        match (look_up(btf, row), row.need) {
            (Ok(offset), Required) => *(row.slot)(&mut layout) = offset,
            // To the programs 0 is absent. No optional field stands first in its struct today.
            (Ok(offset), Optional(_)) if offset != 0 => *(row.slot)(&mut layout) = offset,
            (Err(error), Required) => return Err(error),
            (_, Optional(cost)) => missing.push(Missing { field: row.name(), cost }),
        }
    }
    bit_fields(btf, &mut layout, &mut missing);

    // The programs follow the three pointers without looking back.
    if layout.cgroup == 0 || layout.cgroup_kn == 0 || layout.kn_id == 0 {
        layout.cgroup = 0;
        layout.cgroup_kn = 0;
        layout.kn_id = 0;
        layout.cgroup_level = 0;
        layout.cgroup_ancestors = 0;
    }

    // void *, struct sock *, struct sk_buff *, and by 6.12 enum sk_rst_reason.
    let send_reset_args = btf.func_args(&format!("{TRACE_PREFIX}{}", names::SEND_RESET));
    // void *, struct sock *, struct sk_buff *, and by 6.17 an error.
    let retransmit_args = btf.func_args(&format!("{TRACE_PREFIX}{}", names::RETRANSMIT));
    Ok(Resolved {
        layout,
        missing,
        send_reset_has_reason: send_reset_args >= Some(4),
        retransmit_has_error: retransmit_args >= Some(4),
        // The prototypes' own helpers: what is in BTF is in the kernel.
        cookie_helper: btf.has_func("bpf_get_socket_ptr_cookie"),
        sock_from_file: btf.has_func("bpf_sock_from_file"),
        task_btf: btf.has_func("bpf_get_current_task_btf"),
        reset_reasons: reset_reasons(btf),
        drop_reasons: reasons(btf, "skb_drop_reason", "SKB_DROP_REASON_"),
        drop_args: match btf.func_args(&format!("{TRACE_PREFIX}{}", names::KFREE_SKB)) {
            // void *, struct sk_buff *, void *, then those.
            Some(4) => DropArgs::Reason,
            Some(5..) => DropArgs::ReasonAndSocket,
            _ => DropArgs::Nothing,
        },
        tracepoints: TRACEPOINTS
            .into_iter()
            .filter(|name| btf.has_typedef(&format!("{TRACE_PREFIX}{name}")))
            .collect(),
    })
}

/// What would be in its row neither of a size nor at a byte.
fn bit_fields(btf: &Btf, layout: &mut Layout, missing: &mut Vec<Missing>) {
    if let Some((offset, bit)) = btf.bit("tcp_request_sock", ACKED) {
        (layout.req_acked, layout.req_acked_bit) = (offset, bit);
    } else {
        let cost = "an ACK that TCP_DEFER_ACCEPT sets aside looks like one that never came";
        missing.push(Missing { field: format!("tcp_request_sock.{ACKED}"), cost });
    }
    // Another, of five bits: the programs take the lowest of its byte.
    match (btf.bit("tcp_sock", CA_STATE), NO_CAUSE) {
        (Some((offset, 1)), _) => layout.ca_state = offset,
        (_, Optional(cost)) => {
            missing.push(Missing { field: format!("tcp_sock.{CA_STATE}"), cost })
        }
        (_, Required) => {}
    }
}

fn reset_reasons(btf: &Btf) -> Vec<String> {
    let names = reasons(btf, "sk_rst_reason", "SK_RST_REASON_");
    names.into_iter().map(|name| name.to_ascii_lowercase()).collect()
}

/// Names of an enumeration by number, without their prefix.
fn reasons(btf: &Btf, of: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (name, number) in btf.enumerators(of) {
        let Ok(number) = usize::try_from(number) else { continue };
        // Kernels have a few dozen; a damaged BTF may have any number.
        if number >= 256 {
            continue;
        }
        if names.len() <= number {
            names.resize(number + 1, String::new());
        }
        names[number] = name.strip_prefix(prefix).unwrap_or(&name).to_owned();
    }
    names
}

/// The offset of a field under the first of its names the kernel has.
fn look_up(btf: &Btf, row: &Row) -> Result<u32, LayoutError> {
    let mut found = btf.field(row.root, row.paths[0]);
    for path in &row.paths[1..] {
        found = found.or_else(|error| btf.field(row.root, path).map_err(|_| error));
    }
    let narrow_protocol = row.paths[0] == "sk_protocol";
    match found {
        Ok(field) if row.want.is(&field) => Ok(field.offset),
        Ok(_) | Err(BtfError::Bitfield { .. }) if narrow_protocol => Err(LayoutError::TooOld),
        Ok(_) => Err(LayoutError::WrongType { field: row.name(), want: row.want.words() }),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// Cut by `cargo run --example cut_btf` from Debian's cloud kernels 5.10.262, 6.1.192, 6.12.117,
    /// 6.16.12, 6.18.15 and 7.2.12, and from a 6.18 built with another configuration.
    const KERNELS: [&str; 7] = ["5.10", "6.1", "6.12", "6.16", "6.18", "7.2", "dev-6.18"];

    fn fixture(kernel: &str) -> Vec<u8> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/btf");
        std::fs::read(dir.join(format!("{kernel}.btf"))).unwrap()
    }

    fn resolve_bytes(bytes: Vec<u8>) -> Result<Resolved, LayoutError> {
        resolve(&Btf::parse(bytes)?)
    }

    /// Checks the offset of a field in all kernels, in the order of [`KERNELS`].
    #[track_caller]
    fn check(slot: fn(&mut Layout) -> &mut u32, expected: [u32; 7]) {
        let found =
            KERNELS.map(|kernel| *slot(&mut resolve_bytes(fixture(kernel)).unwrap().layout));
        assert_eq!(found, expected);
    }

    #[test]
    fn fields_that_move() {
        check(|l| &mut l.err, [568, 544, 284, 284, 284, 284, 284]);
        check(|l| &mut l.protocol, [540, 516, 574, 574, 532, 540, 532]);
        check(|l| &mut l.sport, [784, 804, 806, 806, 814, 830, 814]);
        check(|l| &mut l.srtt_us, [1632, 1672, 1728, 1728, 1672, 1784, 1680]);
        check(|l| &mut l.total_retrans, [2104, 2144, 2216, 2216, 2192, 2304, 2200]);
        check(|l| &mut l.net_inum, [144, 144, 136, 168, 176, 280, 176]);
    }

    #[test]
    fn fields_that_do_not_move() {
        check(|l| &mut l.daddr, [0; 7]);
        check(|l| &mut l.rcv_saddr, [4; 7]);
        check(|l| &mut l.dport, [12; 7]);
        check(|l| &mut l.num, [14; 7]);
        check(|l| &mut l.family, [16; 7]);
        check(|l| &mut l.state, [18; 7]);
        check(|l| &mut l.net, [48; 7]);
        check(|l| &mut l.v6_daddr, [56; 7]);
        check(|l| &mut l.v6_rcv_saddr, [72; 7]);
        check(|l| &mut l.cookie, [88; 7]);
        check(|l| &mut l.flags, [96; 7]);
        check(|l| &mut l.tw_substate, [140; 7]);
        check(|l| &mut l.num_retrans, [146; 7]);
        check(|l| &mut l.skb_cb, [40; 7]);
    }

    #[test]
    fn what_says_why_a_segment_was_sent_again() {
        check(|l| &mut l.ca_state, [1232, 1280, 1288, 1248, 1248, 1280, 1248]);
        check(|l| &mut l.icsk_pending, [1234, 1282, 1290, 1250, 1250, 1282, 1250]);
        check(|l| &mut l.icsk_rto, [1152, 1216, 1224, 1184, 1184, 1216, 1184]);
        check(|l| &mut l.dsack_dups, [1464, 1504, 1880, 1880, 1856, 1936, 1864]);
        let error =
            KERNELS.map(|kernel| resolve_bytes(fixture(kernel)).unwrap().retransmit_has_error);
        assert_eq!(error, [false, false, false, false, true, true, true]);
    }

    /// Checks what a kernel lacks and which tracepoints it has.
    #[track_caller]
    fn check_kernel(kernel: &str, missing: &[&str], reason: bool, without: &[&str]) {
        let resolved = resolve_bytes(fixture(kernel)).unwrap();
        let fields: Vec<&str> = resolved.missing.iter().map(|m| m.field.as_str()).collect();
        assert_eq!(fields, missing, "{kernel}");
        assert_eq!(resolved.send_reset_has_reason, reason, "{kernel}");
        for name in TRACEPOINTS {
            assert_eq!(resolved.has_tracepoint(name), !without.contains(&name), "{kernel} {name}");
        }
    }

    #[test]
    fn what_each_kernel_lacks() {
        check_kernel("5.10", &["cgroup.ancestors"], false, &[names::ERROR_REPORT]);
        check_kernel("6.1", &[], false, &[]);
        for kernel in ["6.12", "6.16", "6.18", "7.2", "dev-6.18"] {
            check_kernel(kernel, &[], true, &[]);
        }
    }

    #[test]
    fn what_kfree_skb_tells() {
        let resolved = |kernel: &str| resolve_bytes(fixture(kernel)).unwrap();
        let has = |kernel: &str, name: &str| {
            resolved(kernel).drop_reasons.iter().any(|known| known == name)
        };
        let none = resolved("5.10");
        assert!(!none.tells_drops() && none.drop_reasons.is_empty());
        assert_eq!(resolved("6.1").drop_args, DropArgs::Reason);
        for kernel in ["6.1", "6.12", "6.16", "6.18", "7.2", "dev-6.18"] {
            assert!(resolved(kernel).tells_drops(), "{kernel}");
            assert!(has(kernel, "NETFILTER_DROP") && has(kernel, "NO_SOCKET"), "{kernel}");
        }
        for kernel in ["6.12", "6.16", "6.18", "7.2", "dev-6.18"] {
            assert_eq!(resolved(kernel).drop_args, DropArgs::ReasonAndSocket, "{kernel}");
        }
        assert!(has("6.18", "TCP_LISTEN_OVERFLOW") && !has("6.1", "TCP_LISTEN_OVERFLOW"));
    }

    #[test]
    fn what_is_no_field_is_named_too() {
        let names = |kernel: &str| -> Vec<&str> {
            let lacks = resolve_bytes(fixture(kernel)).unwrap().lacks();
            lacks.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("5.10"), ["socket cookies", "reason of tcp_send_reset"]);
        assert_eq!(names("6.1"), ["reason of tcp_send_reset"]);
        assert!(names("6.12").is_empty());
    }

    #[test]
    fn every_field_has_one_row() {
        let mut layout = Layout::default();
        let slots: BTreeSet<usize> =
            ROWS.iter().map(|row| std::ptr::from_mut((row.slot)(&mut layout)).addr()).collect();
        assert_eq!(slots.len(), ROWS.len());
        // Three more are for bits: two bytes, and a place there.
        assert_eq!(slots.len(), size_of::<Layout>() / 4 - 3);
    }

    #[test]
    fn the_running_kernel_resolves() {
        // Not readable in some sandboxes, absent without CONFIG_DEBUG_INFO_BTF.
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return;
        };
        let resolved = resolve_bytes(bytes).unwrap();
        assert_eq!(resolved.layout.dport, 12);
        assert!(resolved.has_tracepoint(names::SET_STATE));
    }

    /// A fixture in which `edit` may change the entry of one member: name, type and offset words.
    fn edited(kernel: &str, root: &str, member: &str, edit: impl Fn(&mut [u32; 3])) -> Vec<u8> {
        let mut bytes = fixture(kernel);
        let btf = Btf::parse(bytes.clone()).unwrap();
        let owner = btf.type_by_id(btf.struct_id(root).unwrap()).unwrap();
        let word = |entry: &[u8], at: usize| {
            u32::from_ne_bytes(entry[at * 4..at * 4 + 4].try_into().unwrap())
        };
        let entry = owner
            .extra
            .chunks_exact(12)
            .find(|entry| btf.name(word(entry, 0)) == member.as_bytes())
            .unwrap();
        let mut words = [0, 1, 2].map(|at| word(entry, at));
        edit(&mut words);
        // No two structs of a file have the same members: these bytes occur once.
        let start = bytes.windows(owner.extra.len()).position(|w| w == owner.extra).unwrap();
        let at = start + (entry.as_ptr().addr() - owner.extra.as_ptr().addr());
        let edited: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes[at..at + 12].copy_from_slice(&edited);
        bytes
    }

    /// Checks what comes of a kernel that has the member under another name, or not at all.
    #[track_caller]
    fn check_renamed(root: &str, old: &str, new: &str, expected: Result<&[&str], &str>) {
        let len = u32::from_ne_bytes(fixture("6.1")[20..24].try_into().unwrap());
        let mut bytes = edited("6.1", root, old, |words| words[0] = len);
        // The strings stand last, so the new name can be appended.
        bytes.extend(new.bytes().chain([0]));
        let len = len + new.len() as u32 + 1;
        bytes[20..24].copy_from_slice(&len.to_ne_bytes());
        let resolved = resolve_bytes(bytes);
        let found = resolved
            .as_ref()
            .map(|r| r.missing.iter().map(|m| m.field.as_str()).collect::<Vec<_>>())
            .map_err(ToString::to_string);
        assert_eq!(found, expected.map(<[_]>::to_vec).map_err(str::to_owned));
    }

    #[test]
    fn older_names_are_known_and_absences_told() {
        check_renamed("task_struct", "start_boottime", "real_start_time", Ok(&[]));
        check_renamed(
            "task_struct",
            "start_boottime",
            "gone",
            Err("the kernel's struct task_struct has no field start_boottime"),
        );
        check_renamed("sock", "sk_uid", "gone", Ok(&["sock.sk_uid"]));
        check_renamed("net", "ns", "gone", Err("the kernel's struct net has no field ns"));
        check_renamed(
            "sock",
            "sk_protocol",
            "gone",
            Err("the kernel's struct sock has no field sk_protocol"),
        );
    }

    #[test]
    fn half_a_way_to_the_cgroup_is_none() {
        let bytes = edited("6.1", "kernfs_node", "id", |words| words[1] = 0);
        let resolved = resolve_bytes(bytes).unwrap();
        assert_eq!(resolved.missing[0].field, "kernfs_node.id");
        let layout = resolved.layout;
        assert_eq!(
            [layout.cgroup, layout.cgroup_kn, layout.kn_id, layout.cgroup_ancestors],
            [0; 4]
        );
    }

    #[test]
    fn a_cgroup_that_is_no_pointer_is_absent() {
        let btf = Btf::parse(fixture("6.1")).unwrap();
        // Eight bytes, as the union of the original 5.10 is.
        let word = btf.field("sock", "__sk_common.skc_cookie").unwrap().type_id;
        let bytes = edited("6.1", "sock_cgroup_data", "cgroup", |words| words[1] = word);
        let resolved = resolve_bytes(bytes).unwrap();
        assert_eq!(resolved.layout.cgroup, 0);
        assert_eq!(resolved.missing.len(), 1);
        assert_eq!(resolved.missing[0].field, "sock.sk_cgrp_data.cgroup");
    }

    #[test]
    fn a_narrow_protocol_means_too_old_a_kernel() {
        let bytes = edited("5.10", "sock", "sk_protocol", |words| words[2] |= 8 << 24);
        let error = resolve_bytes(bytes).unwrap_err();
        assert_eq!(error.to_string(), "kernel too old (needs 5.8)");

        let btf = Btf::parse(fixture("5.10")).unwrap();
        let wide = btf.field("sock", "sk_err").unwrap().type_id;
        let bytes = edited("5.10", "sock", "sk_protocol", |words| words[1] = wide);
        assert_eq!(resolve_bytes(bytes).unwrap_err(), LayoutError::TooOld);
    }

    #[test]
    fn a_required_field_of_another_size_is_an_error() {
        let btf = Btf::parse(fixture("6.1")).unwrap();
        let short = btf.field("sock", "sk_protocol").unwrap().type_id;
        let bytes = edited("6.1", "ns_common", "inum", |words| words[1] = short);
        let error = resolve_bytes(bytes).unwrap_err();
        assert_eq!(error.to_string(), "the kernel's net.ns.inum is not 4 bytes wide");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damaged_fixtures_never_panic(
            kernel in prop::sample::select(&KERNELS[..]),
            bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..200),
            // Flips in the header, where one byte decides most.
            header in prop::collection::vec((0..24_usize, any::<u8>()), 0..2),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut damaged = fixture(kernel);
            for (at, byte) in bytes {
                *at.get_mut(&mut damaged) = byte;
            }
            for (at, byte) in header {
                damaged[at] = byte;
            }
            if let Some(cut) = cut {
                damaged.truncate(cut.index(damaged.len()));
            }
            let _ = resolve_bytes(damaged);
        }
    }
}
