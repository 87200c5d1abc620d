//! The line of tabs.

use ratatui::layout::Rect;

use crate::output::top::keys::Action;
use crate::output::top::state::State;
use crate::output::top::tabs::{Tab, thousands};
use crate::output::top::view::canvas::{Canvas, columns};
use crate::output::top::view::hits::{Hit, Hits};
use crate::output::top::view::screen::Screen;

/// Draws them; at the right how many rows there are, and how they are grouped.
pub(crate) fn draw(
    canvas: &mut Canvas<'_>,
    area: Rect,
    state: &State,
    screen: &Screen<'_>,
    hits: &mut Hits,
) {
    let theme = screen.theme;
    let mut x = area.x;
    for (number, tab) in Tab::ALL.into_iter().enumerate() {
        let text = match area.width {
            100.. => format!(" {} {} ", number + 1, tab.name()),
            _ => format!("{} {} ", number + 1, tab.name()),
        };
        let style = if tab == state.tab { theme.chosen() } else { theme.bold() };
        let from = x;
        x = canvas.put((x, area.y), usize::from(area.width), &text, style);
        hits.add(Rect { x: from, width: x - from, ..area }, Hit::Do(Action::Tab(number)));
    }
    let rows = screen.table.len() as u64;
    let group = state.sheet().group.and_then(|by| state.tab.groups().get(by));
    let mut text = thousands(rows);
    if let more @ 1.. = screen.table.left_out as u64 {
        text = format!("the first {text} of {}", thousands(rows + more));
    }
    if let Some(name) = group {
        text = format!("{text} by {name}");
    }
    let width = columns(&text);
    if usize::from(area.right() - x) > width {
        let at = area.right() - u16::try_from(width).unwrap_or(0);
        canvas.put((at, area.y), width, &text, theme.dim());
    }
}
