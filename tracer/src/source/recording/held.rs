//! An input that was read too early, kept until it is due.

use crate::engine::conn::Poll;
use crate::event::Loss;
use crate::input::Input;
use crate::source::recording::times::time_of;
use crate::time::MonoNs;

/// An input of its own.
pub(super) enum Held {
    Record(Vec<u8>),
    PollEnd(Poll, MonoNs),
    Lost(Loss),
    Tick(MonoNs),
    /// Of a kind that has no time: it is never too early.
    Timeless,
}

impl Held {
    /// A copy of one.
    pub(super) fn of(input: &Input<'_>) -> Held {
        match input {
            Input::Record(bytes) => Held::Record(bytes.to_vec()),
            Input::PollEnd { poll, now } => Held::PollEnd(poll.clone(), *now),
            Input::Lost(loss) => Held::Lost(*loss),
            Input::Tick(now) => Held::Tick(*now),
            Input::PollBegin | Input::Holders(_) | Input::Names(_) | Input::Facts(_) => {
                Held::Timeless
            }
        }
    }

    /// As it was read.
    pub(super) fn input(&self) -> Input<'_> {
        match self {
            Held::Record(bytes) => Input::Record(bytes),
            Held::PollEnd(poll, now) => Input::PollEnd { poll: poll.clone(), now: *now },
            Held::Lost(loss) => Input::Lost(*loss),
            Held::Tick(now) => Input::Tick(*now),
            Held::Timeless => Input::Names(&[]),
        }
    }

    /// When it was.
    pub(super) fn at(&self) -> MonoNs {
        time_of(&self.input())
    }
}
