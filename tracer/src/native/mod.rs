//! What the files of a process tell of its code: `symbols` names functions and names who called whom, `process`
//! says what is mapped where, `memory` reads it.

pub(crate) mod memory;
pub(crate) mod process;
pub(crate) mod symbols;
mod tables;
