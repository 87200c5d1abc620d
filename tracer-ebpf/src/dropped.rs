//! `kfree_skb`: a TCP segment that the kernel threw away, and why.
//!
//! Most packets that come by here were not lost, so what decides first is one bit. What follows reads the packet,
//! whose memory the verifier knows no types of.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_common::TcpState;
use tracer_common::globals::DropSettings;
use tracer_common::wire::{self, AF_INET, AF_INET6, Record, RecordKind, dropped, flags};

use crate::emit::{drop_counted, wake_flag};
use crate::filter::ends_wanted;
use crate::maps::{DROP_PACE, DROP_SETTINGS, RING, global};
use crate::memory::{probe, probed};
use crate::socket::{Endpoints, IPPROTO_TCP};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// `RTCF_LOCAL` of `rt_flags`, and `RTF_LOCAL` of `rt6i_flags`.
const LOCAL: u32 = 0x8000_0000;
/// `SKB_DST_NOREF` and what is kept free beside it.
const DST_FLAGS: u64 = 7;

/// What the packet says.
struct Segment {
    family: u8,
    source: [u64; 2],
    destination: [u64; 2],
    source_port: u16,
    destination_port: u16,
    flags: u8,
    payload: u32,
}

/// Arguments: `struct sk_buff *skb, void *location`, since 5.17 `enum skb_drop_reason reason`, since 6.11
/// `struct sock *rx_sk`.
#[btf_tracepoint(function = "kfree_skb")]
pub fn kfree_skb(ctx: BtfTracePointContext) -> i32 {
    let reason = ctx.arg::<i32>(2) as u32;
    if reason as usize >= DropSettings::REASONS || !is_told(reason) {
        return 0;
    }
    let skb: u64 = ctx.arg(0);
    let Some(segment) = segment(skb) else {
        return 0;
    };
    // Read as a number: what may be NULL the verifier lets nobody calculate with.
    let has_socket = global!(DROP_SETTINGS.has_socket) != 0;
    let receiver: u64 = if has_socket { probed(ctx.as_ptr() as u64, 3 * 8) } else { 0 };
    // A RST that finds no socket is nobody's loss, nor is an ACK: they are what follows a reset.
    let is_syn = segment.flags & dropped::SYN != 0;
    if reason == global!(DROP_SETTINGS.no_socket)
        && receiver == 0
        && (segment.flags & dropped::RST != 0 || !is_syn && segment.payload == 0)
    {
        return 0;
    }
    report(reason, &segment, is_syn, &Way::of(skb, receiver, segment.family));
    0
}

/// Whether it means a loss.
#[inline(always)]
fn is_told(reason: u32) -> bool {
    let told = &raw const DROP_SETTINGS.told;
    // SAFETY: inside the array, as the mask says and the caller has checked.
    let word = unsafe { told.cast::<u64>().add(((reason / 64) & 3) as usize).read_volatile() };
    word >> (reason % 64) & 1 != 0
}

/// Where a segment was, and whose.
struct Way {
    place: u8,
    /// The socket that sends it, or that it is for; 0 when not known.
    socket: u64,
    netns: u32,
}

impl Way {
    #[inline(always)]
    fn of(skb: u64, receiver: u64, family: u8) -> Way {
        let received = probed::<u32>(skb, global!(LAYOUT.skb_iif)) != 0;
        let dst = probed::<u64>(skb, global!(LAYOUT.skb_dst)) & !DST_FLAGS;
        let place = if !received {
            dropped::OUTPUT
        } else if dst == 0 && receiver == 0 {
            dropped::PREROUTING
        } else if receiver != 0 || is_local(dst, family) {
            dropped::INPUT
        } else {
            dropped::FORWARD
        };
        let mut socket = receiver;
        if socket == 0 {
            socket = probed(skb, global!(LAYOUT.skb_sk));
        }
        let mut net = 0;
        if socket != 0 {
            net = probed::<u64>(socket, global!(LAYOUT.net));
        } else if received {
            let device: u64 = probed(skb, global!(LAYOUT.skb_dev));
            if device != 0 {
                net = probed::<u64>(device, global!(LAYOUT.netdev_net));
            }
        }
        if net == 0 && dst != 0 {
            // `dev` is the first member of `struct dst_entry`.
            let device: u64 = probed(dst, 0);
            net = probed::<u64>(device, global!(LAYOUT.netdev_net));
        }
        Way { place, socket, netns: probed(net, global!(LAYOUT.net_inum)) }
    }
}

