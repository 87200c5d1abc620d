//! What a HotSpot JVM tells of its code: `hotspot` reads the tables it exports for debuggers, `perf_map` the
//! list it writes of compiled code, `attach` asks it for that list.

pub(crate) mod attach;
pub(crate) mod hotspot;
pub mod perf_map;
