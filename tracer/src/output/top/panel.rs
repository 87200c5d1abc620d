//! Everything of `top` but the terminal: what is folded, what is chosen, and the table that is made of both.

use std::time::Instant;

use crossterm::event::Event;
use ratatui::Frame;

use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::output::report::Aside;
use crate::output::top::command_line::Command;
use crate::output::top::ending::{Ending, Hands};
use crate::output::top::keys::{self, Action, Mode};
use crate::output::top::model::{Cost, Model};
use crate::output::top::save::{Page, Saving};
use crate::output::top::state::{State, Then};
use crate::output::top::tabs::{self, Kept, Pane, RowId, Scene, Tab, Table, fullest};
use crate::output::top::view::{self, Header, Hit, Hits, Theme};
use crate::output::top::words::Wanted;
use crate::output::{Asked, Playback};
use crate::time::MonoNs;
use crate::time::clock::Clock;

/// A table that took long to make is made anew after so many times as long: it may take a hundredth of the time.
const SHARE: u64 = 100;

/// What `top` is given.
pub struct Options {
    /// Which connections it is about.
    pub scope: Filter,
    /// That, as options of the command line.
    pub scope_args: Vec<String>,
    /// The recording, as it was named.
    pub replay: Option<String>,
    /// What a report says it is of: the name of the file, or of the machine.
    pub source: String,
    /// What the terminal can show.
    pub color: bool,
    /// Nothing but ASCII.
    pub ascii: bool,
    /// Turns times of the run into times of day.
    pub clock: Clock,
    /// Who ends sockets, where somebody can.
    pub hands: Hands,
}

/// All of it.
pub(super) struct Panel {
    scope: Filter,
    model: Model,
    /// For the report that `w` writes.
    aside: Aside,
    source: String,
    state: State,
    table: Table,
    /// What the table is made of.
    kept: Kept,
    pane: Option<Pane>,
    hits: Hits,
    theme: Theme,
    clock: Clock,
    command: Command,
    playback: Option<Playback>,
    /// As of when the screen stands still.
    frozen_at: Option<MonoNs>,
    ending: Ending,
    /// A question about sockets, or what became of them: it lies over everything.
    over: Option<Pane>,
    saving: Saving,
    /// For the clipboard of the terminal.
    pub(super) copied: Option<String>,
    /// Until then the table stays as it is, unless somebody wants it otherwise: see [`SHARE`].
    next_table: MonoNs,
    /// The table must be made anew before it is drawn.
    stale: bool,
    /// Nothing of the last frame is to be relied on.
    pub(super) anew: bool,
}

impl Panel {
    pub(super) fn new(options: Options) -> Panel {
        let replays = options.replay.is_some();
        let empty = Table::of(tabs::columns(Tab::default(), None), Vec::new(), "");
        Panel {
            aside: Aside::new(options.scope.clone(), MonoNs(0)),
            source: options.source,
            scope: options.scope,
            model: Model::default(),
            state: State::new(),
            table: empty,
            kept: Kept::default(),
            pane: None,
            hits: Hits::default(),
            theme: Theme { color: options.color, ascii: options.ascii },
            clock: options.clock,
            command: Command { replay: options.replay, scope: options.scope_args },
            playback: replays.then(|| Playback::new(MonoNs(0), MonoNs(0), 1.0)),
            frozen_at: None,
            ending: Ending::new(options.hands),
            over: None,
            saving: Saving::default(),
            copied: None,
            next_table: MonoNs(0),
            stale: true,
            anew: false,
        }
    }

    /// The run begins, or a replay begins again.
    pub(super) fn begin(&mut self, engine: &Engine) {
        self.clock.set_anchor(engine.origin().anchor());
        self.model = Model::default();
        self.aside = Aside::new(self.scope.clone(), engine.origin().start());
        self.next_table = MonoNs(0);
        self.gather();
    }

    pub(super) fn scope(&self) -> &Filter {
        &self.scope
    }

    /// Takes in an update.
    pub(super) fn update(&mut self, engine: &Engine, update: &Update<'_>) {
        self.model.update(engine, update, &self.scope);
        self.aside.update(engine, update);
    }

    /// What the run costs, as read now.
    pub(super) fn costs(&mut self, cost: Cost) {
        self.model.cost = Some(Cost::next(self.model.cost, cost));
    }

    /// Where the replay is.
    pub(super) fn played(&mut self, playback: Playback) {
        self.playback = Some(playback);
    }

