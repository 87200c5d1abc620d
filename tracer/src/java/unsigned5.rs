//! `UNSIGNED5`, the encoding of HotSpot's compressed streams (`utilities/unsigned5.hpp`): up to five bytes,
//! six bits from each but the last, lowest first.

/// Bytes from 192 on say that more follow.
const LOW: u32 = 192;
/// Most bytes of a number.
const MOST: u32 = 5;

/// Which of the two encodings a JVM has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Every byte counts, up to JDK 19.
    Plain,
    /// No byte of a number is zero, from JDK 20 on.
    NoZero,
}

impl Encoding {
    /// That of a JDK, by the first number of its release.
    #[must_use]
    pub fn of(version: u32) -> Encoding {
        if version >= 20 { Encoding::NoZero } else { Encoding::Plain }
    }

    /// Reads a number; `None` when the stream ends within it, or has a byte that the encoding has not.
    pub fn unsigned(self, mut next: impl FnMut() -> Option<u8>) -> Option<u32> {
        let excluded = u32::from(self == Encoding::NoZero);
        let mut sum = 0u32;
        for digit in 0..MOST {
            let byte = u32::from(next()?);
            let value = byte.checked_sub(excluded)?;
            sum = sum.wrapping_add(value.wrapping_shl(6 * digit));
            if byte < LOW {
                break;
            }
        }
        Some(sum)
    }

    /// Reads a signed number: the lowest bit is the sign.
    pub fn signed(self, next: impl FnMut() -> Option<u8>) -> Option<i32> {
        let sum = self.unsigned(next)?;
        Some((sum >> 1).cast_signed() ^ -((sum & 1).cast_signed()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the JVM writes it (`UNSIGNED5::write_uint`).
    pub(in crate::java) fn write(encoding: Encoding, number: u32, out: &mut Vec<u8>) {
        let excluded = u32::from(encoding == Encoding::NoZero);
        let limit = LOW - excluded;
        let mut rest = number;
        for digit in 0.. {
            if rest < limit || digit == MOST - 1 {
                out.push(u8::try_from((rest + excluded) & 0xff).expect("a byte"));
                return;
            }
            rest -= limit;
            out.push(u8::try_from(LOW + (rest & 63)).expect("a byte"));
            rest >>= 6;
        }
    }

    fn check(encoding: Encoding, bytes: &[u8], expect: Option<u32>) {
        let mut bytes = bytes.iter().copied();
        assert_eq!(encoding.unsigned(|| bytes.next()), expect, "{encoding:?}");
    }

    #[test]
    fn numbers_are_read_as_the_jvm_writes_them() {
        check(Encoding::Plain, &[0], Some(0));
        check(Encoding::Plain, &[191], Some(191));
        check(Encoding::Plain, &[192, 0], Some(192));
        check(Encoding::NoZero, &[1], Some(0));
        check(Encoding::NoZero, &[191], Some(190));
        check(Encoding::NoZero, &[192, 1], Some(191));
        // A byte that it has not; an end within a number.
        check(Encoding::NoZero, &[0], None);
        check(Encoding::Plain, &[255, 255, 255, 255], None);
        check(Encoding::Plain, &[], None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u32, no_zero: bool) {
            let encoding = if no_zero { Encoding::NoZero } else { Encoding::Plain };
            let mut bytes = Vec::new();
            write(encoding, number, &mut bytes);
            let mut read = bytes.iter().copied();
            prop_assert_eq!(encoding.unsigned(|| read.next()), Some(number));
            prop_assert_eq!(read.next(), None);
        }
    }
}
