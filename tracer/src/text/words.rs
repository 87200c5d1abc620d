//! Questions about all bytes of a short text, eight bytes at a time: there are ten texts in every line.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
/// The highest bit of each byte.
const HIGH: u64 = ONES << 7;
const SPACES: u64 = ONES * b' ' as u64;

/// Whether all bytes are ASCII.
#[inline]
pub(super) fn are_ascii(text: &[u8]) -> bool {
    all(text, |word| word & HIGH == 0)
}

/// Whether all bytes stand for themselves wherever they are written, on a terminal and in JSON: printable ASCII, but `"`
/// and `\`.
#[inline]
pub(crate) fn are_plain(text: &[u8]) -> bool {
    all(text, |word| {
        // A byte that is zero or less has its highest bit then; so has whatever is not ASCII.
        let control = word.wrapping_sub(SPACES);
        let delete = word.wrapping_add(ONES);
        let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
        let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
        (word | control | delete | quote | backslash) & HIGH == 0
    })
}

/// Whether `test` holds for all words of a text. The last word may have bytes of the one before it, and a shorter text
/// has spaces before it.
#[inline(always)]
fn all(text: &[u8], test: impl Fn(u64) -> bool) -> bool {
    let (words, rest) = text.as_chunks();
    if !words.iter().all(|word| test(u64::from_le_bytes(*word))) {
        return false;
    }
    rest.is_empty()
        || test(text.last_chunk().map_or_else(|| short(text), |word| u64::from_le_bytes(*word)))
}

/// The word of a text of less than eight bytes.
#[inline(always)]
fn short(text: &[u8]) -> u64 {
    match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
        }
        _ => text.iter().fold(SPACES, |word, &byte| word << 8 | u64::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_counts_wherever_it_stands() {
        for length in 0..=33 {
            let blank = vec![b'a'; length];
            assert!(are_ascii(&blank) && are_plain(&blank), "{length}");
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = blank.clone();
                    text[at] = byte;
                    let plain = (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
                    assert_eq!(are_ascii(&text), byte < 0x80, "{byte:#x} at {at} of {length}");
                    assert_eq!(are_plain(&text), plain, "{byte:#x} at {at} of {length}");
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_told_as_one_by_one(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            let plain = |&byte: &u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
            assert_eq!(are_ascii(&text), text.is_ascii());
            assert_eq!(are_plain(&text), text.iter().all(plain));
        }
    }
}
