//! How a recording is laid out.
//!
//! ```text
//! header  magic [8]  format u16  byte order u8  0 u8  wire version u16  0 u16
//!         origin length u32  crc u32  origin (JSON)
//! frame   packed length u32  raw length u32  crc u32  block
//! frame   ...
//! ```
//!
//! All integers are little-endian; only the bytes of wire records are as the recording machine
//! wrote them, which is why the header names its byte order. The header's crc is over all of the
//! header but itself. A frame's is over its offset in the file, its two lengths and its block, so
//! that a frame that was lost or moved does not pass for a whole one.
//!
//! How a block is packed says [`block`]; in format 1 and 2 it is an LZ4 block of the raw frame.
//!
//! A raw frame is a row of items, each a tag and a payload:
//!
//! | tag | payload |
//! |---|---|
//! | `RECORD` | length u16, wire bytes |
//! | `POLL_BEGIN` | |
//! | `POLL_END` | length u32; now u64, began u64, kind u8, network namespaces u32 each |
//! | `HOLDERS` | length u32; wire bytes |
//! | `NAMES` | length u32; as `names::encode` makes them |
//! | `FACTS` | length u32; as `rules::Facts::encode` makes them; from format 2 on |
//! | `LOST` | count u64, cause u8, from u64, to u64 |
//! | `TICK` | now u64 |
//! | `ENDED` | events u64, connections u64, at u64; nothing follows it |
//!
//! Items do not cross frames. Those with a u32 length can be larger than a frame, so they may come
//! in parts: all but the last have [`MORE`] in the tag, and no other item is between them.
//!
//! A change to any of this raises [`FORMAT_VERSION`].

pub(crate) mod block;
mod columns;
pub mod segments;

use crate::engine::conn::PollKind;
use crate::event::LossCause;
use crate::time::MonoNs;

/// Version of the layout, the greatest this program reads.
///
/// 2: `FACTS`.
///
/// 3: blocks say how they are packed; records are packed as columns.
pub const FORMAT_VERSION: u16 = 3;

/// Not text, and broken by whatever translates line ends.
pub(crate) const MAGIC: [u8; 8] = *b"\x89tcptrl\n";

/// The header up to the origin.
pub(crate) const HEADER: usize = 24;

/// Where the header's crc stands.
pub(crate) const HEADER_CRC: usize = 20;

/// Limit of the origin's length.
pub(crate) const MAX_ORIGIN: usize = 1 << 20;

/// A frame up to its block.
pub(crate) const FRAME: usize = 12;

/// A raw frame this long is written.
pub(crate) const FRAME_FULL: usize = 512 << 10;

/// Limit of a raw frame, so that a hostile length costs no more memory than this.
pub(crate) const MAX_FRAME: usize = 1 << 20;

/// Limit of an item in parts: 2.4 million holders.
pub(crate) const MAX_LONG: usize = 128 << 20;

/// The writer's largest frame: one byte short of full, then the longest record.
pub(crate) const MAX_WRITTEN: usize = FRAME_FULL - 1 + RECORD_HEAD + u16::MAX as usize;

const _: () = assert!(MAX_WRITTEN <= MAX_FRAME);

/// Tag and length of a record.
pub(crate) const RECORD_HEAD: usize = 3;

/// Tag and length of an item that may come in parts.
pub(crate) const LONG_HEAD: usize = 5;

pub(crate) const RECORD: u8 = 1;
pub(crate) const POLL_BEGIN: u8 = 2;
pub(crate) const POLL_END: u8 = 3;
pub(crate) const HOLDERS: u8 = 4;
pub(crate) const LOST: u8 = 5;
pub(crate) const TICK: u8 = 6;
pub(crate) const ENDED: u8 = 7;
pub(crate) const NAMES: u8 = 8;
pub(crate) const FACTS: u8 = 9;

/// In a tag: the next item continues this one.
pub(crate) const MORE: u8 = 0x80;

/// How a recording ended, when its writer could say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Events recorded.
    pub events: u64,
    /// Connections seen.
    pub connections: u64,
    /// When.
    pub at: MonoNs,
}

/// This machine's byte order, as the header has it.
pub(crate) const fn byte_order() -> u8 {
    if cfg!(target_endian = "big") { b'B' } else { b'L' }
}

/// The crc of a header: `fixed` is the header up to its crc.
pub(crate) fn header_crc(fixed: &[u8], origin: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(fixed);
    crc.update(origin);
    crc.finalize()
}

/// The crc of the frame at that offset: `lengths` is the frame up to its crc.
pub(crate) fn frame_crc(at: u64, lengths: &[u8], block: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&at.to_le_bytes());
    crc.update(lengths);
    crc.update(block);
    crc.finalize()
}

pub(crate) const fn cause_number(cause: LossCause) -> u8 {
    match cause {
        LossCause::Ring => 1,
        LossCause::Recursion => 2,
        LossCause::Table => 3,
        LossCause::Malformed => 4,
    }
}

pub(crate) const fn cause(number: u8) -> Option<LossCause> {
    Some(match number {
        1 => LossCause::Ring,
        2 => LossCause::Recursion,
        3 => LossCause::Table,
        4 => LossCause::Malformed,
        _ => return None,
    })
}

pub(crate) const fn poll_kind_number(kind: PollKind) -> u8 {
    match kind {
        PollKind::All => 1,
        PollKind::Minis => 2,
    }
}

pub(crate) const fn poll_kind(number: u8) -> Option<PollKind> {
    Some(match number {
        1 => PollKind::All,
        2 => PollKind::Minis,
        _ => return None,
    })
}
