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

/// Some of the states, for tests that do not branch: each branch on a state doubles what the
/// kernel's verifier has to look at, and every start of the program waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct States(u32);

impl States {
    /// These.
    #[must_use]
    pub const fn of(states: &[TcpState]) -> States {
        let mut bits = 0;
        let mut at = 0;
        while at < states.len() {
            bits |= 1 << states[at].number();
            at += 1;
        }
        States(bits)
    }

    /// 1 when the state of this number is one of them, else 0.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, number: u8) -> u32 {
        self.0.wrapping_shr(number as u32) & 1
    }
}

/// Whether the current task makes this transition, rather than a stranger under whom a softirq
/// runs. Only `close`, `shutdown`, `connect` and `listen` make these. `shutdown` is `sk_shutdown`,
/// `error` `sk_err`.
#[inline(always)]
#[must_use]
pub const fn made_by_current_task(old: u8, new: u8, error: u16, shutdown: u8) -> bool {
    const OPENED: States = States::of(&[TcpState::SynSent, TcpState::Listen]);
    const FINISHED: States = States::of(&[TcpState::FinWait1, TcpState::LastAck]);
    const CLOSE: States = States::of(&[TcpState::Close]);
    const LISTEN: States = States::of(&[TcpState::Listen]);
    const ABORTED: States =
        States::of(&[TcpState::Established, TcpState::CloseWait, TcpState::SynSent]);
    // tcp_v4_connect, tcp_v6_connect, inet_csk_listen_start
    let opens = OPENED.has(new) & CLOSE.has(old);
    // tcp_close_state, from __tcp_close or tcp_shutdown
    let finishes = FINISHED.has(new);
    // __tcp_close of a listener, of one with unread data, with SO_LINGER 0 or in SYN_SENT:
    // SHUTDOWN_MASK, both ways, is set already. tcp_done sets it after the state, and has an error.
    let both_ways = (shutdown & (shutdown >> 1)) as u32 & 1;
    let no_error = (error as u32).wrapping_sub(1) >> 31;
    let closes = CLOSE.has(new) & (LISTEN.has(old) | ABORTED.has(old) & both_ways & no_error);
    opens | finishes | closes != 0
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

    /// The same, as one would write it down.
    fn by_cases(old: TcpState, new: TcpState, error: u16, shutdown: u8) -> bool {
        match new {
            TcpState::SynSent | TcpState::Listen => old == TcpState::Close,
            TcpState::FinWait1 | TcpState::LastAck => true,
            TcpState::Close => match old {
                TcpState::Listen => true,
                TcpState::Established | TcpState::CloseWait | TcpState::SynSent => {
                    error == 0 && shutdown == 3
                }
                _ => false,
            },
            _ => false,
        }
    }

    #[test]
    fn the_task_that_acts_is_told_without_branches() {
        for old in TcpState::ALL {
            for new in TcpState::ALL {
                for error in [0, 1, 104, u16::MAX] {
                    for shutdown in 0..4 {
                        assert_eq!(
                            made_by_current_task(old.number(), new.number(), error, shutdown),
                            by_cases(old, new, error, shutdown),
                            "{old:?} {new:?} {error} {shutdown}"
                        );
                    }
                }
            }
        }
    }
}
