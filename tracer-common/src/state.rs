//! The TCP states, numbered as in the kernel's `include/net/tcp_states.h`.

use core::fmt;

/// A TCP state as the kernel numbers it (`TCP_ESTABLISHED` = 1 ... `TCP_NEW_SYN_RECV` = 12).
///
/// `NewSynRecv` is the state of a request socket; it is shown as `SYN_RECV`, as `ss` does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum TcpState {
    /// Data flows.
    Established = 1,
    /// An active open waits for the SYN-ACK.
    SynSent = 2,
    /// A SYN was received, the third ACK was not.
    SynRecv = 3,
    /// We sent a FIN that is not acknowledged.
    FinWait1 = 4,
    /// Our FIN is acknowledged, the peer's has not come.
    FinWait2 = 5,
    /// Both FINs are exchanged and we closed first.
    TimeWait = 6,
    /// No connection.
    Close = 7,
    /// The peer sent its FIN; our application has not closed.
    CloseWait = 8,
    /// The peer closed first and our FIN is not acknowledged.
    LastAck = 9,
    /// A listening socket.
    Listen = 10,
    /// Both sides closed at once and our FIN is not acknowledged.
    Closing = 11,
    /// A request socket at a listener.
    NewSynRecv = 12,
}

/// A number that is no TCP state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownState(pub u8);

impl TcpState {
    /// All states that have a name of their own, in the kernel's order.
    pub const ALL: [TcpState; 11] = [
        TcpState::Established,
        TcpState::SynSent,
        TcpState::SynRecv,
        TcpState::FinWait1,
        TcpState::FinWait2,
        TcpState::TimeWait,
        TcpState::Close,
        TcpState::CloseWait,
        TcpState::LastAck,
        TcpState::Listen,
        TcpState::Closing,
    ];

    /// The kernel's number as a `const` (what `as u8` gives, under a name).
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name netstat prints, in the JSON contract and in wide text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TcpState::Established => "ESTABLISHED",
            TcpState::SynSent => "SYN_SENT",
            TcpState::SynRecv | TcpState::NewSynRecv => "SYN_RECV",
            TcpState::FinWait1 => "FIN_WAIT1",
            TcpState::FinWait2 => "FIN_WAIT2",
            TcpState::TimeWait => "TIME_WAIT",
            TcpState::Close => "CLOSE",
            TcpState::CloseWait => "CLOSE_WAIT",
            TcpState::LastAck => "LAST_ACK",
            TcpState::Listen => "LISTEN",
            TcpState::Closing => "CLOSING",
        }
    }

    /// At most seven characters, for terminals too narrow for [`TcpState::name`].
    #[must_use]
    pub const fn short_name(self) -> &'static str {
        match self {
            TcpState::Established => "ESTAB",
            TcpState::SynSent => "SYN_SNT",
            TcpState::SynRecv | TcpState::NewSynRecv => "SYN_RCV",
            TcpState::FinWait1 => "FIN_W1",
            TcpState::FinWait2 => "FIN_W2",
            TcpState::TimeWait => "TIME_W",
            TcpState::CloseWait => "CLOSE_W",
            TcpState::LastAck => "LASTACK",
            other => other.name(),
        }
    }
}

impl TryFrom<u8> for TcpState {
    type Error = UnknownState;

    fn try_from(number: u8) -> Result<Self, UnknownState> {
        Ok(match number {
            1 => TcpState::Established,
            2 => TcpState::SynSent,
            3 => TcpState::SynRecv,
            4 => TcpState::FinWait1,
            5 => TcpState::FinWait2,
            6 => TcpState::TimeWait,
            7 => TcpState::Close,
            8 => TcpState::CloseWait,
            9 => TcpState::LastAck,
            10 => TcpState::Listen,
            11 => TcpState::Closing,
            12 => TcpState::NewSynRecv,
            other => return Err(UnknownState(other)),
        })
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_round_trips_or_is_refused() {
        for number in 0..=u8::MAX {
            match TcpState::try_from(number) {
                Ok(state) => assert_eq!(state.number(), number),
                Err(UnknownState(refused)) => {
                    assert_eq!(refused, number);
                    assert!(number == 0 || number > 12);
                }
            }
        }
    }

    #[test]
    fn names_are_netstats_and_short_ones_are_short() {
        for state in TcpState::ALL {
            assert!(state.name().len() <= 11);
            assert!(state.short_name().len() <= 7);
        }
    }
}
