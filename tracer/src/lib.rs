//! tcptrail: the life of every TCP connection, as the kernel lives it.
//!
//! The way of an event: `kernel` (or `record`) -> `decode` -> `conn` -> `view` -> `sink`.
//! ARCHITECTURE.md tells the rest.

pub mod cli;
pub mod config;
pub mod conn;
pub mod decode;
pub mod doctor;
pub mod event;
pub mod filter;
pub mod input;
pub mod kernel;
pub mod names;
pub mod pipeline;
pub mod privileges;
pub mod record;
pub mod replay;
pub mod rules;
pub mod session;
pub mod sink;
pub mod stacks;
pub mod time;
pub mod view;
