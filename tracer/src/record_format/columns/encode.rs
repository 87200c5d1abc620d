//! Takes a frame apart.

use super::{
    APART, AS_IT_IS, BACK, COLUMNS, COOKIES, FIRST, KIND, KIND_AT, KINDS, LENGTH, LENGTHS,
    LONG_TIMES, Model, NO_RECORD, NO_RECORD_MORE, OF_SOCKET, PATTERN, PATTERNS, Pattern, Place,
    REST, ROWS, SLACK, SOCKET_AT, TIME_BYTES, TIME_SHIFT, TIMES, TOKENS, WORDS, base, bits, fits,
    folded, hash, number, pattern_slot, rows, shape, slot, word,
};
use crate::record_format::{HOLDERS, MORE, RECORD, RECORD_HEAD};

/// Sockets whose last record is known: the others are taken for new ones.
const SOCKETS: usize = 8192;

/// Makes columns of frames.
#[derive(Debug)]
pub(crate) struct Encoder {
    model: Model,
    /// By socket: its last record.
    sockets: Box<[u16; SOCKETS]>,
    columns: [Vec<u8>; COLUMNS],
    /// Lengths, and all of them.
    out: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new() -> Encoder {
        Encoder {
            model: Model::new(),
            sockets: Box::new([0; SOCKETS]),
            columns: std::array::from_fn(|_| Vec::new()),
            out: Vec::new(),
        }
    }

    /// The columns of a frame's items; `None` where these are none, or when nothing is gained.
    pub(crate) fn encode(&mut self, raw: &[u8]) -> Option<&[u8]> {
        self.model.begin();
        self.sockets.fill(0);
        self.columns.iter_mut().for_each(Vec::clear);
        let mut at = 0;
        while let Some(&tag) = raw.get(at) {
            at = if tag == RECORD {
                let length = raw.get(at + 1..at + RECORD_HEAD)?.try_into().ok()?;
                let from = at + RECORD_HEAD;
                let to = from + usize::from(u16::from_le_bytes(length));
                let record = raw.get(from..to)?;
                if fits(record.len()) {
                    self.record(raw, record, from);
                } else {
                    self.columns[TOKENS].push(AS_IT_IS);
                    varint(&mut self.columns[LENGTHS], record.len() as u64);
                    self.columns[REST].extend_from_slice(record);
                }
                to
            } else {
                self.item(raw, at)?
            };
        }
        self.join();
        (self.out.len() <= raw.len() + SLACK).then_some(&self.out)
    }

    /// An item that is no record; returns where the next one is.
    fn item(&mut self, raw: &[u8], at: usize) -> Option<usize> {
        let tag = *raw.get(at)?;
        let (long, mut length) = shape(tag)?;
        let mut from = at + 1;
        let more = if tag & MORE == 0 { 0 } else { NO_RECORD_MORE };
        self.columns[TOKENS].push(NO_RECORD | more | tag & !MORE);
        if long {
            length = u32::from_le_bytes(*raw.get(from..)?.first_chunk()?) as usize;
            from += 4;
            varint(&mut self.columns[LENGTHS], length as u64);
        }
        let payload = raw.get(from..from.checked_add(length)?)?;
        if tag & !MORE == HOLDERS {
            rows::encode(payload, &mut self.columns[ROWS]);
        } else {
            self.columns[REST].extend_from_slice(payload);
        }
        Some(from + length)
    }

