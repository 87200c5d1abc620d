//! Processes and threads, and their names.

use std::fmt;

use tracer_common::comm::until_nul;

/// A process or thread name: bytes a stranger chose, at most 15 and a NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Comm(pub [u8; 16]);

impl Comm {
    /// The bytes before the first NUL.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        const ONES: u128 = u128::from_ne_bytes([0x01; 16]);
        const HIGH: u128 = u128::from_ne_bytes([0x80; 16]);
        // All sixteen at once: the lowest bit that is set is the highest of the first zero byte.
        let all = u128::from_le_bytes(self.0);
        let zeroes = all.wrapping_sub(ONES) & !all & HIGH;
        &self.0[..zeroes.trailing_zeros() as usize / 8]
    }

    /// A name out of the kernel: what stands behind its end is no part of it (see
    /// [`tracer_common::comm::until_nul`]).
    #[must_use]
    #[inline]
    pub fn of_kernel(name: [u8; 16]) -> Comm {
        let name = u128::from_le_bytes(name);
        let [first, second] = until_nul([name as u64, (name >> 64) as u64]);
        // The sixteenth is never part of it.
        let second = second & (u64::MAX >> 8);
        Comm((u128::from(second) << 64 | u128::from(first)).to_le_bytes())
    }

    /// From any bytes; what is beyond 15 is cut as the kernel does.
    #[must_use]
    pub fn new(name: &[u8]) -> Comm {
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().take(15).zip(name) {
            *to = *from;
        }
        Comm(comm)
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes()))
    }
}

/// The task that made a transition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Actor {
    /// Process (thread group) id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The process's name.
    pub comm: Comm,
    /// The thread's name.
    pub thread: Comm,
    /// It was ending: what it closed then, the kernel closed for it.
    pub exiting: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_first_zero_wherever_that_is() {
        for end in 0..=16 {
            let mut name = *b"0123456789abcdef";
            name[end..].fill(0xff);
            if let Some(zero) = name.get_mut(end) {
                *zero = 0;
            }
            assert_eq!(Comm(name).bytes(), &b"0123456789abcdef"[..end]);
            // The kernel's sixteenth byte is its NUL.
            assert_eq!(Comm::of_kernel(name), Comm::new(&b"0123456789abcdef"[..end.min(15)]));
        }
    }
}
