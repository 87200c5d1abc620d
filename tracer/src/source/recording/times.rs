//! When inputs were.

use crate::input::Input;
use crate::time::MonoNs;

/// The time of an input; 0 for what has none, which goes with what was before it.
pub(super) fn time_of(input: &Input<'_>) -> MonoNs {
    match input {
        Input::Record(bytes) => {
            MonoNs(bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)))
        }
        Input::PollEnd { now, .. } | Input::Tick(now) => *now,
        Input::Lost(loss) => loss.to,
        Input::PollBegin | Input::Holders(_) | Input::Names(_) | Input::Facts(_) => MonoNs(0),
    }
}
