//! Sockets that are open for long enough, by who opened them.

use std::collections::BTreeMap;
use std::time::Duration;

use tracer_common::TcpState;
use tracer_common::stack::StackKind;

use crate::engine::book::{Book, Sighting, StackId};
use crate::engine::conn::{Connection, Table};
use crate::engine::open::{is_open, survivors};
use crate::event::Comm;
use crate::filter::Filter;
use crate::frame::{Named, opener};
use crate::time::MonoNs;

/// Sockets with one opener.
pub(super) struct Group<'a> {
    pub(super) comm: Comm,
    pub(super) pid: Option<u32>,
    /// Of the oldest socket; `None` when nobody was seen to open them.
    pub(super) first: Option<&'a Sighting>,
    pub(super) conns: Vec<&'a Connection>,
    /// Nobody was seen, though they began under our eyes.
    pub(super) missed: bool,
    /// Their stacks, and how many sockets each has.
    pub(super) stacks: BTreeMap<StackId, usize>,
}

/// What is worth a look: everything that is open for long enough, by opener.
#[derive(Default)]
pub(super) struct Findings<'a> {
    pub(super) groups: Vec<Group<'a>>,
    pub(super) younger: usize,
    pub(super) unaccepted: usize,
}

/// Everything that is worth a look.
pub(super) fn find<'a>(
    table: &'a Table,
    book: &'a Book,
    filter: &'a Filter,
    older: Duration,
    now: MonoNs,
) -> Findings<'a> {
    let mut by_opener: BTreeMap<(u32, u8, String), Group<'a>> = BTreeMap::new();
    for conn in survivors(table, filter, older, now) {
        let sighting = book.seen(conn.id).and_then(|seen| seen.opener());
        let owner = conn.owner.as_ref();
        let pid = sighting.map(|sighting| sighting.pid).or_else(|| owner?.pid());
        let side = sighting.map_or(0, |sighting| sighting.kind as u8);
        let missed = sighting.is_none() && conn.complete;
        let who = match sighting {
            Some(sighting) => group_name(book, sighting),
            None if missed => "missed".to_owned(),
            None => String::new(),
        };
        let group = by_opener.entry((pid.unwrap_or(0), side, who)).or_insert_with(|| Group {
            comm: sighting
                .map(|sighting| sighting.comm)
                .or_else(|| Some(owner?.task.comm))
                .unwrap_or_default(),
            pid,
            missed,
            first: sighting,
            conns: Vec::new(),
            stacks: BTreeMap::new(),
        });
        group.conns.push(conn);
        if let Some(sighting) = sighting {
            if group.first.is_some_and(|first| sighting.at < first.at) {
                group.first = Some(sighting);
            }
            if let Some(stack) = sighting.stack {
                *group.stacks.entry(stack).or_insert(0) += 1;
            }
        }
    }
    let mut groups: Vec<Group<'a>> = by_opener.into_values().collect();
    for group in &mut groups {
        group.conns.sort_unstable_by_key(|conn| (conn.born, conn.id));
    }
    // What the peer has closed is certainly not needed any more; it comes first, then the most.
    groups.sort_by_key(|group| {
        (
            group.first.is_none(),
            group.in_state(TcpState::CloseWait) == 0,
            usize::MAX - group.conns.len(),
        )
    });
    let (younger, unaccepted) = others(table, filter, older, now);
    Findings { groups, younger, unaccepted }
}

/// How many wanted sockets are open and younger, and how many nobody has accepted.
fn others(table: &Table, filter: &Filter, older: Duration, now: MonoNs) -> (usize, usize) {
    let open = table.iter().filter(|conn| is_open(conn) && filter.wants(conn) == Some(true));
    let (mut younger, mut unaccepted) = (0, 0);
    let age = u64::try_from(older.as_nanos()).unwrap_or(u64::MAX);
    for conn in open {
        if !conn.accepted {
            unaccepted += 1;
        } else if now.since(conn.born) < age {
            younger += 1;
        }
    }
    (younger, unaccepted)
}

pub(super) fn named<'a>(book: &'a Book, sighting: &Sighting) -> Option<&'a Named> {
    book.stack(sighting.stack?)?.named.as_ref()
}

/// The method that opened it: one that was interpreted first and compiled later is one all the same.
/// Where no name is known, the thread.
pub(super) fn group_name(book: &Book, sighting: &Sighting) -> String {
    let frames = named(book, sighting).map_or(&[][..], |named| &named.frames);
    match opener(frames) {
        Some(frame) => frame.name.clone(),
        None => format!("thread {}", String::from_utf8_lossy(sighting.thread.bytes())),
    }
}

impl<'a> Group<'a> {
    pub(super) fn in_state(&self, state: TcpState) -> usize {
        self.conns.iter().filter(|conn| conn.state == state).count()
    }

    pub(super) fn states(&self) -> Vec<(TcpState, usize)> {
        let mut states: Vec<(TcpState, usize)> = Vec::new();
        for conn in &self.conns {
            match states.iter_mut().find(|(state, _)| *state == conn.state) {
                Some((_, count)) => *count += 1,
                None => states.push((conn.state, 1)),
            }
        }
        states.sort_by_key(|&(state, count)| (usize::MAX - count, state.name()));
        states
    }

    /// The stack that most of them have, of those that are known best.
    pub(super) fn names(&self, book: &'a Book) -> Option<&'a Named> {
        self.stacks
            .iter()
            .filter_map(|(&id, &count)| Some((id, count, book.stack(id)?.named.as_ref()?)))
            .max_by_key(|&(id, count, named)| (named.note.is_none(), count, std::cmp::Reverse(id)))
            .map(|(_, _, named)| named)
    }

    /// Sockets opened with these stacks, closed ones too; not of those who only read.
    pub(super) fn opened(&self, book: &Book) -> Option<u64> {
        let first = self.first.filter(|first| first.kind != StackKind::Read)?;
        let _ = first.stack?;
        let opened =
            self.stacks.keys().filter_map(|&id| book.stack(id)).map(|stack| stack.opened).sum();
        Some(opened).filter(|&opened: &u64| opened >= self.conns.len() as u64)
    }

    /// Sockets with these stacks that are open now, young ones too.
    pub(super) fn open(&self, table: &Table, book: &Book) -> u64 {
        let of_these = book.sockets().filter(|(_, seen)| {
            let opened =
                seen.opened.filter(|opened| Some(opened.kind) == self.first.map(|f| f.kind));
            opened
                .and_then(|opened| opened.stack)
                .is_some_and(|stack| self.stacks.contains_key(&stack))
        });
        of_these.filter(|&(id, _)| table.find_open(id).is_some_and(is_open)).count() as u64
    }

    /// What all of them have alike.
    pub(super) fn common<T: PartialEq>(&self, of: impl Fn(&Connection) -> T) -> Option<T> {
        let mut all = self.conns.iter().map(|conn| of(conn));
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }
}