/// Whether a route ends in this namespace.
#[inline(always)]
fn is_local(dst: u64, family: u8) -> bool {
    let offset =
        if family == AF_INET { global!(LAYOUT.rt_flags) } else { global!(LAYOUT.rt6_flags) };
    probed::<u32>(dst, offset) & LOCAL != 0
}

/// The headers of a TCP segment; of what is none, and of later fragments, `None`.
#[inline(always)]
fn segment(skb: u64) -> Option<Segment> {
    let protocol = u16::from_be(probed(skb, global!(LAYOUT.skb_protocol)));
    let head: u64 = probed(skb, global!(LAYOUT.skb_head));
    let ip = head + u64::from(probed::<u16>(skb, global!(LAYOUT.skb_network_header)));
    if protocol == ETH_P_IP {
        segment_v4(ip)
    } else if protocol == ETH_P_IPV6 {
        segment_v6(ip)
    } else if protocol == 0 {
        unrouted(skb, head)
    } else {
        None
    }
}

/// A segment on its way out that has no IP header yet, because there is no route (`__ip_queue_xmit`): the socket says
/// between whom it is.
#[inline(always)]
fn unrouted(skb: u64, head: u64) -> Option<Segment> {
    let socket: u64 = probed(skb, global!(LAYOUT.skb_sk));
    if socket == 0 || probed::<u16>(socket, global!(LAYOUT.protocol)) != IPPROTO_TCP {
        return None;
    }
    // A socket of IPv6 may talk IPv4, as a JVM's do: `::ffff:0:0/96`.
    let is_mapped = || {
        let v6 = global!(LAYOUT.v6_daddr);
        probed::<u64>(socket, v6) == 0 && probed::<u32>(socket, v6 + 8) == 0xffff_u32.to_be()
    };
    if probed::<u16>(socket, global!(LAYOUT.family)) != u16::from(AF_INET) && !is_mapped() {
        return None;
    }
    let address = |offset| [u64::from(probed::<u32>(socket, offset)), 0];
    let (source, destination) =
        (address(global!(LAYOUT.rcv_saddr)), address(global!(LAYOUT.daddr)));
    let tcp = head + u64::from(probed::<u16>(skb, global!(LAYOUT.skb_transport_header)));
    let length = probed(skb, global!(LAYOUT.skb_len));
    Some(transport(tcp, length, AF_INET, source, destination))
}

#[inline(always)]
fn segment_v4(ip: u64) -> Option<Segment> {
    let mut header = [0u8; 20];
    // SAFETY: ours to write.
    unsafe { probe(&raw mut header, ip) };
    let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if header[0] >> 4 != 4 || u16::from(header[9]) != IPPROTO_TCP || offset != 0 {
        return None;
    }
    let own = u32::from(header[0] & 15) * 4;
    let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
    let address = |at: usize| {
        let word = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        [u64::from(u32::from_ne_bytes(word)), 0]
    };
    let (source, destination) = (address(12), address(16));
    Some(transport(ip + u64::from(own), total.saturating_sub(own), AF_INET, source, destination))
}

/// Without extension headers: TCP has none but behind IPsec and in fragments.
#[inline(always)]
fn segment_v6(ip: u64) -> Option<Segment> {
    let mut header = [0u64; 5];
    // SAFETY: ours to write.
    unsafe { probe(&raw mut header, ip) };
    let first = header[0].to_ne_bytes();
    if first[0] >> 4 != 6 || u16::from(first[6]) != IPPROTO_TCP {
        return None;
    }
    let total = u32::from(u16::from_be_bytes([first[4], first[5]]));
    let (source, destination) = ([header[1], header[2]], [header[3], header[4]]);
    Some(transport(ip + 40, total, AF_INET6, source, destination))
}

#[inline(always)]
fn transport(
    tcp: u64,
    length: u32,
    family: u8,
    source: [u64; 2],
    destination: [u64; 2],
) -> Segment {
    let mut header = [0u8; 16];
    // SAFETY: ours to write.
    unsafe { probe(&raw mut header, tcp) };
    let own = u32::from(header[12] >> 4) * 4;
    Segment {
        family,
        source,
        destination,
        source_port: u16::from_be_bytes([header[0], header[1]]),
        destination_port: u16::from_be_bytes([header[2], header[3]]),
        flags: header[13],
        // Of a segment that is not cut up yet and too long for the field, 0.
        payload: length.saturating_sub(own),
    }
}

