//! Wakes the main thread at a time.
//!
//! The runtime has timers, too. They are rounded up to milliseconds, each costs a write to the runtime's own descriptor
//! and a look at it, and one that is more than 64 ms away wakes the thread twice. The main thread sleeps between two looks
//! at the ring, up to twenty times a second: most of what an idle run costs is waking up.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;

use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;

/// A timer of the kernel's.
pub struct Alarm {
    ready: AsyncFd<OwnedFd>,
    /// For when it is set.
    set: Option<MonoNs>,
}

impl Alarm {
    /// One that is not set. Must be called inside the runtime.
    ///
    /// # Errors
    /// When there can be no more descriptors.
    pub fn new() -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(unsafe_code, reason = "the runtime asks for a promise about the descriptor")]
        // SAFETY: the descriptor is owned by the `AsyncFd` and so stays open and the same.
        let ready = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Alarm { ready, set: None })
    }

    /// Waits until then. When that is past, only lets the runtime look for signals and wake-ups. Whoever stopped waiting
    /// and waits for another time may be woken too early, once.
    ///
    /// # Errors
    /// When the kernel refuses the time, or the runtime's driver fails.
    pub async fn until(&mut self, then: MonoNs) -> io::Result<()> {
        if then <= MonoNs::now() {
            yield_now().await;
            return Ok(());
        }
        if self.set != Some(then) {
            let value = Timespec {
                tv_sec: i64::try_from(then.0 / SECOND).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(then.0 % SECOND).unwrap_or(0),
            };
            let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
            // It also takes back that an earlier time has come (`timerfd_setup`): nobody has to read that.
            timerfd_settime(self.ready.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
            self.set = Some(then);
        }
        self.ready.readable().await?.clear_ready();
        self.set = None;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    fn run(test: impl AsyncFn(Alarm)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async { test(Alarm::new().unwrap()).await });
    }

    #[test]
    fn it_comes_at_its_time_and_not_before() {
        run(async |mut alarm| {
            for ms in [3, 1, 70, 0] {
                let then = MonoNs::now().after(ms * 1_000_000);
                alarm.until(then).await.unwrap();
                assert!(MonoNs::now() >= then, "{ms} ms");
            }
            // What is over does not wait for anything.
            alarm.until(MonoNs(0)).await.unwrap();
        });
    }

    #[test]
    fn one_that_was_given_up_does_not_keep_the_next() {
        run(async |mut alarm| {
            let (hour, soon) = (3_600 * SECOND, 2_000_000);
            let later = MonoNs::now().after(hour);
            tokio::select! {
                biased;
                () = std::future::ready(()) => {}
                _ = alarm.until(later) => panic!("an hour is not over"),
            }
            let then = MonoNs::now().after(soon);
            alarm.until(then).await.unwrap();
            assert!(MonoNs::now() >= then);
        });
    }
}
