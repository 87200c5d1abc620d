//! What a HotSpot JVM tells of its code. `hotspot` answers, from the tables it exports for debuggers
//! (`vm_structs`): `code_cache` finds compiled code, `nmethods` the methods inlined there (`scopes`),
//! `methods` their names and `lines`. `perf_map` reads the list that a JVM writes of compiled code,
//! `attach` asks it for that list. `threads` reads thread dumps, `histogram` class histograms.

pub(crate) mod attach;
pub(crate) mod code_cache;
mod flags;
pub mod histogram;
pub(crate) mod hotspot;
pub mod lines;
pub(crate) mod methods;
mod nmethods;
pub mod perf_map;
pub mod scopes;
pub mod threads;
pub mod unsigned5;
mod vm_structs;
