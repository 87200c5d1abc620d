//! What is worth a look: everything that is open for long enough, by opener.

use std::collections::BTreeMap;
use std::time::Duration;

use tracer_common::TcpState;
use tracer_common::stack::StackKind;

use crate::engine::Engine;
use crate::engine::book::{Book, Seen, Sighting, StackId};
use crate::engine::conn::{Connection, Table};
use crate::engine::open::{is_open, survivors};
use crate::engine::rules::fingerprint::{End, Fins, Timeout, idle_timeout};
use crate::event::Comm;
use crate::filter::Filter;
use crate::frame::{Frame, Kind, Named, opener};
use crate::output::lines::leaks::collected::Collected;
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
    stacks: BTreeMap<StackId, usize>,
    /// Who has read from one of them last, where that is other code than opened them.
    pub(super) user: Option<&'a Sighting>,
    /// The stacks of who read last, and how many sockets each has.
    user_stacks: BTreeMap<StackId, usize>,
    /// Methods that handled requests of accepted sockets, by name: with their line, and of how many sockets.
    handlers: BTreeMap<&'a str, (&'a Frame, usize)>,
    /// Others that this opener opened, and that only a garbage collector closed; when it closed the last.
    pub(super) collected: u64,
    pub(super) collected_last: Option<MonoNs>,
    /// The other side's idle timeout, where that is what closed most of those in CLOSE_WAIT.
    pub(super) timeout: Option<Timeout>,
}

/// What is worth a look: everything that is open for long enough, by opener.
#[derive(Default)]
pub(super) struct Findings<'a> {
    pub(super) groups: Vec<Group<'a>>,
    pub(super) younger: usize,
    pub(super) unaccepted: usize,
}

/// What makes one group of sockets: process, side, who opened them, who used them last.
type Key = (u32, u8, String, Option<String>);

pub(super) fn find<'a>(
    engine: &'a Engine,
    (collected, fins): (&'a Collected, &Fins),
    filter: &'a Filter,
    older: Duration,
    now: MonoNs,
) -> Findings<'a> {
    let (table, book) = (engine.table(), &engine.book);
    let mut by_opener: BTreeMap<Key, Group<'a>> = BTreeMap::new();
    for conn in survivors(table, filter, older, now) {
        add(&mut by_opener, conn, book);
    }
    for (&stack, count) in &collected.by_stack {
        let opened = &count.opened;
        let key = (opened.pid, opened.kind as u8, group_name(book, opened));
        // Where some are open, too, it is told with those.
        let open = by_opener
            .iter_mut()
            .find(|((pid, side, who, _), _)| (*pid, *side, who) == (key.0, key.1, &key.2));
        let group = match open {
            Some((_, group)) => group,
            None => by_opener
                .entry((key.0, key.1, key.2, None))
                .or_insert_with(|| Group::of(opened.comm, Some(opened.pid), Some(opened))),
        };
        group.collected += count.sockets;
        group.collected_last = group.collected_last.max(Some(count.last));
        group.stacks.entry(stack).or_insert(0);
    }
    let mut groups: Vec<Group<'a>> = by_opener.into_values().collect();
    for group in &mut groups {
        group.conns.sort_unstable_by_key(|conn| (conn.born, conn.id));
        group.timeout = group.idle_timeout(fins);
    }
    // What the peer has closed is certainly not needed any more; it comes first, then the most.
    groups.sort_by_key(|group| {
        (
            group.conns.is_empty(),
            group.first.is_none(),
            group.in_state(TcpState::CloseWait) == 0,
            usize::MAX - group.conns.len(),
        )
    });
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
    Findings { groups, younger, unaccepted }
}

/// Puts a socket into its group.
fn add<'a>(by_opener: &mut BTreeMap<Key, Group<'a>>, conn: &'a Connection, book: &'a Book) {
    let seen = book.seen(conn.id);
    let sighting = seen.and_then(Seen::opener);
    let owner = conn.owner.as_ref();
    let pid = sighting.map(|sighting| sighting.pid).or_else(|| owner?.pid());
    let side = sighting.map_or(0, |sighting| sighting.kind as u8);
    let missed = sighting.is_none() && conn.complete;
    let who = match sighting {
        Some(sighting) => group_name(book, sighting),
        None if missed => "missed".to_owned(),
        None => String::new(),
    };
    // Whoever opened it and goes on using it need not be named twice. A library that reads on a thread of its own is
    // nobody's code.
    let user = seen.and_then(Seen::user);
    let used = user.and_then(|user| application(book, user)).filter(|used| *used != who);
    let user = user.filter(|_| used.is_some());
    let group = by_opener.entry((pid.unwrap_or(0), side, who, used)).or_insert_with(|| {
        let comm = sighting.map(|sighting| sighting.comm).or_else(|| Some(owner?.task.comm));
        Group { missed, ..Group::of(comm.unwrap_or_default(), pid, sighting) }
    });
    group.conns.push(conn);
    if let Some(handler) = seen.and_then(|seen| handler(book, seen)) {
        group.handlers.entry(&handler.name).or_insert((handler, 0)).1 += 1;
    }
    if let Some(user) = user {
        if group.user.is_none_or(|last| user.at > last.at) {
            group.user = Some(user);
        }
        if let Some(stack) = user.stack {
            *group.user_stacks.entry(stack).or_insert(0) += 1;
        }
    }
    if let Some(sighting) = sighting {
        if group.first.is_some_and(|first| sighting.at < first.at) {
            group.first = Some(sighting);
        }
        if let Some(stack) = sighting.stack {
            *group.stacks.entry(stack).or_insert(0) += 1;
        }
    }
}

