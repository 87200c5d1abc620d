//! Writes recordings.

use std::io::{self, Write};

use tracer_common::wire::{HolderRow, WIRE_VERSION};

use crate::engine::conn::Poll;
use crate::event::Loss;
use crate::input::{Input, Origin};
use crate::record_format::block::{self, Packer};
use crate::record_format::{
    self as format, ENDED, Ended, FACTS, FORMAT_VERSION, FRAME, FRAME_FULL, HEADER, HOLDERS,
    LONG_HEAD, LOST, MAGIC, MAX_LONG, MAX_ORIGIN, MAX_WRITTEN, MORE, NAMES, POLL_BEGIN, POLL_END,
    RECORD, TICK,
};
use crate::time::MonoNs;

/// Writes a recording.
///
/// Inputs gather in memory until a frame is full; whoever pushes calls [`flush`](Self::flush) at
/// least every second, so that `kill -9` costs no more than that. Dropping it writes nothing.
pub struct Writer<W> {
    sink: W,
    /// Offset of the next frame.
    at: u64,
    /// Items of the next frame. Its capacity is never exceeded.
    raw: Vec<u8>,
    /// The packed frame with its lengths, so that it goes out in one write.
    frame: Vec<u8>,
    /// The last `PollEnd`'s payload.
    poll_end: Vec<u8>,
    packer: Packer,
    /// A write failed: the sink may end in half a frame, so nothing may follow.
    failed: Option<io::ErrorKind>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    ///
    /// When the sink's write fails, or the origin is absurdly long.
    pub fn new(mut sink: W, origin: &Origin) -> io::Result<Self> {
        let origin = serde_json::to_vec(origin)?;
        let length = u32::try_from(origin.len())
            .ok()
            .filter(|_| origin.len() <= MAX_ORIGIN)
            .ok_or_else(|| too_long("the origin"))?;
        let mut header = Vec::with_capacity(HEADER + origin.len());
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        header.extend_from_slice(&[format::byte_order(), 0]);
        header.extend_from_slice(&WIRE_VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 2]);
        header.extend_from_slice(&length.to_le_bytes());
        let crc = format::header_crc(&header, &origin);
        header.extend_from_slice(&crc.to_le_bytes());
        header.extend_from_slice(&origin);
        sink.write_all(&header)?;
        sink.flush()?;
        Ok(Writer {
            sink,
            at: header.len() as u64,
            raw: Vec::with_capacity(MAX_WRITTEN),
            frame: vec![0; FRAME + block::longest(MAX_WRITTEN)],
            poll_end: Vec::new(),
            packer: Packer::new(),
            failed: None,
        })
    }

    /// Adds an input; writes when a frame is full.
    ///
    /// # Errors
    ///
    /// When the sink's write fails, and from then on always. An input beyond the format's limits (a
    /// record of 64 KiB, a walk of 128 MiB) is refused as `InvalidInput`; the recording goes on
    /// without it.
    pub fn push(&mut self, input: &Input<'_>) -> io::Result<()> {
        self.check()?;
        match *input {
            Input::Record(bytes) => {
                let length = u16::try_from(bytes.len()).map_err(|_| too_long("a record"))?;
                let [low, high] = length.to_le_bytes();
                self.raw.extend_from_slice(&[RECORD, low, high]);
                self.raw.extend_from_slice(bytes);
            }
            Input::PollBegin => self.raw.push(POLL_BEGIN),
            Input::PollEnd { ref poll, now } => return self.push_poll_end(poll, now),
            Input::Holders(bytes) => return self.push_long(HOLDERS, bytes),
            Input::Names(bytes) => return self.push_long(NAMES, bytes),
            Input::Facts(bytes) => return self.push_long(FACTS, bytes),
            Input::Lost(Loss { count, cause, from, to }) => {
                self.raw.push(LOST);
                self.raw.extend_from_slice(&count.to_le_bytes());
                self.raw.push(format::cause_number(cause));
                self.raw.extend_from_slice(&from.0.to_le_bytes());
                self.raw.extend_from_slice(&to.0.to_le_bytes());
            }
            Input::Tick(now) => {
                self.raw.push(TICK);
                self.raw.extend_from_slice(&now.0.to_le_bytes());
            }
        }
        self.write_if_full()
    }

    /// Bytes given to the sink so far, up to the end of the last whole frame.
    pub fn written(&self) -> u64 {
        self.at
    }

    /// Where they went.
    pub fn sink(&self) -> &W {
        &self.sink
    }

    /// Writes what was pushed.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        self.write_frame()?;
        let flushed = self.sink.flush();
        self.note(flushed)
    }

    /// Writes what was pushed and the end, without which a recording counts as cut off; gives the
    /// sink back.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn finish(mut self, ended: Ended) -> io::Result<W> {
        self.check()?;
        self.raw.push(ENDED);
        self.raw.extend_from_slice(&ended.events.to_le_bytes());
        self.raw.extend_from_slice(&ended.connections.to_le_bytes());
        self.raw.extend_from_slice(&ended.at.0.to_le_bytes());
        self.flush()?;
        Ok(self.sink)
    }

    fn push_poll_end(&mut self, poll: &Poll, now: MonoNs) -> io::Result<()> {
        let mut payload = std::mem::take(&mut self.poll_end);
        payload.clear();
        payload.extend_from_slice(&now.0.to_le_bytes());
        payload.extend_from_slice(&poll.began.0.to_le_bytes());
        payload.push(format::poll_kind_number(poll.kind));
        for netns in &poll.netns {
            payload.extend_from_slice(&netns.to_le_bytes());
        }
        let pushed = self.push_long(POLL_END, &payload);
        self.poll_end = payload;
        pushed
    }

    /// In as many parts as frames need it.
    fn push_long(&mut self, tag: u8, mut rest: &[u8]) -> io::Result<()> {
        if rest.len() > MAX_LONG {
            return Err(too_long("a walk"));
        }
        loop {
            // Not a part without content in the last bytes of a frame.
            let mut room = FRAME_FULL.saturating_sub(self.raw.len() + LONG_HEAD);
            if tag == HOLDERS {
                // Whole rows: they are packed by what they have in common.
                room -= room % size_of::<HolderRow>();
            }
            if room == 0 {
                self.write_frame()?;
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(room));
            rest = after;
            let length = u32::try_from(part.len()).map_err(|_| too_long("a part"))?;
            self.raw.push(if rest.is_empty() { tag } else { tag | MORE });
            self.raw.extend_from_slice(&length.to_le_bytes());
            self.raw.extend_from_slice(part);
            self.write_if_full()?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn write_if_full(&mut self) -> io::Result<()> {
        if self.raw.len() >= FRAME_FULL { self.write_frame() } else { Ok(()) }
    }

    fn write_frame(&mut self) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let written = self.pack().and_then(|length| {
            self.sink.write_all(&self.frame[..length])?;
            self.at += length as u64;
            Ok(())
        });
        self.raw.clear();
        self.note(written)
    }

    /// Fills `frame`; returns its length.
    fn pack(&mut self) -> io::Result<usize> {
        let (head, block) = self.frame.split_at_mut(FRAME);
        let packed = self.packer.pack(&self.raw, block)?;
        let lengths = [packed, self.raw.len()];
        for (to, length) in head.chunks_exact_mut(4).zip(lengths) {
            let length = u32::try_from(length).map_err(io::Error::other)?;
            to.copy_from_slice(&length.to_le_bytes());
        }
        let crc = format::frame_crc(self.at, &head[..8], &block[..packed]);
        head[8..].copy_from_slice(&crc.to_le_bytes());
        Ok(FRAME + packed)
    }

    fn check(&self) -> io::Result<()> {
        match self.failed {
            None => Ok(()),
            Some(kind) => {
                Err(io::Error::new(kind, "the recording ended early: a write to it failed"))
            }
        }
    }

    fn note(&mut self, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result {
            self.failed = Some(error.kind());
        }
        result
    }
}

fn too_long(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is too long for a recording"))
}
