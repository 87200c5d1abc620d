//! Frames as columns: what stands in the records of a frame, field by field, as far as it cannot be foreseen.
//!
//! A record is like the last one of its socket (addresses, ports) and like the last one that told the same of any
//! socket (process, counters). So of each record only this is kept: which one before is of its socket, the time since
//! the record before, and those words that stand in neither of both. Each kind of thing has a column of its own, and
//! LZ4 packs all columns of a frame together.
//!
//! The transform takes the bytes of a frame's items and gives the same bytes back, whatever they are: it looks at
//! what it expects to be a field, and depends on none. What is no record of a length that fits is kept as it is.
//! Nothing is known of the frame before, so each can be read alone.
//!
//! ```text
//! lengths of the columns, a varint each; then the columns
//! TOKENS     for each item its tag and MORE with 0x80, or for a record what is not as foreseen
//! BACK       varint: how many records ago the socket's last one was, where there is one
//! COOKIES    varint: the socket, where there is none; its difference to the last one like that
//! KINDS      bytes 24 to 31 (kind, family, states, flags, error), where not foreseen
//! LENGTHS    varint: of items that may come in parts; of records where not foreseen
//! PATTERNS   varints: which words are foreseen from which record, where not as the last time
//! TIMES      low two bytes of the time since the record before: all first ones, then all second ones
//! LONG_TIMES the others, where there are any
//! ROWS       rows of holders: each number as its difference to that of the row before; all first bytes, all second..
//! REST       what is kept as it is
//! WORDS      a column for each word of a record that was not foreseen: all first bytes, all second ones..
//! ```
//!
//! [`Model`] is what both sides know of the frame up to an item: it foresees the next one.

mod decode;
mod encode;
mod rows;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests;

pub(crate) use decode::Decoder;
pub(crate) use encode::Encoder;

use std::ops::Range;

use crate::record_format::{
    ENDED, FACTS, HOLDERS, LOST, MAX_FRAME, MORE, NAMES, POLL_BEGIN, POLL_END, RECORD, RECORD_HEAD,
    TICK,
};

/// Bytes more than the frame that its columns may have: they may still pack better.
pub(super) const SLACK: usize = 256;

const TOKENS: usize = 0;
const BACK: usize = 1;
const COOKIES: usize = 2;
const KINDS: usize = 3;
const LENGTHS: usize = 4;
const PATTERNS: usize = 5;
const TIMES: usize = 6;
const LONG_TIMES: usize = 7;
const ROWS: usize = 8;
const REST: usize = 9;
const WORDS: usize = 10;

/// Words of the longest record that is taken apart, a row of a walk over sockets.
const MOST_WORDS: usize = LONGEST / 4;
const COLUMNS: usize = WORDS + MOST_WORDS;

/// Bytes of records that are taken apart: up to the kind, and no more than there are bits in a pattern.
const SHORTEST: usize = 32;
const LONGEST: usize = 192;

/// In a token: an item that is no record, by its tag; the bit below is its [`MORE`].
const NO_RECORD: u8 = 0x80;
const NO_RECORD_MORE: u8 = 0x40;
/// In a record's token: it is kept as it is. Nothing else is in the token then.
const AS_IT_IS: u8 = 0x40;
/// In a record's token: the first one of its socket.
const FIRST: u8 = 1;
/// In a record's token: its kind, length, pattern is told.
const KIND: u8 = 1 << 1;
const LENGTH: u8 = 1 << 2;
const PATTERN: u8 = 1 << 3;
/// In a record's token: how many bytes its time has in [`LONG_TIMES`], as the place in [`TIME_BYTES`].
const TIME_SHIFT: u32 = 4;
const TIME_BYTES: [usize; 4] = [0, 1, 2, 6];

/// Words that stay with the socket: namespace, ports, addresses, cgroup. The others are told of the event.
const OF_SOCKET: u64 = 0b11_0000 | 0xff00 | 0b11 << 22;
/// Words that are kept as a difference: those that often are the next number.
const COUNTED: u64 = 0b11_0000 | 0xff00;
/// Words that no pattern is about: time, socket, kind.
const APART: u64 = 0b1100_1111;

/// Where the kind begins in a record, and the socket.
const KIND_AT: usize = 24;
const SOCKET_AT: usize = 8;

const SLOTS: usize = 512;

/// Records a frame can have that are taken apart, and the one before all of them.
const MOST_RECORDS: usize = MAX_FRAME / (RECORD_HEAD + SHORTEST) + 1;
const _: () = assert!(MOST_RECORDS <= u16::MAX as usize);

/// Which words of a record are foreseen from which of both records. A word is in one of them at most; what is in none
/// is as in the record that it is usually foreseen from.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Pattern {
    /// As in the other one.
    other: u64,
    /// As in none: it stands in its column.
    told: u64,
}

