//! Reads recordings, which may be cut, damaged or made to do harm: every length is bounded, and
//! nothing of a frame is delivered before its crc is known to be right.

use std::io::{self, Read};
use std::ops::Range;

use serde::Deserialize;
use tracer_common::wire::{OLDEST_WIRE_VERSION, WIRE_VERSION};

use crate::engine::conn::Poll;
use crate::event::Loss;
use crate::input::{Input, Origin};
use crate::record_format::block::{self, Unpacker};
use crate::record_format::{
    self as format, ENDED, Ended, FACTS, FORMAT_VERSION, FRAME, HEADER, HEADER_CRC, HOLDERS, LOST,
    MAGIC, MAX_FRAME, MAX_LONG, MAX_ORIGIN, MORE, NAMES, POLL_BEGIN, POLL_END, RECORD, TICK,
};
use crate::source::recording::cursor::{Cursor, poll_end};
use crate::source::recording::error::ReadError;
use crate::source::recording::times::time_of;
use crate::time::MonoNs;

/// What a recording holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// An input, as it was pushed.
    Input(Input<'a>),
    /// The end. A recording without it was cut.
    Ended(Ended),
}

/// Reads a recording.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    format: u16,
    /// Offset of the next frame.
    at: u64,
    /// Offset of the frame in `raw`.
    frame_at: u64,
    packed: Vec<u8>,
    unpacker: Unpacker,
    raw: Vec<u8>,
    /// How much of `raw` was delivered.
    taken: usize,
    /// The item that comes in parts, as far as it has come.
    long: Vec<u8>,
    /// Its tag, while parts are missing.
    long_tag: Option<u8>,
    /// Limit of `long`.
    max_long: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before the end.
    Inputs,
    /// The end was delivered; the file should end, too.
    Ended,
    /// Nothing comes any more.
    Done,
}

/// An [`Item`] that does not borrow yet.
pub(super) enum Found {
    Record(Range<usize>),
    PollBegin,
    PollEnd(Poll, MonoNs),
    Holders(Whole),
    Names(Whole),
    Facts(Whole),
    Lost(Loss),
    Tick(MonoNs),
    Ended(Ended),
}

/// Where the payload of an item stands that may come in parts.
pub(super) enum Whole {
    InFrame(Range<usize>),
    InLong,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// When it is not there, not whole, or not of a recording this program on this machine can read.
    pub fn open(mut source: R) -> Result<(Origin, Self), ReadError> {
        let mut fixed = [0; HEADER];
        let got = fill(&mut source, &mut fixed, 0)?;
        // The version first: a newer one may have anything after it.
        if fixed[..got.min(MAGIC.len())] != MAGIC[..got.min(MAGIC.len())] {
            return Err(ReadError::NotARecording);
        }
        let mut header = Cursor { bytes: &fixed[..got], at: MAGIC.len() };
        let short = |_| ReadError::Truncated { at: 0 };
        let version = u16::from_le_bytes(header.array().map_err(short)?);
        if version > FORMAT_VERSION {
            return Err(ReadError::NewerFormat { found: version });
        }
        let [order, _] = header.array().map_err(short)?;
        let wire = u16::from_le_bytes(header.array().map_err(short)?);
        let [_, _] = header.array().map_err(short)?;
        let length = header.length().map_err(short)?;
        let crc = u32::from_le_bytes(header.array().map_err(short)?);

        let damaged = |what| ReadError::Damaged { at: 0, what };
        if length > MAX_ORIGIN {
            return Err(damaged("the header's length is out of bounds"));
        }
        let mut origin = vec![0; length];
        if fill(&mut source, &mut origin, HEADER as u64)? < length {
            return Err(ReadError::Truncated { at: 0 });
        }
        if format::header_crc(&fixed[..HEADER_CRC], &origin) != crc {
            return Err(damaged("the header's checksum is wrong"));
        }
        if !(OLDEST_WIRE_VERSION..=WIRE_VERSION).contains(&wire) {
            return Err(ReadError::OtherWire { found: wire, version: version_of(&origin) });
        }
        if order != format::byte_order() {
            let found = match order {
                b'B' => "big",
                b'L' => "little",
                _ => return Err(damaged("the header's byte order is unknown")),
            };
            return Err(ReadError::ForeignByteOrder { found });
        }
        if version == 0 {
            return Err(damaged("there is no format 0"));
        }
        let origin = serde_json::from_slice(&origin)
            .map_err(|_| damaged("the header's origin is not valid"))?;
        let reader = Reader {
            source,
            format: version,
            at: (HEADER + length) as u64,
            frame_at: 0,
            packed: Vec::new(),
            unpacker: Unpacker::new(),
            raw: Vec::new(),
            taken: 0,
            long: Vec::new(),
            long_tag: None,
            max_long: MAX_LONG,
            state: State::Inputs,
        };
        Ok((origin, reader))
    }

