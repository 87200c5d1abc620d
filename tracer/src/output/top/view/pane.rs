//! Draws a pane: lines broken to the width there is, and as many as fit, from where it was scrolled to.

use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::output::top::state::State;
use crate::output::top::tabs::{Pane, PaneLine};
use crate::output::top::view::canvas::{Canvas, Line, columns, wrapped};
use crate::output::top::view::life;
use crate::output::top::view::theme::Theme;

/// Room for the name of a fact.
const NAME: usize = 13;

/// Draws it, with a title above.
pub(crate) fn draw(canvas: &mut Canvas<'_>, area: Rect, pane: &Pane, state: &mut State) {
    let theme = canvas.theme;
    let width = usize::from(area.width);
    let lines = lines(pane, width, theme);
    let room = usize::from(area.height.saturating_sub(1));
    let most = lines.len().saturating_sub(room);
    state.scroll = state.scroll.min(most);
    canvas.fill(Rect { height: 1, ..area }, theme.rule(), theme.dim());
    let mut x = canvas.cut(
        (area.x + 1, area.y),
        width.saturating_sub(14),
        &format!(" {} ", pane.title),
        theme.bold(),
    );
    if most != 0 {
        let where_ = format!(" {} of {} ", (state.scroll + room).min(lines.len()), lines.len());
        let at = area.right().saturating_sub(u16::try_from(columns(&where_) + 1).unwrap_or(0));
        x = x.max(at);
        canvas.put((x, area.y), width, &where_, theme.dim());
    }
    for (line, y) in lines.iter().skip(state.scroll).zip(area.y + 1..area.bottom()) {
        let mut x = area.x;
        for (text, style) in line {
            let most = usize::from(area.right().saturating_sub(x));
            x = canvas.cut((x, y), most, text, *style);
        }
    }
}

/// Lines that it takes at this width, with its title.
pub(crate) fn height(pane: &Pane, width: u16, theme: Theme) -> u16 {
    u16::try_from(lines(pane, usize::from(width), theme).len() + 1).unwrap_or(u16::MAX)
}

/// All lines at this width.
fn lines(pane: &Pane, width: usize, theme: Theme) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for line in &pane.lines {
        match line {
            PaneLine::Words(paint, text) => {
                let broken = wrapped(&theme.text(text), width.saturating_sub(1));
                lines.extend(broken.into_iter().map(|text| vec![(text, theme.paint(*paint))]));
            }
            PaneLine::Fact(name, paint, text) => {
                let name = format!("{name:<NAME$} ");
                fact(&name, theme.dim(), (text, theme.paint(*paint)), width, theme, &mut lines);
            }
            PaneLine::Entry(column, name, text) => {
                let name = format!("{name:>column$}  ");
                fact(&name, theme.key(), (text, Style::new()), width, theme, &mut lines);
            }
            PaneLine::Line(paint, text) => lines.push(vec![(text.clone(), theme.paint(*paint))]),
            PaneLine::Heading(text) => {
                if !lines.is_empty() {
                    lines.push(Vec::new());
                }
                lines.push(vec![(text.clone(), theme.title())]);
            }
            PaneLine::Life(of) => life::lines(of, width, theme, &mut lines),
            PaneLine::Spark(name, values, said) => {
                let room = width.saturating_sub(NAME + columns(said) + 3).min(80);
                lines.push(vec![
                    (format!("{name:<NAME$} "), theme.dim()),
                    (spark(values, room, theme), Style::new()),
                    (format!("  {said}"), Style::new()),
                ]);
            }
        }
    }
    lines
}

/// A name, and behind it a text that keeps its column.
fn fact(
    name: &str,
    style: Style,
    (text, text_style): (&str, Style),
    width: usize,
    theme: Theme,
    lines: &mut Vec<Line>,
) {
    let (text, indent) = (theme.text(text), columns(name));
    for (at, part) in wrapped(&text, width.saturating_sub(indent + 1)).into_iter().enumerate() {
        let before = if at == 0 { name.to_owned() } else { " ".repeat(indent) };
        lines.push(vec![(before, style), (part, text_style)]);
    }
}

/// Figures over time; of several that share a column the largest.
fn spark(values: &[u32], width: usize, theme: Theme) -> String {
    if width == 0 || values.is_empty() {
        return String::new();
    }
    let most = values.iter().copied().max().unwrap_or(0);
    let each = values.len().div_ceil(width);
    values
        .chunks(each)
        .map(|chunk| theme.spark(chunk.iter().copied().max().unwrap_or(0), most))
        .collect()
}
