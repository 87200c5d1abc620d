//! Recordings: the [`Input`](crate::input::Input)s of a run in a file, to be replayed later.
//!
//! `format` lays the bytes out, `writer` and `reader` are its two ends, and `output` opens the file.
//! A recording may be cut anywhere, by a full disk or `kill -9`: what is whole before the cut is
//! read, and the reader says where it ended.

mod format;
mod output;
mod reader;
mod writer;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests;

pub use format::{Ended, FORMAT_VERSION};
pub use output::open_output;
pub use reader::{Item, ReadError, Reader};
pub use writer::Writer;