    /// A second has passed: figures are made anew, unless the screen is to stand still.
    pub(super) fn second(&mut self, engine: &Engine, now: MonoNs) {
        self.model.pulse(engine, now, &self.scope);
        if self.frozen_at.is_none() && now >= self.next_table {
            self.gather();
        }
        if let Some(said) = self.saving.outcome() {
            self.state.message = Some(said);
        }
        if let Some(told) = self.ending.told() {
            self.state.message = Some(told.sentence);
            // Who types or reads something else is not disturbed.
            if let Some(pane) =
                told.pane.filter(|_| matches!(self.state.mode, Mode::Table | Mode::Pane))
            {
                self.over = Some(pane);
                self.state.tell(Mode::Told);
            }
        }
    }

    /// Draws everything as it is now.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, engine: &Engine, now: MonoNs) {
        let header = self.header(engine, now);
        let now = self.frozen_at.unwrap_or(now);
        if std::mem::take(&mut self.stale) {
            let begun = Instant::now();
            self.refresh(engine, now);
            let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.next_table = self.next_table.max(now.after(took.saturating_mul(SHARE)));
        }
        let scene = Scene { engine, model: &self.model, scope: &self.scope, now };
        if self.state.mode == Mode::Filter {
            self.kept.prepare(&scene);
        }
        let screen = view::Screen {
            scene,
            header,
            table: &self.table,
            pane: self.pane.as_ref(),
            over: self.over.as_ref(),
            theme: self.theme,
        };
        self.hits = view::draw(frame, &screen, &mut self.state);
    }

    /// The table is to be made of new figures.
    fn gather(&mut self) {
        self.kept.forget();
        self.stale = true;
    }

    /// Makes the table and the pane anew.
    fn refresh(&mut self, engine: &Engine, now: MonoNs) {
        let watched = match &self.state.pane {
            Some(RowId::Conn(id)) => Some(*id),
            _ => None,
        };
        self.model.marks.watch(watched);
        let scene = Scene { engine, model: &self.model, scope: &self.scope, now };
        self.table = tabs::table(self.state.tab, &scene, &self.state.order(), &mut self.kept);
        let made = self
            .state
            .pane
            .as_ref()
            .map(|id| tabs::pane(self.state.tab, id, &scene, &Wanted::default()));
        match made {
            Some(Some(pane)) => self.pane = Some(pane),
            // What it was about is no more: what was last known of it stays, and says so.
            Some(None) => {
                if let Some(pane) = &mut self.pane
                    && !pane.title.ends_with(GONE)
                {
                    pane.title.push_str(GONE);
                }
            }
            None => self.pane = None,
        }
        self.state.follow(&self.table);
    }

    fn header(&mut self, engine: &Engine, now: MonoNs) -> Header {
        let mut time_of_day = |at: MonoNs| {
            let mut time = Vec::new();
            self.clock.time_of_day(at, &mut time);
            time.truncate(8);
            String::from_utf8_lossy(&time).into_owned()
        };
        let (time, frozen) = (time_of_day(now), self.frozen_at.map(&mut time_of_day));
        let scene = Scene { engine, model: &self.model, scope: &self.scope, now };
        Header {
            time,
            fullest: fullest(&scene),
            lost: engine.lost().iter().sum(),
            findings: engine.watch().map_or(0, |watch| watch.stuck()),
            cost: self.model.cost,
            playback: self.playback,
            frozen,
            watched_ns: now.since(engine.origin().start()),
        }
    }

    /// Something happened at the terminal.
    pub(super) fn event(&mut self, engine: &Engine, event: &Event, now: MonoNs) -> Asked {
        let Some(action) = keys::action(self.state.mode, event, self.playback.is_some()) else {
            return Asked::Nothing;
        };
        let action = match action {
            Action::Click(column, line) => match self.click(column, line) {
                Some(action) => action,
                None => return Asked::Nothing,
            },
            action => action,
        };
        let page = usize::from(self.hits.page);
        match self.state.apply(action, &self.table, page) {
            Then::Show => Asked::Nothing,
            Then::Refresh => {
                self.stale = true;
                Asked::Nothing
            }
            Then::Hand(action) => self.done(engine, action, now),
        }
    }

    /// A click on something; returns what it does beside choosing.
    fn click(&mut self, column: u16, line: u16) -> Option<Action> {
        match self.hits.at(column, line)? {
            Hit::Do(action) => Some(action),
            Hit::Column(column) => {
                self.stale |= self.state.sort(column) == Then::Refresh;
                None
            }
            Hit::Row(row) if row == self.state.sheet().cursor => Some(Action::Open),
            Hit::Row(row) => {
                self.state.choose(row, &self.table);
                None
            }
        }
    }

    fn done(&mut self, engine: &Engine, action: Action, now: MonoNs) -> Asked {
        match action {
            Action::Quit => return Asked::End,
            Action::Play(play) => return Asked::Play(play),
            Action::Pause => {
                self.frozen_at = match self.frozen_at {
                    Some(_) => None,
                    None => Some(now),
                };
                self.stale = true;
            }
            Action::Redraw => {
                self.gather();
                self.anew = true;
            }
            Action::Sockets => {
                let words = self.words(engine, now);
                self.stale |= self.state.show_sockets(&words) == Then::Refresh;
            }
            Action::Copy => self.copy(engine, now),
            Action::Write => self.write(engine, now),
            Action::Kill => self.ask(engine),
            Action::Yes => {
                let count = self.ending.begin();
                self.state.marked.clear();
                let sockets = tabs::counted(count as u64, "socket");
                self.state.message = Some(format!("ending {sockets}..."));
            }
            Action::No => {
                self.ending.refuse();
                self.state.message = Some("nothing was ended".to_owned());
            }
            _ => {}
        }
        Asked::Nothing
    }

    /// Words that let just the chosen row's connections through.
    fn words(&self, engine: &Engine, now: MonoNs) -> String {
        if let Some(pane) = &self.pane {
            return pane.words.clone();
        }
        let scene = Scene { engine, model: &self.model, scope: &self.scope, now };
        tabs::words_of(&scene, &self.table, self.state.sheet().cursor)
    }

    fn copy(&mut self, engine: &Engine, now: MonoNs) {
        let words = self.words(engine, now);
        let of_row = Wanted::parse(&words).map(|wanted| wanted.options).unwrap_or_default();
        let row = self.state.pane.clone().or_else(|| self.table.id(self.state.sheet().cursor));
        let filter = &self.state.wanted.options;
        let line = self.command.line(self.state.tab, row.as_ref(), &of_row, filter);
        self.state.message = Some(format!("copied: {line}"));
        self.copied = Some(line);
    }

    fn write(&mut self, engine: &Engine, now: MonoNs) {
        let scene = Scene { engine, model: &self.model, scope: &self.scope, now };
        let rows = 0..self.table.len().min(Page::MOST);
        let mut time = Vec::new();
        self.clock.rfc3339(now, &mut time);
        let time = String::from_utf8_lossy(&time).into_owned();
        let second = time.get(..19).map_or_else(|| time.clone(), |second| format!("{second}Z"));
        let filter = &self.state.wanted.words;
        let filtered =
            if filter.is_empty() { String::new() } else { format!(", filter: {filter}") };
        let tab = self.state.tab;
        let page = Page {
            title: format!("tcptrail top: {} at {second}{filtered}", tab.name()),
            tab: TAB_NAMES[tab as usize],
            columns: self.table.columns,
            rows: rows.map(|row| tabs::cells_of(&scene, &self.table, row)).collect(),
            all: self.table.len() + self.table.left_out,
        };
        let reader = (self.clock.zone(), self.source.as_str(), self.playback.is_none());
        match self.aside.draft(engine, now, reader, page.shown()) {
            Ok(draft) => {
                self.saving.begin(page, draft, &time);
                self.state.message = Some("writing...".to_owned());
            }
            Err(error) => self.state.message = Some(format!("nothing was written: {error}")),
        }
    }

    /// Asks before sockets are ended: those that are marked, or the chosen one.
    fn ask(&mut self, engine: &Engine) {
        let mut ids = self.state.marked.clone();
        if ids.is_empty() {
            let chosen = self.state.pane.clone();
            let chosen = chosen.or_else(|| self.table.id(self.state.sheet().cursor));
            if let Some(RowId::Conn(id)) = chosen {
                ids.push(id);
            }
        }
        match self.ending.ask(engine, &ids) {
            Ok(question) => {
                self.over = Some(question);
                self.state.tell(Mode::Question);
            }
            Err(why) => self.state.message = Some(why),
        }
    }
}

const GONE: &str = " (gone; this is its last state)";

/// Names of tabs in files.
const TAB_NAMES: [&str; Tab::ALL.len()] =
    ["findings", "connections", "processes", "listeners", "remotes", "openers"];
