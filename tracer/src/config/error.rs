//! What is wrong with a command line, in one sentence with the remedy.

use thiserror::Error;

/// What is wrong with the command line; exit code 2.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct UsageError(pub String);
