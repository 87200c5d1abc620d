//! The lines at the top: what happens, what there is, what runs out, what was lost, and what the run costs.

use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::output::Playback;
use crate::output::top::model::Shown;
use crate::output::top::tabs::{Paint, thousands};
use crate::output::top::view::canvas::{Canvas, columns};
use crate::output::top::view::screen::Screen;
use crate::time::Human;

/// Least columns of a line of figures over time.
const LEAST_SPARK: usize = 6;
/// Most: five minutes of seconds are no more to read.
const MOST_SPARK: usize = 60;

/// Writes along a line.
struct Pen<'c, 'b> {
    canvas: &'c mut Canvas<'b>,
    x: u16,
    y: u16,
    right: u16,
}

impl Pen<'_, '_> {
    fn put(&mut self, text: &str, style: Style) -> &mut Self {
        let most = usize::from(self.right.saturating_sub(self.x));
        self.x = self.canvas.put((self.x, self.y), most, text, style);
        self
    }

    /// The next thing, if there is room for all of it.
    fn fits(&self, text: &str) -> bool {
        usize::from(self.x) + columns(text) <= usize::from(self.right)
    }
}

/// Draws it; returns the first line below.
pub(crate) fn draw(canvas: &mut Canvas<'_>, area: Rect, screen: &Screen<'_>) -> u16 {
    first(&mut pen(canvas, area, 0), screen);
    states(canvas, Rect { y: area.y + 1, ..area }, screen);
    third(&mut pen(canvas, area, 2), screen);
    area.y + 3
}

fn pen<'c, 'b>(canvas: &'c mut Canvas<'b>, area: Rect, line: u16) -> Pen<'c, 'b> {
    Pen { canvas, x: area.x, y: area.y + line, right: area.right() }
}

/// Time, and what happens.
fn first(pen: &mut Pen<'_, '_>, screen: &Screen<'_>) {
    let (theme, header) = (screen.theme, &screen.header);
    pen.put("tcptrail", theme.bold()).put(" ", Style::new()).put(&header.time, Style::new());
    let how = match (header.playback, &header.frozen) {
        (Some(playback), _) => replayed(&playback),
        (None, Some(since)) => format!(" paused since {since}, space continues"),
        (None, None) => format!(" watched {}", whole_seconds(header.watched_ns)),
    };
    let stands = header.frozen.is_some() || header.playback.is_some_and(|playback| playback.paused);
    pen.put(&how, if stands { theme.paint(Paint::Warn) } else { theme.dim() });
    let Some(rates) = screen.scene.model.rates.per_second() else {
        pen.put("  rates after two seconds", theme.dim());
        return;
    };
    let narrow = usize::from(pen.right) < 100;
    for (long, short, rate, paint) in [
        ("opened", "opened", rates.opened, Paint::Plain),
        ("closed", "closed", rates.closed, Paint::Plain),
        ("retransmits", "retr", rates.retransmits, Paint::Warn),
        ("resets", "resets", rates.resets, Paint::Warn),
    ] {
        let figure = per_second(rate);
        let name = if narrow { short } else { long };
        let text = format!("  {name} {figure}");
        if !pen.fits(&text) {
            break;
        }
        let style = if rate > 0.0 { theme.paint(paint) } else { theme.dim() };
        pen.put(&format!("  {name} "), theme.dim()).put(&figure, style);
    }
}

fn replayed(playback: &Playback) -> String {
    let at = whole_seconds(playback.at.since(playback.start));
    let all = whole_seconds(playback.end.since(playback.start));
    let how = match (playback.seeking, playback.paused, playback.is_over()) {
        (true, ..) => "seeking",
        (_, true, _) => "paused",
        (_, _, true) => "end",
        _ => "",
    };
    let gap = if how.is_empty() { "" } else { " " };
    format!(" {at} of {all} {}{gap}{how}", playback.speed())
}

/// Without the part of a second.
fn whole_seconds(ns: u64) -> String {
    let text = Human(ns / 1_000_000_000 * 1_000_000_000).to_string();
    text.replace(".00s", "s").replace(".0s", "s").replace("0ns", "0s")
}

fn per_second(rate: f64) -> String {
    match rate {
        0.0 => "0/s".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}/s"),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
        rate => format!("{}/s", thousands(rate.round() as u64)),
    }
}

