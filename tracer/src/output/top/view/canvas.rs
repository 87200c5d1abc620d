//! Where things are drawn: text by its columns, cut where it is too long, broken between words.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

use crate::output::top::view::theme::Theme;

/// The screen, and how it is to look.
pub(crate) struct Canvas<'a> {
    pub(crate) buffer: &'a mut Buffer,
    pub(crate) theme: Theme,
}

/// A line as it is drawn: pieces one after the other.
pub(crate) type Line = Vec<(String, Style)>;

/// Columns of a text.
pub(crate) fn columns(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { Span::raw(text).width() }
}

impl Canvas<'_> {
    /// Writes at a place, at most so many columns; returns the column behind it.
    pub(crate) fn put(&mut self, at: (u16, u16), most: usize, text: &str, style: Style) -> u16 {
        let (x, y) = at;
        let area = self.buffer.area;
        if y >= area.bottom() || x >= area.right() {
            return x;
        }
        let most = most.min(usize::from(area.right() - x));
        let text = self.theme.text(text);
        self.buffer.set_stringn(x, y, text.as_ref(), most, style).0
    }

    /// As [`Canvas::put`]; what is too long ends with an ellipsis.
    pub(crate) fn cut(&mut self, at: (u16, u16), most: usize, text: &str, style: Style) -> u16 {
        let text = self.theme.text(text);
        let text = shortened(&text, most, self.theme.ellipsis());
        self.put(at, most, &text, style)
    }

    /// A character again and again.
    pub(crate) fn fill(&mut self, area: Rect, character: char, style: Style) {
        let line: String = std::iter::repeat_n(character, usize::from(area.width)).collect();
        for y in area.top()..area.bottom() {
            self.put((area.x, y), usize::from(area.width), &line, style);
        }
    }
}

/// At most so many columns; an endpoint keeps its port.
pub(crate) fn shortened(text: &str, most: usize, ellipsis: char) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    let port = text.rfind(':').filter(|at| {
        let after = &text[at + 1..];
        !after.is_empty() && after.bytes().all(|byte| byte.is_ascii_digit())
    });
    let tail = port.map_or("", |at| &text[at..]);
    let tail = if columns(tail) + 4 <= most { tail } else { "" };
    let room = most.saturating_sub(1 + columns(tail));
    let mut cut = String::new();
    let mut used = 0;
    for character in text.chars() {
        let width = columns(character.encode_utf8(&mut [0; 4]));
        if used + width > room {
            break;
        }
        used += width;
        cut.push(character);
    }
    if most != 0 {
        cut.push(ellipsis);
    }
    cut.push_str(tail);
    cut
}

/// Lines of at most so many columns, broken between words where that is possible.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word = word;
        let gap = usize::from(!line.is_empty());
        if used + gap + columns(word) > width && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        // One that is longer than a line is broken anywhere.
        while columns(word) > width {
            let end = prefix(word, width);
            lines.push(word[..end].to_owned());
            word = &word[end..];
        }
        if !line.is_empty() {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += columns(word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Bytes of the longest beginning of so many columns; at least one character.
fn prefix(text: &str, width: usize) -> usize {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += columns(character.encode_utf8(&mut [0; 4]));
        if used > width && at != 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_keeps_its_port() {
        let check = |text: &str, most, expect: &str| assert_eq!(shortened(text, most, '~'), expect);
        check("java[123]", 9, "java[123]");
        check("java[123]", 6, "java[~");
        check("[2001:db8::1234]:8089", 16, "[2001:db8:~:8089");
        check("x:8089", 5, "x:80~");
        check("abc", 0, "");
    }

    #[test]
    fn lines_break_between_words() {
        let check = |text: &str, width, expect: &[&str]| assert_eq!(wrapped(text, width), expect);
        check("one two three", 7, &["one two", "three"]);
        check("one two three", 100, &["one two three"]);
        check("abcdefgh ij", 3, &["abc", "def", "gh", "ij"]);
        check("", 10, &[""]);
        check("a", 0, &["a"]);
        check("\u{4e2d}\u{6587}\u{5b57}", 4, &["\u{4e2d}\u{6587}", "\u{5b57}"]);
    }
}