/// The application's method that handled what was read from an accepted socket, as far as its thread did
/// something that was seen.
fn handler<'a>(book: &'a Book, seen: &Seen) -> Option<&'a Frame> {
    let named = |id| Some(&book.stack(id)?.named.as_ref()?.frames);
    let mut stacks = seen.handled.stacks().filter_map(named);
    stacks.find_map(|frames| {
        // A carrier runs one virtual thread after the other: what it does next may be another's.
        if frames.iter().any(|frame| frame.name.starts_with("java.lang.VirtualThread.")) {
            return None;
        }
        opener(frames).filter(|frame| frame.kind == Kind::Application)
    })
}

/// The method or function that a stack is of, once it has names.
fn code_name(book: &Book, sighting: &Sighting) -> Option<String> {
    Some(opener(&named(book, sighting)?.frames)?.name.clone())
}

/// The same, where it is the application's.
fn application(book: &Book, sighting: &Sighting) -> Option<String> {
    let frame = opener(&named(book, sighting)?.frames)?;
    (frame.kind == Kind::Application).then(|| frame.name.clone())
}

pub(super) fn named<'a>(book: &'a Book, sighting: &Sighting) -> Option<&'a Named> {
    book.stack(sighting.stack?)?.named.as_ref()
}

/// The method that opened it: one that was interpreted first and compiled later is one all the same.
/// Where no name is known, the thread.
pub(super) fn group_name(book: &Book, sighting: &Sighting) -> String {
    code_name(book, sighting)
        .unwrap_or_else(|| format!("thread {}", String::from_utf8_lossy(sighting.thread.bytes())))
}

impl<'a> Group<'a> {
    fn of(comm: Comm, pid: Option<u32>, first: Option<&'a Sighting>) -> Group<'a> {
        Group {
            comm,
            pid,
            first,
            conns: Vec::new(),
            missed: false,
            stacks: BTreeMap::new(),
            user: None,
            user_stacks: BTreeMap::new(),
            handlers: BTreeMap::new(),
            collected: 0,
            collected_last: None,
            timeout: None,
        }
    }

    /// The idle timeout that closed most of those that we opened and the other side has closed.
    fn idle_timeout(&self, fins: &Fins) -> Option<Timeout> {
        self.first.filter(|first| first.kind == StackKind::Connect)?;
        let half_closed = || self.conns.iter().filter(|conn| conn.state == TcpState::CloseWait);
        // The FIN counts as one.
        let fin = |conn: &&Connection| {
            Some(fins.of(conn.id)?.with_unread(conn.recv_queue.saturating_sub(1)))
        };
        let ends: Vec<End> = half_closed().filter_map(fin).map(|fin| fin.end(fin.at)).collect();
        let timeout = idle_timeout(&ends)?;
        (timeout.followers * 5 >= half_closed().count() as u64 * 4).then_some(timeout)
    }

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

    /// The stack that most of them were opened with, of those that are known best.
    pub(super) fn names(&self, book: &'a Book) -> Option<&'a Named> {
        best(&self.stacks, book)
    }

    /// The same of who used them last.
    pub(super) fn user_names(&self, book: &'a Book) -> Option<&'a Named> {
        best(&self.user_stacks, book)
    }

    /// The method that handled most of the accepted ones, and how many.
    pub(super) fn handler(&self) -> Option<(String, usize)> {
        let most = self.handlers.values().max_by_key(|&(_, count)| count);
        most.map(|(frame, count)| (frame.text(), *count))
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

    /// The cgroup of the oldest whose cgroup is known; 0: of none.
    pub(super) fn cgroup(&self) -> u64 {
        self.conns.iter().map(|conn| conn.cgroup).find(|&cgroup| cgroup != 0).unwrap_or(0)
    }

    /// What all of them have alike.
    pub(super) fn common<T: PartialEq>(&self, of: impl Fn(&Connection) -> T) -> Option<T> {
        let mut all = self.conns.iter().map(|conn| of(conn));
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }
}

/// The stack of most sockets, of those that are known best.
fn best<'a>(stacks: &BTreeMap<StackId, usize>, book: &'a Book) -> Option<&'a Named> {
    stacks
        .iter()
        .filter_map(|(&id, &count)| Some((id, count, book.stack(id)?.named.as_ref()?)))
        .max_by_key(|&(id, count, named)| (named.note.is_none(), count, std::cmp::Reverse(id)))
        .map(|(_, _, named)| named)
}
