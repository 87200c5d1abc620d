//! What is known of connections: inputs go in, [`Update`]s come out. Pure: no IO, no clock, no text for
//! a terminal, no JSON.

pub mod book;
pub mod conn;
pub mod decode;
mod feed;
pub mod open;
mod room;
pub mod rules;
pub mod stats;
mod update;

pub use feed::{Engine, Rules, Sink};
pub use update::Update;
