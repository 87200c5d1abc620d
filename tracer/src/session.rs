//! From inputs to output: decode, table, filter, view, and the recording. The same for live runs and
//! replays; no IO but into buffers and the recording.

use std::io;

use tracer_common::TcpState;

use crate::engine::book::Book;
use crate::engine::conn::{
    Change, ConnRef, Connection, Identities, Kind, Living, Role, Spent, Table,
};
use crate::engine::decode;
use crate::engine::rules::{Facts, Needs, Watch};
use crate::event::{Event, Loss, LossCause, SockId, What};
use crate::filter::Filter;
use crate::input::Input;
use crate::names;
use crate::output::json::Object;
use crate::output::lines::{Pen, View, leaks, list, stuck, times};
use crate::record::{Ended, Writer};
use crate::time::MonoNs;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Transitions, retransmits and resets that passed the filter.
    pub events: u64,
    /// Connections met.
    pub connections: u64,
    /// Lost, by [`LossCause::ALL`].
    pub lost: [u64; LossCause::ALL.len()],
}

impl Totals {
    /// Lost for any cause.
    #[must_use]
    pub fn all_lost(&self) -> u64 {
        self.lost.iter().sum()
    }
}

/// A run.
pub struct Session<W: io::Write> {
    /// All connections.
    pub table: Table,
    filter: Filter,
    unfiltered: bool,
    view: View,
    pen: Pen,
    recording: Option<Writer<W>>,
    identities: Identities,
    changes: Vec<Change>,
    events: u64,
    connections: u64,
    lost: [u64; LossCause::ALL.len()],
    /// Connections the table refused, and malformed records, already reported.
    table_reported: u64,
    malformed: u64,
    malformed_reported: u64,
    reported_at: MonoNs,
    /// What looks for the stuck, where that is asked for.
    watch: Option<Box<Watch>>,
    /// It has looked since it was asked whether it has.
    looked: bool,
    /// Lines for stdout.
    pub out: Vec<u8>,
}

impl<W: io::Write> Session<W> {
    /// A run that begins now; its head is in `out`.
    pub fn new(
        table: Table,
        filter: Filter,
        view: View,
        pen: Pen,
        recording: Option<Writer<W>>,
    ) -> Self {
        let mut session = Session {
            unfiltered: filter == Filter::default(),
            reported_at: pen.origin.start(),
            table,
            filter,
            view,
            pen,
            recording,
            identities: Identities::default(),
            changes: Vec::new(),
            events: 0,
            connections: 0,
            lost: [0; LossCause::ALL.len()],
            table_reported: 0,
            malformed: 0,
            malformed_reported: 0,
            watch: None,
            looked: false,
            out: Vec::new(),
        };
        session.view.head(&mut session.pen, &mut session.out);
        session
    }

    /// Looks for what is stuck; or, with another view than that, only for what should be read around
    /// (see [`Session::needs`]).
    #[must_use]
    pub fn with_rules(mut self, watch: Watch) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// The connection whose socket stands at an address of the kernel's now, where that is how sockets
    /// are named.
    #[must_use]
    pub fn living(&self, address: u64) -> Option<Living> {
        self.identities.living(address)
    }

    /// Takes in one input.
    ///
    /// # Errors
    /// When the recording cannot be written; the input has been shown all the same.
    pub fn feed(&mut self, input: &Input<'_>) -> io::Result<()> {
        match input {
            Input::Record(bytes) => self.record(bytes),
            Input::PollBegin => self.table.begin_poll(),
            Input::PollEnd { poll, now } => {
                self.table.end_poll(poll, *now, &mut self.changes);
                self.show_changes();
                if let Some(watch) = &mut self.watch {
                    watch.end_poll(poll);
                }
            }
            Input::Holders(rows) => {
                let row = size_of::<tracer_common::wire::HolderRow>();
                let holders = rows
                    .chunks(row)
                    .filter_map(|row| self.identities.resolve_holder(decode::holder(row).ok()?))
                    .collect();
                self.table.set_holders(holders);
            }
            Input::Names(bytes) => {
                self.pen.names.take_in(bytes);
                if let Some(watch) = &mut self.watch {
                    for (id, opener) in names::openers(bytes) {
                        let opener = String::from_utf8_lossy(opener);
                        watch.openers.learn(SockId(id), opener.into());
                    }
                }
            }
            Input::Facts(bytes) => {
                if let (Some(watch), Some(facts)) = (&mut self.watch, Facts::decode(bytes)) {
                    watch.facts(&facts);
                }
            }
            Input::Lost(loss) => self.loss(loss),
            Input::Tick(now) => self.tick(*now),
        }
        match &mut self.recording {
            Some(writer) => writer.push(input),
            None => Ok(()),
        }
    }

