//! Sizes as the command line has them.

use crate::config::error::UsageError;

/// The ring buffer's when nobody says: 40,000 transitions, a third of a second of what two processors make at full speed.
/// A thread empties it during whatever takes longer (`Intake::meanwhile`). It is mapped twice, so a process seems larger by
/// twice as much.
pub(super) const RING_BYTES: u32 = 4 << 20;

/// The ring buffer's: a power of two.
pub(super) fn ring_bytes(text: &str) -> Result<u32, UsageError> {
    let wrong = || {
        UsageError(format!(
            "--ring-size {text}: not a size; a power of two from 4KiB to 1GiB, like 64KiB or 16MiB"
        ))
    };
    let bytes = bytes(text).ok_or_else(wrong)?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    if !bytes.is_power_of_two() || bytes < page || bytes > 1 << 30 {
        return Err(wrong());
    }
    u32::try_from(bytes).map_err(|_| wrong())
}

/// A number of bytes, with or without a unit: `2GiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(unit)
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
        check("1TiB", None);
        check("99999999999999999999G", None);
    }
}
