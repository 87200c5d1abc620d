//! Recordings instead of a kernel: `reader` gives the [`Input`](crate::input::Input)s of a file back,
//! `replay` feeds them to the same engine and outputs, `player` at the pace of who looks. `output::record` writes such files.
//!
//! `tape` finds the part of a recording that is asked for, `chosen` the segments of a flight recorder, `inputs` reads them.
//!
//! A recording may be cut anywhere, by a full disk or `kill -9`: what is whole before the cut is
//! read, and the reader says where it ended.

mod chosen;
mod cursor;
mod error;
mod held;
mod inputs;
mod opened;
mod player;
mod reader;
pub mod replay;
mod tape;
mod times;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests;

pub use crate::record_format::{Ended, FORMAT_VERSION};
pub use error::ReadError;
pub use reader::{Item, Reader};
