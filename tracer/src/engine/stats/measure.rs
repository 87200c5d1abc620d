//! What is measured of a finished connection.

use tracer_common::TcpState;

use crate::engine::conn::{Connection, Role};

/// One figure of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// Duration of the three-way handshake, nanoseconds.
    Handshake,
    /// From ESTABLISHED to accept(), at most; nanoseconds.
    Accept,
    /// Smoothed round-trip time at the end, nanoseconds.
    Rtt,
    /// Time in a state, nanoseconds.
    TimeIn(TcpState),
    /// From the beginning to the end of the closing handshake, nanoseconds.
    Life,
    /// Of what was never established, from the beginning to the end; nanoseconds.
    Waited,
    /// Payload bytes sent, each once.
    BytesSent,
    /// Payload bytes received, each once.
    BytesReceived,
}

impl Measure {
    /// All, in the order they are shown.
    pub const ALL: [Measure; 16] = [
        Measure::Handshake,
        Measure::Accept,
        Measure::Rtt,
        Measure::TimeIn(TcpState::SynSent),
        Measure::TimeIn(TcpState::SynRecv),
        Measure::TimeIn(TcpState::Established),
        Measure::TimeIn(TcpState::FinWait1),
        Measure::TimeIn(TcpState::FinWait2),
        Measure::TimeIn(TcpState::Closing),
        Measure::TimeIn(TcpState::TimeWait),
        Measure::TimeIn(TcpState::CloseWait),
        Measure::TimeIn(TcpState::LastAck),
        Measure::Life,
        Measure::Waited,
        Measure::BytesSent,
        Measure::BytesReceived,
    ];

    /// Its place in [`Measure::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        Measure::ALL.iter().position(|measure| *measure == self).unwrap_or(Measure::ALL.len())
    }

    /// As in the JSON contract: `handshake`, `CLOSE_WAIT`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Measure::Handshake => "handshake",
            Measure::Accept => "accept",
            Measure::Rtt => "rtt",
            Measure::TimeIn(state) => state.name(),
            Measure::Life => "life",
            Measure::Waited => "waited",
            Measure::BytesSent => "bytes_sent",
            Measure::BytesReceived => "bytes_received",
        }
    }

    /// Whether it is bytes, not time.
    #[must_use]
    pub const fn is_bytes(self) -> bool {
        matches!(self, Measure::BytesSent | Measure::BytesReceived)
    }

    /// Of a connection that has finished: `None` when it has none of that, `Some(None)` when it has and it is not
    /// known.
    #[must_use]
    pub fn of(self, conn: &Connection) -> Option<Option<u64>> {
        let established = conn.time_in(TcpState::Established) != 0;
        let counters = conn.counters();
        match self {
            // What was refused never had one.
            Measure::Handshake => {
                let known = conn.handshake_ns();
                (known.is_some() || established).then_some(known)
            }
            Measure::Accept => {
                (conn.role == Role::Server && conn.accepted).then(|| conn.accept_ns())
            }
            Measure::Rtt => {
                let srtt_us = counters.and_then(|counters| counters.srtt_us);
                let known = srtt_us.map(|us| u64::from(us) * 1000);
                (known.is_some() || established).then_some(known)
            }
            // Told when it is over.
            Measure::TimeIn(TcpState::TimeWait) => None,
            Measure::TimeIn(state) => {
                let ns = conn.time_in(state);
                (ns != 0).then(|| conn.complete.then_some(ns))
            }
            Measure::Life => Some(conn.complete.then(|| conn.lived())),
            Measure::Waited => conn.failed.map(|_| conn.complete.then(|| conn.lived())),
            Measure::BytesSent => Some(counters.map(|counters| counters.bytes_sent)),
            Measure::BytesReceived => Some(counters.map(|counters| counters.bytes_received)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_has_its_place_and_name() {
        for (index, measure) in Measure::ALL.iter().enumerate() {
            assert_eq!(measure.index(), index);
            let others = Measure::ALL.iter().filter(|other| other.name() == measure.name());
            assert_eq!(others.count(), 1, "{measure:?}");
        }
    }
}
