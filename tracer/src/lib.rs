//! tcptrail: the life of every TCP connection, as the kernel lives it.
//!
//! An event goes from its `source` through the `engine` to an `output`. ARCHITECTURE.md tells the rest.

pub mod answer;
pub mod cli;
pub mod config;
pub mod containers;
pub mod destroy;
pub mod doctor;
pub mod engine;
pub mod event;
pub mod explain;
pub mod files;
pub mod filter;
pub mod frame;
pub mod hosts;
pub mod input;
pub mod java;
pub mod kernel;
pub mod names;
pub mod native;
pub mod output;
pub mod places;
pub mod privileges;
pub mod record_format;
pub mod source;
pub mod symbolize;
pub mod text;
pub mod time;
