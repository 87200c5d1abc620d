//! Where inputs come from: `live` the kernel, `replay` a recording.

pub mod live;
pub mod recording;
