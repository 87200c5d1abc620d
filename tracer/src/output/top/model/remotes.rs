//! Who was talked to, by address and port, and how that went.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use hdrhistogram::Histogram;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, How, Role, Table};
use crate::event::Family;
use crate::time::MonoNs;

/// Remotes kept. Of those without a connection the one that was quiet for longest goes first.
const MOST: usize = 4_096;

/// Which way connections go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Side {
    /// We connect to it: the port is its.
    Out,
    /// It connects to us: the port is ours.
    In,
}

/// An address, and the port of whoever is the server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Remote {
    pub(crate) addr: [u8; 16],
    pub(crate) v6: bool,
    pub(crate) port: u16,
    pub(crate) side: Side,
}

impl Remote {
    /// Of a connection; `None` for a listener.
    pub(crate) fn of(table: &Table, conn: &Connection) -> Option<Remote> {
        let tuple = &conn.tuple;
        let (side, port) = match conn.role {
            Role::Listener => return None,
            Role::Client => (Side::Out, tuple.remote_port),
            Role::Server => (Side::In, tuple.local_port),
            // It was there before the run. Who listens at its port is the server.
            Role::Unknown if table.has_listener(conn.netns, tuple.local_port) => {
                (Side::In, tuple.local_port)
            }
            // Nothing tells; a server's port is the smaller, as a rule.
            Role::Unknown if tuple.local_port < tuple.remote_port => (Side::In, tuple.local_port),
            Role::Unknown => (Side::Out, tuple.remote_port),
        };
        Some(Remote { addr: tuple.remote_addr, v6: tuple.family == Family::V6, port, side })
    }
}

/// How connections with one remote went.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Begun under our eyes.
    pub(crate) opened: u64,
    /// Of those that ended: never established.
    pub(crate) failed: u64,
    /// Ended by a RST, or by a timeout, after they were established.
    pub(crate) broken: u64,
    /// Ended.
    pub(crate) ended: u64,
    /// Ended, and had to send something again.
    pub(crate) again: u64,
    /// Handshakes, microseconds.
    handshakes: Option<Box<Histogram<u32>>>,
    last: MonoNs,
    open: u32,
}

impl Figures {
    /// The handshake that this share of all was shorter than, microseconds.
    pub(crate) fn handshake(&self, quantile: f64) -> Option<u64> {
        percentile(self.handshakes.as_deref()?, quantile)
    }
}

/// Value at a quantile; `None` of nothing.
pub(crate) fn percentile(of: &Histogram<u32>, quantile: f64) -> Option<u64> {
    (!of.is_empty()).then(|| of.value_at_quantile(quantile))
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Remotes {
    by_remote: HashMap<Remote, Figures, FixedState>,
    /// Remotes that were forgotten because there were too many.
    pub(crate) forgotten: u64,
}

impl Remotes {
    /// A connection changed its state.
    pub(super) fn transition(
        &mut self,
        (table, conn): (&Table, &Connection),
        (old, new): (TcpState, TcpState),
        at: MonoNs,
    ) {
        let opens = matches!(
            (old, new),
            (TcpState::Close, TcpState::SynSent) | (TcpState::Listen, TcpState::SynRecv)
        );
        let established = new == TcpState::Established;
        if !opens && !established {
            return;
        }
        let Some(remote) = Remote::of(table, conn) else { return };
        let figures = self.by_remote.entry(remote).or_default();
        figures.last = at;
        if opens {
            figures.opened += 1;
            figures.open += 1;
        }
        if established && let Some(ns) = conn.handshake_ns() {
            record(&mut figures.handshakes, ns);
        }
    }

    /// A connection has ended.
    pub(super) fn finished(&mut self, table: &Table, conn: &Connection, at: MonoNs) {
        let Some(remote) = Remote::of(table, conn) else { return };
        let figures = self.by_remote.entry(remote).or_default();
        figures.last = at;
        figures.ended += 1;
        figures.open = figures.open.saturating_sub(1);
        let again = conn.counters().is_some_and(|counters| counters.retransmits != 0);
        let retransmits = &conn.retransmits;
        let seen = retransmits.syn != 0 || retransmits.synack != 0 || retransmits.data != 0;
        figures.again += u64::from(again || seen || retransmits.fin != 0);
        // Of one that was there before the run nobody knows what it was in.
        let never = conn.complete && conn.time_in(TcpState::Established) == 0;
        match conn.how {
            How::Fin | How::Unknown => {}
            _ if never => figures.failed += 1,
            How::Aborted => {}
            How::Refused | How::Unreachable | How::Timeout | How::RstReceived | How::RstSent => {
                figures.broken += 1
            }
        }
    }

    /// What is known of one.
    pub(crate) fn get(&self, remote: &Remote) -> Option<&Figures> {
        self.by_remote.get(remote)
    }

    /// All.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Remote, &Figures)> {
        self.by_remote.iter()
    }

    /// Forgets what there is no room for. A quarter at a time, so that it is not done every second.
    pub(super) fn tidy(&mut self, _now: MonoNs) {
        if self.by_remote.len() <= MOST {
            return;
        }
        let mut quiet: Vec<(bool, MonoNs, Remote)> = self
            .by_remote
            .iter()
            .map(|(remote, figures)| (figures.open != 0, figures.last, *remote))
            .collect();
        quiet.sort_unstable();
        let too_many = self.by_remote.len() - MOST * 3 / 4;
        for (_, _, remote) in quiet.into_iter().take(too_many) {
            self.by_remote.remove(&remote);
            self.forgotten += 1;
        }
    }
}

/// Adds a time in nanoseconds, kept as microseconds to within 6 %.
pub(super) fn record(histogram: &mut Option<Box<Histogram<u32>>>, ns: u64) {
    let us = (ns / 1_000).clamp(1, 3_600_000_000);
    let made = || Histogram::new_with_bounds(1, 3_600_000_000, 1).ok().map(Box::new);
    if histogram.is_none() {
        *histogram = made();
    }
    if let Some(histogram) = histogram {
        histogram.saturating_record(us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_are_within_a_few_percent() {
        let mut histogram = None;
        for us in 1..=1000_u64 {
            record(&mut histogram, us * 1_000);
        }
        let histogram = histogram.expect("recorded");
        let check = |quantile, expect: u64| {
            let value = percentile(&histogram, quantile).expect("not empty");
            assert!(value.abs_diff(expect) * 100 <= expect * 7, "{quantile}: {value}");
        };
        check(0.5, 500);
        check(0.99, 990);
    }

    #[test]
    fn the_quiet_are_forgotten_first_and_counted() {
        let mut remotes = Remotes::default();
        for number in 0..MOST as u64 + 1 {
            let mut addr = [0; 16];
            addr[..8].copy_from_slice(&number.to_be_bytes());
            let remote = Remote { addr, v6: true, port: 80, side: Side::Out };
            let figures = Figures {
                last: MonoNs(number),
                // The oldest one has a connection still.
                open: u32::from(number == 0),
                ..Figures::default()
            };
            remotes.by_remote.insert(remote, figures);
        }
        remotes.tidy(MonoNs(0));
        assert_eq!(remotes.by_remote.len(), MOST * 3 / 4);
        assert_eq!(remotes.forgotten, MOST as u64 / 4 + 1);
        assert!(remotes.iter().any(|(_, figures)| figures.open == 1));
        assert!(remotes.iter().all(|(_, figures)| figures.open == 1 || figures.last.0 > 1000));
    }
}
