//! Globals of the programs, set by the loader before the kernel verifies them. Being read-only to
//! the programs, the verifier knows their values and removes the branches they switch off.

use core::mem::{offset_of, size_of};

/// Byte offsets of kernel fields, from the BTF of the running kernel.
///
/// 0 stands for "this kernel has no such field", except for the fields of `struct sock_common`
/// named `daddr` and of pointers that stand first, which are marked. Offsets count from the
/// start of the struct named in each group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct Layout {
    // struct sock (its first member is struct sock_common, so these serve both)
    /// `skc_daddr`; really 0.
    pub daddr: u32,
    /// `skc_rcv_saddr`.
    pub rcv_saddr: u32,
    /// `skc_dport`, network order.
    pub dport: u32,
    /// `skc_num`, host order.
    pub num: u32,
    /// `skc_family`.
    pub family: u32,
    /// `skc_state`.
    pub state: u32,
    /// `skc_net.net`, a pointer to `struct net`.
    pub net: u32,
    /// `skc_v6_daddr`; 0 in a kernel without IPv6.
    pub v6_daddr: u32,
    /// `skc_v6_rcv_saddr`; 0 in a kernel without IPv6.
    pub v6_rcv_saddr: u32,
    /// `skc_cookie`.
    pub cookie: u32,
    /// `skc_flags`; in a request socket the same place is `skc_listener`.
    pub flags: u32,
    /// `sk_protocol`, 16 bits.
    pub protocol: u32,
    /// `sk_err`.
    pub err: u32,
    /// `sk_shutdown`, 8 bits.
    pub shutdown: u32,
    /// `sk_socket`.
    pub socket: u32,
    /// `sk_cgrp_data.cgroup`, a pointer to `struct cgroup`.
    pub cgroup: u32,
    /// `sk_uid`.
    pub uid: u32,
    /// `sk_ack_backlog`.
    pub ack_backlog: u32,
    /// `sk_max_ack_backlog`.
    pub max_ack_backlog: u32,

    // struct tcp_sock
    /// `inet_sport`, network order.
    pub sport: u32,
    /// `srtt_us`, eighths of a microsecond.
    pub srtt_us: u32,
    /// `total_retrans`.
    pub total_retrans: u32,
    /// `bytes_sent`, retransmissions included.
    pub bytes_sent: u32,
    /// `bytes_retrans`.
    pub bytes_retrans: u32,
    /// `bytes_received`.
    pub bytes_received: u32,
    /// `rcv_nxt`.
    pub rcv_nxt: u32,
    /// `copied_seq`.
    pub copied_seq: u32,
    /// `write_seq`.
    pub write_seq: u32,
    /// `snd_una`.
    pub snd_una: u32,
    /// `icsk_ack.lrcvtime`, jiffies.
    pub lrcvtime: u32,
    /// `lsndtime`, jiffies.
    pub lsndtime: u32,
    /// `rcv_tstamp`, jiffies of the last ACK.
    pub rcv_tstamp: u32,
    /// `icsk_retransmits`.
    pub icsk_retransmits: u32,
    /// `icsk_probes_out`.
    pub icsk_probes_out: u32,

    // struct tcp_request_sock
    /// `num_retrans`.
    pub num_retrans: u32,
    /// `rsk_timer.expires`, jiffies.
    pub rsk_expires: u32,

    // struct tcp_timewait_sock
    /// `tw_substate`.
    pub tw_substate: u32,
    /// `tw_timer.expires`, jiffies.
    pub tw_expires: u32,

    // others
    /// `net.ns.inum`.
    pub net_inum: u32,
    /// `cgroup.kn`, a pointer to `struct kernfs_node`; may really be 0 only where `cgroup` is.
    pub cgroup_kn: u32,
    /// `cgroup.level`.
    pub cgroup_level: u32,
    /// `cgroup.ancestors`, an array of pointers to `struct cgroup` (6.1 and later).
    pub cgroup_ancestors: u32,
    /// `kernfs_node.id`.
    pub kn_id: u32,
    /// `socket.sk`.
    pub socket_sk: u32,
    /// `socket.file`.
    pub socket_file: u32,
    /// `file.f_inode`.
    pub file_inode: u32,
    /// `inode.i_ino`.
    pub inode_ino: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.comm`.
    pub task_comm: u32,
    /// `task_struct.start_boottime` (`real_start_time` before 5.5).
    pub task_start: u32,
    /// `task_struct.group_leader`.
    pub task_leader: u32,
    /// `task_struct.flags`.
    pub task_flags: u32,
    /// `file.private_data`, of a socket's file its `struct socket`.
    pub file_private: u32,
    /// `sk_buff.cb`; `tcp_skb_cb.seq` and `end_seq` stand first in it.
    pub skb_cb: u32,
    /// `inode.i_mode`.
    pub inode_mode: u32,
    /// `inode.i_sb`, a pointer to `struct super_block`.
    pub inode_sb: u32,
    /// `super_block.s_magic`.
    pub sb_magic: u32,
    /// `file.f_path.dentry`, a pointer to `struct dentry`.
    pub file_dentry: u32,
    /// `dentry.d_parent`, another.
    pub dentry_parent: u32,
    /// `dentry.d_name.name`, a pointer to text.
    pub dentry_name: u32,
    /// The byte of `struct tcp_request_sock` that has the bit `inet_request_sock.acked`.
    pub req_acked: u32,
    /// That bit in its byte.
    pub req_acked_bit: u32,
    /// `tcp_sock.icsk_accept_queue.rskq_defer_accept`, 8 bits.
    pub defer_accept: u32,
    /// `net.ipv4.tcp_death_row.tw_refcount`: mini-sockets and 1 (`tw_count` before 5.19: without the 1).
    pub tw_count: u32,
    /// `net.ipv4.tcp_death_row.sysctl_max_tw_buckets`.
    pub tw_max: u32,
    /// `skc_bound_dev_if` of `struct sock_common`.
    pub bound_dev_if: u32,
    /// `sk_buff.head`, where its memory begins.
    pub skb_head: u32,
    /// `sk_buff.network_header`, 16 bits: where the IP header is, from `head` on.
    pub skb_network_header: u32,
    /// `sk_buff.protocol`, 16 bits, network order: IPv4 or IPv6.
    pub skb_protocol: u32,
    /// `sk_buff.skb_iif`: the interface it was received on, 0 when it was not.
    pub skb_iif: u32,
    /// `sk_buff.dev`, a pointer to `struct net_device`; TCP uses it for other things on the way out.
    pub skb_dev: u32,
    /// `sk_buff.sk`, the socket that sends it, or that it was found to be for.
    pub skb_sk: u32,
    /// `sk_buff._skb_refdst`: the address of a `struct dst_entry`, and a flag in its lowest bit.
    pub skb_dst: u32,
    /// `net_device.nd_net.net`.
    pub netdev_net: u32,
    /// `rtable.rt_flags`.
    pub rt_flags: u32,
    /// `rt6_info.rt6i_flags`.
    pub rt6_flags: u32,
    /// The byte of `struct tcp_sock` whose lowest bits are `icsk_ca_state`.
    pub ca_state: u32,
    /// `tcp_sock.icsk_pending`, which timer runs, 8 bits.
    pub icsk_pending: u32,
    /// `tcp_sock.icsk_rto`, jiffies.
    pub icsk_rto: u32,
    /// `tcp_sock.dsack_dups`.
    pub dsack_dups: u32,
    /// `sk_buff.transport_header`, 16 bits: where the TCP header is, from `head` on.
    pub skb_transport_header: u32,
    /// `sk_buff.len`, bytes from its first header on.
    pub skb_len: u32,
}

impl Layout {
    /// Instructions that load a field of the kernel's have a place that stands for its offset, until the loader puts
    /// the offset in: the first field's is this, beyond any offset into what is the programs' own.
    pub const FIRST_PLACE: usize = 0x4000;
    /// From one place to the next. So many bytes can be told apart that are loaded at a field, and behind it.
    pub const STEP: usize = 32;
    /// Fields, four bytes each.
    pub const FIELDS: usize = size_of::<Layout>() / 4;

    /// The place of the field that is at `at` in this struct.
    #[must_use]
    pub const fn place(at: usize) -> u32 {
        (Layout::FIRST_PLACE + at / 4 * Layout::STEP) as u32
    }
}

// An instruction has 16 bits for it, one of them for the sign.
const _: () = assert!(Layout::FIRST_PLACE + Layout::FIELDS * Layout::STEP <= i16::MAX as usize);

/// How many values each kind of filter holds in the kernel.
pub const FILTER_SLOTS: usize = 8;

/// An address prefix, IPv4 as v4-mapped IPv6; two halves in the byte order of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct Prefix {
    /// The network, bits beyond the prefix zero.
    pub net: [u64; 2],
    /// Ones for the bits that count.
    pub mask: [u64; 2],
}

/// A range of ports, both ends in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

/// What the programs let through. All zero lets everything through.
///
/// The values within a kind are alternatives; the kinds must all hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct Filter {
    /// Not 0 when any of the following is set.
    pub on: u32,
    /// 4 or 6, or 0 for both. v4-mapped addresses count as IPv4.
    pub family: u32,
    /// Inode of the network namespace, or 0.
    pub netns: u32,
    /// Number of `either_ports`.
    pub either_count: u32,
    /// Number of `local_ports`.
    pub local_count: u32,
    /// Number of `remote_ports`.
    pub remote_count: u32,
    /// Number of `prefixes`.
    pub prefix_count: u32,
    /// Depth of `cgroup` below the root, or [`Filter::ANY_LEVEL`].
    pub cgroup_level: u32,
    /// Id of the cgroup that sockets must be in or below, or 0.
    pub cgroup: u64,
    /// Ports of either side.
    pub either_ports: [PortRange; FILTER_SLOTS],
    /// Ports of our side.
    pub local_ports: [PortRange; FILTER_SLOTS],
    /// Ports of the other side.
    pub remote_ports: [PortRange; FILTER_SLOTS],
    /// Address prefixes of either side.
    pub prefixes: [Prefix; FILTER_SLOTS],
}

impl Filter {
    /// `cgroup_level` when it is not known: in a cgroup namespace the root is not the kernel's.
    pub const ANY_LEVEL: u32 = u32::MAX;
    /// Depths that are then looked at, from the kernel's root on: containers in containers in pods have
    /// fewer.
    pub const MOST_LEVELS: u32 = 24;
}

/// Everything else the loader tells the programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct Settings {
    /// Wake the reader when this many bytes wait in the ring.
    pub wake_bytes: u32,
    /// After asking whether so many wait, ask again after this many nanoseconds.
    pub ask_every_ns: u32,
    /// Wake the reader when it was not woken for this many nanoseconds, however little waits.
    pub wake_every_ns: u32,
    /// When at least so many bytes waited as it was woken, only after twice that time.
    pub busy_bytes: u32,
    /// 1: `bpf_get_socket_cookie` may be called; 0: read `skc_cookie`, fall back to the address.
    pub cookie_helper: u32,
    /// 1: `tcp_send_reset` has a reason argument.
    pub reset_reason: u32,
    /// 1: `bpf_sock_from_file` may be called.
    pub sock_from_file: u32,
    /// 1: `bpf_get_current_task_btf` may be called.
    pub task_btf: u32,
    /// 1: short walks show half-closed sockets too, of which only rows tell whether data goes over them.
    pub half_closed: u32,
    /// 1: the walk over descriptors counts those that are no TCP sockets, by kind.
    pub descriptors: u32,
    /// 1: `tcp_retransmit_skb` has an argument for the error.
    pub retransmit_error: u32,
    /// 1: debug messages are wanted.
    pub debug: u32,
}

/// What the loader tells the program on `kfree_skb`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct DropSettings {
    /// A bit for each reason that is told: those that mean a loss.
    pub told: [u64; DropSettings::REASONS / 64],
    /// The number of `SKB_DROP_REASON_NO_SOCKET`, 0 where there is none.
    pub no_socket: u32,
    /// 1: the tracepoint says whose the segment was (`rx_sk`, 6.11 and later).
    pub has_socket: u32,
    /// So many are told in a second, of each reason and processor: of SYNs, and of all others.
    pub per_second: u32,
    /// Fills it up to whole words.
    pub pad: u32,
}

impl DropSettings {
    /// Reasons that are looked at; kernels have a hundred and some. Those of subsystems have greater numbers.
    pub const REASONS: usize = 256;
    /// Kinds that are counted: each reason twice, the second time for SYNs.
    pub const KINDS: u32 = 2 * DropSettings::REASONS as u32;
}

/// How many drops of a kind were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pace {
    /// In which second.
    pub second: u64,
    /// Told in that second.
    pub told: u32,
    /// Not told since one was told last.
    pub untold: u32,
}

const _: () = {
    assert!(size_of::<DropSettings>() == 48);
    assert!(size_of::<Pace>() == 16);
    assert!(size_of::<Layout>() == 82 * 4);
    assert!(size_of::<Layout>().is_multiple_of(8));
    assert!(offset_of!(Layout, sport) == 19 * 4);
    assert!(offset_of!(Layout, num_retrans) == 34 * 4);
    assert!(offset_of!(Layout, net_inum) == 38 * 4);
    assert!(size_of::<Prefix>() == 32);
    assert!(size_of::<PortRange>() == 4);
    assert!(size_of::<Filter>() == 40 + 3 * 32 + 256);
    assert!(offset_of!(Filter, cgroup) == 32);
    assert!(offset_of!(Filter, either_ports) == 40);
    assert!(offset_of!(Filter, prefixes) == 136);
    assert!(size_of::<Settings>() == 48);
};
