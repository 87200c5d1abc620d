//! Colours and characters: with colour or without, in UTF-8 or in plain ASCII.

use std::borrow::Cow;

use ratatui::style::{Color, Modifier, Style};
use tracer_common::TcpState;

use crate::output::top::tabs::Paint;

/// What the terminal can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Theme {
    /// Colours may be used; else what stands out is bold, underlined or inverse.
    pub(crate) color: bool,
    /// Nothing but ASCII.
    pub(crate) ascii: bool,
}

const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_SPARKS: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

impl Theme {
    /// What a cell looks like.
    pub(crate) fn paint(self, paint: Paint) -> Style {
        let style = Style::new();
        match (paint, self.color) {
            (Paint::Plain, _) => style,
            (Paint::Dim, _) => style.add_modifier(Modifier::DIM),
            (Paint::Good, true) => style.fg(Color::Green),
            (Paint::Good, false) => style,
            (Paint::Warn, true) => style.fg(Color::Yellow),
            (Paint::Warn, false) => style.add_modifier(Modifier::BOLD),
            (Paint::Bad, true) => style.fg(Color::Red).add_modifier(Modifier::BOLD),
            (Paint::Bad, false) => style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        }
    }

    /// What names something.
    pub(crate) fn dim(self) -> Style {
        self.paint(Paint::Dim)
    }

    pub(crate) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The row that is chosen, the tab that shows.
    pub(crate) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Titles of columns.
    pub(crate) fn title(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.color { style.fg(Color::Cyan) } else { style.add_modifier(Modifier::UNDERLINED) }
    }

    /// A key in the footer.
    pub(crate) fn key(self) -> Style {
        if self.color {
            Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD)
        } else {
            Style::new().add_modifier(Modifier::BOLD)
        }
    }

    /// A state on the bar of a life.
    pub(crate) fn state(self, state: TcpState) -> Style {
        if !self.color {
            return Style::new();
        }
        Style::new().fg(match state {
            TcpState::Established => Color::Green,
            TcpState::CloseWait => Color::Red,
            TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv => Color::Cyan,
            TcpState::LastAck | TcpState::Closing => Color::Magenta,
            TcpState::FinWait1 | TcpState::FinWait2 => Color::Yellow,
            TcpState::TimeWait | TcpState::Close | TcpState::Listen => Color::Blue,
        })
    }

    /// A figure of a line, as high as it is to the highest.
    pub(crate) fn spark(self, value: u32, most: u32) -> char {
        let sparks = if self.ascii { ASCII_SPARKS } else { SPARKS };
        let level = u64::from(value) * 7 / u64::from(most.max(1));
        sparks[usize::try_from(level).unwrap_or(7).min(7)]
    }

    /// Stands for what was cut off.
    pub(crate) const fn ellipsis(self) -> char {
        if self.ascii { '~' } else { '…' }
    }

    /// A line across.
    pub(crate) const fn rule(self) -> char {
        if self.ascii { '-' } else { '─' }
    }

    /// The inside of the bar of a life.
    pub(crate) const fn fill(self) -> char {
        if self.ascii { '=' } else { '━' }
    }

    /// Where a state begins.
    pub(crate) const fn edge(self) -> char {
        if self.ascii { '|' } else { '┃' }
    }

    /// Before the row that is chosen.
    pub(crate) const fn pointer(self) -> char {
        if self.ascii { '>' } else { '▶' }
    }

    /// Which way a column is sorted.
    pub(crate) const fn arrow(self, descending: bool) -> char {
        match (self.ascii, descending) {
            (true, true) => 'v',
            (true, false) => '^',
            (false, true) => '▼',
            (false, false) => '▲',
        }
    }

    /// Text as this terminal can show it.
    pub(crate) fn text(self, text: &str) -> Cow<'_, str> {
        if !self.ascii || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let mut plain = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                '…' => plain.push('~'),
                character if character.is_ascii() => plain.push(character),
                character => plain.extend(character.escape_default()),
            }
        }
        Cow::Owned(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_is_ascii() {
        let theme = Theme { color: false, ascii: true };
        assert_eq!(theme.text("caf\u{e9}"), "caf\\u{e9}");
        let all = [
            theme.ellipsis(),
            theme.rule(),
            theme.fill(),
            theme.edge(),
            theme.pointer(),
            theme.arrow(true),
            theme.arrow(false),
        ];
        let sparks = (0..8).map(|value| theme.spark(value, 7));
        assert!(all.into_iter().chain(sparks).all(|character| character.is_ascii()));
    }

    #[test]
    fn without_colour_nothing_has_one() {
        let theme = Theme { color: false, ascii: false };
        let paints = [Paint::Plain, Paint::Dim, Paint::Good, Paint::Warn, Paint::Bad];
        let mut styles: Vec<Style> = paints.into_iter().map(|paint| theme.paint(paint)).collect();
        styles.extend([theme.title(), theme.key(), theme.chosen(), theme.bold()]);
        styles.extend(TcpState::ALL.into_iter().map(|state| theme.state(state)));
        assert!(styles.iter().all(|style| style.fg.is_none() && style.bg.is_none()));
    }
}
