//! Why sockets in CLOSE are there, with whom, and how many of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::engine::conn::{How, Leftover, Role};
use crate::event::{Holder, SockId, Tuple};
use crate::time::MonoNs;

/// Why a socket is in CLOSE.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Why {
    Reset,
    Refused,
    TimedOut,
    Unreachable,
    /// Both sides have shut down.
    ShutDown,
    /// `ss -K`, or a RST of ours.
    Aborted,
    /// It was connected, and its end was not seen.
    Unseen,
    /// It has no ends and was not seen to have any.
    Unused,
}

impl Why {
    /// What a descriptor and what was left of the connection say.
    pub(crate) fn of(holder: &Holder, left: Option<&Leftover>) -> Why {
        match left.map(|left| left.how) {
            Some(How::RstReceived) => Why::Reset,
            Some(How::Refused) => Why::Refused,
            Some(How::Timeout) => Why::TimedOut,
            Some(How::Unreachable) => Why::Unreachable,
            Some(How::Fin) => Why::ShutDown,
            Some(How::RstSent | How::Aborted) => Why::Aborted,
            Some(How::Unknown) => Why::Unseen,
            None if holder.connected => Why::Unseen,
            None => Why::Unused,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Why::Reset => "reset by",
            Why::Refused => "refused by",
            Why::TimedOut => "timed out to",
            Why::Unreachable => "unreachable:",
            Why::ShutDown => "shut down on both sides, with",
            Why::Aborted => "aborted here, with",
            Why::Unseen => "ended before tcptrail looked",
            Why::Unused => "never connected",
        }
    }
}

/// A socket in CLOSE that a descriptor leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket {
    pub(crate) id: SockId,
    pub(crate) fd: u32,
    pub(crate) why: Why,
    /// Its ends, where its connection was seen.
    pub(crate) tuple: Option<Tuple>,
    pub(crate) role: Role,
    /// In CLOSE since then, at the latest.
    pub(crate) since: MonoNs,
    /// Nobody saw it come: it was there when descriptors were first looked at.
    pub(crate) age_unknown: bool,
}

/// Why, with whom, and how many of each.
pub(crate) struct Causes {
    counts: Vec<((Why, Option<End>), u64)>,
    /// Where they all went, where it is one place.
    pub(crate) remote: Option<SocketAddr>,
    /// Where they all came to, where it is one port.
    pub(crate) local_port: Option<u16>,
}

/// Which end of a connection names it: of a client's where it went, of a server's where it came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Remote(SocketAddr),
    Local(u16),
}

impl Causes {
    pub(crate) fn of(sockets: &[Socket]) -> Causes {
        let mut counts: BTreeMap<(Why, Option<End>), u64> = BTreeMap::new();
        for socket in sockets {
            *counts.entry((socket.why, end_of(socket))).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|&(key, count)| (std::cmp::Reverse(count), key));
        let only = match counts.as_slice() {
            [((_, end), _)] => *end,
            _ => None,
        };
        Causes {
            remote: only.and_then(|end| match end {
                End::Remote(remote) => Some(remote),
                End::Local(_) => None,
            }),
            local_port: only.and_then(|end| match end {
                End::Local(port) => Some(port),
                End::Remote(_) => None,
            }),
            counts,
        }
    }

    pub(crate) fn in_words(&self) -> String {
        const NAMED: usize = 3;
        let one = |&((why, end), count): &((Why, Option<End>), u64)| {
            let number = if self.counts.len() > 1 { format!("{count} ") } else { String::new() };
            match end {
                Some(End::Remote(remote)) => format!("{number}{} {remote}", why.words()),
                Some(End::Local(port)) => {
                    format!("{number}{} clients of :{port}", why.words())
                }
                None => format!("{number}{}", why.words()),
            }
        };
        let mut words: Vec<String> = self.counts.iter().take(NAMED).map(one).collect();
        let rest: u64 = self.counts.iter().skip(NAMED).map(|(_, count)| count).sum();
        if rest != 0 {
            words.push(format!("{rest} others"));
        }
        words.join(", ")
    }
}

fn end_of(socket: &Socket) -> Option<End> {
    let tuple = socket.tuple?;
    match socket.role {
        Role::Server => Some(End::Local(tuple.local_port)),
        _ => Some(End::Remote(tuple.remote())),
    }
}
