//! Keys: what each does, in which mode. One table for the help and for what happens.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseEventKind};

use crate::output::Play;

const SECOND: i64 = 1_000_000_000;

/// What keys are for at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Mode {
    /// The table.
    #[default]
    Table,
    /// The pane of a row.
    Pane,
    /// The filter is typed.
    Filter,
    /// The list of keys.
    Help,
    /// A question waits for yes or no.
    Question,
    /// What became of something lies over the rest.
    Told,
}

/// What somebody wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Quit,
    /// The tab of this number.
    Tab(usize),
    NextTab,
    LastTab,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    /// Sort by the column to the right, or left.
    SortRight,
    SortLeft,
    Reverse,
    Group,
    /// Open the pane of the row.
    Open,
    /// Close what is open; in the table let go of marks and of the filter.
    Close,
    /// Show the sockets of the row.
    Sockets,
    /// Begin to type a filter.
    Filter,
    Type(char),
    Erase,
    EraseWord,
    EraseAll,
    /// The filter is as wanted.
    Accept,
    Mark,
    MarkAll,
    Kill,
    Yes,
    No,
    Write,
    Copy,
    Help,
    /// Stand still: live the screen, in a replay the time.
    Pause,
    Play(Play),
    /// A click, at column and line.
    Click(u16, u16),
    /// The wheel: down, or up.
    Wheel(bool),
    /// Draw everything anew.
    Redraw,
}

/// For whom a key is, in the help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum For {
    Always,
    Replay,
}

/// Keys as the help lists them.
pub(super) const HELP: &[(For, &str, &str)] = &[
    (For::Always, "1 to 6, Tab", "another tab"),
    (For::Always, "arrows, PgUp, PgDn, Home, End", "move"),
    (For::Always, "Enter", "details of the row; on a group: its rows"),
    (For::Always, "s", "the sockets of the row, on the tab Connections"),
    (For::Always, "Left, Right or < >", "sort by another column"),
    (For::Always, "r", "reverse the order"),
    (For::Always, "/", "filter: port:8089 state:close-wait comm:java age>30s, or any text"),
    (For::Always, "g", "group rows; again: by another key"),
    (For::Always, "m", "mark the connection, for k"),
    (For::Always, "M", "mark all that are shown, up to 100"),
    (For::Always, "k", "end the marked sockets, or the row's; lists them and asks first"),
    (For::Always, "w", "write a report (HTML), the table as text, JSON"),
    (For::Always, "y", "copy the command that shows the same without top"),
    (For::Always, "space", "pause, and continue"),
    (For::Always, "Esc", "close; or clear marks, then the filter"),
    (For::Always, "Ctrl-L", "redraw the screen"),
    (For::Always, "?", "this list"),
    (For::Always, "q, Ctrl-C", "end"),
    (For::Replay, ". and ,", "one second forward, or back"),
    (For::Replay, "] and [", "ten seconds forward, or back"),
    (For::Replay, "} and {", "one minute forward, or back"),
    (For::Replay, "+ and -", "faster, or slower"),
    (For::Replay, "0 and $", "to the beginning, or the end"),
];

/// What an event of the terminal asks for.
pub(super) fn action(mode: Mode, event: &Event, replay: bool) -> Option<Action> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => of_key(mode, key, replay),
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::ScrollDown => Some(Action::Wheel(true)),
            MouseEventKind::ScrollUp => Some(Action::Wheel(false)),
            MouseEventKind::Down(_) => Some(Action::Click(mouse.column, mouse.row)),
            _ => None,
        },
        Event::Resize(..) => Some(Action::Redraw),
        _ => None,
    }
}

fn of_key(mode: Mode, key: &KeyEvent, replay: bool) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('u') if mode == Mode::Filter => Some(Action::EraseAll),
            KeyCode::Char('w') if mode == Mode::Filter => Some(Action::EraseWord),
            _ => None,
        };
    }
    match mode {
        Mode::Filter => typing(key.code),
        Mode::Question => Some(match key.code {
            KeyCode::Char('y' | 'Y') => Action::Yes,
            KeyCode::Up => Action::Up,
            KeyCode::Down => Action::Down,
            KeyCode::PageUp => Action::PageUp,
            KeyCode::PageDown => Action::PageDown,
            _ => Action::No,
        }),
        Mode::Help | Mode::Told => match key.code {
            KeyCode::Up => Some(Action::Up),
            KeyCode::Down => Some(Action::Down),
            KeyCode::PageUp => Some(Action::PageUp),
            KeyCode::PageDown => Some(Action::PageDown),
            KeyCode::Char('q') => Some(Action::Quit),
            _ => Some(Action::Close),
        },
        Mode::Table | Mode::Pane => of_replay(key.code)
            .filter(|_| replay)
            .or_else(|| moving(key.code))
            .or_else(|| doing(key.code)),
    }
}

fn typing(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char(character) => Action::Type(character),
        KeyCode::Backspace => Action::Erase,
        KeyCode::Enter => Action::Accept,
        KeyCode::Esc => Action::Close,
        // What is found can be looked at while it is typed.
        KeyCode::Up => Action::Up,
        KeyCode::Down => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        _ => return None,
    })
}

