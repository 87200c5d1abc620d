//! What the person at the terminal has chosen: tab, order, row, filter, what is open. Pure: actions go in.

use crate::event::SockId;
use crate::output::top::ending;
use crate::output::top::keys::{Action, Mode};
use crate::output::top::tabs::{self, RowId, Tab, Table};
use crate::output::top::words::Wanted;

/// Connections that can be marked: as many as are ended at once.
const MOST_MARKED: usize = ending::MOST;

/// A tab's table as it was left.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    pub(super) column: usize,
    pub(super) descending: bool,
    pub(super) group: Option<usize>,
    /// The row that is chosen, unless it is just the first, and where it was last.
    pub(super) selected: Option<RowId>,
    pub(super) cursor: usize,
    /// The first row on the screen.
    pub(super) first: usize,
    /// Columns are not made narrower while one looks.
    pub(super) widths: Vec<u16>,
}

impl Sheet {
    fn new(tab: Tab) -> Sheet {
        let (column, descending) = tab.first_sort();
        Sheet {
            column,
            descending,
            group: None,
            selected: None,
            cursor: 0,
            first: 0,
            widths: Vec::new(),
        }
    }
}

/// What is to be done beside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// Nothing: the screen shows it.
    Show,
    /// The table is to be made anew.
    Refresh,
    /// Somebody else does it.
    Hand(Action),
}

/// Everything that is chosen.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tab: Tab,
    sheets: [Sheet; Tab::ALL.len()],
    pub(super) mode: Mode,
    /// The filter in force.
    pub(super) wanted: Wanted,
    /// As it is typed, and what is wrong with it.
    pub(super) typed: String,
    pub(super) wrong: Option<String>,
    /// The filter before it was typed anew.
    before: Wanted,
    /// The row whose pane is open.
    pub(super) pane: Option<RowId>,
    pub(super) scroll: usize,
    pub(super) marked: Vec<SockId>,
    /// What was done, or could not be.
    pub(super) message: Option<String>,
}

impl State {
    /// As it is at first.
    pub(super) fn new() -> State {
        State {
            tab: Tab::default(),
            sheets: Tab::ALL.map(Sheet::new),
            mode: Mode::Table,
            wanted: Wanted::default(),
            typed: String::new(),
            wrong: None,
            before: Wanted::default(),
            pane: None,
            scroll: 0,
            marked: Vec::new(),
            message: None,
        }
    }

    /// The table of the tab that shows.
    pub(super) fn sheet(&self) -> &Sheet {
        &self.sheets[self.tab as usize]
    }

    pub(super) fn sheet_mut(&mut self) -> &mut Sheet {
        &mut self.sheets[self.tab as usize]
    }

