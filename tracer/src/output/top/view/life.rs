//! The bar of a life: a piece for each state, as long as it lasted, and below it what went wrong.

use ratatui::style::Style;

use crate::output::top::model::MarkKind;
use crate::output::top::tabs::{Life, Paint, spent_text};
use crate::output::top::view::canvas::{Line, columns};
use crate::output::top::view::theme::Theme;

/// Adds its lines.
pub(crate) fn lines(life: &Life, width: usize, theme: Theme, lines: &mut Vec<Line>) {
    let width = width.saturating_sub(2).max(1);
    let parts = life.columns(width);
    let mut bar: Line = vec![(" ".to_owned(), Style::new())];
    for (segment, part) in life.segments.iter().zip(&parts) {
        let text = piece(segment.state.name(), *part, theme);
        bar.push((text, theme.state(segment.state)));
    }
    lines.push(bar);
    if !life.marks.is_empty() {
        lines.push(marks(life, &parts, width, theme));
    }
    legend(life, width, theme, lines);
}

/// `┃━ ESTABLISHED ━━━━`, as far as there is room.
fn piece(name: &str, width: usize, theme: Theme) -> String {
    let fill = |count: usize| std::iter::repeat_n(theme.fill(), count).collect::<String>();
    let Some(room) = width.checked_sub(1) else { return String::new() };
    let edge = theme.edge();
    match room.checked_sub(columns(name) + 3) {
        Some(rest) => format!("{edge}{} {name} {}", fill(1), fill(rest)),
        None => format!("{edge}{}", fill(room)),
    }
}

/// `r` where something was sent again, `X` where there was a RST.
fn marks(life: &Life, parts: &[usize], width: usize, theme: Theme) -> Line {
    let mut line = vec![' '; width];
    for (at, mark) in &life.marks {
        let column = life.column_of(*at, parts);
        if let Some(place) = line.get_mut(column) {
            *place = match mark.kind {
                MarkKind::Reset(_) => 'X',
                MarkKind::Retransmit(_) if *place == 'X' => 'X',
                MarkKind::Retransmit(_) => 'r',
            };
        }
    }
    vec![(" ".to_owned(), Style::new()), (line.into_iter().collect(), theme.paint(Paint::Warn))]
}

/// Each state with its time; and what the letters mean.
fn legend(life: &Life, width: usize, theme: Theme, lines: &mut Vec<Line>) {
    let mut line: Line = vec![(" ".to_owned(), Style::new())];
    let mut used = 0;
    let mut add = |text: String, style: Style, lines: &mut Vec<Line>| {
        let length = columns(&text) + 2;
        if used != 0 && used + length > width {
            lines.push(std::mem::replace(&mut line, vec![(" ".to_owned(), Style::new())]));
            used = 0;
        }
        used += length;
        line.push((text, style));
        line.push(("  ".to_owned(), Style::new()));
        line.len()
    };
    for segment in &life.segments {
        let now = if segment.present { " so far" } else { "" };
        let text = format!("{} {}{now}", segment.state.name(), spent_text(segment.spent));
        add(text, theme.state(segment.state), lines);
    }
    if !life.marks.is_empty() {
        add("r sent again, X reset".to_owned(), theme.dim(), lines);
    }
    lines.push(line);
}
