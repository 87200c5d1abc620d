//! How things are written: wall time, text cells, JSON objects, and the thread that writes them out.

pub mod clock;
pub mod json;
pub mod output;
pub mod text;