    fn record(&mut self, raw: &[u8], record: &[u8], at: usize) {
        let (time, id, kind) =
            (number(record, 0), number(record, SOCKET_AT), number(record, KIND_AT));
        let (model, columns) = (&mut self.model, &mut self.columns);
        let mut token = 0;

        let last = std::mem::replace(&mut self.sockets[hash(id) % SOCKETS], model.next());
        let socket = model.record(usize::from(last)).of(raw);
        let known = last != 0 && number(socket, SOCKET_AT) == id;
        let last_kind = known.then(|| number(socket, KIND_AT));
        let foreseen = &mut model.kinds[model.context(last_kind)];
        if *foreseen != kind {
            *foreseen = kind;
            token |= KIND;
            columns[KINDS].extend_from_slice(&kind.to_ne_bytes());
        }
        if known {
            varint(&mut columns[BACK], u64::from(model.next() - last));
        } else {
            token |= FIRST;
            let before = std::mem::replace(&mut model.sockets[slot(kind)], id);
            varint(&mut columns[COOKIES], folded(id.wrapping_sub(before)));
        }
        let like = model.like(kind);
        if usize::from(like.length) != record.len() {
            token |= LENGTH;
            varint(&mut columns[LENGTHS], record.len() as u64);
        }
        token |= put_time(columns, time.wrapping_sub(model.time)) << TIME_SHIFT;

        let like = like.of(raw);
        let socket = if known { socket } else { like };
        let (as_socket, as_like) = (differing(record, socket), differing(record, like));
        let usual = as_socket & OF_SOCKET | as_like & !OF_SOCKET;
        let other = as_like & OF_SOCKET | as_socket & !OF_SOCKET;
        let pattern = &mut model.patterns[pattern_slot(kind, last_kind)];
        let next = Pattern { other: usual & !other, told: usual & other };
        if *pattern != next {
            token |= PATTERN;
            varint(&mut columns[PATTERNS], pattern.other ^ next.other);
            varint(&mut columns[PATTERNS], pattern.told ^ next.told);
            *pattern = next;
        }
        for index in bits(next.told) {
            let value = word(record, index).wrapping_sub(base(index, socket));
            columns[WORDS + index].extend_from_slice(&value.to_le_bytes());
        }
        columns[TOKENS].push(token);
        // Frames are bounded, so both fit.
        model.add(Place { at: at as u32, length: record.len() as u16 }, time, kind);
    }

    /// All columns one after the other.
    fn join(&mut self) {
        self.out.clear();
        for column in &self.columns {
            varint(&mut self.out, column.len() as u64);
        }
        for (index, column) in self.columns.iter().enumerate() {
            match index {
                TIMES => planes(column, 2, &mut self.out),
                WORDS.. => planes(column, 4, &mut self.out),
                _ => self.out.extend_from_slice(column),
            }
        }
    }
}

/// Returns the place in [`TIME_BYTES`] of how long it is.
fn put_time(columns: &mut [Vec<u8>; COLUMNS], since: u64) -> u8 {
    let bytes = folded(since).to_le_bytes();
    let long = 8 - folded(since).leading_zeros() as usize / 8;
    columns[TIMES].extend_from_slice(&bytes[..2]);
    let place = TIME_BYTES.iter().position(|more| long <= 2 + more).unwrap_or(3);
    columns[LONG_TIMES].extend_from_slice(&bytes[2..2 + TIME_BYTES[place]]);
    place as u8
}

/// Which words are not as in the other record; what is behind its end counts as 0.
fn differing(record: &[u8], other: &[u8]) -> u64 {
    let (record, _) = record.as_chunks::<8>();
    let (other, _) = other.as_chunks::<8>();
    let mut bits = 0;
    for (at, (number, other)) in record.iter().zip(other).enumerate() {
        bits |= halves(u64::from_ne_bytes(*number) ^ u64::from_ne_bytes(*other)) << (at * 2);
    }
    for (at, number) in record.iter().enumerate().skip(other.len()) {
        bits |= halves(u64::from_ne_bytes(*number)) << (at * 2);
    }
    bits & !APART
}

/// Which of both words in it are not 0; the first in memory is the lowest bit.
fn halves(number: u64) -> u64 {
    let (low, high) = (u64::from(number as u32 != 0), u64::from(number >> 32 != 0));
    if cfg!(target_endian = "big") { high | low << 1 } else { low | high << 1 }
}

/// All first bytes of numbers that have so many, then all second ones.
fn planes(column: &[u8], bytes: usize, out: &mut Vec<u8>) {
    for plane in 0..bytes {
        out.extend(column.chunks_exact(bytes).map(|number| number[plane]));
    }
}

fn varint(column: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        column.push(value as u8 | 0x80);
        value >>= 7;
    }
    column.push(value as u8);
}
