//! What the eBPF programs and user space agree on.
//!
//! `no_std`, integers and byte arrays only, layouts asserted at compile time, so that a change
//! that would make the two sides disagree does not build on either.
#![no_std]

pub mod comm;
pub mod descriptors;
pub mod globals;
pub mod names;
pub mod stack;
pub mod state;
pub mod wire;

pub use state::TcpState;
