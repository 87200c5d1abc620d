//! The list of keys, and what the columns say.

use ratatui::layout::Rect;

use crate::output::top::keys::{For, HELP};
use crate::output::top::state::State;
use crate::output::top::tabs::{Paint, Pane, columns};
use crate::output::top::view::canvas::Canvas;
use crate::output::top::view::pane;
use crate::output::top::view::screen::Screen;

/// Draws it over the table.
pub(crate) fn draw(canvas: &mut Canvas<'_>, area: Rect, state: &mut State, screen: &Screen<'_>) {
    let mut help = Pane::new("Keys");
    let replay = screen.header.playback.is_some();
    for (_, key, does) in HELP.iter().filter(|(who, _, _)| *who == For::Always || replay) {
        help.entry(29, key, does);
    }
    help.words(
        Paint::Dim,
        "The mouse: the wheel moves, a click chooses a row, a second click opens it; tabs, titles of columns and keys below can be clicked.",
    );
    let tab = state.tab;
    help.heading(format!("Columns of {}", tab.name()));
    for column in columns(tab, state.sheet().group) {
        help.entry(12, column.title, column.means);
    }
    help.heading("Words of the filter");
    for (words, means) in [
        ("port:8089 lport: rport:", "ports: of either side, local, remote; also 8000-8099"),
        ("addr:10.0.0.0/8", "an address or a network, of either side"),
        ("state:close-wait", "the state it is in"),
        ("pid:31467 comm:java", "its process"),
        ("role:client netns:4026531840", "which side this machine is; the network namespace"),
        ("age>30s age<5m", "how long it has been in its state"),
        ("anything else", "rows whose text contains it"),
    ] {
        help.entry(29, words, means);
    }
    pane::draw(canvas, area, &help, state);
}
