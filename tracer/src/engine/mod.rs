//! What is known of connections: events come in, changes and findings go out. Pure: no IO, no clock.

pub mod book;
pub mod conn;
pub mod decode;
pub mod rules;
