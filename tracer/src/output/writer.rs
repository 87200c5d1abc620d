//! Writes to stdout on a thread of its own, so that a reader that stalls keeps nobody from handling
//! signals, and what waits is bounded: when it is full, events wait in the kernel's ring.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::privileges;

/// Buffers under way to the thread.
const DEPTH: usize = 4;
/// Lines are handed over when there are so many bytes of them. Each time the thread is woken, and the file system asked
/// for room.
pub const MUCH: usize = 256 << 10;
/// Longer than any line that is written for an event.
const LINE: usize = 4 << 10;

/// The thread's handle.
#[derive(Debug)]
pub struct Stdout {
    full: Option<SyncSender<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
    ended: Receiver<io::Result<()>>,
    /// A buffer the thread had no room for.
    waiting: Option<Vec<u8>>,
    /// Told after every buffer that is written, and at the end.
    progress: Arc<Notify>,
    outcome: Option<io::Result<()>>,
    /// Buffers that went to the thread and are not written.
    unwritten: Arc<AtomicUsize>,
}

/// How writing ended.
#[derive(Debug)]
pub enum Ended {
    /// Everything is written.
    Done,
    /// The reader closed its end.
    Closed,
    /// The reader does not read: something was not written.
    Stalled,
    /// It failed.
    Failed(io::Error),
}

impl Stdout {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(to: impl Write + Send + 'static) -> io::Result<Stdout> {
        let (full, work) = sync_channel::<Vec<u8>>(DEPTH);
        let (back, empty) = channel();
        let (end, ended) = channel();
        let progress = Arc::new(Notify::new());
        let told = Arc::clone(&progress);
        let unwritten = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&unwritten);
        thread::Builder::new().name("tcptrail-out".to_owned()).spawn(move || {
            privileges::keep_only(privileges::writer());
            // Nobody waits for the result when the process is on its way out.
            let _ = end.send(write_all(to, &work, &back, (&told, &left)));
            told.notify_one();
        })?;
        Ok(Stdout {
            full: Some(full),
            empty,
            ended,
            waiting: None,
            progress,
            outcome: None,
            unwritten,
        })
    }

    /// Whether [`Stdout::push`] will take a buffer without keeping it waiting.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        self.waiting.is_none() || self.try_again()
    }

    /// Whether there is room now for the buffer that waits.
    fn try_again(&mut self) -> bool {
        if let Some(buffer) = self.waiting.take() {
            self.send(buffer);
        }
        self.waiting.is_none()
    }

    /// Whether everything is written: a frame for a slow terminal is not worth making before.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.unwritten.load(Ordering::Acquire) == 0
    }

    /// Waits until something more is written, or writing has ended.
    pub async fn progress(&self) {
        self.progress.notified().await;
    }

    /// Hands `buffer` over and leaves an empty one in its place; call only with room.
    pub fn push(&mut self, buffer: &mut Vec<u8>) {
        if buffer.is_empty() {
            return;
        }
        let empty = self.empty.try_recv();
        // Memory that is not written to is not there.
        let empty = empty.unwrap_or_else(|_| Vec::with_capacity(MUCH + LINE));
        let full = std::mem::replace(buffer, empty);
        match &mut self.waiting {
            Some(waiting) => waiting.extend_from_slice(&full),
            None => self.send(full),
        }
    }

    fn send(&mut self, buffer: Vec<u8>) {
        let Some(full) = &self.full else { return };
        self.unwritten.fetch_add(1, Ordering::Release);
        match full.try_send(buffer) {
            // A thread that ended leaves its reason in `ended`.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(buffer)) => {
                self.unwritten.fetch_sub(1, Ordering::Release);
                self.waiting = Some(buffer);
            }
        }
    }

    /// Whether writing has come to an end by itself: the reader has gone, or it failed.
    pub fn has_ended(&mut self) -> bool {
        if self.outcome.is_none() {
            self.outcome = self.ended.try_recv().ok();
        }
        self.outcome.is_some()
    }

    /// Waits until everything is written, at most `patience` without progress.
    #[must_use]
    pub fn finish(mut self, patience: Duration) -> Ended {
        let mut deadline = Instant::now() + patience;
        while !self.has_ended() && self.full.is_some() {
            if self.has_room() {
                self.full = None;
                break;
            }
            match self.empty.recv_timeout(Duration::from_millis(20)) {
                Ok(_) => deadline = Instant::now() + patience,
                Err(_) if Instant::now() >= deadline => return Ended::Stalled,
                Err(_) => {}
            }
        }
        while self.outcome.is_none() {
            match self.ended.recv_timeout(Duration::from_millis(20)) {
                Ok(outcome) => self.outcome = Some(outcome),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ended::Done,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    if self.empty.try_recv().is_ok() {
                        deadline = Instant::now() + patience;
                    } else if Instant::now() >= deadline {
                        return Ended::Stalled;
                    }
                }
            }
        }
        match self.outcome {
            Some(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ended::Closed,
            Some(Err(error)) => Ended::Failed(error),
            _ => Ended::Done,
        }
    }
}

fn write_all(
    mut to: impl Write,
    work: &Receiver<Vec<u8>>,
    back: &Sender<Vec<u8>>,
    (told, left): (&Notify, &AtomicUsize),
) -> io::Result<()> {
    for mut buffer in work {
        to.write_all(&buffer)?;
        to.flush()?;
        buffer.clear();
        left.fetch_sub(1, Ordering::Release);
        // The other side may be gone already.
        let _ = back.send(buffer);
        told.notify_one();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_written_in_order() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut output = Stdout::start(writer).expect("a thread");
        let reading = thread::spawn(move || io::read_to_string(reader));
        let mut expect = String::new();
        for number in 0..1000 {
            let line = format!("{number}\n");
            expect.push_str(&line);
            while !output.has_room() {
                thread::yield_now();
            }
            output.push(&mut line.into_bytes());
        }
        assert!(matches!(output.finish(Duration::from_secs(10)), Ended::Done));
        assert_eq!(reading.join().expect("no panic").expect("UTF-8"), expect);
    }

    #[test]
    fn a_reader_that_leaves_is_noticed() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let mut output = Stdout::start(writer).expect("a thread");
        output.push(&mut b"x\n".to_vec());
        assert!(matches!(output.finish(Duration::from_secs(10)), Ended::Closed));
    }

    #[test]
    fn a_reader_that_stalls_is_left_after_a_while() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let mut output = Stdout::start(writer).expect("a thread");
        while output.has_room() {
            output.push(&mut vec![b'x'; 1 << 20]);
        }
        assert!(!output.has_ended());
        assert!(matches!(output.finish(Duration::from_millis(50)), Ended::Stalled));
    }
}
