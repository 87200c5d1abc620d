//! Takes numbers and ranges out of bytes that may be cut anywhere.

use std::ops::Range;

use crate::engine::conn::Poll;
use crate::record_format as format;
use crate::time::MonoNs;

/// What is wrong where bytes end too early.
pub(super) const SHORT: &str = "an item is cut short";

/// A place in bytes.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl Cursor<'_> {
    pub(super) fn range(&mut self, length: usize) -> Result<Range<usize>, &'static str> {
        let start = self.at;
        let end = start.checked_add(length).filter(|&end| end <= self.bytes.len());
        self.at = end.ok_or(SHORT)?;
        Ok(start..self.at)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or(SHORT)?;
        self.at += N;
        Ok(*bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn time(&mut self) -> Result<MonoNs, &'static str> {
        self.u64().map(MonoNs)
    }

    pub(super) fn length(&mut self) -> Result<usize, &'static str> {
        self.array().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }
}

/// The payload of the end of a walk.
pub(super) fn poll_end(payload: &[u8]) -> Result<(Poll, MonoNs), &'static str> {
    let mut cursor = Cursor { bytes: payload, at: 0 };
    let now = cursor.time()?;
    let began = cursor.time()?;
    let [kind] = cursor.array()?;
    let kind = format::poll_kind(kind).ok_or("the kind of a walk is unknown")?;
    let (netns, rest) = payload[cursor.at..].as_chunks();
    if !rest.is_empty() {
        return Err(SHORT);
    }
    let netns = netns.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
    Ok((Poll { began, netns, kind }, now))
}
