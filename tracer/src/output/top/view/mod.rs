//! Draws: header, tabs, table, pane, help, footer. What can be clicked is handed back.

mod canvas;
mod footer;
mod header;
mod help;
mod hits;
mod life;
mod pane;
mod screen;
mod table;
mod tabs;
mod theme;

use ratatui::Frame;
use ratatui::layout::Rect;

pub(super) use hits::{Hit, Hits};
pub(super) use screen::{Header, Screen};
pub(super) use theme::Theme;

use crate::output::top::keys::Mode;
use crate::output::top::state::State;
use crate::output::top::view::canvas::Canvas;

/// Least lines of a terminal on which table and pane both show.
const TALL: u16 = 36;
/// What is smaller cannot be read.
const LEAST: (u16, u16) = (40, 10);

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen<'_>, state: &mut State) -> Hits {
    let area = frame.area();
    let mut hits = Hits::default();
    let cursor = {
        let mut canvas = Canvas { buffer: frame.buffer_mut(), theme: screen.theme };
        if area.width < LEAST.0 || area.height < LEAST.1 {
            let text = "top needs 40x10: make the terminal larger, or q to end";
            for (y, line) in
                (area.top()..area.bottom()).zip(canvas::wrapped(text, usize::from(area.width)))
            {
                canvas.put((0, y), usize::from(area.width), &line, screen.theme.bold());
            }
            return hits;
        }
        whole(&mut canvas, area, screen, state, &mut hits)
    };
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
    hits
}

/// Returns where the cursor is to be, while something is typed.
fn whole(
    canvas: &mut Canvas<'_>,
    area: Rect,
    screen: &Screen<'_>,
    state: &mut State,
    hits: &mut Hits,
) -> Option<(u16, u16)> {
    let above = header::draw(canvas, area, screen);
    tabs::draw(canvas, Rect { y: above, height: 1, ..area }, state, screen, hits);
    let mut top = above + 1;
    let mut cursor = None;
    if state.mode == Mode::Filter || !state.wanted.is_all() {
        cursor = footer::filter(canvas, Rect { y: top, height: 1, ..area }, state);
        top += 1;
    }
    let bottom = area.bottom() - 1;
    footer::draw(canvas, Rect { y: bottom, height: 1, ..area }, state, screen, hits);
    let body = Rect { y: top, height: bottom.saturating_sub(top), ..area };
    if state.mode == Mode::Help {
        help::draw(canvas, body, state, screen);
        hits.page = body.height;
        return None;
    }
    if let Some(over) = screen.over.filter(|_| matches!(state.mode, Mode::Question | Mode::Told)) {
        let lines = pane::height(over, body.width, screen.theme);
        let below = lines.min(body.height);
        let above = Rect { height: body.height - below, ..body };
        table::draw(canvas, above, screen, state, hits);
        pane::draw(canvas, Rect { y: body.y + above.height, height: below, ..body }, over, state);
        hits.page = below;
        return None;
    }
    let Some(open) = screen.pane else {
        table::draw(canvas, body, screen, state, hits);
        return cursor;
    };
    let split = area.height >= TALL;
    let upper = if split { body.height * 2 / 5 } else { 0 };
    if split {
        table::draw(canvas, Rect { height: upper, ..body }, screen, state, hits);
    }
    let lower = Rect { y: body.y + upper, height: body.height - upper, ..body };
    pane::draw(canvas, lower, open, state);
    if state.mode != Mode::Filter {
        hits.page = lower.height.saturating_sub(1);
    }
    cursor
}
