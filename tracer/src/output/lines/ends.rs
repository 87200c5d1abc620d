//! The two ends of a connection as text, and how wide the columns are that have them.

use std::net::{IpAddr, SocketAddr};

use crate::engine::conn::Connection;
use crate::event::Tuple;
use crate::names::Names;
use crate::output::lines::pieces;
use crate::text::{self, Zone};

/// Width of an end of IPv4, and of the columns into a pipe.
pub(super) const IPV4: usize = 21;
/// Where there is little room: `127.0.0.1:40000`.
pub(super) const SHORT: usize = 15;
/// The longest end there is without an interface.
const IPV6: usize = 47;

/// Our end, with the interface that the socket is bound to, as `ss` has it.
pub(crate) fn local(names: &Names, conn: &Connection, out: &mut Vec<u8>) {
    text::endpoint_in(conn.tuple.local(), zone(names, (conn.netns, conn.interface())), out);
}

/// The other end; an address of one link only with the interface to that link.
pub(crate) fn remote(names: &Names, conn: &Connection, out: &mut Vec<u8>) {
    let addr = conn.tuple.remote();
    let link = if is_of_one_link(addr) { (conn.netns, conn.interface()) } else { (0, 0) };
    text::endpoint_in(addr, zone(names, link), out);
}

/// As [`local`], of a network namespace and the interface in it.
pub(crate) fn named(names: &Names, addr: SocketAddr, link: (u32, u32)) -> String {
    let mut out = Vec::with_capacity(24);
    text::endpoint_in(addr, zone(names, link), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// As [`remote`], of a network namespace and the interface in it.
pub(crate) fn remote_named(names: &Names, addr: SocketAddr, link: (u32, u32)) -> String {
    named(names, addr, if is_of_one_link(addr) { link } else { (0, 0) })
}

/// What both ends as text are written from.
type Says = (Tuple, (u32, u32), u64);

/// Both ends as text, and how many columns each takes.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) local: Vec<u8>,
    pub(super) remote: Vec<u8>,
    pub(super) columns: [usize; 2],
}

/// The ends of the connections that the last lines were about.
#[derive(Debug, Default)]
pub(super) struct Kept(pieces::Kept<Says, Texts, { pieces::CONNECTIONS }>);

impl Kept {
    /// Those of this connection.
    #[inline]
    pub(super) fn of(&mut self, names: &Names, conn: &Connection) -> &Texts {
        let says = (conn.tuple, (conn.netns, conn.interface()), names.version());
        self.0.get(conn.id.0, says, |texts| {
            texts.local.clear();
            texts.remote.clear();
            local(names, conn, &mut texts.local);
            remote(names, conn, &mut texts.remote);
            texts.columns = [text::columns(&texts.local), text::columns(&texts.remote)];
        })
    }
}

fn zone(names: &Names, (netns, index): (u32, u32)) -> Zone<'_> {
    match index {
        0 => Zone::None,
        index => names.interface(netns, index).map_or(Zone::Index(index), Zone::Named),
    }
}

fn is_of_one_link(addr: SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Widths of the columns LOCAL and REMOTE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Widths {
    pub(crate) local: usize,
    pub(crate) remote: usize,
}

/// As wide as what is to be shown, where all of it is known: of the lengths of all ends. On a terminal `room` is for
/// both columns, first with room for what follows them in the same line, then without; one end in ten may be longer
/// than its column before the second is used.
pub(crate) fn fit(
    mut local: Vec<usize>,
    mut remote: Vec<usize>,
    room: Option<[usize; 2]>,
) -> Widths {
    local.sort_unstable();
    remote.sort_unstable();
    let least = if room.is_some() { SHORT } else { IPV4 };
    let of = |lengths: &[usize], percent: usize| {
        let at = (lengths.len() * percent).div_ceil(100).saturating_sub(1);
        lengths.get(at).copied().unwrap_or(0).max(least)
    };
    let widths = |percent| Widths { local: of(&local, percent), remote: of(&remote, percent) };
    let Some([beside, alone]) = room else { return widths(100) };
    let tries = [(100, beside), (95, beside), (90, beside)];
    let more = [(100, alone), (95, alone), (90, alone), (75, alone), (50, alone)];
    let fits = |widths: Widths, room: usize| widths.local + 1 + widths.remote <= room;
    let mut tries = tries.into_iter().chain(more);
    tries
        .find_map(|(percent, room)| Some(widths(percent)).filter(|widths| fits(*widths, room)))
        .unwrap_or(Widths { local: least, remote: least })
}

/// Columns that become wider as longer ends come, where what comes is not known: on a terminal, as far as there is
/// room. They never become narrower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Growing {
    pub(super) widths: Widths,
    /// The most for each.
    most: usize,
}

impl Growing {
    /// From `least` columns on. `others` are what a row of this terminal has beside the two; `long` when long ends
    /// are to be expected.
    pub(super) fn new(width: Option<usize>, least: usize, others: usize, long: bool) -> Growing {
        // Into a pipe a line is as it is, whatever came before.
        let room = width.map_or(0, |width| width.saturating_sub(others));
        let most = (room / 2).max(least);
        let first = if long { IPV6.clamp(least, most) } else { least };
        Growing { widths: Widths { local: first, remote: first }, most }
    }

    /// Makes room for two ends, as far as there is any. Returns whether a column has become wider.
    pub(super) fn make_room(&mut self, local: usize, remote: usize) -> bool {
        let before = self.widths;
        // Another port of the same address is to fit, too.
        let wider = |width: usize, length: usize| {
            if length > width {
                length.next_multiple_of(8).min(self.most).max(width)
            } else {
                width
            }
        };
        self.widths =
            Widths { local: wider(before.local, local), remote: wider(before.remote, remote) };
        self.widths != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_what_is_shown() {
        let check = |local: &[usize], remote: &[usize], room, expect: (usize, usize)| {
            let widths = fit(local.to_vec(), remote.to_vec(), room);
            assert_eq!((widths.local, widths.remote), expect, "{local:?} {remote:?} {room:?}");
        };
        check(&[], &[], None, (21, 21));
        check(&[10, 37], &[12, 20], None, (37, 21));
        check(&[], &[], Some([50, 80]), (15, 15));
        check(&[18, 20], &[9, 22], Some([50, 80]), (20, 22));
        // One of many does not move the others.
        let mut many = vec![20; 19];
        many.push(45);
        check(&many, &many, Some([50, 80]), (20, 20));
        // All are long.
        check(&[37; 20], &[37; 20], Some([50, 80]), (37, 37));
        check(&[47; 20], &[47; 20], Some([50, 80]), (15, 15));
    }

    #[test]
    fn columns_grow_with_what_comes_and_never_shrink() {
        let mut growing = Growing::new(Some(200), IPV4, 80, false);
        assert!(!growing.make_room(21, 21));
        assert!(growing.make_room(37, 21));
        assert_eq!(growing.widths, Widths { local: 40, remote: 21 });
        assert!(!growing.make_room(9, 9));
        assert!(growing.make_room(100, 22));
        assert_eq!(growing.widths, Widths { local: 60, remote: 24 });
        // There is no room.
        let mut narrow = Growing::new(Some(110), IPV4, 80, true);
        assert!(!narrow.make_room(47, 47));
        assert_eq!(narrow.widths, Widths { local: 21, remote: 21 });
        let mut pipe = Growing::new(None, IPV4, 80, true);
        assert!(!pipe.make_room(47, 47));
        assert_eq!(pipe.widths, Widths { local: 21, remote: 21 });
        assert_eq!(Growing::new(Some(200), IPV4, 80, true).widths.local, 47);
    }
}