    fn record(&mut self, bytes: &[u8]) {
        match decode::event(bytes) {
            Ok(event) => {
                let (table, changes, watch) = (&mut self.table, &mut self.changes, &mut self.watch);
                let mut apply = |event: &Event| {
                    table.apply(event, changes);
                    if let (Some(watch), What::Socket(row)) = (&mut *watch, &event.what) {
                        watch.row(event, row);
                    }
                };
                if Identities::is_settled(&event) {
                    apply(&event);
                } else {
                    self.identities.resolve(event, apply);
                }
                self.show_changes();
            }
            Err(_) => self.malformed += 1,
        }
    }

    fn loss(&mut self, loss: &Loss) {
        if let Some(index) = LossCause::ALL.iter().position(|cause| *cause == loss.cause) {
            self.lost[index] += loss.count;
        }
        self.view.loss(&mut self.pen, loss, &mut self.out);
    }

    fn tick(&mut self, now: MonoNs) {
        self.identities.tick(now);
        self.table.tick(now, &mut self.changes);
        self.show_changes();
        // Losses of our own are found out here rather than told.
        let from = std::mem::replace(&mut self.reported_at, now);
        for (cause, total, reported) in [
            (LossCause::Table, self.table.refused(), &mut self.table_reported),
            (LossCause::Malformed, self.malformed, &mut self.malformed_reported),
        ] {
            let count = total - std::mem::replace(reported, total);
            if count != 0 {
                let loss = Loss { count, cause, from, to: now };
                if let Some(index) = LossCause::ALL.iter().position(|other| *other == cause) {
                    self.lost[index] += count;
                }
                self.view.loss(&mut self.pen, &loss, &mut self.out);
            }
        }
        if let View::Stuck { frames, once } = self.view {
            // JSON is for programs, on a terminal too.
            self.look(now, (!frames || self.pen.json) && !once);
        }
    }

    /// Looks for what is stuck, if it is time to; shows what has changed.
    fn look(&mut self, now: MonoNs, show: bool) {
        let Some(watch) = &mut self.watch else { return };
        let mut updates = Vec::new();
        self.looked |= watch.look(&self.table, &self.filter, now, &mut updates);
        if show {
            for (update, finding) in &updates {
                stuck::update(&mut self.pen, update, finding, now, &mut self.out);
            }
        }
    }

    fn show_changes(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        let mut changes = std::mem::take(&mut self.changes);
        if let Some(watch) = &mut self.watch {
            for change in &changes {
                if let Some(conn) = self.table.get(change.conn) {
                    watch.change(conn, change);
                }
            }
        }
        for change in &changes {
            self.show(change);
        }
        changes.clear();
        self.changes = changes;
        self.table.settle();
    }

    fn show(&mut self, change: &Change) {
        if self.unfiltered {
            self.count(change);
            let Some(conn) = self.table.get(change.conn) else { return };
            self.view.change(&mut self.pen, &self.table, conn, change, &mut self.out);
            return;
        }
        let Some(conn) = self.table.get(change.conn) else { return };
        match self.filter.wants(conn) {
            None => {
                // Whether it is wanted turns on the port the kernel has yet to choose.
                if let Some(conn) = self.table.get_mut(change.conn) {
                    conn.held = true;
                }
            }
            Some(false) => {}
            Some(true) => {
                if conn.held {
                    self.release(change.conn);
                }
                self.count(change);
                let Some(conn) = self.table.get(change.conn) else { return };
                if self.filter_allows(conn, change) {
                    self.view.change(&mut self.pen, &self.table, conn, change, &mut self.out);
                }
            }
        }
    }

    fn count(&mut self, change: &Change) {
        if matches!(change.kind, Kind::Finished | Kind::Gone) {
            return;
        }
        self.events += 1;
        if let Some(conn) = self.table.get_mut(change.conn)
            && conn.role != Role::Listener
            && !conn.counted
        {
            conn.counted = true;
            self.connections += 1;
        }
    }

    /// Shows the line that was held back: CLOSE->SYN_SENT, now with its port.
    fn release(&mut self, conn: ConnRef) {
        let Some(held) = self.table.get_mut(conn) else { return };
        held.held = false;
        let at = held.born;
        let Some(conn_now) = self.table.get(conn) else { return };
        if conn_now.role != Role::Client {
            return;
        }
        let kind = Kind::Transition {
            old: TcpState::Close,
            new: TcpState::SynSent,
            in_old: Spent::Unknown,
        };
        let first = Change { at, conn, kind };
        self.count(&first);
        let Some(conn_now) = self.table.get(conn) else { return };
        if self.filter_allows(conn_now, &first) {
            self.view.change(&mut self.pen, &self.table, conn_now, &first, &mut self.out);
        }
    }

