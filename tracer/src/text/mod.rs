//! Text for people: cells, colours, addresses; names of strangers made harmless.

use std::net::{IpAddr, SocketAddr};

use tracer_common::TcpState;

use crate::event::Comm;

pub mod suggest;
mod words;

pub(crate) use words::are_plain as is_plain;

/// What stdout is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terminal {
    /// Columns; `None` when it is no terminal, and lines are as long as they are.
    pub width: Option<usize>,
    /// Colours are wanted and understood.
    pub color: bool,
}

impl Terminal {
    /// Of stdout. `color` is what the command line and NO_COLOR allow.
    #[must_use]
    pub fn of_stdout(color: bool) -> Self {
        let stdout = std::io::stdout();
        let tty = rustix::termios::isatty(&stdout);
        let width = rustix::termios::tcgetwinsize(&stdout)
            .ok()
            .map(|size| usize::from(size.ws_col))
            // Some terminals do not know.
            .filter(|&columns| columns != 0);
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Terminal {
            width: if tty { Some(width.unwrap_or(80)) } else { None },
            color: tty && color && !dumb,
        }
    }
}

/// How many lines the terminal at stdout has; one that does not know has 24.
#[must_use]
pub fn lines_of_stdout() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_row))
        .filter(|&lines| lines != 0)
        .unwrap_or(24)
}

/// A colour for what needs a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paint {
    /// As it is.
    Plain,
    /// Of no interest now.
    Dim,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
}

impl Paint {
    const fn code(self) -> &'static [u8] {
        match self {
            Paint::Plain => b"",
            Paint::Dim => b"\x1b[2m",
            Paint::Good => b"\x1b[32m",
            Paint::Warn => b"\x1b[33m",
            Paint::Bad => b"\x1b[31m",
        }
    }

    /// What a state looks like.
    #[must_use]
    pub const fn of_state(state: TcpState) -> Paint {
        match state {
            TcpState::Established => Paint::Good,
            TcpState::CloseWait | TcpState::LastAck | TcpState::Closing => Paint::Warn,
            TcpState::TimeWait => Paint::Dim,
            _ => Paint::Plain,
        }
    }
}

/// One row under way: cells with widths, in as many terminal lines as it takes.
#[derive(Debug)]
pub struct Row<'a> {
    out: &'a mut Vec<u8>,
    /// Columns of the terminal.
    most: usize,
    color: bool,
    column: usize,
    /// Spaces the last cell is short of its width: written only when something follows.
    padding: usize,
    /// Columns by which cells were longer than their width: taken from the padding of the next ones, so that
    /// the rest of the row stands where it belongs again.
    over: usize,
    indent: usize,
}

impl<'a> Row<'a> {
    /// Starts a row; lines after the first begin at column `indent`.
    pub fn new(out: &'a mut Vec<u8>, terminal: Terminal, indent: usize) -> Self {
        let most = terminal.width.unwrap_or(usize::MAX);
        Row { out, most, color: terminal.color, column: 0, padding: 0, over: 0, indent }
    }

    /// A cell of at least `width` columns; of 0 nothing is expected. `text` must be printable; non-ASCII counts
    /// by character.
    pub fn cell(&mut self, width: usize, paint: Paint, text: &[u8]) -> &mut Self {
        self.place(width, paint, text, false)
    }

    /// A cell of at least `width` columns, its text at the right.
    pub fn right(&mut self, width: usize, paint: Paint, text: &[u8]) -> &mut Self {
        self.place(width, paint, text, true)
    }

    #[inline]
    fn place(&mut self, width: usize, paint: Paint, text: &[u8], right: bool) -> &mut Self {
        let length = columns(text);
        let short = width.saturating_sub(length);
        let gap = usize::from(self.column != 0);
        let lead = if right { self.caught_up(short) } else { 0 };
        let before = self.padding + gap + lead;
        let end = self.column + before + length;
        if end > self.most && self.column != 0 {
            self.next_line(length);
        } else {
            spaces(before, self.out);
            self.column = end;
        }
        if self.color && paint != Paint::Plain {
            self.out.extend_from_slice(paint.code());
            self.out.extend_from_slice(text);
            self.out.extend_from_slice(b"\x1b[0m");
        } else {
            self.out.extend_from_slice(text);
        }
        self.padding = if right { 0 } else { self.caught_up(short) };
        if width != 0 {
            self.over += length.saturating_sub(width);
        }
        self
    }

