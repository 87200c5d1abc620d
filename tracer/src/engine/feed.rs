//! The engine itself: decodes inputs, keeps the table, the rules and the names, and tells a [`Sink`] what
//! has changed.

use tracer_common::TcpState;

use crate::answer::Answer;
use crate::engine::book::Book;
use crate::engine::conn::{Identities, Living, Table, closed_by_collector};
use crate::engine::decode;
use crate::engine::rules::{Facts, Needs, Watch};
use crate::engine::update::Update;
use crate::event::{Event, Loss, LossCause, SockId, What};
use crate::filter::Filter;
use crate::input::{Input, Origin};
use crate::names::{self, Names};
use crate::time::MonoNs;

/// Takes what the engine tells.
pub trait Sink {
    /// One update. The engine stands still meanwhile.
    fn update(&mut self, engine: &Engine, update: &Update<'_>);
}

/// How the rules take part in a run.
#[derive(Debug)]
pub struct Rules {
    /// The rules and what they remember.
    pub watch: Watch,
    /// What the run is about: the sockets the rules look at.
    pub scope: Filter,
    /// They look by themselves when a tick comes. Else only what they need is read, for a recording, and
    /// they look when [`Engine::look`] asks.
    pub looks: bool,
}

/// What is known of a run, live or replayed.
#[derive(Debug)]
pub struct Engine {
    origin: Origin,
    table: Table,
    identities: Identities,
    rules: Option<Box<Rules>>,
    names: Names,
    /// Which code opened which socket, where a live run takes stacks.
    pub book: Book,
    /// What JVMs answered, where a live run asks them.
    pub answers: Vec<Answer>,
    /// Reused between inputs.
    changes: Vec<crate::engine::conn::Change>,
    lost: [u64; LossCause::ALL.len()],
    /// Connections the table refused, as last reported.
    refused_reported: u64,
    /// Records that made no sense, and how many of them were reported.
    malformed: u64,
    malformed_reported: u64,
    reported_at: MonoNs,
}

impl Engine {
    /// An engine for a run of this origin that keeps at most `limit` connections.
    #[must_use]
    pub fn new(origin: Origin, limit: usize) -> Engine {
        let mut table = Table::new(origin.table_options(limit));
        if origin.hooked(tracer_common::names::KFREE_SKB) {
            table.tell_drops(origin.drop_reasons.clone());
        }
        Engine {
            table,
            reported_at: origin.start(),
            origin,
            identities: Identities::default(),
            rules: None,
            names: Names::default(),
            book: Book::default(),
            answers: Vec::new(),
            changes: Vec::new(),
            lost: [0; LossCause::ALL.len()],
            refused_reported: 0,
            malformed: 0,
            malformed_reported: 0,
        }
    }

    /// With rules, or without.
    #[must_use]
    pub fn with_rules(mut self, rules: Option<Rules>) -> Engine {
        self.rules = rules.map(Box::new);
        if let Some(rules) = &mut self.rules {
            rules.watch.set_filter(rules.scope.clone());
        }
        if self.rules.is_some() {
            self.table.remember_leftovers();
        }
        self
    }

    /// Where `wanted`, how connections ended whose sockets were not closed is remembered.
    #[must_use]
    pub fn with_leftovers(mut self, wanted: bool) -> Engine {
        if wanted {
            self.table.remember_leftovers();
        }
        self
    }

    /// Where and how the inputs were made.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// All connections and listeners.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// How many of the wanted sockets are in each state. The table counts all as they change: they are looked at one by one
    /// only where some are not wanted. A state may come more than once.
    pub fn states(&self, wanted: &Filter) -> impl Iterator<Item = (TcpState, u32)> {
        let all = wanted.wants_all(self.origin.only_netns);
        let some = (!all).then(|| self.table.iter()).into_iter().flatten();
        let some = some.filter(|conn| wanted.wants(conn) == Some(true));
        let all = all.then(|| self.table.states()).into_iter().flatten();
        all.chain(some.map(|conn| (conn.state, 1)))
    }

    /// Names of cgroups and executables.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The rules, where they take part: their findings, and what they need.
    #[must_use]
    pub fn watch(&self) -> Option<&Watch> {
        self.rules.as_ref().map(|rules| &rules.watch)
    }

