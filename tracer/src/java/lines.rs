//! The line of a bytecode, from the table that follows a method's bytecodes
//! (`CompressedLineNumberReadStream`).

use crate::java::unsigned5::Encoding;

/// Bytes of a table that are looked at.
pub const MOST_BYTES: usize = 4096;
/// Says that two signed numbers follow, where the steps do not fit into five and three bits.
const ESCAPE: u8 = 0xff;

/// The line at this bytecode index. The table has pairs of steps, in bytecodes and in lines.
#[must_use]
pub fn line_of(bytes: &[u8], index: u32, encoding: Encoding) -> Option<u32> {
    let mut bytes = bytes.iter().copied();
    let (mut at, mut line) = (0i64, 0i64);
    let mut found = None;
    loop {
        match bytes.next()? {
            0 => return found,
            ESCAPE => {
                at += i64::from(encoding.signed(|| bytes.next())?);
                line += i64::from(encoding.signed(|| bytes.next())?);
            }
            both => {
                at += i64::from(both >> 3);
                line += i64::from(both & 7);
            }
        }
        // Entries need not be in order: the last that begins at or before it.
        if at > i64::from(index) {
            if found.is_some() {
                return found;
            }
            continue;
        }
        found = u32::try_from(line).ok().filter(|&line| line != 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_decoded() {
        // Bytecode 0 is line 10 (too far for three bits), 5 is line 11, 9 is line 9, 40 is line 109.
        let old = [0xff, 0, 20, 5 << 3 | 1, 0xff, 8, 3, 0xff, 62, 200, 0, 0];
        let check = |index, expect| {
            assert_eq!(line_of(&old, index, Encoding::Plain), expect, "{index}");
        };
        check(0, Some(10));
        check(4, Some(10));
        check(5, Some(11));
        check(9, Some(9));
        check(39, Some(9));
        check(40, Some(109));
        assert_eq!(line_of(&[0xff, 1, 21, 0], 3, Encoding::NoZero), Some(10));
        assert_eq!(line_of(&[0xff, 1], 3, Encoding::NoZero), None);
        assert_eq!(line_of(&[], 0, Encoding::Plain), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_line_or_none(bytes: Vec<u8>, index: u32, no_zero: bool) {
            let encoding = if no_zero { Encoding::NoZero } else { Encoding::Plain };
            let _ = line_of(&bytes, index, encoding);
        }
    }
}
