//! What goes out: `lines` for a person or a program to read, and the thread that writes them.

pub mod json;
pub mod lines;
pub mod writer;