    /// Events lost so far, by [`LossCause::ALL`].
    #[must_use]
    pub fn lost(&self) -> [u64; LossCause::ALL.len()] {
        self.lost
    }

    /// The connection whose socket stands at an address of the kernel's now, where that is how sockets
    /// are named.
    #[must_use]
    pub fn living(&self, address: u64) -> Option<Living> {
        self.identities.living(address)
    }

    /// Gives stacks that came with an address the socket that has it (kernels before 5.12).
    pub fn settle_book(&mut self, now: MonoNs) {
        let identities = &self.identities;
        self.book.settle(now, |address| identities.living(address));
    }

    /// Network namespaces of interfaces that sockets were found bound to since this was last asked, and whose names
    /// are not known.
    pub fn take_unnamed_interfaces(&mut self) -> Vec<u32> {
        let unnamed = self.table.take_interfaces().into_iter();
        let unnamed =
            unnamed.filter(|(netns, index)| self.names.interface(*netns, *index).is_none());
        let mut netns: Vec<u32> = unnamed.map(|(netns, _)| netns).collect();
        netns.dedup();
        netns
    }

    /// Forgets stacks of sockets that are gone; returns the hashes of those that were let go. `lives` says whether there is
    /// a process with this id.
    pub fn forget_stacks(&mut self, now: MonoNs, lives: impl Fn(u32) -> bool) -> Vec<u64> {
        // What is in CLOSE and not closed has an opener, too.
        let table = &self.table;
        self.book.forget(now, |id| table.has(id) || table.leftover(id).is_some(), lives);
        self.book.forgotten()
    }

    /// Takes in one input; what it changed goes to `sink`.
    pub fn feed(&mut self, input: &Input<'_>, sink: &mut impl Sink) {
        match input {
            Input::Record(bytes) => self.record(bytes, sink),
            Input::PollBegin => self.table.begin_poll(),
            Input::PollEnd { poll, now } => {
                self.table.end_poll(poll, *now, &mut self.changes);
                self.tell_changes(sink);
                if let Some(rules) = &mut self.rules {
                    rules.watch.end_poll(poll);
                }
                sink.update(self, &Update::Walked { poll, now: *now });
            }
            Input::Holders(rows) => {
                let row = size_of::<tracer_common::wire::HolderRow>();
                let holders = rows
                    .chunks(row)
                    .filter_map(|row| self.identities.resolve_holder(decode::holder(row).ok()?))
                    .collect();
                self.table.set_holders(holders);
                sink.update(self, &Update::Holders);
            }
            Input::Names(bytes) => {
                self.take_names(bytes);
                sink.update(self, &Update::Names);
            }
            Input::Facts(bytes) => {
                if let (Some(rules), Some(facts)) = (&mut self.rules, Facts::decode(bytes)) {
                    rules.watch.facts(&facts);
                }
                sink.update(self, &Update::Facts);
            }
            Input::Lost(loss) => self.loss(loss, sink),
            Input::Tick(now) => self.tick(*now, sink),
        }
    }

    fn record(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        // Not moved: it is large.
        let decoded = decode::event(bytes);
        let Ok(event) = &decoded else {
            self.malformed += 1;
            return;
        };
        // What only looks let go of is not taken in without looks.
        let rules = self.rules.as_mut().filter(|rules| rules.looks);
        let (table, changes, mut watch) =
            (&mut self.table, &mut self.changes, rules.map(|rules| &mut rules.watch));
        let mut apply = |event: &Event| {
            table.apply(event, changes);
            if let (Some(watch), What::Socket(row)) = (&mut watch, &event.what) {
                watch.row(event, row);
            }
        };
        if Identities::is_settled(event) {
            apply(event);
        } else {
            self.identities.resolve(*event, apply);
        }
        self.tell_changes(sink);
    }

    fn take_names(&mut self, bytes: &[u8]) {
        self.names.take_in(bytes);
        for (id, translation) in names::translations(bytes) {
            self.table.translate(SockId(id), translation.local, translation.remote);
        }
        if let Some(rules) = &mut self.rules {
            rules.scope.learn(&self.names);
            for (id, opener) in names::openers(bytes).filter(|_| rules.looks) {
                let opener = String::from_utf8_lossy(opener);
                rules.watch.openers.learn(SockId(id), opener.into());
            }
            for (interface, name) in names::interfaces(bytes) {
                rules.watch.name_interface(interface, name);
            }
        }
    }

