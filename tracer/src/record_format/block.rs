//! How the items of a frame are packed. From format 3 on a block begins with how that was done.
//!
//! | first byte | what follows |
//! |---|---|
//! | 0 | LZ4 block of the items, as in format 1 and 2 |
//! | 1 | length of the [`columns`](super::columns) u32, LZ4 block of them |

use std::io;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use super::columns::{Decoder, Encoder, SLACK};

const ITEMS: u8 = 0;
const COLUMNS: u8 = 1;
/// Up to the LZ4 block.
const HEAD: usize = 5;

/// Bytes of items of which columns take more than they save: a second in which nothing happens.
const FEW: usize = 256;

/// The longest block of so many bytes of items.
pub(crate) fn longest(items: usize) -> usize {
    HEAD + get_maximum_output_size(items + SLACK)
}

/// Makes blocks.
pub(crate) struct Packer {
    encoder: Encoder,
    table: CompressTable,
}

impl Packer {
    pub(crate) fn new() -> Packer {
        Packer { encoder: Encoder::new(), table: CompressTable::large() }
    }

    /// Packs items into `block`, which has room for the [`longest`]; returns the block's length.
    pub(crate) fn pack(&mut self, items: &[u8], block: &mut [u8]) -> io::Result<usize> {
        let columns = if items.len() < FEW { None } else { self.encoder.encode(items) };
        let (head, bytes) = match columns {
            None => (1, items),
            Some(columns) => (HEAD, columns),
        };
        let (front, block) = block.split_at_mut(head);
        if let [kind, length @ ..] = front {
            let count = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            *kind = if columns.is_some() { COLUMNS } else { ITEMS };
            length.iter_mut().zip(count.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        }
        let packed = compress_into_with_table(bytes, block, &mut self.table);
        packed.map(|packed| head + packed).map_err(io::Error::other)
    }
}

/// Reads blocks, which may be anything.
#[derive(Debug)]
pub(crate) struct Unpacker {
    decoder: Decoder,
    columns: Vec<u8>,
}

impl Unpacker {
    pub(crate) fn new() -> Unpacker {
        Unpacker { decoder: Decoder::new(), columns: Vec::new() }
    }

    /// The items of a block, `length` bytes.
    ///
    /// # Errors
    /// When there are not so many, or the block is not right; `items` is empty then.
    pub(crate) fn unpack(
        &mut self,
        format: u16,
        block: &[u8],
        length: usize,
        items: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let unpacked = match block {
            // It begins at once.
            _ if format < 3 => lz4(block, length, items),
            [ITEMS, block @ ..] => lz4(block, length, items),
            [COLUMNS, a, b, c, d, block @ ..] => {
                let columns = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
                self.of_columns(block, columns, length, items)
            }
            _ => Err("it is packed in an unknown way"),
        };
        if unpacked.is_err() {
            items.clear();
        }
        unpacked
    }

    fn of_columns(
        &mut self,
        block: &[u8],
        columns: usize,
        length: usize,
        items: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        if columns > length + SLACK {
            return Err("a length is out of bounds");
        }
        lz4(block, columns, &mut self.columns)?;
        self.decoder.decode(&self.columns, length, items)
    }
}

fn lz4(block: &[u8], length: usize, into: &mut Vec<u8>) -> Result<(), &'static str> {
    into.resize(length, 0);
    match decompress_into(block, into) {
        Ok(got) if got == length => Ok(()),
        _ => Err("it cannot be decompressed"),
    }
}
