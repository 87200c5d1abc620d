//! The names of a stack's frames: `worker` is the thread that finds them, `symbolizer` asks `native` and `java`,
//! `unwind` follows a stack without frame pointers.

mod kept;
mod symbolizer;
mod unwind;
pub mod worker;
