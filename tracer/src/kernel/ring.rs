//! The ring buffer's reading end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracer_common::wire::Record;

/// The programs wake the reader for a record that comes this long after the last wake-up, twice as long where
/// [`BUSY_RECORDS`] or more waited then. A reader that was woken looks by itself after that.
pub const WAKE_EVERY_NS: u32 = 50_000_000;
/// Each time a reader comes back its caches are cold, which costs it up to a millisecond.
const BUSY_BYTES: u32 = 64 << 10;
/// In so many bytes of the ring there are at least so many records.
pub const BUSY_RECORDS: u64 = 400;
const _: () = assert!(BUSY_BYTES as u64 / (size_of::<Record>() as u64 + 8) >= BUSY_RECORDS);

/// Left free when a ring that fills wakes the reader: it lasts until that has a processor, 15 ms at a million transitions
/// a second. Waking it earlier costs more: the caches of a reader that comes back are cold.
const LEFT: u32 = 2 << 20;

/// A ring of so many bytes wakes the reader when so many are filled.
pub(super) fn wake_bytes(ring_bytes: u32) -> u32 {
    ring_bytes.saturating_sub(LEFT).max(ring_bytes / 8).min(LEFT)
}

/// Of a ring that wakes the reader at so many bytes; no wait is longer where that is less.
pub(super) fn busy_bytes(wake_bytes: u32) -> u32 {
    if wake_bytes > BUSY_BYTES { BUSY_BYTES } else { u32::MAX }
}

/// Takes records out.
pub struct Reader(pub(super) RingBuf<MapData>);

impl Reader {
    /// The next record, handed to `take`; false when there is none.
    pub fn next(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        match self.0.next() {
            Some(record) => {
                take(&record);
                true
            }
            None => false,
        }
    }
}

/// Takes records out and waits for more; woken by fill level only, so look on a timer too.
pub struct Ring {
    reader: Reader,
    ready: AsyncFd<OwnedFd>,
}

impl Ring {
    /// Watches the ring. Must be called inside the runtime.
    ///
    /// # Errors
    /// When the descriptor cannot be watched.
    pub fn new(reader: Reader) -> io::Result<Ring> {
        let watched = reader.0.as_fd().try_clone_to_owned()?;
        #[expect(unsafe_code, reason = "the runtime asks for a promise about the descriptor")]
        // SAFETY: the descriptor is owned by the `AsyncFd` and so stays open and the same.
        let ready = unsafe { AsyncFd::register_with_interest(watched, Interest::READABLE) }?;
        Ok(Ring { reader, ready })
    }

    /// Waits until a program has woken us.
    ///
    /// # Errors
    /// When the runtime's driver fails.
    pub async fn woken(&self) -> io::Result<()> {
        // The kernel reports a ring with anything in it as readable; edge-triggered, this returns
        // once per wake-up.
        self.ready.readable().await?.clear_ready();
        Ok(())
    }

    /// What takes records out, without waiting.
    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mebibytes_stay_free_or_most_of_a_smaller_ring() {
        let check = |ring: u32, filled: u32| assert_eq!(wake_bytes(ring), filled, "{ring}");
        check(4 << 10, 512);
        check(64 << 10, 8 << 10);
        check(2 << 20, 256 << 10);
        check(4 << 20, 2 << 20);
        check(64 << 20, 2 << 20);
        check(1 << 31, 2 << 20);
        // A reader that has taken fewer than 400 records must not be waited for any longer.
        assert_eq!(busy_bytes(8 << 10), u32::MAX);
        assert_eq!(busy_bytes(2 << 20), 64 << 10);
    }
}