    fn tell_changes(&mut self, sink: &mut impl Sink) {
        if self.changes.is_empty() {
            return;
        }
        let mut changes = std::mem::take(&mut self.changes);
        if let Some(rules) = self.rules.as_mut().filter(|rules| rules.looks) {
            for change in &changes {
                if let Some(conn) = self.table.get(change.conn) {
                    rules.watch.change(conn, change);
                }
            }
        }
        if !self.book.is_empty() {
            for change in &changes {
                let conn = self.table.get(change.conn);
                if let Some(conn) = conn.filter(|conn| closed_by_collector(conn, change)) {
                    self.book.collected(conn.id);
                }
            }
        }
        for change in &changes {
            if let Some(conn) = self.table.get(change.conn) {
                sink.update(self, &Update::Change { conn, change });
            }
        }
        changes.clear();
        self.changes = changes;
        self.table.settle();
    }

    fn loss(&mut self, loss: &Loss, sink: &mut impl Sink) {
        if let Some(index) = LossCause::ALL.iter().position(|cause| *cause == loss.cause) {
            self.lost[index] += loss.count;
        }
        sink.update(self, &Update::Lost(loss));
    }

    /// The run is over: what waited for another look is told as the kernel reported it.
    pub fn end(&mut self, sink: &mut impl Sink) {
        self.table.confirm_all(&mut self.changes);
        self.tell_changes(sink);
        self.unclaimed(self.reported_at, true, sink);
    }

    /// Drops whose connection was waited for.
    fn unclaimed(&mut self, now: MonoNs, all: bool, sink: &mut impl Sink) {
        let groups = self.table.unclaimed(now, all, &mut self.changes);
        self.tell_changes(sink);
        for group in groups.iter().filter(|group| self.origin.is_about(group.netns)) {
            sink.update(self, &Update::Unclaimed(group));
        }
    }

    fn tick(&mut self, now: MonoNs, sink: &mut impl Sink) {
        self.identities.tick(now);
        self.table.tick(now, &mut self.changes);
        self.tell_changes(sink);
        self.unclaimed(now, false, sink);
        self.own_losses(now, sink);
        if self.rules.as_ref().is_some_and(|rules| rules.looks) {
            self.look(now, sink);
        }
        sink.update(self, &Update::Tick(now));
    }

    /// Losses of our own are found out here rather than told.
    fn own_losses(&mut self, now: MonoNs, sink: &mut impl Sink) {
        let from = std::mem::replace(&mut self.reported_at, now);
        let refused = self.table.refused() - self.refused_reported;
        let malformed = self.malformed - self.malformed_reported;
        self.refused_reported += refused;
        self.malformed_reported += malformed;
        for (cause, count) in [(LossCause::Table, refused), (LossCause::Malformed, malformed)] {
            if count != 0 {
                self.loss(&Loss { count, cause, from, to: now }, sink);
            }
        }
    }

    /// Lets the rules look, if it is time to.
    fn look(&mut self, now: MonoNs, sink: &mut impl Sink) {
        let Some(rules) = &mut self.rules else { return };
        let mut updates = Vec::new();
        if !rules.watch.look(&self.table, &rules.scope, now, &mut updates) {
            return;
        }
        for (update, finding) in &updates {
            sink.update(self, &Update::Finding { at: now, update, finding });
        }
        sink.update(self, &Update::Looked(now));
    }

    /// Lets the rules look now, whenever they looked last.
    pub fn look_now(&mut self, now: MonoNs, sink: &mut impl Sink) {
        if let Some(rules) = &mut self.rules {
            rules.watch.hurry();
            self.look(now, sink);
        }
    }

    /// Finds out of which processes and namespaces the rules need to know, without a look.
    pub fn survey(&mut self, now: MonoNs) -> Option<&Needs> {
        let rules = self.rules.as_mut()?;
        rules.watch.survey(&self.table, &rules.scope, now);
        Some(rules.watch.needs())
    }
}
