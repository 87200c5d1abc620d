//! Frames on a terminal: each over the last, within its lines and columns.

use crate::text::{self, Terminal};

/// Writes `screen` over what is there, line by line, so that nothing flickers; lines beyond the terminal's are left
/// out, and the rest of it is cleared.
pub(super) fn paint_over(screen: &[u8], lines: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\x1b[H");
    let screen = screen.strip_suffix(b"\n").unwrap_or(screen);
    let mut rest = screen.split(|&byte| byte == b'\n').take(lines.max(1)).peekable();
    while let Some(line) = rest.next() {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\x1b[K");
        if rest.peek().is_some() {
            out.push(b'\n');
        }
    }
    out.extend_from_slice(b"\x1b[J");
}

/// Lines of text that fit a terminal.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Terminal,
    /// Lines that may still come.
    room: usize,
    text: Vec<u8>,
}

impl Screen {
    pub(super) fn new(terminal: Terminal, lines: usize) -> Screen {
        Screen { terminal, room: lines, text: Vec::new() }
    }

    /// Lines there is room for.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Adds whole lines, each cut to the terminal's width, if there is room for all of them.
    pub(super) fn add(&mut self, lines: &[u8]) -> bool {
        let count = lines.split_inclusive(|&byte| byte == b'\n').count();
        if count > self.room {
            return false;
        }
        self.room -= count;
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            text::cut(line, self.terminal.width.unwrap_or(usize::MAX), &mut self.text);
            self.text.push(b'\n');
        }
        true
    }

    /// Adds a line to those that there is room for: the one that is kept for it.
    pub(super) fn add_last(&mut self, line: &[u8]) {
        self.room += 1;
        self.add(line);
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_holds_whole_rows_and_no_more() {
        let mut screen = Screen::new(Terminal { width: Some(10), color: false }, 3);
        assert!(screen.add(b"one\n"));
        assert!(!screen.add(b"1\n2\n3\n"));
        assert!(screen.add(b"a line that is long\ntwo\n"));
        assert_eq!(screen.room(), 0);
        assert!(!screen.add(b"x\n"));
        assert_eq!(screen.text(), b"one\na line ...\ntwo\n");
    }

    #[test]
    fn a_frame_ends_without_a_new_line_that_would_scroll() {
        let mut out = Vec::new();
        paint_over(b"one\ntwo\nthree\n", 2, &mut out);
        assert_eq!(out, b"\x1b[Hone\x1b[K\ntwo\x1b[K\x1b[J");
    }
}
