//! Sizes as the command line has them.

use crate::config::error::UsageError;

/// The ring buffer's when nobody says: a processor at full speed fills 1 MiB in a tenth of a second, and the reader may
/// wait that long for one. It is mapped twice, so a process seems twice as large by it.
pub(super) fn default_ring_bytes() -> u32 {
    ring_bytes_for(std::thread::available_parallelism().map_or(1, usize::from))
}

/// 4 MiB for up to four processors, 16 MiB for nine or more.
fn ring_bytes_for(processors: usize) -> u32 {
    let mebibytes = u32::try_from(processors).unwrap_or(u32::MAX).clamp(4, 16);
    mebibytes.next_power_of_two() << 20
}

/// The ring buffer's: a power of two.
pub(super) fn ring_bytes(text: &str) -> Result<u32, UsageError> {
    let wrong = || {
        UsageError(format!(
            "--ring-size {text}: not a size; a power of two from 4KiB to 1GiB, like 64KiB or 16MiB"
        ))
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(wrong()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    if !bytes.is_power_of_two() || bytes < page || bytes > 1 << 30 {
        return Err(wrong());
    }
    u32::try_from(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes_are_checked() {
        let check = |text: &str, expect| assert_eq!(ring_bytes(text).ok(), expect, "{text}");
        check("64KiB", Some(65536));
        check("16M", Some(16 << 20));
        check("65536", Some(65536));
        check("3MiB", None);
        check("1", None);
        check("4GiB", None);
        check("lots", None);
        check("99999999999999999999G", None);
    }

    #[test]
    fn the_ring_grows_with_the_processors() {
        let check = |processors, mebibytes: u32| {
            assert_eq!(ring_bytes_for(processors), mebibytes << 20, "{processors}");
        };
        check(1, 4);
        check(4, 4);
        check(5, 8);
        check(8, 8);
        check(9, 16);
        check(usize::MAX, 16);
    }
}
