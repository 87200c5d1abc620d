//! Writes a file on a thread of its own: a disk that is slow, or stands still for a moment, keeps nobody from taking
//! what comes from the kernel. (`output::writer` does that for stdout: there nobody ever waits, and a reader that has
//! left is no error.)

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::privileges;

/// Bytes that may wait. Packed, they are what some 600,000 transitions leave: three seconds at full speed. Who has more
/// to write then waits.
const MOST: usize = 4 << 20;
/// So many do not wait for the next flush.
const MUCH: usize = 256 << 10;
/// Bytes a buffer has room for from the start; one that grew beyond is cut back. The kernel gives no page that nothing
/// is written to.
const KEPT: usize = 1 << 20;
/// Writes that a buffer has room for. One is a frame: some 30 KiB under load, tens of bytes in a quiet second.
const WRITES: usize = 1_024;

/// What is written to.
pub trait Target: Write + Send + 'static {
    /// A write failed halfway: only so many bytes, from the beginning on, are to stay.
    fn cut(&mut self, length: u64);
}

impl Target for Arc<File> {
    fn cut(&mut self, length: u64) {
        // Half a frame at the end is told by its checksum, too.
        let _ = self.set_len(length);
    }
}

/// A sink whose bytes another thread writes, in order. Errors come with a later write; then the file ends with the last
/// write that is there as a whole.
#[derive(Debug)]
pub struct WriteBehind {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// For the thread: there is something to do.
    filled: Condvar,
    /// From the thread: something is written, or writing has failed.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Batch,
    /// The thread has some.
    busy: bool,
    /// The thread is to write what waits.
    wanted: bool,
    /// Somebody waits for it.
    awaited: bool,
    /// Nothing more comes.
    closed: bool,
    failed: Option<io::Error>,
}

/// What was written at once stays together.
#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each write ends.
    ends: Vec<usize>,
}

impl WriteBehind {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(to: impl Target) -> io::Result<WriteBehind> {
        let queue = Arc::new(Queue::default());
        let theirs = Arc::clone(&queue);
        let thread = thread::Builder::new().name("tcptrail-file".to_owned()).spawn(move || {
            privileges::keep_only(privileges::writer());
            theirs.work(to);
        })?;
        Ok(WriteBehind { queue, thread: Some(thread) })
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// When something could not be.
    pub fn settle(&self) -> io::Result<()> {
        let mut state = self.queue.lock();
        while state.failed.is_none() && (state.busy || !state.waiting.bytes.is_empty()) {
            state = self.queue.wait_for_room(state);
        }
        state.outcome()
    }

    /// Writes what waits, and ends the thread.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn close(mut self) -> io::Result<()> {
        self.join();
        self.queue.lock().outcome()
    }

    fn join(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let mut state = self.queue.lock();
        state.closed = true;
        self.queue.hurry(state);
        // It does not panic.
        let _ = thread.join();
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        self.join();
    }
}

impl Write for WriteBehind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.queue.lock();
        while state.failed.is_none() && state.is_full(bytes.len()) {
            state = self.queue.wait_for_room(state);
        }
        state.outcome()?;
        let waiting = &mut state.waiting;
        waiting.bytes.extend_from_slice(bytes);
        waiting.ends.push(waiting.bytes.len());
        if waiting.bytes.len() >= MUCH {
            self.queue.hurry(state);
        }
        Ok(bytes.len())
    }

    /// Hands everything to the thread; does not wait for it.
    fn flush(&mut self) -> io::Result<()> {
        let state = self.queue.lock();
        let outcome = state.outcome();
        self.queue.hurry(state);
        outcome
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is done under the lock that could be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread is not to wait for more.
    fn hurry(&self, mut state: MutexGuard<'_, State>) {
        if !state.wanted && (state.closed || !state.waiting.bytes.is_empty()) {
            state.wanted = true;
            // Else it wakes up to wait for the lock.
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Waits until the thread has written something.
    fn wait_for_room<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.awaited = true;
        if !state.wanted && !state.waiting.bytes.is_empty() {
            state.wanted = true;
            self.filled.notify_one();
        }
        wait(&self.emptied, state)
    }

    /// The thread: writes until there is nothing more, or until a write fails.
    fn work(&self, mut to: impl Target) {
        let (mut batch, mut written) = (Batch::default(), 0);
        let mut state = self.lock();
        loop {
            while !state.wanted {
                state = wait(&self.filled, state);
            }
            state.wanted = false;
            if state.waiting.bytes.is_empty() {
                return;
            }
            std::mem::swap(&mut batch, &mut state.waiting);
            state.busy = true;
            drop(state);
            let (whole, outcome) = batch.write(&mut to);
            batch.empty();
            written += whole as u64;
            if outcome.is_err() {
                to.cut(written);
            }
            state = self.lock();
            state.busy = false;
            state.wanted |= state.closed;
            state.failed = outcome.err();
            if std::mem::take(&mut state.awaited) {
                self.emptied.notify_all();
            }
            if state.failed.is_some() {
                return;
            }
        }
    }
}

impl State {
    /// Whether so many more would be too many. What is larger than all room is taken when nothing waits.
    fn is_full(&self, more: usize) -> bool {
        !self.waiting.bytes.is_empty() && self.waiting.bytes.len() + more > MOST
    }

    fn outcome(&self) -> io::Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
        }
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch { bytes: Vec::with_capacity(KEPT), ends: Vec::with_capacity(WRITES) }
    }
}

