//! How far this machine's times can be trusted.
//!
//! `cargo xtask kernels` runs the live tests on an emulated processor, some thirty times slower than a
//! real one and shared by several tests. What happened, in which order, to whom and why must be as true
//! there as anywhere; only how long it took, and how soon it is told, is given more room.

use std::env;
use std::sync::LazyLock;
use std::time::Duration;

/// `TCPTRAIL_SLOW_MACHINE` is set to something.
static SLOW: LazyLock<bool> =
    LazyLock::new(|| env::var_os("TCPTRAIL_SLOW_MACHINE").is_some_and(|value| !value.is_empty()));

/// Whether the processor is emulated.
#[must_use]
pub fn is_slow() -> bool {
    *SLOW
}

/// Nanoseconds that a time may be off on a slow machine, beyond what a test allows anywhere: 0 on
/// any other.
#[must_use]
pub fn slack() -> u64 {
    if is_slow() { 600_000_000 } else { 0 }
}

/// How long to wait for what takes a machine at most `usual`.
#[must_use]
pub fn patience(usual: Duration) -> Duration {
    if is_slow() { usual * 5 } else { usual }
}
