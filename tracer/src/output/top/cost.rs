//! What this process costs, as the kernel counts.

use rustix::time::{ClockId, clock_gettime};

use crate::output::top::model::Cost;
use crate::time::MonoNs;

/// Processor time and memory so far.
pub(super) fn now(at: MonoNs) -> Cost {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let cpu_ns = seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0));
    Cost { cpu_ns, memory: resident().unwrap_or(0), at, share: None }
}

/// Bytes in memory: the second figure of `/proc/self/statm`, in pages.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}
