//! Records that were taken out of the ring and not looked at yet.

use crate::kernel::ring::Reader;

/// Most bytes while we are at something that ends by itself: whoever makes events must not decide how much memory we
/// use. What is beyond stays in the ring.
pub(super) const MOST: usize = 32 << 20;
/// Most bytes while whoever reads our output is too slow: a disk that keeps a writer waiting does so for some 200 ms at a
/// time, again and again (`balance_dirty_pages`), and a ring of 4 MiB may fill in one; a terminal that was stopped may never
/// go on.
pub(super) const MOST_FOR_OUTPUT: usize = 24 << 20;
/// The length of a record stands before it.
const HEAD: usize = size_of::<u32>();

/// Records in their order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    /// Where the first one begins.
    next: usize,
}

impl Backlog {
    /// The oldest.
    pub(super) fn first(&self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.next..)?;
        let (head, rest) = rest.split_first_chunk::<HEAD>()?;
        rest.get(..u32::from_ne_bytes(*head) as usize)
    }

    /// The oldest has been taken in.
    pub(super) fn remove_first(&mut self) {
        self.next += self.first().map_or(0, |record| HEAD + record.len());
        if self.next >= self.bytes.len() {
            self.next = 0;
            self.bytes.clear();
            // A burst's memory is not kept.
            self.bytes.shrink_to(64 << 10);
        }
    }

    /// The youngest.
    pub(super) fn add(&mut self, record: &[u8]) {
        let Ok(length) = u32::try_from(record.len()) else { return };
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(record);
    }

    /// All that is in the ring, up to so many bytes.
    pub(super) fn add_all(&mut self, ring: &mut Reader, most: usize) {
        while self.bytes.len() < most && ring.next(|record| self.add(record)) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.first(), None);
        for record in [b"one".as_slice(), b"", b"three"] {
            backlog.add(record);
        }
        for record in [b"one".as_slice(), b"", b"three"] {
            assert_eq!(backlog.first(), Some(record));
            backlog.remove_first();
            backlog.add(b"more");
        }
        for _ in 0..3 {
            assert_eq!(backlog.first(), Some(b"more".as_slice()));
            backlog.remove_first();
        }
        assert_eq!((backlog.first(), backlog.next, backlog.bytes.len()), (None, 0, 0));
        backlog.remove_first();
        assert_eq!(backlog.first(), None);
    }
}