    fn filter_allows(&self, conn: &Connection, change: &Change) -> bool {
        let states = |state: TcpState| self.filter.wants_states(state, state);
        match change.kind {
            Kind::Transition { old, new, in_old } => {
                matches!(self.view, View::Life { .. })
                    || (self.filter.wants_states(old, new)
                        && (self.filter.min_ns == 0
                            || in_old.ns().is_some_and(|ns| ns >= self.filter.min_ns)))
            }
            Kind::Retransmit { state, .. } | Kind::Reset { state, .. } => {
                states(state) && self.filter.min_ns == 0
            }
            Kind::Finished | Kind::Gone => {
                let been = self.filter.states.is_empty()
                    || self.filter.states.contains(&conn.state)
                    || self.filter.states.iter().any(|&state| conn.time_in(state) != 0);
                been && change.at.since(conn.born) >= self.filter.min_ns
            }
        }
    }

    /// Shows the whole table, for `list`; returns how many sockets that were.
    pub fn list(&mut self, now: MonoNs) -> usize {
        list::table(&mut self.pen, &self.table, &self.filter, now, &mut self.out)
    }

    /// Shows who opened what is still open, for `leaks`; returns how many sockets that is.
    pub fn leaks(&mut self, book: &Book, options: &leaks::Options, now: MonoNs) -> usize {
        leaks::report(&mut self.pen, &self.table, book, &self.filter, options, now, &mut self.out)
    }

    /// Finds out of which processes and namespaces the rules need to know.
    pub fn survey(&mut self, now: MonoNs) -> Option<&Needs> {
        let watch = self.watch.as_mut()?;
        watch.survey(&self.table, &self.filter, now);
        Some(watch.needs())
    }

    /// What the last look found out of that.
    #[must_use]
    pub fn needs(&self) -> Option<&Needs> {
        self.watch.as_deref().map(Watch::needs)
    }

    /// The rules at work, if they are.
    #[must_use]
    pub fn rules(&self) -> Option<&Watch> {
        self.watch.as_deref()
    }

    /// The rules at work, for whoever knows who opened what.
    pub fn rules_mut(&mut self) -> Option<&mut Watch> {
        self.watch.as_deref_mut()
    }

    /// Whether there was a look since this was last asked.
    pub fn has_looked(&mut self) -> bool {
        std::mem::take(&mut self.looked)
    }

    /// Looks now and shows everything that is stuck, for `stuck --once`.
    pub fn stuck_now(&mut self, now: MonoNs) {
        if let Some(watch) = &mut self.watch {
            watch.hurry();
        }
        self.look(now, false);
        let Some(watch) = &self.watch else { return };
        stuck::once(&mut self.pen, watch, now, &mut self.out);
    }

    /// Draws everything that is stuck on a terminal of that many lines.
    pub fn stuck_frame(&mut self, now: MonoNs, lines: usize) {
        let lost = self.lost.iter().sum();
        let Some(watch) = &self.watch else { return };
        self.pen.terminal = crate::text::Terminal::of_stdout(self.pen.terminal.color);
        stuck::frame(&mut self.pen, watch, now, lost, lines, &mut self.out);
    }

    /// Lets the recording have what it has received so far.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush_recording(&mut self) -> io::Result<()> {
        self.recording.as_mut().map_or(Ok(()), Writer::flush)
    }

    /// Gives the recording up, after it failed.
    pub fn drop_recording(&mut self) {
        self.recording = None;
    }

    /// What it came to so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals { events: self.events, connections: self.connections, lost: self.lost }
    }

    /// Writes the last line and ends the recording.
    ///
    /// # Errors
    /// When the recording cannot be written.
    pub fn end(&mut self, now: MonoNs) -> io::Result<()> {
        self.tick(now);
        let totals = self.totals();
        if self.pen.json && !matches!(self.view, View::Nothing) {
            let mut object = Object::event(&mut self.out, "end");
            times(&mut object, &mut self.pen.clock, now);
            object.number("events", totals.events).number("lost", totals.all_lost());
            for (cause, count) in LossCause::ALL.iter().zip(totals.lost) {
                if count != 0 {
                    object.number(&format!("lost_{}", cause.name()), count);
                }
            }
            object
                .number("connections", totals.connections)
                .number("duration_ns", now.since(self.pen.origin.start()))
                .end();
        }
        match self.recording.take() {
            Some(writer) => writer
                .finish(Ended { events: totals.events, connections: totals.connections, at: now })
                .map(drop),
            None => Ok(()),
        }
    }
}