#[inline(always)]
fn report(reason: u32, segment: &Segment, is_syn: bool, way: &Way) {
    let sent = way.place == dropped::OUTPUT;
    let mut ends = Endpoints {
        netns: way.netns,
        family: u16::from(segment.family),
        local_port: if sent { segment.source_port } else { segment.destination_port },
        remote_port: if sent { segment.destination_port } else { segment.source_port },
        local: if sent { segment.source } else { segment.destination },
        remote: if sent { segment.destination } else { segment.source },
    };
    // On the way through other namespaces segments are lost as well: only the ends decide.
    let wanted = global!(FILTER.netns);
    if wanted != 0 {
        ends.netns = wanted;
    }
    if global!(FILTER.on) != 0 && !ends_wanted(&ends, false, false) && !turned_is_wanted(&ends) {
        return;
    }
    // SAFETY: helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let elsewhere = wanted != 0 && way.netns != wanted;
    let Some(untold) = untold(reason, is_syn, elsewhere, now) else {
        return;
    };
    let Some(mut entry) = RING.reserve::<[u64; wire::UP_TO_DETAIL / 8]>(0) else {
        drop_counted(RecordKind::Dropped);
        return;
    };
    let id: u64 = if way.socket == 0 { 0 } else { probed(way.socket, global!(LAYOUT.cookie)) };
    let mut state = TcpState::Close.number();
    if way.socket != 0 {
        state = probed(way.socket, global!(LAYOUT.state));
    }
    let detail = reason & 0xffff | u32::from(way.place) << 16 | u32::from(segment.flags) << 24;
    let record = entry.as_mut_ptr().cast::<Record>();
    // SAFETY: as in `emit::write`: all that the reserved memory has room for is written.
    unsafe {
        (*record).mono_ns = now;
        (*record).id = id;
        (*record).netns = way.netns;
        (*record).local_port = ends.local_port;
        (*record).remote_port = ends.remote_port;
        (*record).kind = RecordKind::Dropped as u8;
        (*record).family = segment.family;
        (*record).old_state = state;
        (*record).new_state = state;
        (*record).flags = if id == 0 { flags::NO_SOCKET } else { 0 };
        (*record).error = 0;
        (*record).local_addr = core::mem::transmute::<[u64; 2], [u8; 16]>(ends.local);
        (*record).remote_addr = core::mem::transmute::<[u64; 2], [u8; 16]>(ends.remote);
        // pid, tid, comm and cgroup, then two counters.
        crate::memory::clear((&raw mut (*record).pid).cast::<[u64; 6]>());
        (*record).retransmits = untold;
        (*record).srtt_us = segment.payload;
        (&raw mut (*record).detail).cast::<u64>().write(u64::from(detail));
    }
    entry.submit(wake_flag(now));
}

/// Whether the connection of the other end is wanted, which may be on this machine, too: the client whose SYN was
/// dropped where it came to.
#[inline(always)]
fn turned_is_wanted(ends: &Endpoints) -> bool {
    let turned = Endpoints {
        local_port: ends.remote_port,
        remote_port: ends.local_port,
        local: ends.remote,
        remote: ends.local,
        ..*ends
    };
    ends_wanted(&turned, false, false)
}

/// How many like it were not told before; `None` when this one is not to be told either. What is lost on the way through
/// other namespaces has its own count: the reader may throw it away, as of a connection that is not wanted.
#[inline(always)]
fn untold(reason: u32, is_syn: bool, elsewhere: bool, now: u64) -> Option<u32> {
    let kind = reason % DropSettings::REASONS as u32 * 2 + u32::from(is_syn);
    let slot = kind + u32::from(elsewhere) * DropSettings::KINDS;
    let pace = DROP_PACE.get_ptr_mut(slot)?;
    // About a second, without a division.
    let second = now >> 30;
    // SAFETY: this processor's own; a softirq in between may cost or add one.
    unsafe {
        if (*pace).second != second {
            (*pace).second = second;
            (*pace).told = 0;
        }
        if (*pace).told >= global!(DROP_SETTINGS.per_second) {
            (*pace).untold = (*pace).untold.wrapping_add(1);
            return None;
        }
        (*pace).told += 1;
        let untold = (*pace).untold;
        (*pace).untold = 0;
        Some(untold)
    }
}
