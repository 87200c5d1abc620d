//! Names of tasks as the kernel keeps them: `task_struct.comm`.

/// The name without what stands behind its end: before 5.17 `__set_task_comm` leaves there what is left of a
/// longer name, as a process has until its `execve`.
///
/// `words` are the sixteen bytes in memory order, on a little-endian machine. Without branches or loops, for
/// a verifier that counts both.
#[must_use]
#[inline(always)]
pub const fn until_nul(words: [u64; 2]) -> [u64; 2] {
    let first = before_nul(words[0]);
    let second = if first == u64::MAX { before_nul(words[1]) } else { 0 };
    [words[0] & first, words[1] & second]
}

/// Ones for the bytes before the first that is zero.
#[inline(always)]
const fn before_nul(word: u64) -> u64 {
    // The lowest set bit is the highest of the first zero byte; what is above may be wrong.
    let zeroes = word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080;
    let lowest = zeroes & zeroes.wrapping_neg();
    (lowest >> 7).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::until_nul;

    #[track_caller]
    fn check(name: &[u8; 16], expected: &[u8; 16]) {
        let half = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&name[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let [first, second] = until_nul([half(0), half(8)]);
        let mut got = [0; 16];
        got[..8].copy_from_slice(&first.to_le_bytes());
        got[8..].copy_from_slice(&second.to_le_bytes());
        assert_eq!(&got, expected, "{name:?}");
    }

    #[test]
    fn nothing_behind_the_end_of_a_name() {
        check(b"java\0leaks\0\0\0\0\0\0", b"java\0\0\0\0\0\0\0\0\0\0\0\0");
        check(b"java\0\x01\x01\x80\xffabcdefg", b"java\0\0\0\0\0\0\0\0\0\0\0\0");
        check(b"\0ystemd)\0\0\0\0\0\0\0\0", &[0; 16]);
        check(b"sevenly\0eight9ab", b"sevenly\0\0\0\0\0\0\0\0\0");
        check(b"eightlyx\0another", b"eightlyx\0\0\0\0\0\0\0\0");
        check(b"ten-letter\0\x01x\0yz", b"ten-letter\0\0\0\0\0\0");
        check(b"fifteen-letters\0", b"fifteen-letters\0");
        check(b"sixteen-letters!", b"sixteen-letters!");
        check(
            b"\xff\x80\x01\x7f\xff\x80\x01\x7f\xff\x80\0\x7f\xff\x80\x01\x7f",
            b"\xff\x80\x01\x7f\xff\x80\x01\x7f\xff\x80\0\0\0\0\0\0",
        );
    }

    #[test]
    fn any_byte_may_stand_before_and_behind() {
        for byte in 0..=255 {
            for end in 0..16 {
                let mut name = [byte; 16];
                let mut expected = [0; 16];
                expected[..end].fill(1.max(byte));
                name[..end].fill(1.max(byte));
                name[end] = 0;
                check(&name, &expected);
            }
        }
    }
}
