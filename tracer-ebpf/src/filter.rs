//! What is let through, decided before anything is written.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use tracer_common::TcpState;
use tracer_common::globals::{FILTER_SLOTS, Filter};
use tracer_common::wire::AF_INET;

use crate::layout::{Kernel, has, load};
use crate::maps::global;
use crate::socket::Endpoints;

/// Whether a record about this connection is wanted.
///
/// `sk` is the full socket whose cgroup counts: of a request the listener.
#[inline(always)]
pub fn wanted(
    sk: Kernel,
    ends: &Endpoints,
    port_comes_later: bool,
    addresses_come_later: bool,
) -> bool {
    if global!(FILTER.on) == 0 {
        return true;
    }
    ends_wanted(ends, port_comes_later, addresses_come_later)
        && (global!(FILTER.cgroup) == 0 || cgroup_wanted(sk))
}

/// Whether a row of a walk is wanted. Listeners are: they tell who accepts, whatever their address.
#[inline(always)]
pub fn row_wanted(state: u8, ends: &Endpoints) -> bool {
    global!(FILTER.on) == 0 || state == TcpState::Listen.number() || ends_wanted(ends, false, false)
}

/// As [`wanted`], of what has no socket whose cgroup could be asked.
#[inline(always)]
pub fn ends_wanted(ends: &Endpoints, port_comes_later: bool, addresses_come_later: bool) -> bool {
    let netns = global!(FILTER.netns);
    if netns != 0 && netns != ends.netns {
        return false;
    }
    let family = global!(FILTER.family);
    if family != 0 && ends.is_v4() != (family == 4) {
        return false;
    }
    if !port_comes_later && !ports_wanted(ends) {
        return false;
    }
    global!(FILTER.prefix_count) == 0 || addresses_come_later || addresses_wanted(ends)
}

/// True when `$count` is 0 or one of the first `$count` ranges holds one of the ports.
macro_rules! in_ranges {
    ($count:ident, $ranges:ident, $($port:expr),+) => {{
        let count = global!(FILTER.$count) as usize;
        let mut found = count == 0;
        let mut slot = 0;
        while slot < FILTER_SLOTS {
            if slot < count {
                let first = global!(FILTER.$ranges[slot].first);
                let last = global!(FILTER.$ranges[slot].last);
                $( found |= $port >= first && $port <= last; )+
            }
            slot += 1;
        }
        found
    }};
}

#[inline(always)]
fn ports_wanted(ends: &Endpoints) -> bool {
    in_ranges!(either_count, either_ports, ends.local_port, ends.remote_port)
        && in_ranges!(local_count, local_ports, ends.local_port)
        && in_ranges!(remote_count, remote_ports, ends.remote_port)
}

#[inline(always)]
fn addresses_wanted(ends: &Endpoints) -> bool {
    let local = ends.mapped(ends.local);
    let remote = ends.mapped(ends.remote);
    let count = global!(FILTER.prefix_count) as usize;
    let mut found = false;
    let mut slot = 0;
    while slot < FILTER_SLOTS {
        if slot < count {
            let net =
                [global!(FILTER.prefixes[slot].net[0]), global!(FILTER.prefixes[slot].net[1])];
            let mask =
                [global!(FILTER.prefixes[slot].mask[0]), global!(FILTER.prefixes[slot].mask[1])];
            found |= local[0] & mask[0] == net[0] && local[1] & mask[1] == net[1];
            found |= remote[0] & mask[0] == net[0] && remote[1] & mask[1] == net[1];
        }
        slot += 1;
    }
    found
}

/// In the wanted cgroup or below it: its ancestor at the wanted one's depth is the wanted one.
#[inline(always)]
fn cgroup_wanted(sk: Kernel) -> bool {
    if !has!(cgroup) {
        return false;
    }
    let cgroup: Kernel = load!(sk, cgroup);
    if cgroup.is_null() {
        return false;
    }
    let node: Kernel = load!(cgroup, cgroup_kn);
    let id: u64 = load!(node, kn_id);
    if id == global!(FILTER.cgroup) {
        return true;
    }
    // Before 6.1 only the cgroup itself matches.
    if !has!(cgroup_ancestors) || !has!(cgroup_level) {
        return false;
    }
    let depth: i32 = load!(cgroup, cgroup_level);
    let level = global!(FILTER.cgroup_level);
    if level != Filter::ANY_LEVEL {
        return level as i32 <= depth && ancestor_is_wanted(cgroup, level);
    }
    let mut at = 0;
    while at < Filter::MOST_LEVELS {
        if at as i32 <= depth && ancestor_is_wanted(cgroup, at) {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether the wanted cgroup is the ancestor at this depth.
#[inline(always)]
fn ancestor_is_wanted(cgroup: Kernel, level: u32) -> bool {
    // The verifier does not type the elements of the flexible array `ancestors`: read them untyped.
    let ancestor = probe(cgroup, global!(LAYOUT.cgroup_ancestors) + 8 * level);
    let node = probe(ancestor as Kernel, global!(LAYOUT.cgroup_kn));
    probe(node as Kernel, global!(LAYOUT.kn_id)) == global!(FILTER.cgroup)
}

#[inline(always)]
fn probe(base: Kernel, offset: u32) -> u64 {
    let mut value = 0u64;
    // SAFETY: the helper checks the address itself and leaves zero when it cannot be read.
    unsafe {
        bpf_probe_read_kernel((&raw mut value).cast::<c_void>(), 8, base.byte_add(offset as usize));
    }
    value
}

impl Endpoints {
    /// IPv4, or IPv6 with a v4-mapped address on either side.
    #[inline(always)]
    fn is_v4(&self) -> bool {
        self.family == u16::from(AF_INET) || is_mapped(self.remote) || is_mapped(self.local)
    }

    /// The address as IPv6: that of an IPv4 socket v4-mapped.
    #[inline(always)]
    fn mapped(&self, addr: [u64; 2]) -> [u64; 2] {
        if self.family == u16::from(AF_INET) { [0, addr[0] << 32 | MAPPED] } else { addr }
    }
}

/// The third word of `::ffff:a.b.c.d`, as the low half of a little-endian load of bytes 8 to 15.
const MAPPED: u64 = 0xffff_0000;

#[inline(always)]
fn is_mapped(addr: [u64; 2]) -> bool {
    addr[0] == 0 && addr[1] & 0xffff_ffff == MAPPED
}