fn moving(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Tab => Action::NextTab,
        KeyCode::BackTab => Action::LastTab,
        KeyCode::Up => Action::Up,
        KeyCode::Down => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Home => Action::First,
        KeyCode::End => Action::Last,
        KeyCode::Right | KeyCode::Char('>') => Action::SortRight,
        KeyCode::Left | KeyCode::Char('<') => Action::SortLeft,
        KeyCode::Char(digit @ '1'..='6') => Action::Tab(digit as usize - '1' as usize),
        _ => return None,
    })
}

fn doing(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Enter => Action::Open,
        KeyCode::Esc => Action::Close,
        KeyCode::Char('r') => Action::Reverse,
        KeyCode::Char('g') => Action::Group,
        KeyCode::Char('s') => Action::Sockets,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('m') => Action::Mark,
        KeyCode::Char('M') => Action::MarkAll,
        KeyCode::Char('k') => Action::Kill,
        KeyCode::Char('w') => Action::Write,
        KeyCode::Char('y') => Action::Copy,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Action::Help,
        KeyCode::Char(' ') => Action::Pause,
        _ => return None,
    })
}

fn of_replay(code: KeyCode) -> Option<Action> {
    Some(Action::Play(match code {
        KeyCode::Char('.') => Play::Seek(SECOND),
        KeyCode::Char(',') => Play::Seek(-SECOND),
        KeyCode::Char(']') => Play::Seek(10 * SECOND),
        KeyCode::Char('[') => Play::Seek(-10 * SECOND),
        KeyCode::Char('}') => Play::Seek(60 * SECOND),
        KeyCode::Char('{') => Play::Seek(-60 * SECOND),
        KeyCode::Char('+' | '=') => Play::Faster,
        KeyCode::Char('-') => Play::Slower,
        KeyCode::Char('0') => Play::Begin,
        KeyCode::Char('$') => Play::End,
        KeyCode::Char(' ') => Play::Pause,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode, modifiers: KeyModifiers) -> Event {
        Event::Key(KeyEvent::new(code, modifiers))
    }

    #[test]
    fn keys_do_what_the_help_says() {
        use KeyCode::{BackTab, Char, Down, Enter, Esc, Home, Left, Tab};
        let check = |mode, code, expect| {
            let event = key(code, KeyModifiers::NONE);
            assert_eq!(action(mode, &event, false), expect, "{mode:?} {code:?}");
        };
        check(Mode::Table, Char('q'), Some(Action::Quit));
        check(Mode::Table, Char('1'), Some(Action::Tab(0)));
        check(Mode::Table, Char('6'), Some(Action::Tab(5)));
        check(Mode::Table, Char('7'), None);
        check(Mode::Table, Tab, Some(Action::NextTab));
        check(Mode::Table, BackTab, Some(Action::LastTab));
        check(Mode::Table, Down, Some(Action::Down));
        check(Mode::Table, Home, Some(Action::First));
        check(Mode::Table, Left, Some(Action::SortLeft));
        check(Mode::Table, Char('>'), Some(Action::SortRight));
        check(Mode::Table, Enter, Some(Action::Open));
        check(Mode::Table, Char('s'), Some(Action::Sockets));
        check(Mode::Table, Char('g'), Some(Action::Group));
        check(Mode::Table, Char('k'), Some(Action::Kill));
        check(Mode::Table, Char(' '), Some(Action::Pause));
        check(Mode::Pane, Esc, Some(Action::Close));
        // Typing takes letters, whatever they do elsewhere.
        check(Mode::Filter, Char('q'), Some(Action::Type('q')));
        check(Mode::Filter, Char('?'), Some(Action::Type('?')));
        check(Mode::Filter, Enter, Some(Action::Accept));
        check(Mode::Filter, Esc, Some(Action::Close));
        // Nothing but y is a yes.
        check(Mode::Question, Char('y'), Some(Action::Yes));
        check(Mode::Question, Enter, Some(Action::No));
        check(Mode::Question, Char('k'), Some(Action::No));
        check(Mode::Help, Char('x'), Some(Action::Close));
        // Of a replay only.
        check(Mode::Table, Char('.'), None);
        check(Mode::Table, Char('+'), None);
    }

    #[test]
    fn replays_have_keys_of_their_own() {
        let check = |code, expect| {
            let event = key(KeyCode::Char(code), KeyModifiers::NONE);
            assert_eq!(action(Mode::Table, &event, true), Some(expect), "{code}");
        };
        check('.', Action::Play(Play::Seek(SECOND)));
        check('{', Action::Play(Play::Seek(-60 * SECOND)));
        check(' ', Action::Play(Play::Pause));
        check('$', Action::Play(Play::End));
        check('q', Action::Quit);
    }

    #[test]
    fn control_c_ends_it_in_every_mode() {
        for mode in [Mode::Table, Mode::Pane, Mode::Filter, Mode::Help, Mode::Question] {
            let event = key(KeyCode::Char('c'), KeyModifiers::CONTROL);
            assert_eq!(action(mode, &event, false), Some(Action::Quit), "{mode:?}");
        }
        let erase = key(KeyCode::Char('w'), KeyModifiers::CONTROL);
        assert_eq!(action(Mode::Filter, &erase, false), Some(Action::EraseWord));
        assert_eq!(action(Mode::Table, &erase, false), None);
    }
}