impl Batch {
    /// Writes all of it. Returns where the last write ends that is there as a whole.
    fn write(&self, to: &mut impl Write) -> (usize, io::Result<()>) {
        let mut at = 0;
        let mut outcome = Ok(());
        while at < self.bytes.len() {
            match to.write(&self.bytes[at..]) {
                Ok(0) => outcome = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => at += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => outcome = Err(error),
            }
            if outcome.is_err() {
                break;
            }
        }
        let whole = self.ends.partition_point(|&end| end <= at);
        let end = whole.checked_sub(1).map_or(0, |last| self.ends[last]);
        (end, outcome.and_then(|()| to.flush()))
    }

    fn empty(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.bytes.shrink_to(KEPT);
        self.ends.shrink_to(WRITES);
    }
}

fn wait<'a>(on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    on.wait(state).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A disk that stands still until it is told how many bytes it has room for.
    struct Disk {
        room: Receiver<usize>,
        left: Option<usize>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let left = match self.left {
                Some(left) => left,
                None => self.room.recv().unwrap_or(0),
            };
            let fits = bytes.len().min(left);
            self.left = Some(left - fits);
            if fits == 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            self.written.lock().unwrap().extend_from_slice(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Target for Disk {
        fn cut(&mut self, length: u64) {
            self.written.lock().unwrap().truncate(usize::try_from(length).unwrap());
        }
    }

    fn disk() -> (Disk, SyncSender<usize>, Arc<Mutex<Vec<u8>>>) {
        let (tell, room) = sync_channel(1);
        let written = Arc::default();
        (Disk { room, left: None, written: Arc::clone(&written) }, tell, written)
    }

    #[test]
    fn nobody_waits_for_a_disk_that_stands_still_and_everything_is_written_in_order() {
        let (disk, tell, written) = disk();
        let mut file = WriteBehind::start(disk).unwrap();
        let mut expect = Vec::new();
        // The thread has taken some of it and stands still: the rest waits here.
        for number in 0..1000_u32 {
            let frame = number.to_le_bytes().repeat(500);
            expect.extend_from_slice(&frame);
            file.write_all(&frame).unwrap();
            file.flush().unwrap();
        }
        assert!(written.lock().unwrap().is_empty());
        tell.send(usize::MAX).unwrap();
        file.settle().unwrap();
        assert_eq!(written.lock().unwrap().len(), expect.len());
        file.write_all(b"end").unwrap();
        file.close().unwrap();
        expect.extend_from_slice(b"end");
        assert!(*written.lock().unwrap() == expect, "not what was given");
    }

    #[test]
    fn what_does_not_fit_into_memory_waits_for_the_disk() {
        let (disk, tell, written) = disk();
        let mut file = WriteBehind::start(disk).unwrap();
        let (given, count) = sync_channel(0);
        let filling = thread::spawn(move || {
            let frame = vec![7; MUCH];
            for number in 0..3 * MOST / MUCH {
                file.write_all(&frame).unwrap();
                given.send(number).unwrap();
            }
            file.close().unwrap();
        });
        // The disk stands still.
        for _ in 0..MOST / MUCH {
            count.recv().unwrap();
        }
        tell.send(usize::MAX).unwrap();
        assert_eq!(count.iter().last(), Some(3 * MOST / MUCH - 1));
        filling.join().unwrap();
        assert_eq!(written.lock().unwrap().len(), 3 * MOST);
        let waiting = |bytes| State {
            waiting: Batch { bytes: vec![0; bytes], ends: vec![bytes] },
            ..State::default()
        };
        assert!(waiting(MOST).is_full(1) && !waiting(MOST).is_full(0));
        assert!(!waiting(0).is_full(MOST + 1), "what is larger than all room must go, too");
    }

    #[test]
    fn a_full_disk_is_told_and_the_file_ends_with_a_whole_write() {
        let (disk, tell, written) = disk();
        let mut file = WriteBehind::start(disk).unwrap();
        file.write_all(&[1; 100]).unwrap();
        file.flush().unwrap();
        tell.send(550).unwrap();
        file.settle().unwrap();
        for _ in 0..9 {
            file.write_all(&[1; 100]).unwrap();
        }
        let full = |error: &io::Error| error.raw_os_error() == Some(libc::ENOSPC);
        assert!(full(&file.settle().unwrap_err()));
        assert!(full(&file.write_all(&[1; 100]).unwrap_err()));
        assert!(full(&file.flush().unwrap_err()));
        assert_eq!(written.lock().unwrap().len(), 500);
        assert!(full(&file.close().unwrap_err()));
    }
}
