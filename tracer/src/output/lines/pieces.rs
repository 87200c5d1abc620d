//! Pieces of JSON that many lines have in common, put together once: who has a socket, where that runs.

use crate::event::{Actor, Comm};
use crate::output::json::Object;

/// Pieces of one kind that are kept: a power of two. Processes and threads that are busy at the same time are few.
const MOST: usize = 64;

/// Pieces of one kind, by what they say. Whatever a piece is written from is in what it says.
#[derive(Debug)]
pub(super) struct Kept<S>(Vec<(Option<S>, Vec<u8>)>);

impl<S> Default for Kept<S> {
    fn default() -> Self {
        Kept(std::iter::repeat_with(|| (None, Vec::new())).take(MOST).collect())
    }
}

impl<S: PartialEq> Kept<S> {
    /// Puts in the piece that says this; written by `write` unless the last one of those with this `number` was the same.
    #[inline]
    pub(super) fn put(
        &mut self,
        object: &mut Object<'_>,
        number: u64,
        says: S,
        write: impl FnOnce(&mut Object<'_>),
    ) {
        let Some((last, text)) = self.0.get_mut(number as usize % MOST) else { return };
        if last.as_ref() != Some(&says) {
            text.clear();
            write(&mut Object::piece(text));
            *last = Some(says);
        }
        object.put(text);
    }
}

/// All kinds.
#[derive(Debug, Default)]
pub struct Pieces {
    /// A task, and whether it is only the listener's.
    pub(super) tasks: Kept<(Actor, bool)>,
    /// A cgroup, and the version of its names.
    pub(super) places: Kept<(u64, u64)>,
    /// Who is at the other end, in which cgroup, and the version of its names.
    pub(super) peers: Kept<(Option<u32>, Option<Comm>, u64, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::json::key;

    #[test]
    fn a_piece_is_written_again_when_it_is_to_say_something_else() {
        let (mut pieces, mut written) = (Kept::default(), 0);
        let mut put = |number, says: u32| {
            let mut out = Vec::new();
            pieces.put(&mut Object::piece(&mut out), number, says, |object| {
                written += 1;
                object.number(key!("it"), says);
            });
            (String::from_utf8(out).expect("UTF-8"), written)
        };
        let mut check = |number, says, times| {
            assert_eq!(put(number, says), (format!(",\"it\":{says}"), times));
        };
        check(1, 7, 1);
        check(1, 7, 1);
        check(2, 9, 2);
        check(1, 7, 2);
        check(1, 8, 3);
        check(1, 7, 4);
        // Another number may have the same place.
        check(1 + MOST as u64, 5, 5);
        check(1, 7, 6);
    }
}
