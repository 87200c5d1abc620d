//! What many lines have in common, put together once: who has a socket, where that runs, between whom a connection is.

use crate::engine::conn::Role;
use crate::event::{Actor, Comm, SockId, Tuple};
use crate::output::json::Object;

/// Processes and threads that are busy at the same time are few.
const TASKS: usize = 64;
/// Connections of which the next lines are.
pub(super) const CONNECTIONS: usize = 256;

/// What is kept of one kind, by what it says. Whatever it is written from is in what it says.
#[derive(Debug)]
pub(super) struct Kept<S, T, const MOST: usize>(Box<[(Option<S>, T); MOST]>);

impl<S, T: Default, const MOST: usize> Default for Kept<S, T, MOST> {
    fn default() -> Self {
        Kept(Box::new(std::array::from_fn(|_| (None, T::default()))))
    }
}

impl<S: PartialEq, T, const MOST: usize> Kept<S, T, MOST> {
    /// What says this; `write` puts it in the place of what was there, unless the last one of those with this `number`
    /// said the same.
    #[inline]
    pub(super) fn get(&mut self, number: u64, says: S, write: impl FnOnce(&mut T)) -> &T {
        let (last, kept) = &mut self.0[number as usize % MOST];
        if last.as_ref() != Some(&says) {
            write(kept);
            *last = Some(says);
        }
        kept
    }
}

impl<S: PartialEq, const MOST: usize> Kept<S, Vec<u8>, MOST> {
    /// Puts in the piece that says this; written by `write` unless the last one of those with this `number` was the same.
    #[inline]
    pub(super) fn put(
        &mut self,
        object: &mut Object<'_>,
        number: u64,
        says: S,
        write: impl FnOnce(&mut Object<'_>),
    ) {
        let piece = self.get(number, says, |text| {
            text.clear();
            write(&mut Object::piece(text));
        });
        object.put(piece);
    }
}

/// What a connection's own pieces say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Says {
    pub(super) id: SockId,
    pub(super) netns: u32,
    pub(super) tuple: Tuple,
    pub(super) role: Role,
    /// Where it really goes.
    pub(super) real: Option<Tuple>,
    /// Of the names.
    pub(super) version: u64,
}

/// A connection's own pieces: which it is, and what the remote end is called.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Own {
    pub(super) which: Vec<u8>,
    pub(super) remote: Vec<u8>,
}

/// Those of the connections that the last lines were about.
pub(super) type OwnPieces = Kept<Says, Own, CONNECTIONS>;

/// By who is at the other end, in which cgroup, and the version of the names.
pub(super) type PeerPieces = Kept<(Option<u32>, Option<Comm>, u64, u64), Vec<u8>, TASKS>;

/// All kinds.
#[derive(Debug, Default)]
pub struct Pieces {
    /// Of a connection.
    pub(super) own: OwnPieces,
    /// A task, and whether it is only the listener's.
    pub(super) tasks: Kept<(Actor, bool), Vec<u8>, TASKS>,
    /// A cgroup, and the version of its names.
    pub(super) places: Kept<(u64, u64), Vec<u8>, TASKS>,
    /// Of the other end.
    pub(super) peers: PeerPieces,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::json::key;

    #[test]
    fn a_piece_is_written_again_when_it_is_to_say_something_else() {
        let (mut pieces, mut written) = (Kept::<u32, Vec<u8>, TASKS>::default(), 0);
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
        check(1 + TASKS as u64, 5, 5);
        check(1, 7, 6);
    }
}