    /// The next item; `None` after the end, and after an error. Bytes lent are not aligned.
    ///
    /// # Errors
    ///
    /// Where the recording is cut or damaged; everything before was delivered.
    #[expect(clippy::should_implement_trait, reason = "lends, which an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        match self.find() {
            Ok(Some(found)) => Ok(Some(self.lend(found))),
            Ok(None) => Ok(None),
            Err(error) => {
                self.state = State::Done;
                Err(error)
            }
        }
    }

    /// As [`next`](Self::next), with what does not borrow yet: [`lend`](Self::lend) gives it.
    pub(super) fn find(&mut self) -> Result<Option<Found>, ReadError> {
        loop {
            match (self.state, self.taken == self.raw.len()) {
                (State::Done, _) => return Ok(None),
                (State::Ended, true) => {
                    if fill(&mut self.source, &mut [0], self.at)? != 0 {
                        let what = "something follows the end of the recording";
                        return Err(ReadError::Damaged { at: self.at, what });
                    }
                    self.state = State::Done;
                    return Ok(None);
                }
                (State::Ended, false) => {
                    return Err(self.damaged("something follows the end of the recording"));
                }
                (State::Inputs, true) => self.read_frame()?,
                (State::Inputs, false) => {
                    let found = self.parse();
                    if let Some(found) = found.map_err(|what| self.damaged(what))? {
                        if matches!(found, Found::Ended(_)) {
                            self.state = State::Ended;
                        }
                        return Ok(Some(found));
                    }
                }
            }
        }
    }

    fn damaged(&self, what: &'static str) -> ReadError {
        ReadError::Damaged { at: self.frame_at, what }
    }

    fn read_frame(&mut self) -> Result<(), ReadError> {
        self.frame_at = self.at;
        // Not to be delivered again should this frame be bad.
        self.raw.clear();
        self.taken = 0;
        let cut = ReadError::Truncated { at: self.at };
        let mut head = [0; FRAME];
        if fill(&mut self.source, &mut head, self.at)? < FRAME {
            return Err(cut);
        }
        let [p0, p1, p2, p3, r0, r1, r2, r3, c0, c1, c2, c3] = head;
        let packed = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        let raw = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
        let crc = u32::from_le_bytes([c0, c1, c2, c3]);
        if raw == 0 || raw > MAX_FRAME || packed == 0 || packed > block::longest(raw) {
            return Err(self.damaged("a length is out of bounds"));
        }
        self.packed.resize(packed, 0);
        if fill(&mut self.source, &mut self.packed, self.at + FRAME as u64)? < packed {
            return Err(cut);
        }
        if format::frame_crc(self.at, &head[..8], &self.packed) != crc {
            return Err(self.damaged("the checksum is wrong"));
        }
        let unpacked = self.unpacker.unpack(self.format, &self.packed, raw, &mut self.raw);
        unpacked.map_err(|what| self.damaged(what))?;
        self.at += (FRAME + packed) as u64;
        Ok(())
    }

    /// Takes one item of the frame; `None` when it was a part with more to come.
    fn parse(&mut self) -> Result<Option<Found>, &'static str> {
        let mut items = Cursor { bytes: &self.raw, at: self.taken };
        let [byte] = items.array()?;
        let (tag, more) = (byte & !MORE, byte & MORE != 0);
        if self.long_tag.is_some_and(|long| long != tag) {
            return Err("an item lacks its last part");
        }
        let found = match tag {
            RECORD if !more => {
                let length = u16::from_le_bytes(items.array()?);
                Found::Record(items.range(length.into())?)
            }
            POLL_BEGIN if !more => Found::PollBegin,
            POLL_END | HOLDERS | NAMES | FACTS => {
                let length = items.length()?;
                let part = items.range(length)?;
                let at = items.at;
                let whole = self.whole(tag, more, part)?;
                self.taken = at;
                return whole.map(|whole| self.long_item(tag, whole)).transpose();
            }
            LOST if !more => {
                let count = items.u64()?;
                let [cause] = items.array()?;
                let cause = format::cause(cause).ok_or("the cause of a loss is unknown")?;
                Found::Lost(Loss { count, cause, from: items.time()?, to: items.time()? })
            }
            TICK if !more => Found::Tick(items.time()?),
            ENDED if !more => Found::Ended(Ended {
                events: items.u64()?,
                connections: items.u64()?,
                at: items.time()?,
            }),
            _ => return Err("an item is of an unknown kind"),
        };
        self.taken = items.at;
        Ok(Some(found))
    }

    /// A part of an item that may come in several; `None` when there is more to come.
    fn whole(
        &mut self,
        tag: u8,
        more: bool,
        part: Range<usize>,
    ) -> Result<Option<Whole>, &'static str> {
        if !more && self.long_tag.is_none() {
            return Ok(Some(Whole::InFrame(part)));
        }
        if self.long_tag.is_none() {
            self.long.clear();
        }
        if self.long.len() + part.len() > self.max_long {
            return Err("an item is too long");
        }
        self.long.extend_from_slice(&self.raw[part]);
        self.long_tag = more.then_some(tag);
        Ok((!more).then_some(Whole::InLong))
    }

    fn long_item(&self, tag: u8, whole: Whole) -> Result<Found, &'static str> {
        Ok(match tag {
            HOLDERS => Found::Holders(whole),
            NAMES => Found::Names(whole),
            FACTS => Found::Facts(whole),
            _ => {
                let (poll, now) = poll_end(match whole {
                    Whole::InFrame(range) => &self.raw[range],
                    Whole::InLong => &self.long,
                })?;
                Found::PollEnd(poll, now)
            }
        })
    }

    /// When it was; 0 for what has no time.
    pub(super) fn time_of(&self, found: &Found) -> MonoNs {
        match found {
            Found::Record(range) => time_of(&Input::Record(&self.raw[range.clone()])),
            Found::PollEnd(_, now) | Found::Tick(now) => *now,
            Found::Lost(loss) => loss.to,
            Found::Ended(ended) => ended.at,
            _ => MonoNs(0),
        }
    }

    /// What was found.
    pub(super) fn lend(&self, found: Found) -> Item<'_> {
        Item::Input(match found {
            Found::Record(range) => Input::Record(&self.raw[range]),
            Found::PollBegin => Input::PollBegin,
            Found::PollEnd(poll, now) => Input::PollEnd { poll, now },
            Found::Holders(Whole::InFrame(range)) => Input::Holders(&self.raw[range]),
            Found::Holders(Whole::InLong) => Input::Holders(&self.long),
            Found::Names(Whole::InFrame(range)) => Input::Names(&self.raw[range]),
            Found::Names(Whole::InLong) => Input::Names(&self.long),
            Found::Facts(Whole::InFrame(range)) => Input::Facts(&self.raw[range]),
            Found::Facts(Whole::InLong) => Input::Facts(&self.long),
            Found::Lost(loss) => Input::Lost(loss),
            Found::Tick(now) => Input::Tick(now),
            Found::Ended(ended) => return Item::Ended(ended),
        })
    }

    #[cfg(test)]
    pub(crate) fn set_max_long(&mut self, max: usize) {
        self.max_long = max;
    }
}

/// Reads until `buffer` is full or the source at its end; returns how much there was. The source is
/// at offset `at`.
fn fill(source: &mut impl Read, buffer: &mut [u8], at: u64) -> Result<usize, ReadError> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::Io { at: at + got as u64, error }),
        }
    }
    Ok(got)
}

/// The version of tcptrail in an origin whose other fields may be different. It goes to a terminal,
/// so nothing but what versions are made of.
fn version_of(origin: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    serde_json::from_slice(origin)
        .ok()
        .map(|Version { version }| version)
        .filter(|version| version.len() <= 64 && version.bytes().all(|b| b.is_ascii_graphic()))
        .unwrap_or_else(|| "of another version".to_owned())
}