    /// Begins another line for a cell of so many columns.
    #[cold]
    fn next_line(&mut self, length: usize) {
        self.out.push(b'\n');
        spaces(self.indent, self.out);
        self.column = self.indent + length;
        self.over = 0;
    }

    /// What is left of so many spaces when the row is too long by then.
    #[inline]
    fn caught_up(&mut self, spaces: usize) -> usize {
        let saved = self.over.min(spaces);
        self.over -= saved;
        spaces - saved
    }

    /// Whether a cell of so many columns would still be on this line.
    #[must_use]
    pub fn has_room(&self, columns: usize) -> bool {
        self.column + self.padding + 1 + columns <= self.most
    }

    /// Ends the row.
    pub fn end(&mut self) {
        self.out.push(b'\n');
    }
}

/// So many spaces, mostly a few: then more than enough are copied, and the others taken off, which needs no call.
#[inline]
fn spaces(count: usize, out: &mut Vec<u8>) {
    const FEW: [u8; 16] = [b' '; 16];
    let end = out.len() + count;
    if count <= FEW.len() {
        out.extend_from_slice(&FEW);
        out.truncate(end);
    } else {
        out.resize(end, b' ');
    }
}

/// Columns a text takes; non-ASCII counts by character.
#[must_use]
#[inline]
pub fn columns(text: &[u8]) -> usize {
    if words::are_ascii(text) { text.len() } else { characters(text) }
}

#[cold]
fn characters(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).chars().count()
}

/// The interface an address is valid on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zone<'a> {
    /// None, or on all.
    None,
    /// By its name.
    Named(&'a [u8]),
    /// By its index: the name is not known.
    Index(u32),
}

/// `addr:port` or `[v6]:port`; a port of 0 is `*`, as `ss` has it.
#[inline]
pub fn endpoint(addr: SocketAddr, out: &mut Vec<u8>) {
    endpoint_in(addr, Zone::None, out);
}

/// As [`endpoint`], with the zone where `ss` has it: `[fe80::1]%eth0:22`; `%3` where its name is not known.
pub fn endpoint_in(addr: SocketAddr, zone: Zone<'_>, out: &mut Vec<u8>) {
    match addr.ip() {
        IpAddr::V4(v4) => dotted(v4.octets(), out),
        IpAddr::V6(v6) => {
            use std::io::Write;
            // A write to a Vec cannot fail.
            let _ = write!(out, "[{v6}]");
        }
    }
    match zone {
        Zone::None => {}
        Zone::Named(interface) => {
            out.push(b'%');
            name(interface, out);
        }
        Zone::Index(index) => {
            out.push(b'%');
            out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
        }
    }
    out.push(b':');
    if addr.port() == 0 {
        out.push(b'*');
    } else {
        out.extend_from_slice(itoa::Buffer::new().format(addr.port()).as_bytes());
    }
}

/// An octet with a point behind it, and how long that is.
type Octet = ([u8; 4], usize);

/// Each octet as text.
static OCTETS: [Octet; 256] = {
    let mut all = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let mut length = 0;
        // Without zeroes in front.
        if octet >= 100 {
            all[octet].0[length] = b'0' + (octet / 100) as u8;
            length += 1;
        }
        if octet >= 10 {
            all[octet].0[length] = b'0' + (octet / 10 % 10) as u8;
            length += 1;
        }
        all[octet].0[length] = b'0' + (octet % 10) as u8;
        all[octet].1 = length + 2;
        octet += 1;
    }
    all
};

