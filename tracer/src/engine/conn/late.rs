//! What a connection has only towards its end, or a listener, or what few have, is kept apart, in boxes that are
//! used again.

use tracer_common::TcpState;

use crate::engine::conn::causes::Causes;
use crate::event::{Comm, SockId};

/// Most boxes kept for others.
const MOST_SPARE: usize = 1024;

/// States a connection spends time in, in the order of the JSON contract's `states`.
pub(crate) const TIMED: [TcpState; 10] = [
    TcpState::Listen,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::Established,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::TimeWait,
    TcpState::CloseWait,
    TcpState::LastAck,
];

pub(crate) const fn timed_index(state: TcpState) -> Option<usize> {
    match state {
        TcpState::Listen => Some(0),
        TcpState::SynSent => Some(1),
        TcpState::SynRecv | TcpState::NewSynRecv => Some(2),
        TcpState::Established => Some(3),
        TcpState::FinWait1 => Some(4),
        TcpState::FinWait2 => Some(5),
        TcpState::Closing => Some(6),
        TcpState::TimeWait => Some(7),
        TcpState::CloseWait => Some(8),
        TcpState::LastAck => Some(9),
        TcpState::Close => None,
    }
}

/// Places in [`TIMED`] of the states that most live connections have been in.
pub(crate) const EARLY: std::ops::Range<usize> = 1..4;

/// What a connection has only towards its end, or a listener.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Late {
    /// Time in the states of [`TIMED`]; those of [`EARLY`] are not here.
    pub(super) spent: [u64; TIMED.len()],
    /// The other end, when it was on this machine and has ended.
    pub(super) last_peer: Option<Peer>,
    /// Index of the interface it is bound to, 0 for none: few are.
    pub(super) interface: u32,
    /// Why segments were sent again: few have any.
    pub(super) causes: Causes,
    /// 1 and how many of them the peer got twice; 0: not known.
    pub(super) got_twice: u32,
    /// The state before a mini-socket of which it is not known yet whether there is one.
    pub(super) doubt: Option<TcpState>,
}

/// What is to be told of the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its identity.
    pub id: SockId,
    /// Who has it.
    pub pid: Option<u32>,
    /// The process's name; `None` where nobody is known.
    pub comm: Option<Comm>,
    /// Id of the cgroup the socket was made in, 0 where it is not known.
    pub cgroup: u64,
}

/// Boxes that no connection needs at the moment.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "it is the boxes that are kept")]
pub(crate) struct Spare(Vec<Box<Late>>);

impl Spare {
    /// One to fill.
    pub(crate) fn get(&mut self) -> Box<Late> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps one for another connection.
    pub(crate) fn put(&mut self, mut late: Box<Late>) {
        if self.0.len() < MOST_SPARE {
            *late = Late::default();
            self.0.push(late);
        }
    }
}