/// Sockets by state, each with its last minutes.
fn states(canvas: &mut Canvas<'_>, area: Rect, screen: &Screen<'_>) {
    let history = &screen.scene.model.history;
    let now = history.now();
    // ESTABLISHED and CLOSE_WAIT always: none of the second is an answer, too.
    let shown: Vec<Shown> = Shown::ALL
        .into_iter()
        .filter(|&state| {
            matches!(state, Shown::Established | Shown::CloseWait) || now[state as usize] != 0
        })
        .collect();
    let label =
        |state: Shown| format!("{} {}", state.name(), thousands(now[state as usize].into()));
    let width = usize::from(area.width);
    // As many states as there is room for with a line of figures each.
    let mut count = shown.len();
    let room = |count: usize| {
        let labels: usize = shown.iter().take(count).map(|&state| columns(&label(state)) + 3).sum();
        width.checked_sub(labels).map(|rest| rest / count.max(1))
    };
    while count > 2 && room(count).is_none_or(|rest| rest < LEAST_SPARK) {
        count -= 1;
    }
    let spark = room(count).unwrap_or(0).min(MOST_SPARK);
    let mut pen = pen(canvas, area, 0);
    for &state in shown.iter().take(count) {
        let paint = match state {
            _ if now[state as usize] == 0 => Paint::Dim,
            Shown::CloseWait | Shown::LastAck => Paint::Warn,
            Shown::Established => Paint::Good,
            _ => Paint::Plain,
        };
        pen.put(&format!("{} ", state.name()), screen.theme.dim());
        let count = thousands(now[state as usize].into());
        pen.put(&count, screen.theme.paint(paint));
        let line = history.line(state, spark);
        let most = line.iter().copied().max().unwrap_or(0);
        let line: String = line.iter().map(|&value| screen.theme.spark(value, most)).collect();
        pen.put(" ", Style::new()).put(&line, screen.theme.paint(paint)).put("  ", Style::new());
    }
    let left_out = shown.len() - count;
    let more = format!("+{left_out}");
    if left_out != 0 && pen.fits(&more) {
        pen.put(&more, screen.theme.dim());
    }
}

/// What runs out, what was lost, what the run costs.
fn third(pen: &mut Pen<'_, '_>, screen: &Screen<'_>) {
    let (theme, header) = (screen.theme, &screen.header);
    pen.put("findings ", theme.dim());
    let paint = if header.findings == 0 { Paint::Good } else { Paint::Bad };
    pen.put(&thousands(header.findings), theme.paint(paint));
    pen.put("  lost ", theme.dim());
    let paint = if header.lost == 0 { Paint::Good } else { Paint::Bad };
    pen.put(&thousands(header.lost), theme.paint(paint));
    // Where none was dropped, the room is better used.
    if let dropped @ 1.. = screen.scene.model.drops.all() {
        pen.put("  dropped ", theme.dim()).put(&thousands(dropped), theme.paint(Paint::Warn));
    }
    if let Some(cost) = &header.cost {
        let share =
            cost.share.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", share * 100.0));
        pen.put("  own ", theme.dim());
        pen.put(&format!("{share} cpu, {} MB", cost.memory >> 20), Style::new());
    }
    match &header.fullest {
        Some((name, in_use, limit)) => {
            let share = in_use.saturating_mul(100).checked_div(*limit).unwrap_or(0);
            let paint = match share {
                90.. => Paint::Bad,
                70.. => Paint::Warn,
                _ => Paint::Plain,
            };
            pen.put("  fds ", theme.dim());
            let text = format!("{name} {}/{} {share}%", thousands(*in_use), thousands(*limit));
            pen.put(&text, theme.paint(paint));
        }
        None => {
            pen.put("  fds ", theme.dim()).put("-", theme.dim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        let check = |rate, expect: &str| assert_eq!(per_second(rate), expect);
        check(0.0, "0/s");
        check(0.25, "0.2/s");
        check(12.4, "12/s");
        check(12_345.6, "12,346/s");
    }

    #[test]
    fn seconds_are_whole() {
        let check = |ns, expect: &str| assert_eq!(whole_seconds(ns), expect);
        check(0, "0s");
        check(1_900_000_000, "1s");
        check(59_000_000_001, "59s");
        check(125_000_000_000, "2m05s");
    }
}
