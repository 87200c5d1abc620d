//! Perf maps: `/tmp/perf-PID.map`, a line for each piece of code that a JVM has compiled: address and
//! length in hexadecimal, and a name, which may be anything.

/// Most entries kept.
const MOST: usize = 1 << 20;
/// Longest name kept, bytes.
const LONGEST: usize = 512;

/// One piece of code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    start: u64,
    end: u64,
    /// Where its name stands.
    name: (usize, usize),
}

/// A perf map, ready to look addresses up.
#[derive(Clone, Debug, Default)]
pub struct PerfMap {
    entries: Vec<Entry>,
    names: String,
}

/// What stands at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code<'a> {
    /// A compiled method: `java.net.Socket.connect`.
    Method(&'a str),
    /// Something else of the JVM's: `Interpreter`, a stub.
    Stub(&'a str),
}

impl PerfMap {
    /// Reads what it can: lines that make no sense are left out.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> PerfMap {
        let mut map = PerfMap::default();
        for line in bytes.split(|&byte| byte == b'\n') {
            if map.entries.len() == MOST {
                break;
            }
            let mut words = line.splitn(3, |&byte| byte == b' ');
            let (Some(start), Some(length), Some(name)) = (
                words.next().and_then(hexadecimal),
                words.next().and_then(hexadecimal),
                words.next(),
            ) else {
                continue;
            };
            let Some(end) = start.checked_add(length).filter(|&end| end > start) else { continue };
            let from = map.names.len();
            map.names.push_str(&String::from_utf8_lossy(&name[..name.len().min(LONGEST)]));
            map.entries.push(Entry { start, end, name: (from, map.names.len()) });
        }
        // Of two pieces at one address the later line is the newer.
        map.entries.sort_by_key(|entry| entry.start);
        map
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What stands at this address.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<Code<'_>> {
        let after = self.entries.partition_point(|entry| entry.start <= address);
        // Pieces may lie within others (a stub within the interpreter): the innermost that holds it.
        let near = &self.entries[after.saturating_sub(16)..after];
        let entry = near.iter().rev().find(|entry| address < entry.end)?;
        Some(code(&self.names[entry.name.0..entry.name.1]))
    }
}

fn hexadecimal(word: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(word).ok()?;
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// A method stands with its result and arguments: `void java.net.Socket.connect(java.net.SocketAddress, int)`.
fn code(name: &str) -> Code<'_> {
    let Some((before, _)) = name.split_once('(') else { return Code::Stub(name) };
    let method = before.rsplit(' ').next().unwrap_or(before);
    if method.contains('.') { Code::Method(method) } else { Code::Stub(name) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAP: &[u8] = b"0x00007f0000001000 0x0000000000000100 Interpreter\n\
        7f0000001040 20 StubRoutines (1)\n\
        0x00007f0000002000 0x80 void com.acme.Crawler.fetch(java.lang.String, int)\n\
        nonsense\n\
        0xffffffffffffffff 0xff overflow\n\
        0x10 0x0 empty\n\
        0x00007f0000003000 0x80 \x1b[2J\xff(\n";

    #[track_caller]
    fn check(address: u64, expect: Option<Code<'_>>) {
        assert_eq!(PerfMap::parse(MAP).at(address), expect);
    }

    #[test]
    fn addresses_are_found() {
        check(0x7f00_0000_0fff, None);
        check(0x7f00_0000_1000, Some(Code::Stub("Interpreter")));
        check(0x7f00_0000_1050, Some(Code::Stub("StubRoutines (1)")));
        check(0x7f00_0000_1070, Some(Code::Stub("Interpreter")));
        check(0x7f00_0000_1100, None);
        check(0x7f00_0000_207f, Some(Code::Method("com.acme.Crawler.fetch")));
        check(0x7f00_0000_2080, None);
        check(0x10, None);
        check(0x7f00_0000_3000, Some(Code::Stub("\u{1b}[2J\u{fffd}(")));
    }

    #[test]
    fn a_name_is_cut_wherever_it_is_too_long() {
        let line = format!("1000 10 {}", "\u{e9}".repeat(10_000));
        let map = PerfMap::parse(line.as_bytes());
        let Some(Code::Stub(name)) = map.at(0x1000) else { panic!("not there") };
        assert!(name.len() <= LONGEST + 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..2000), at: u64) {
            let map = PerfMap::parse(&bytes);
            let _ = map.at(at);
        }

        #[test]
        fn any_lines_are_read(lines in "([0-9a-fx]{0,18} [0-9a-f]{0,17} [ -~]{0,30}\n){0,40}", at: u64) {
            let map = PerfMap::parse(lines.as_bytes());
            let _ = map.at(at);
        }
    }
}
