//! Makes a frame of its columns, which may be anything: every take is checked, and nothing is longer than was said.

use super::{
    AS_IT_IS, BACK, COLUMNS, COOKIES, FIRST, KIND, KIND_AT, KINDS, LENGTH, LENGTHS, LONG_TIMES,
    Model, NO_RECORD, NO_RECORD_MORE, OF_SOCKET, PATTERN, PATTERNS, Pattern, Place, REST, ROWS,
    SOCKET_AT, TIME_BYTES, TIME_SHIFT, TIMES, TOKENS, WORDS, base, bits, fits, number,
    pattern_slot, rows, shape, slot, unfolded, within,
};
use crate::record_format::{HOLDERS, MORE, RECORD, RECORD_HEAD};

/// What is wrong where columns end too early.
const SHORT: &str = "a column is cut short";
const LONG: &str = "its columns are longer than it";
const SENSELESS: &str = "its columns make no sense";

/// Makes frames of columns.
#[derive(Debug)]
pub(crate) struct Decoder {
    model: Model,
}

/// A column, as far as it was not taken.
#[derive(Clone, Copy, Default)]
struct Column<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Column<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let end = self.at.checked_add(count).ok_or(SHORT)?;
        let taken = self.bytes.get(self.at..end).ok_or(SHORT)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let byte = *self.bytes.get(self.at).ok_or(SHORT)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(SENSELESS)
    }

    /// The next number of so many bytes, which stand apart: `at` counts numbers.
    fn spread<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let count = self.bytes.len() / N;
        if self.at >= count {
            return Err(SHORT);
        }
        let number = std::array::from_fn(|plane| self.bytes[plane * count + self.at]);
        self.at += 1;
        Ok(number)
    }
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { model: Model::new() }
    }

    /// The items of a frame, so many bytes of them, into `raw`.
    ///
    /// # Errors
    /// When that is not what the columns are of; `raw` is of no use then.
    pub(crate) fn decode(
        &mut self,
        bytes: &[u8],
        length: usize,
        raw: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        self.model.begin();
        raw.clear();
        raw.reserve(length);
        let mut columns = split(bytes)?;
        while raw.len() < length {
            let token = columns[TOKENS].byte()?;
            if token & NO_RECORD != 0 {
                item(token, &mut columns, length, raw)?;
            } else if token == AS_IT_IS {
                let count = columns[LENGTHS].varint()?;
                let count = u16::try_from(count).map_err(|_| SENSELESS)?;
                record_head(count, length, raw)?;
                raw.extend_from_slice(columns[REST].take(count.into())?);
            } else if token & AS_IT_IS == 0 {
                self.record(token, &mut columns, length, raw)?;
            } else {
                return Err(SENSELESS);
            }
        }
        let used = |(index, column): (usize, &Column<'_>)| match index {
            TIMES => column.at * 2 == column.bytes.len(),
            WORDS.. => column.at * 4 == column.bytes.len(),
            _ => column.at == column.bytes.len(),
        };
        let whole = raw.len() == length && columns.iter().enumerate().all(used);
        if whole { Ok(()) } else { Err(LONG) }
    }

    fn record(
        &mut self,
        token: u8,
        columns: &mut [Column<'_>; COLUMNS],
        most: usize,
        raw: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let model = &mut self.model;
        let last = if token & FIRST == 0 {
            let back = usize::try_from(columns[BACK].varint()?).map_err(|_| SENSELESS)?;
            let index = model.count() + 1;
            let index = index.checked_sub(back).filter(|&last| last != 0 && last != index);
            Some(model.record(index.ok_or(SENSELESS)?))
        } else {
            None
        };
        let last_kind = last.map(|last| number(last.of(raw), KIND_AT));
        let foreseen = &mut model.kinds[model.context(last_kind)];
        if token & KIND != 0 {
            *foreseen = number(columns[KINDS].take(8)?, 0);
        }
        let kind = *foreseen;
        let id = match last {
            Some(last) => number(last.of(raw), SOCKET_AT),
            None => {
                let id = &mut model.sockets[slot(kind)];
                *id = id.wrapping_add(unfolded(columns[COOKIES].varint()?));
                *id
            }
        };
        let like = model.like(kind);
        let length = if token & LENGTH == 0 {
            usize::from(like.length)
        } else {
            usize::try_from(columns[LENGTHS].varint()?).map_err(|_| SENSELESS)?
        };
        if !fits(length) {
            return Err(SENSELESS);
        }
        let time = model.time.wrapping_add(take_time(token, columns)?);
        let pattern = &mut model.patterns[pattern_slot(kind, last_kind)];
        if token & PATTERN != 0 {
            pattern.other ^= columns[PATTERNS].varint()?;
            pattern.told ^= columns[PATTERNS].varint()?;
        }
        let pattern = *pattern;
        record_head(length as u16, most, raw)?;
        let place = Place { at: raw.len() as u32, length: length as u16 };
        put_words(raw, columns, pattern, [last.unwrap_or(like), like], length)?;
        let at = place.at as usize;
        for (from, number) in [(0, time), (SOCKET_AT, id), (KIND_AT, kind)] {
            if let Some(to) = raw.get_mut(at + from..at + from + 8) {
                to.copy_from_slice(&number.to_ne_bytes());
            }
        }
        model.add(place, time, kind);
        Ok(())
    }
}

