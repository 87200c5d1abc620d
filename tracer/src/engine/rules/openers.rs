//! Which code opened the sockets, and how that is said of a group of which not all is known.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::engine::room::tidy;
use crate::event::SockId;
use crate::frame::{Frame, Kind};

/// Of so few sockets it is not asked whether they are there.
const FEW: usize = 1_024;
/// Openers that a sentence names.
const NAMED: usize = 3;

/// The code that opened a socket, as it is to be named: `com.acme.Crawler.fetch`.
pub type Opener = Arc<str>;

/// Which code opened which socket, where it is known. Whoever knows (stacks) fills it.
#[derive(Debug, Default)]
pub struct Openers {
    by_socket: HashMap<SockId, Opener, FixedState>,
    /// When there are so many, those of sockets that are gone are let go of.
    tidy_at: usize,
}

impl Openers {
    /// The opener of a socket.
    #[must_use]
    pub fn of(&self, id: SockId) -> Option<&Opener> {
        if self.by_socket.is_empty() { None } else { self.by_socket.get(&id) }
    }

    /// All sockets whose opener is known.
    pub fn iter(&self) -> impl Iterator<Item = (SockId, &Opener)> {
        self.by_socket.iter().map(|(id, opener)| (*id, opener))
    }

    /// Takes in who opened a socket.
    pub fn learn(&mut self, id: SockId, opener: Opener) {
        self.by_socket.insert(id, opener);
    }

    /// Forgets sockets that are gone: a name may come after its socket went. Each time there are twice as many, so that it
    /// costs little.
    pub(crate) fn tidy(&mut self, is_there: impl Fn(SockId) -> bool) {
        if self.by_socket.len() >= self.tidy_at.max(FEW) {
            self.tidy_at = tidy(&mut self.by_socket, FEW, |&id, _| is_there(id));
        }
    }

    /// Forgets a socket that is gone.
    pub fn forget(&mut self, id: SockId) {
        if !self.by_socket.is_empty() {
            self.by_socket.remove(&id);
        }
    }
}

/// Who opened the sockets of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Openers, and how many of the sockets each opened; the most first, once [`Opened::sort`]ed.
    pub by: Vec<(Opener, u64)>,
    /// Sockets that were there before tcptrail started.
    pub before: u64,
    /// Sockets opened since whose opener is not known.
    pub unknown: u64,
}

impl Opened {
    /// Takes in one socket.
    pub(crate) fn add(&mut self, opener: Option<&Opener>, was_there: bool) {
        match opener {
            Some(opener) => self.count(opener.clone(), 1),
            None if was_there => self.before += 1,
            None => self.unknown += 1,
        }
    }

    fn count(&mut self, opener: Opener, sockets: u64) {
        match self.by.iter_mut().find(|(known, _)| *known == opener) {
            Some((_, count)) => *count += sockets,
            None => self.by.push((opener, sockets)),
        }
    }

    pub(crate) fn merge(&mut self, other: Opened) {
        for (opener, sockets) in other.by {
            self.count(opener, sockets);
        }
        self.before += other.before;
        self.unknown += other.unknown;
    }

    pub(crate) fn sort(&mut self) {
        self.by.sort_by(|(one, few), (other, many)| many.cmp(few).then_with(|| one.cmp(other)));
    }

    /// Who opened most of those whose opener is known.
    #[must_use]
    pub fn first(&self) -> Option<&Opener> {
        self.by.first().map(|(opener, _)| opener)
    }

    /// `; opened by a.B.c (260 of them; 55 opened before tcptrail started)`; nothing when no opener is
    /// known.
    pub(crate) fn words(&self) -> String {
        let mut text = String::new();
        let Some((first, count)) = self.by.first() else { return text };
        let _ = write!(text, "; opened by {}", named(first));
        let mut rest = Vec::new();
        if self.before != 0 {
            rest.push(format!("{} opened before tcptrail started", self.before));
        }
        if self.unknown != 0 {
            rest.push(format!("of {} the opener was not seen", self.unknown));
        }
        match self.by.len() {
            1 if rest.is_empty() => {}
            1 => {
                let _ = write!(text, " ({count} of them; {})", rest.join("; "));
            }
            many => {
                let _ = write!(text, " ({count})");
                for (opener, count) in self.by.iter().take(NAMED).skip(1) {
                    let _ = write!(text, ", {} ({count})", named(opener));
                }
                if many > NAMED {
                    let _ = write!(text, " and {} more", many - NAMED);
                }
                for part in rest {
                    let _ = write!(text, "; {part}");
                }
            }
        }
        text
    }
}

/// An opener is a library's method only where the stack has none of the application's: on an event loop, or on a
/// pool's own thread. That is said, so that nobody looks for the fault there.
fn named(opener: &Opener) -> Cow<'_, str> {
    match Frame::java(opener, None).kind {
        Kind::Application | Kind::Unknown => Cow::Borrowed(opener),
        Kind::Runtime | Kind::Library => Cow::Owned(format!("library code {opener}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openers_are_told_with_what_is_not_known() {
        let check = |by: &[(&str, u64)], before: u64, unknown: u64, expect: &str| {
            let by = by.iter().map(|&(name, count)| (name.into(), count)).collect();
            let mut opened = Opened { by, before, unknown };
            opened.sort();
            assert_eq!(opened.words(), expect);
        };
        check(&[], 5, 7, "");
        check(&[("a.B.c", 9)], 0, 0, "; opened by a.B.c");
        check(
            &[("a.B.c", 260)],
            55,
            0,
            "; opened by a.B.c (260 of them; 55 opened before tcptrail started)",
        );
        check(
            &[("a.B.c", 2)],
            5,
            1,
            "; opened by a.B.c (2 of them; 5 opened before tcptrail started; of 1 the opener was not seen)",
        );
        check(
            &[("io.netty.channel.socket.nio.NioSocketChannel.doConnect", 7), ("a.B.c", 1)],
            0,
            0,
            "; opened by library code io.netty.channel.socket.nio.NioSocketChannel.doConnect (7), a.B.c (1)",
        );
        check(&[("x", 2), ("y", 9)], 0, 0, "; opened by y (9), x (2)");
        check(
            &[("x", 2), ("y", 9), ("z", 1), ("w", 3)],
            4,
            0,
            "; opened by y (9), w (3), x (2) and 1 more; 4 opened before tcptrail started",
        );
    }
}
