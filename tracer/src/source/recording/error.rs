//! Why a recording cannot be read.

use std::io;

use thiserror::Error;
use tracer_common::wire::{OLDEST_WIRE_VERSION, WIRE_VERSION};

use crate::record_format::FORMAT_VERSION;

/// Why a recording cannot be read, or not further. The texts want the file's name before them:
/// `FILE: cut off at byte 4711`.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file is something else.
    #[error("not a recording of tcptrail")]
    NotARecording,
    /// The layout is not known yet.
    #[error(
        "written by a newer tcptrail (format {found}, this one reads up to {FORMAT_VERSION}): \
         update tcptrail"
    )]
    NewerFormat {
        /// The file's format version.
        found: u16,
    },
    /// The records are in the order of another machine.
    #[error("recorded on a {found}-endian machine: replay it on one")]
    ForeignByteOrder {
        /// `big` or `little`.
        found: &'static str,
    },
    /// The records have other fields.
    #[error(
        "recorded by tcptrail {version} (records of version {found}, this one reads \
         {OLDEST_WIRE_VERSION} to {WIRE_VERSION}): replay it with that"
    )]
    OtherWire {
        /// The records' version.
        found: u16,
        /// The version of tcptrail that made them.
        version: String,
    },
    /// The file ends too early. What is whole before the offset was delivered.
    #[error("cut off at byte {at}: what came after that was never written, or is lost")]
    Truncated {
        /// Where what is missing begins.
        at: u64,
    },
    /// The file is not as it was written. What is whole before the offset was delivered.
    #[error("damaged at byte {at}: {what}")]
    Damaged {
        /// Where the header or frame begins that is not right.
        at: u64,
        /// What is not right.
        what: &'static str,
    },
    /// The file could not be read.
    #[error("cannot be read at byte {at}: {error}")]
    Io {
        /// Where.
        at: u64,
        /// Why.
        error: io::Error,
    },
}

impl ReadError {
    /// The offset in the file, where the error has one.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match *self {
            ReadError::Truncated { at }
            | ReadError::Damaged { at, .. }
            | ReadError::Io { at, .. } => Some(at),
            _ => None,
        }
    }
}