/// A record of the frame.
#[derive(Clone, Copy, Default, Debug)]
struct Place {
    at: u32,
    length: u16,
}

impl Place {
    fn range(self) -> Range<usize> {
        self.at as usize..self.at as usize + usize::from(self.length)
    }

    fn of(self, raw: &[u8]) -> &[u8] {
        raw.get(self.range()).unwrap_or(&[])
    }
}

/// What is foreseen. Indices of `records` are two bytes.
#[derive(Debug)]
struct Model {
    /// The first is empty.
    records: Vec<Place>,
    /// By the kind of the record before: the kind that follows it.
    kinds: Box<[u64; SLOTS]>,
    /// By kind: the last record of it.
    like: Box<[u16; SLOTS]>,
    /// By kind and that of the socket's record before.
    patterns: Box<[Pattern; SLOTS]>,
    /// By kind: the last socket that began with it.
    sockets: Box<[u64; SLOTS]>,
    /// Of the last record.
    time: u64,
    kind: u64,
}

impl Model {
    fn new() -> Model {
        let mut model = Model {
            records: Vec::new(),
            kinds: Box::new([0; SLOTS]),
            like: Box::new([0; SLOTS]),
            patterns: Box::new([Pattern::default(); SLOTS]),
            sockets: Box::new([0; SLOTS]),
            time: 0,
            kind: 0,
        };
        model.begin();
        model
    }

    /// A frame begins.
    fn begin(&mut self) {
        self.records.clear();
        self.records.push(Place::default());
        self.kinds.fill(0);
        self.like.fill(0);
        self.patterns.fill(Pattern::default());
        self.sockets.fill(0);
        (self.time, self.kind) = (0, 0);
    }

    fn record(&self, index: usize) -> Place {
        self.records.get(index).copied().unwrap_or_default()
    }

    /// How many records there were.
    fn count(&self) -> usize {
        self.records.len() - 1
    }

    /// Where the kind is foreseen of a record whose socket's last one was of that kind; `None` for a first one.
    fn context(&self, last: Option<u64>) -> usize {
        // A socket comes after the events that usually come before.
        last.map_or_else(|| slot(!self.kind), slot)
    }

    /// The last record of this kind; from now on that is the next one.
    fn like(&mut self, kind: u64) -> Place {
        let next = self.next();
        let index = std::mem::replace(&mut self.like[slot(kind)], next);
        self.record(usize::from(index))
    }

    /// The index of the record that comes.
    fn next(&self) -> u16 {
        u16::try_from(self.records.len()).unwrap_or(0)
    }

    fn add(&mut self, place: Place, time: u64, kind: u64) {
        self.records.push(place);
        (self.time, self.kind) = (time, kind);
    }
}

/// Where to look for what is known of a kind, or of a socket.
fn slot(key: u64) -> usize {
    hash(key) % SLOTS
}

/// Where to look for the pattern of a record, by its kind and that of its socket's last one.
fn pattern_slot(kind: u64, last: Option<u64>) -> usize {
    slot(kind ^ last.unwrap_or(0).rotate_left(7))
}

fn hash(key: u64) -> usize {
    // The upper half is mixed best.
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

/// A word of a record; 0 behind its end.
fn word(record: &[u8], index: usize) -> u32 {
    let bytes = record.get(index * 4..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// Eight bytes of a record; 0 behind its end.
fn number(record: &[u8], at: usize) -> u64 {
    let bytes = record.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// What the words of a record are counted from.
fn base(index: usize, socket: &[u8]) -> u32 {
    if COUNTED >> index & 1 == 0 { 0 } else { word(socket, index) }
}

/// Small for differences of both signs.
fn folded(difference: u64) -> u64 {
    difference << 1 ^ (0u64.wrapping_sub(difference >> 63))
}

fn unfolded(folded: u64) -> u64 {
    folded >> 1 ^ 0u64.wrapping_sub(folded & 1)
}

fn fits(length: usize) -> bool {
    (SHORTEST..=LONGEST).contains(&length) && length.is_multiple_of(8)
}

/// The places of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(lowest)
    })
}

/// The words that a record of this length has.
fn within(length: usize) -> u64 {
    (1 << (length / 4)) - 1
}

/// The bytes of an item that is no record: of its length, and of its payload where that has always the same.
fn shape(tag: u8) -> Option<(bool, usize)> {
    match (tag & !MORE, tag & MORE != 0) {
        (POLL_END | HOLDERS | NAMES | FACTS, _) => Some((true, 0)),
        (POLL_BEGIN, false) => Some((false, 0)),
        (LOST, false) => Some((false, 25)),
        (TICK, false) => Some((false, 8)),
        (ENDED, false) => Some((false, 24)),
        _ => None,
    }
}

const _: () = assert!(RECORD < 0x10 && FACTS < 0x10);
