//! A reader for BTF, the type information a kernel carries about itself.
//!
//! It answers one question: where in which struct does a field stand? The bytes may be anything:
//! every access is checked, the index takes no more than twice the memory of the input, and a
//! lookup gives up after a bounded number of steps. Only the byte order of this machine is read,
//! and pointers are taken to be 64 bits wide (BTF does not record it).
//!
//! `index` reads the header and finds types by id and name, `types` is what a type looks like, `names` and
//! `field` answer questions, `error` says why not.

mod error;
mod field;
mod index;
mod names;
mod types;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests;

pub use error::BtfError;
pub use index::Btf;
pub use types::{Field, Kind, Shape, Type};
