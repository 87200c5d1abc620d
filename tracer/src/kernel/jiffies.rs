//! When a jiffy began: what timers that are far away are rounded to counts from there.

use std::fs::File;
use std::io::{self, Read, Seek};

use crate::time::{Jiffies, MonoNs, jiffy_ns};

/// For so long it is read again and again: a jiffy takes at most 10 ms, and one reading some 0.1 ms.
const READS_NS: u64 = 12_000_000;
/// Before it come the timers of the first processor.
const MOST_BYTES: usize = 1 << 20;

/// Reads it from where the kernel lists its timers; `None` where that is not permitted.
#[must_use]
pub fn read() -> Option<Jiffies> {
    let mut file = File::open("/proc/timer_list").ok()?;
    let jiffy_ns = jiffy_ns();
    let mut best: Option<Jiffies> = None;
    let start = MonoNs::now();
    loop {
        let number = read_number(&mut file).ok().flatten()?;
        let now = MonoNs::now();
        let read = Jiffies { number, began_ns: now.0 };
        // It had begun by then: of all readings the one that says most.
        if best.is_none_or(|best| read.is_before(best, jiffy_ns)) {
            best = Some(read);
        }
        if now.since(start) > READS_NS {
            return best;
        }
    }
}

/// Reads no further than necessary: on a large machine the list is long.
fn read_number(file: &mut File) -> io::Result<Option<u64>> {
    file.rewind()?;
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while text.len() < MOST_BYTES {
        let got = file.read(&mut piece)?;
        text.extend_from_slice(piece.get(..got).unwrap_or_default());
        let number = number(&text);
        if number.is_some() || got == 0 {
            return Ok(number);
        }
    }
    Ok(None)
}

/// What `print_cpu` writes of the first processor.
fn number(text: &[u8]) -> Option<u64> {
    let mut lines = text.split_inclusive(|&byte| byte == b'\n');
    let number = lines.find_map(|line| line.strip_prefix(b"jiffies: ")?.strip_suffix(b"\n"))?;
    std::str::from_utf8(number).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_stands_in_a_line_of_its_own() {
        let text =
            b"now at 5 nsecs\n\ncpu: 0\n  .last_jiffies   : 4295179490\njiffies: 4295179496\n";
        assert_eq!(number(text), Some(4_295_179_496));
        assert_eq!(number(b"  .last_jiffies   : 4295179490\n"), None);
        // It may go on.
        assert_eq!(number(b"jiffies: 42951794"), None);
        assert_eq!(number(b"jiffies: x\n"), None);
        assert_eq!(number(b""), None);
    }

    #[test]
    fn two_readings_agree() {
        let (Some(one), Some(other)) = (read(), read()) else {
            return println!("skipped: the kernel does not tell");
        };
        let jiffy_ns = jiffy_ns();
        let passed = (other.number - one.number) * jiffy_ns;
        let apart = other.began_ns - one.began_ns;
        assert!(apart.abs_diff(passed) < jiffy_ns, "{one:?}, {other:?}");
    }
}
