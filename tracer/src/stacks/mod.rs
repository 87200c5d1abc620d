//! Who opened a socket: stacks as the programs of `kernel/stacks` take them, and the names of their
//! frames.
//!
//! `book` keeps which socket has which stack; pure. `symbolize` names frames, on a thread of its own
//! (`worker`): `native` those of ELF files, `perf_map` those that HotSpot has compiled, `hotspot` those
//! that its interpreter runs. `unwind` follows a stack without frame pointers. `jvm_attach` asks a JVM for its
//! perf map.

pub mod book;
pub mod frame;
mod hotspot;
mod jvm_attach;
mod memory;
mod native;
pub mod perf_map;
mod process;
mod symbolize;
mod unwind;
pub mod worker;
