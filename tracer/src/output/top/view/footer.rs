//! The line below: the important keys, or what was done; and the line of the filter.

use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::output::Play;
use crate::output::top::keys::{Action, Mode};
use crate::output::top::state::State;
use crate::output::top::tabs::{Paint, Tab};
use crate::output::top::view::canvas::{Canvas, columns};
use crate::output::top::view::hits::{Hit, Hits};
use crate::output::top::view::screen::Screen;

const SECOND: i64 = 1_000_000_000;

/// A key, what it does, and the action of a click on it.
type Key = (&'static str, &'static str, Action);

const ALWAYS: [Key; 9] = [
    ("q", "quit", Action::Quit),
    ("?", "keys", Action::Help),
    ("Enter", "details", Action::Open),
    ("/", "filter", Action::Filter),
    ("g", "group", Action::Group),
    ("< >", "sort", Action::SortRight),
    ("s", "sockets", Action::Sockets),
    ("y", "command", Action::Copy),
    ("w", "write", Action::Write),
];
const KILL: Key = ("k", "kill", Action::Kill);
const FREEZE: Key = ("space", "freeze", Action::Pause);
const REPLAY: [Key; 4] = [
    ("space", "pause", Action::Play(Play::Pause)),
    (".", "step", Action::Play(Play::Seek(SECOND))),
    ("[ ]", "10s", Action::Play(Play::Seek(10 * SECOND))),
    ("- +", "speed", Action::Play(Play::Faster)),
];
const PANE: [Key; 4] = [
    ("Esc", "back", Action::Close),
    ("arrows", "scroll", Action::Down),
    ("s", "sockets", Action::Sockets),
    ("y", "command", Action::Copy),
];

/// Draws the footer.
pub(crate) fn draw(
    canvas: &mut Canvas<'_>,
    area: Rect,
    state: &State,
    screen: &Screen<'_>,
    hits: &mut Hits,
) {
    let theme = screen.theme;
    if state.mode == Mode::Question {
        let text = "y ends them; any other key ends nothing; arrows scroll";
        canvas.cut((area.x, area.y), usize::from(area.width), text, theme.chosen());
        return;
    }
    if let Some(message) = &state.message {
        canvas.cut((area.x, area.y), usize::from(area.width), message, theme.bold());
        return;
    }
    if state.mode == Mode::Filter {
        let text = "Enter keeps the filter, Esc puts back the one before; arrows move meanwhile";
        canvas.cut((area.x, area.y), usize::from(area.width), text, theme.dim());
        return;
    }
    let mut x = area.x;
    for (key, what, action) in keys(state, screen) {
        let width = columns(key) + 1 + columns(what) + 2;
        if usize::from(x) + width > usize::from(area.right()) + 2 {
            break;
        }
        let from = x;
        x = canvas.put((x, area.y), 20, key, theme.key());
        x = canvas.put((x, area.y), 20, &format!(" {what}"), theme.dim());
        hits.add(Rect { x: from, width: x - from, ..area }, Hit::Do(action));
        x += 2;
    }
}

fn keys(state: &State, screen: &Screen<'_>) -> Vec<Key> {
    if matches!(state.mode, Mode::Help | Mode::Told) {
        return vec![("Esc", "back", Action::Close), ("q", "quit", Action::Quit)];
    }
    let mut keys = Vec::new();
    if state.pane.is_some() {
        keys.extend(PANE);
    } else {
        keys.extend(ALWAYS);
    }
    match screen.header.playback {
        // The first two stay; time is what a replay is about.
        Some(_) => {
            let at = keys.len().min(2);
            keys.splice(at..at, REPLAY);
        }
        None => {
            if state.tab == Tab::Connections {
                let at = keys.len().min(5);
                keys.insert(at, KILL);
            }
            keys.push(FREEZE);
        }
    }
    keys
}

/// Draws the filter; returns where the cursor is while it is typed.
pub(crate) fn filter(canvas: &mut Canvas<'_>, area: Rect, state: &State) -> Option<(u16, u16)> {
    let theme = canvas.theme;
    let typing = state.mode == Mode::Filter;
    let words = if typing { state.typed.as_str() } else { state.wanted.words.as_str() };
    let x = canvas.put((area.x, area.y), usize::from(area.width), "filter: ", theme.key());
    let room = usize::from(area.right().saturating_sub(x + 1));
    // While it is typed its end is what matters.
    let skip = columns(words).saturating_sub(room);
    let shown: String = words.chars().skip(skip).collect();
    let mut end = canvas.put((x, area.y), room, &shown, Style::new());
    let cursor = typing.then_some((end, area.y));
    if let Some(wrong) = &state.wrong {
        end += 3;
        canvas.put((end, area.y), usize::from(area.width), wrong, theme.paint(Paint::Bad));
    } else if typing && words.is_empty() {
        let text = " port:8089 state:close-wait comm:java age>30s, or any text";
        canvas.put((end + 1, area.y), usize::from(area.width), text, theme.dim());
    }
    cursor
}