/// All words of a record, those too that are written over: the socket's and the like of its kind.
fn put_words(
    raw: &mut Vec<u8>,
    columns: &mut [Column<'_>; COLUMNS],
    pattern: Pattern,
    [socket, like]: [Place; 2],
    length: usize,
) -> Result<(), &'static str> {
    let at = raw.len();
    let kept = like.range().start..like.range().end.min(like.range().start + length);
    raw.extend_from_within(kept);
    raw.resize(at + length, 0);
    let (before, new) = raw.split_at_mut(at);
    let (words, _) = new.as_chunks_mut::<4>();
    let socket = socket.of(before);
    let (of_socket, _) = socket.as_chunks::<4>();
    for index in bits((OF_SOCKET ^ pattern.other) & !pattern.told & within(length)) {
        words[index] = of_socket.get(index).copied().unwrap_or_default();
    }
    for index in bits(pattern.told & within(length)) {
        let told = u32::from_le_bytes(columns[WORDS + index].spread()?);
        words[index] = told.wrapping_add(base(index, socket)).to_ne_bytes();
    }
    Ok(())
}

fn take_time(token: u8, columns: &mut [Column<'_>; COLUMNS]) -> Result<u64, &'static str> {
    let mut bytes = [0; 8];
    let [low, high] = columns[TIMES].spread()?;
    (bytes[0], bytes[1]) = (low, high);
    let more = TIME_BYTES[usize::from(token >> TIME_SHIFT & 3)];
    bytes[2..2 + more].copy_from_slice(columns[LONG_TIMES].take(more)?);
    Ok(unfolded(u64::from_le_bytes(bytes)))
}

/// The tag and length of a record that ends before `most` bytes.
fn record_head(length: u16, most: usize, raw: &mut Vec<u8>) -> Result<(), &'static str> {
    if raw.len() + RECORD_HEAD + usize::from(length) > most {
        return Err(LONG);
    }
    let [low, high] = length.to_le_bytes();
    raw.extend_from_slice(&[RECORD, low, high]);
    Ok(())
}

fn item(
    token: u8,
    columns: &mut [Column<'_>; COLUMNS],
    most: usize,
    raw: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let more = if token & NO_RECORD_MORE == 0 { 0 } else { MORE };
    let tag = token & !(NO_RECORD | NO_RECORD_MORE) | more;
    let (long, mut length) = shape(tag).ok_or(SENSELESS)?;
    raw.push(tag);
    if long {
        let count = u32::try_from(columns[LENGTHS].varint()?).map_err(|_| SENSELESS)?;
        raw.extend_from_slice(&count.to_le_bytes());
        length = count as usize;
    }
    if length > most.saturating_sub(raw.len()) {
        return Err(LONG);
    }
    if tag & !MORE == HOLDERS {
        rows::decode(columns[ROWS].take(length)?, raw);
    } else {
        raw.extend_from_slice(columns[REST].take(length)?);
    }
    Ok(())
}

/// The columns, by the lengths they begin with.
fn split(bytes: &[u8]) -> Result<[Column<'_>; COLUMNS], &'static str> {
    let mut all = Column { bytes, at: 0 };
    let mut lengths = [0; COLUMNS];
    for length in &mut lengths {
        *length = usize::try_from(all.varint()?).map_err(|_| SENSELESS)?;
    }
    let mut columns = [Column::default(); COLUMNS];
    for (column, length) in columns.iter_mut().zip(lengths) {
        column.bytes = all.take(length)?;
    }
    if all.at == bytes.len() { Ok(columns) } else { Err(LONG) }
}
