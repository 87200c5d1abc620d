//! The ring buffer's reading end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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
