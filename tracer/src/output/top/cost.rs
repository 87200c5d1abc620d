//! What this process costs, as `top` shows it.

use crate::output::cost::{cpu_ns, resident};
use crate::output::top::model::Cost;
use crate::time::MonoNs;

/// Processor time and memory so far.
pub(super) fn now(at: MonoNs) -> Cost {
    Cost { cpu_ns: cpu_ns(), memory: resident().unwrap_or(0), at, share: None }
}