    /// How its table is wanted.
    pub(super) fn order(&self) -> tabs::Order<'_> {
        let Sheet { column, descending, group, .. } = *self.sheet();
        tabs::Order { group, column, descending, wanted: &self.wanted }
    }

    /// The table is another: the row that was chosen may stand elsewhere.
    pub(super) fn follow(&mut self, table: &Table) {
        let sheet = self.sheet_mut();
        let last = table.len().saturating_sub(1);
        let found = sheet.selected.as_ref().and_then(|id| table.find(id));
        sheet.cursor = found.unwrap_or(sheet.cursor).min(last);
        // Who has not moved looks at the top, whatever stands there.
        if sheet.selected.is_some() {
            sheet.selected = table.id(sheet.cursor);
        }
        sheet.first = sheet.first.min(last);
    }

    /// Chooses a row by its place.
    pub(super) fn choose(&mut self, index: usize, table: &Table) {
        let sheet = self.sheet_mut();
        sheet.cursor = index.min(table.len().saturating_sub(1));
        sheet.selected = if sheet.cursor == 0 { None } else { table.id(sheet.cursor) };
    }

    /// Does what is wanted. `page`: rows, or lines of a pane, that there is room for.
    pub(super) fn apply(&mut self, action: Action, table: &Table, page: usize) -> Then {
        if !matches!(action, Action::Redraw | Action::Wheel(_)) {
            self.message = None;
        }
        let scrolls = matches!(self.mode, Mode::Help | Mode::Pane | Mode::Question | Mode::Told);
        if scrolls && self.scrolls(action, page) {
            return Then::Show;
        }
        match self.mode {
            Mode::Filter => self.typing(action, table, page),
            Mode::Help | Mode::Told => {
                if action == Action::Quit {
                    return Then::Hand(action);
                }
                self.mode = self.below();
                Then::Show
            }
            Mode::Question => {
                self.mode = self.below();
                Then::Hand(action)
            }
            Mode::Table | Mode::Pane => self.choosing(action, table, page),
        }
    }

    /// What shows when what lies over it is closed.
    fn below(&self) -> Mode {
        if self.pane.is_some() { Mode::Pane } else { Mode::Table }
    }

    /// Something lies over what is looked at.
    pub(super) fn tell(&mut self, mode: Mode) {
        (self.mode, self.scroll) = (mode, 0);
    }

    fn scrolls(&mut self, action: Action, page: usize) -> bool {
        let lines = page.saturating_sub(1).max(1);
        self.scroll = match action {
            Action::Up | Action::Wheel(false) => self.scroll.saturating_sub(1),
            Action::Down | Action::Wheel(true) => self.scroll + 1,
            Action::PageUp => self.scroll.saturating_sub(lines),
            Action::PageDown => self.scroll + lines,
            Action::First => 0,
            _ => return false,
        };
        true
    }

    fn typing(&mut self, action: Action, table: &Table, page: usize) -> Then {
        match action {
            Action::Type(character) if self.typed.len() < 200 => self.typed.push(character),
            Action::Erase => drop(self.typed.pop()),
            Action::EraseAll => self.typed.clear(),
            Action::EraseWord => {
                let end = self.typed.trim_end().rfind(' ').map_or(0, |at| at + 1);
                self.typed.truncate(end);
            }
            Action::Accept => {
                self.mode = self.below();
                self.wrong = None;
                return Then::Show;
            }
            Action::Close => {
                self.mode = self.below();
                self.wrong = None;
                self.wanted = std::mem::take(&mut self.before);
                return Then::Refresh;
            }
            other => return self.moves(other, table, page).unwrap_or(Then::Hand(other)),
        }
        match Wanted::parse(&self.typed) {
            Ok(wanted) => {
                self.wrong = None;
                self.wanted = wanted;
                Then::Refresh
            }
            // What was right before goes on.
            Err(wrong) => {
                self.wrong = Some(wrong);
                Then::Show
            }
        }
    }

    /// The filter is these words from now on; what was in force is added to where `more`.
    pub(super) fn set_filter(&mut self, words: &str, more: bool) {
        let all = if more { format!("{} {words}", self.wanted.words) } else { words.to_owned() };
        match Wanted::parse(&all) {
            Ok(wanted) => self.wanted = wanted,
            Err(error) => self.message = Some(error),
        }
    }

    fn moves(&mut self, action: Action, table: &Table, page: usize) -> Option<Then> {
        let (cursor, last) = (self.sheet().cursor, table.len().saturating_sub(1));
        let page = page.saturating_sub(1).max(1);
        let to = match action {
            Action::Up => cursor.saturating_sub(1),
            Action::Down => cursor + 1,
            Action::PageUp => cursor.saturating_sub(page),
            Action::PageDown => cursor + page,
            Action::Wheel(down) => {
                if down {
                    cursor + 3
                } else {
                    cursor.saturating_sub(3)
                }
            }
            Action::First => 0,
            Action::Last => last,
            _ => return None,
        };
        self.choose(to, table);
        Some(Then::Show)
    }

    fn choosing(&mut self, action: Action, table: &Table, page: usize) -> Then {
        if let Some(then) = self.moves(action, table, page) {
            return then;
        }
        let columns = tabs::columns(self.tab, self.sheet().group).len();
        match action {
            Action::Tab(number) => self.go_to(Tab::ALL.get(number).copied()),
            Action::NextTab => self.go_to(Tab::ALL.get((self.tab as usize + 1) % 6).copied()),
            Action::LastTab => self.go_to(Tab::ALL.get((self.tab as usize + 5) % 6).copied()),
            Action::SortRight => self.sort((self.sheet().column + 1) % columns),
            Action::SortLeft => self.sort((self.sheet().column + columns - 1) % columns),
            Action::Reverse => {
                let sheet = self.sheet_mut();
                sheet.descending = !sheet.descending;
                Then::Refresh
            }
            Action::Group => self.group(),
            Action::Open => self.open(table),
            Action::Close => self.close(),
            Action::Filter => {
                self.mode = Mode::Filter;
                self.before = self.wanted.clone();
                self.typed.clone_from(&self.wanted.words);
                if !self.typed.is_empty() {
                    self.typed.push(' ');
                }
                Then::Show
            }
            Action::Help => {
                self.tell(Mode::Help);
                Then::Show
            }
            Action::Mark => self.mark(table),
            Action::MarkAll => {
                self.mark_all(table);
                Then::Show
            }
            other => Then::Hand(other),
        }
    }

    fn go_to(&mut self, tab: Option<Tab>) -> Then {
        let Some(tab) = tab else { return Then::Show };
        self.tab = tab;
        (self.pane, self.mode, self.scroll) = (None, Mode::Table, 0);
        Then::Refresh
    }

    /// Sorts by a column; by the same again the other way round.
    pub(super) fn sort(&mut self, column: usize) -> Then {
        let figures = tabs::columns(self.tab, self.sheet().group)
            .get(column)
            .is_some_and(|column| column.right);
        let sheet = self.sheet_mut();
        sheet.descending = if sheet.column == column { !sheet.descending } else { figures };
        sheet.column = column;
        sheet.first = 0;
        Then::Refresh
    }

    fn group(&mut self) -> Then {
        let groups = self.tab.groups();
        let tab = self.tab;
        let sheet = self.sheet_mut();
        sheet.group = match sheet.group {
            None => Some(0),
            Some(by) if by + 1 < groups.len() => Some(by + 1),
            Some(_) => None,
        };
        let by = sheet.group;
        *sheet = Sheet { group: by, ..Sheet::new(tab) };
        (self.pane, self.mode) = (None, Mode::Table);
        self.message = Some(match by.and_then(|by| groups.get(by)) {
            Some(name) => format!("grouped by {name}; Enter shows the rows of a group"),
            None => "not grouped".to_owned(),
        });
        Then::Refresh
    }

    fn open(&mut self, table: &Table) -> Then {
        if self.pane.is_some() {
            return self.close();
        }
        match table.id(self.sheet().cursor) {
            Some(RowId::Group(words)) => {
                self.set_filter(&words, true);
                let tab = self.tab;
                *self.sheet_mut() = Sheet::new(tab);
                Then::Refresh
            }
            Some(id) => {
                (self.pane, self.mode, self.scroll) = (Some(id), Mode::Pane, 0);
                Then::Refresh
            }
            None => Then::Show,
        }
    }

    fn close(&mut self) -> Then {
        if self.pane.take().is_some() {
            (self.mode, self.scroll) = (Mode::Table, 0);
            return Then::Refresh;
        }
        if !self.marked.is_empty() {
            self.marked.clear();
            return Then::Show;
        }
        self.wanted = Wanted::default();
        Then::Refresh
    }

    fn mark(&mut self, table: &Table) -> Then {
        let Some(RowId::Conn(id)) = table.id(self.sheet().cursor) else {
            self.message = Some("only connections can be marked (tab 2)".to_owned());
            return Then::Show;
        };
        match self.marked.iter().position(|marked| *marked == id) {
            Some(at) => drop(self.marked.remove(at)),
            None if self.marked.len() < MOST_MARKED => self.marked.push(id),
            None => self.message = Some(format!("no more than {MOST_MARKED} can be marked")),
        }
        let next = self.sheet().cursor + 1;
        self.choose(next, table);
        Then::Show
    }

    /// Marks every connection that the table shows, as many as can be.
    fn mark_all(&mut self, table: &Table) {
        let shown = (0..table.len()).map_while(|at| match table.id(at) {
            Some(RowId::Conn(id)) => Some(id),
            _ => None,
        });
        let shown: Vec<SockId> = shown.take(MOST_MARKED).collect();
        self.message = Some(match shown.len() {
            0 => "only connections can be marked (tab 2)".to_owned(),
            count => format!("{count} of {} are marked; Esc clears the marks", table.len()),
        });
        self.marked = shown;
    }

    /// Goes to the connections that these words let through.
    pub(super) fn show_sockets(&mut self, words: &str) -> Then {
        if words.is_empty() {
            self.message = Some("no filter describes these sockets".to_owned());
            return Then::Show;
        }
        self.set_filter(words, false);
        let tab = Tab::Connections;
        self.sheets[tab as usize] = Sheet::new(tab);
        self.go_to(Some(tab))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::top::tabs::columns;

    fn table(rows: u64) -> Table {
        use crate::engine::conn::ConnRef;
        let lazy = |id| tabs::Lazy { key: u128::from(id), id: SockId(id), at: ConnRef(0) };
        let mut table = Table::of(columns(Tab::Connections, None), Vec::new(), "");
        table.lazy = (1..=rows).map(lazy).collect();
        table
    }

    fn state() -> State {
        let mut state = State::new();
        state.apply(Action::Tab(1), &table(5), 10);
        state.follow(&table(5));
        state
    }

    #[test]
    fn movement_stays_within_the_table() {
        let mut state = state();
        let table = table(50);
        let mut check = |action, expect| {
            state.apply(action, &table, 10);
            assert_eq!(state.sheet().cursor, expect, "{action:?}");
        };
        check(Action::Up, 0);
        check(Action::Down, 1);
        check(Action::PageDown, 10);
        check(Action::Wheel(true), 13);
        check(Action::Last, 49);
        check(Action::Down, 49);
        check(Action::PageUp, 40);
        check(Action::First, 0);
    }

    #[test]
    fn the_chosen_row_is_followed_when_others_come_and_go() {
        let mut state = state();
        state.apply(Action::Down, &table(5), 10);
        state.apply(Action::Down, &table(5), 10);
        assert_eq!(state.sheet().selected, Some(RowId::Conn(SockId(3))));
        let mut fewer = table(5);
        fewer.lazy.remove(0);
        state.follow(&fewer);
        assert_eq!(
            (state.sheet().cursor, &state.sheet().selected),
            (1, &Some(RowId::Conn(SockId(3))))
        );
        // It has gone: the row in its place is chosen.
        fewer.lazy.remove(1);
        state.follow(&fewer);
        assert_eq!(state.sheet().selected, Some(RowId::Conn(SockId(4))));
        state.follow(&table(0));
        assert_eq!(state.sheet().selected, None);
        // Who looks at the top goes on doing so.
        let mut state = self::state();
        state.apply(Action::Down, &table(5), 10);
        state.apply(Action::First, &table(5), 10);
        fewer.lazy.insert(0, tabs::Lazy { id: SockId(9), ..fewer.lazy[0] });
        state.follow(&fewer);
        assert_eq!((state.sheet().cursor, &state.sheet().selected), (0, &None));
    }

    #[test]
    fn groups_come_in_turn_and_end() {
        let mut state = state();
        for expect in [Some(0), Some(1), Some(2), Some(3), None] {
            state.apply(Action::Group, &table(5), 10);
            assert_eq!(state.sheet().group, expect);
        }
    }

    #[test]
    fn a_column_that_is_chosen_again_turns_round() {
        let mut state = state();
        assert_eq!((state.sheet().column, state.sheet().descending), (1, true));
        state.apply(Action::SortRight, &table(5), 10);
        // Text from a to z, figures from the largest on.
        assert_eq!((state.sheet().column, state.sheet().descending), (2, false));
        state.sort(5);
        assert_eq!((state.sheet().column, state.sheet().descending), (5, true));
        state.sort(5);
        assert!(!state.sheet().descending);
    }

    #[test]
    fn what_is_typed_wrong_leaves_the_filter_as_it_was() {
        let mut state = state();
        state.apply(Action::Filter, &table(5), 10);
        for character in "port:80 state:x".chars() {
            state.apply(Action::Type(character), &table(5), 10);
        }
        assert_eq!(state.wanted.words, "port:80 state:");
        assert!(state.wrong.as_deref().is_some_and(|wrong| wrong.contains("not a TCP state")));
        state.apply(Action::EraseWord, &table(5), 10);
        assert_eq!((state.typed.as_str(), &state.wrong), ("port:80 ", &None));
        state.apply(Action::Close, &table(5), 10);
        assert!(state.wanted.is_all());
        assert_eq!(state.mode, Mode::Table);
    }
}
