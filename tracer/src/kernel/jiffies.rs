//! When a jiffy began: what timers that are far away are rounded to counts from there.

use std::fs::File;
use std::io::{Read, Seek};

use crate::time::{Jiffies, MonoNs};

/// Most readings: a jiffy takes at most 10 ms, a reading some 0.1 ms.
const MOST_READINGS: usize = 400;
/// A beginning that was seen to less than this will do.
const NEAR_NS: u64 = 300_000;
/// Of every processor all its timers are told before it; the first is enough.
const MOST_BYTES: u64 = 1 << 20;

/// Reads it from where the kernel lists its timers; `None` where that is not permitted.
#[must_use]
pub fn read() -> Option<Jiffies> {
    let mut file = File::open("/proc/timer_list").ok()?;
    let mut text = Vec::new();
    let mut last: Option<(u64, MonoNs)> = None;
    for _ in 0..MOST_READINGS {
        text.clear();
        file.rewind().ok()?;
        let began = MonoNs::now();
        (&mut file).take(MOST_BYTES).read_to_end(&mut text).ok()?;
        let now = MonoNs::now();
        let number = number(&text)?;
        if let Some((before, since)) = last
            && before + 1 == number
            && now.since(since) < NEAR_NS
        {
            return Some(Jiffies { number, began_ns: began.0 });
        }
        last = Some((number, began));
    }
    None
}

/// What `print_cpu` writes of the first processor.
fn number(text: &[u8]) -> Option<u64> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let number = lines.find_map(|line| line.strip_prefix(b"jiffies: "))?;
    std::str::from_utf8(number).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_stands_in_a_line_of_its_own() {
        let text = b"now at 5 nsecs\n\ncpu: 0\n  .last_jiffies   : 4295179490\njiffies: 4295179496\n";
        assert_eq!(number(text), Some(4_295_179_496));
        assert_eq!(number(b"  .last_jiffies   : 4295179490\n"), None);
        assert_eq!(number(b"jiffies: x\n"), None);
        assert_eq!(number(b""), None);
    }

    #[test]
    fn two_readings_agree() {
        let (Some(one), Some(other)) = (read(), read()) else {
            return println!("skipped: the kernel does not tell");
        };
        let jiffy_ns = crate::time::jiffy_ns();
        let passed = (other.number - one.number) * jiffy_ns;
        let apart = other.began_ns - one.began_ns;
        assert!(apart.abs_diff(passed) < 1_000_000, "{one:?}, {other:?}");
    }
}