/// `192.0.2.1`, in one piece: there are two in every line.
fn dotted(octets: [u8; 4], out: &mut Vec<u8>) {
    let mut text = [0; 16];
    let mut length = 0;
    for octet in octets {
        let (digits, count) = OCTETS[usize::from(octet)];
        text[length..length + 4].copy_from_slice(&digits);
        length += count;
    }
    // Without the last point.
    out.extend_from_slice(&text[..length - 1]);
}

/// A stranger's name with everything a terminal might obey escaped.
pub fn name(bytes: &[u8], out: &mut Vec<u8>) {
    if words::are_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for character in String::from_utf8_lossy(bytes).chars() {
        if character.is_control() || is_invisible(character) {
            out.extend(character.escape_default().map(|c| u8::try_from(c).unwrap_or(b'?')));
        } else if character == '\\' {
            out.extend_from_slice(b"\\\\");
        } else {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// Characters that change how others are shown, or show nothing.
pub(super) fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A line with its colours, cut to so many columns; then it ends in `...`.
pub fn cut(line: &[u8], width: usize, out: &mut Vec<u8>) {
    const DOTS: &[u8] = b"...";
    let text = String::from_utf8_lossy(line);
    if visible(&text).count() <= width {
        out.extend_from_slice(line);
        return;
    }
    let kept = width.saturating_sub(DOTS.len());
    let end = visible(&text).nth(kept).map_or(text.len(), |(at, _)| at);
    out.extend_from_slice(&text.as_bytes()[..end]);
    out.extend_from_slice(&DOTS[..DOTS.len().min(width)]);
    if text.contains('\x1b') {
        out.extend_from_slice(b"\x1b[0m");
    }
}

/// The characters that take a column: not those of colours, which end with an `m`.
fn visible(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut escaped = false;
    text.char_indices().filter(move |(_, character)| {
        let hidden = escaped || *character == '\x1b';
        escaped = hidden && !(escaped && *character == 'm');
        !hidden
    })
}

/// `comm[pid]`, or `comm[?]` for one of several processes of that name.
pub fn process(comm: &Comm, pid: Option<u32>, out: &mut Vec<u8>) {
    name(comm.bytes(), out);
    process_id(pid, out);
}

/// As [`process`], with the name as it is: for what escapes it itself.
pub fn process_as_is(comm: &Comm, pid: Option<u32>, out: &mut Vec<u8>) {
    out.extend_from_slice(comm.bytes());
    process_id(pid, out);
}

fn process_id(pid: Option<u32>, out: &mut Vec<u8>) {
    out.push(b'[');
    match pid {
        Some(pid) => out.extend_from_slice(itoa::Buffer::new().format(pid).as_bytes()),
        None => out.push(b'?'),
    }
    out.push(b']');
}

/// A count for people: `1,204`.
#[must_use]
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as people say them, in thousands, at most four characters: `0`, `999`, `1.2K`, `34M`.
pub fn bytes(count: u64, out: &mut Vec<u8>) {
    const UNITS: [&[u8]; 7] = [b"", b"K", b"M", b"G", b"T", b"P", b"E"];
    let mut unit = 0;
    let mut whole = count;
    let mut tenths = 0;
    while whole >= 1000 && unit + 1 < UNITS.len() {
        tenths = whole % 1000 / 100;
        whole /= 1000;
        unit += 1;
    }
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    if unit != 0 && whole < 10 {
        out.push(b'.');
        out.extend_from_slice(itoa::Buffer::new().format(tenths).as_bytes());
    }
    out.extend_from_slice(UNITS[unit]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        let check = |bytes: &[u8], expect: &str| assert_eq!(text(|out| name(bytes, out)), expect);
        check(b"java", "java");
        check(b"\x1b[2J\x07", "\\u{1b}[2J\\u{7}");
        check(b"a\nb\tc", "a\\nb\\tc");
        check("na\u{202e}me".as_bytes(), "na\\u{202e}me");
        check("caf\u{e9}".as_bytes(), "caf\u{e9}");
        check(b"\xff\xfe", "\u{fffd}\u{fffd}");
        check("\u{9b}31m".as_bytes(), "\\u{9b}31m");
        check(b"a\\n", "a\\\\n");
    }

    #[test]
    fn byte_counts_are_short() {
        let check = |count, expect: &str| assert_eq!(text(|out| bytes(count, out)), expect);
        check(0, "0");
        check(999, "999");
        check(1000, "1.0K");
        check(1999, "1.9K");
        check(123_456, "123K");
        check(u64::MAX, "18E");
    }

    #[test]
    fn rows_break_between_cells_and_never_inside() {
        let narrow = Terminal { width: Some(20), color: false };
        let row = text(|out| {
            Row::new(out, narrow, 4)
                .cell(8, Paint::Bad, b"one")
                .right(6, Paint::Plain, b"two")
                .cell(0, Paint::Plain, b"three and more than fits")
                .end();
        });
        assert_eq!(row, "one         two\n    three and more than fits\n");
        let pipe = Terminal { width: None, color: true };
        let row = text(|out| Row::new(out, pipe, 4).cell(8, Paint::Bad, b"one").end());
        assert_eq!(row, "\x1b[31mone\x1b[0m\n");
    }

    #[test]
    fn a_row_that_was_too_long_is_in_line_again_as_soon_as_there_is_room() {
        let pipe = Terminal { width: None, color: false };
        let check = |first: &[u8], expect: &str| {
            let row = text(|out| {
                Row::new(out, pipe, 4)
                    .cell(6, Paint::Plain, first)
                    .cell(6, Paint::Plain, b"two")
                    .right(5, Paint::Plain, b"3")
                    .cell(0, Paint::Plain, b"four")
                    .end();
            });
            assert_eq!(row, format!("{expect}\n"));
        };
        check(b"one", "one    two        3 four");
        check(b"one is", "one is two        3 four");
        check(b"one is long", "one is long two   3 four");
        check(b"one is very long", "one is very long two 3 four");
        check(b"one is very very long", "one is very very long two 3 four");
    }

    #[test]
    fn zones_stand_where_ss_has_them() {
        let check = |zone, expect: &str| {
            let addr = "[fe80::1]:22".parse().expect("an address");
            assert_eq!(text(|out| endpoint_in(addr, zone, out)), expect);
        };
        check(Zone::None, "[fe80::1]:22");
        check(Zone::Named(b"eth0"), "[fe80::1]%eth0:22");
        check(Zone::Index(3), "[fe80::1]%3:22");
        // Whoever has a namespace of its own may name interfaces as it likes.
        check(Zone::Named(b"\x1b[2J"), "[fe80::1]%\\u{1b}[2J:22");
    }

    #[test]
    fn lines_are_cut_to_their_columns_whatever_their_colours() {
        let check = |line: &str, width, expect: &str| {
            assert_eq!(text(|out| cut(line.as_bytes(), width, out)), expect, "{line:?} {width}");
        };
        check("abcdef", 6, "abcdef");
        check("abcdefg", 6, "abc...");
        check("abc", 2, "..");
        check("abc", 0, "");
        check("\x1b[31mabc\x1b[0mdef", 6, "\x1b[31mabc\x1b[0mdef");
        check("\x1b[31mabcdefg\x1b[0m", 6, "\x1b[31mabc...\x1b[0m");
        check("\u{e9}\u{e9}\u{e9}\u{e9}", 4, "\u{e9}\u{e9}\u{e9}\u{e9}");
        check("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", 4, "\u{e9}...");
    }

    #[test]
    fn addresses_are_whole() {
        let check = |addr: &str, expect: &str| {
            assert_eq!(text(|out| endpoint(addr.parse().expect("an address"), out)), expect);
        };
        check("192.0.2.1:80", "192.0.2.1:80");
        check("255.99.100.10:80", "255.99.100.10:80");
        check("0.9.200.101:80", "0.9.200.101:80");
        check(
            "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
            "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
        );
        check("0.0.0.0:0", "0.0.0.0:*");
    }
}
