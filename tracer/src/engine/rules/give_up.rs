//! When the kernel gives a connection up that nobody answers for, as `tcp_write_timeout` decides it.

use crate::time::MonoNs;

const MS: u64 = 1_000_000;
/// `TCP_RTO_MIN`.
const RTO_MIN_NS: u64 = 200 * MS;
/// What a timer of `TCP_RTO_MIN` comes to on a fast network, with the jiffies it waits for.
const RTO_USUAL_NS: u64 = 204 * MS;
/// `TCP_RTO_MAX`.
const RTO_MAX_NS: u64 = 120_000 * MS;
/// `TCP_TIMEOUT_INIT`.
const SYN_RTO_NS: u64 = 1_000 * MS;

/// What is known of a row of retransmissions without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Unanswered {
    /// How often the same segment was sent again (`icsk_retransmits`).
    pub(crate) times: u32,
    /// When first, if that was seen.
    pub(crate) first: Option<MonoNs>,
    /// When for the second time, if that was seen.
    pub(crate) second: Option<MonoNs>,
    /// When last, if that was seen.
    pub(crate) last: Option<MonoNs>,
}

/// Least time that this many retransmissions take: each waits twice as long as the one before, and the
/// first at least `TCP_RTO_MIN` (less only where a route or sysctl lowers it).
#[must_use]
pub(crate) fn backoff_ns(times: u32) -> u64 {
    let mut total = 0u64;
    let mut gap = RTO_MIN_NS;
    for _ in 0..times.min(64) {
        total = total.saturating_add(gap);
        gap = (gap * 2).min(RTO_MAX_NS);
    }
    total
}

/// How long the kernel goes on after the first retransmission (`tcp_model_timeout`).
#[must_use]
pub(crate) fn model_timeout_ns(retries: u32) -> u64 {
    // ilog2(TCP_RTO_MAX / TCP_RTO_MIN)
    const LINEAR_FROM: u32 = 9;
    if retries <= LINEAR_FROM {
        ((2u64 << retries) - 1) * RTO_MIN_NS
    } else {
        ((2u64 << LINEAR_FROM) - 1) * RTO_MIN_NS
            + u64::from(retries - LINEAR_FROM).saturating_mul(RTO_MAX_NS)
    }
}

/// Least and longest time for which the kernel goes on after the first retransmission, where the first timer is at
/// most `TCP_TIMEOUT_INIT`: it ends the connection at the first timer after [`model_timeout_ns`], and each wait is
/// twice the one before, up to `TCP_RTO_MAX`.
#[must_use]
pub(crate) fn bounds_ns(retries: u32) -> (u64, u64) {
    let least = model_timeout_ns(retries);
    let last_wait = least.saturating_add(2 * SYN_RTO_NS).min(RTO_MAX_NS);
    (least, least.saturating_add(last_wait))
}

/// When the kernel gives up, if nobody answers until then: at the first timer after the model's time.
/// `None` when neither the first nor the last retransmission was seen.
///
/// `retries` is `tcp_retries2`, or for what the application has closed `tcp_orphan_retries` with 8
/// for 0. A `TCP_USER_TIMEOUT` of the application's may end it earlier; that cannot be seen.
#[must_use]
pub(crate) fn at(unanswered: &Unanswered, retries: u32) -> Option<MonoNs> {
    let last = unanswered.last?;
    let times = unanswered.times.max(1);
    // Between the first and the last: the sum of the gaps, which doubled each time.
    let steps = backoff_ns(times).saturating_sub(RTO_MIN_NS);
    let usual = steps / RTO_MIN_NS * RTO_USUAL_NS;
    let first = unanswered.first.unwrap_or_else(|| last.before(usual));
    let spanned = last.since(first);
    // The first wait, from what was seen of the later ones.
    let rto = if times > 1 && spanned > 0 && steps > 0 {
        let scaled = u128::from(RTO_MIN_NS) * u128::from(spanned) / u128::from(steps);
        u64::try_from(scaled).unwrap_or(RTO_MAX_NS).max(RTO_MIN_NS / 4)
    } else {
        RTO_USUAL_NS
    };
    let timeout = model_timeout_ns(retries);
    let mut gap = rto.saturating_mul(1 << times.min(20)).min(RTO_MAX_NS);
    let mut timer = last.after(gap);
    for _ in 0..64 {
        if timer.since(first) >= timeout {
            break;
        }
        gap = (gap * 2).min(RTO_MAX_NS);
        timer = timer.after(gap);
    }
    Some(timer)
}

/// How long a connect goes on without an answer: `tcp_syn_retries` with doubled waits, after
/// `tcp_syn_linear_timeouts` of one second (Linux 6.5; 0 before).
#[must_use]
pub(crate) fn connect_ns(syn_retries: u32, linear: u32) -> u64 {
    let doubled = (1u64 << (syn_retries + 1).min(32)) - 1;
    (u64::from(linear) + doubled).saturating_mul(SYN_RTO_NS)
}

/// How long a half-open connection is kept: SYN-ACKs after 1, 2, 4, ... seconds.
#[must_use]
pub(crate) fn half_open_ns(synack_retries: u32) -> u64 {
    ((1u64 << (synack_retries + 1).min(32)) - 1).saturating_mul(SYN_RTO_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000 * MS;

    #[test]
    fn the_model_is_the_kernels() {
        // Documentation/networking/ip-sysctl.rst: 15 retries are 924.6 s; 8 are 102.2 s.
        assert_eq!(model_timeout_ns(15), 924_600 * MS);
        assert_eq!(model_timeout_ns(8), 102_200 * MS);
        assert_eq!(connect_ns(6, 0), 127 * SECOND);
        assert_eq!(connect_ns(6, 4), 131 * SECOND);
        assert_eq!(half_open_ns(5), 63 * SECOND);
    }

    #[test]
    fn the_end_is_at_a_timer_after_the_model() {
        let check = |rto: u64, times: u32, retries: u32, expect_s: u64| {
            // The n-th is sent rto * (2^n - 1) after the original.
            let sent = MonoNs(1_000 * SECOND);
            let at_n = |n: u32| sent.after(rto * ((1 << n) - 1) * MS);
            let unanswered =
                Unanswered { times, first: Some(at_n(1)), second: None, last: Some(at_n(times)) };
            let end = at(&unanswered, retries).expect("known").since(sent) / SECOND;
            assert_eq!(end, expect_s, "rto {rto} ms, {times} times, {retries} retries");
        };
        // 204 ms, as a loopback's is: the ninth timer is after 102.2 s.
        check(204, 3, 8, 104);
        check(204, 7, 8, 104);
        check(204, 2, 2, 3);
        // Where only the last was seen.
        let last = MonoNs(1_000 * SECOND);
        let unanswered = Unanswered { times: 7, last: Some(last), ..Unanswered::default() };
        let left = at(&unanswered, 8).expect("known").since(last) / SECOND;
        assert!((76..=80).contains(&left), "{left} s after the seventh");
        // A second: the sixth.
        check(1_000, 3, 8, 127);
    }

    #[test]
    fn the_end_is_within_the_bounds_whatever_the_first_timer() {
        for retries in 1..=20 {
            let (least, most) = bounds_ns(retries);
            for rto in (200..=1_000).step_by(7) {
                let sent = MonoNs(1_000 * SECOND);
                let first = sent.after(rto * MS);
                // `at` takes the first wait from the second.
                let second = first.after(2 * rto * MS);
                let seen =
                    Unanswered { times: 2, first: Some(first), second: None, last: Some(second) };
                let end = at(&seen, retries).expect("known").since(first);
                // At the soonest at the timer after those two.
                let most = most.max(6 * rto * MS);
                assert!(
                    least <= end && end <= most,
                    "{retries} retries, rto {rto} ms: {end} is not in {least}..{most}"
                );
            }
        }
    }

    #[test]
    fn what_was_not_seen_is_not_made_up() {
        assert_eq!(at(&Unanswered { times: 3, ..Unanswered::default() }, 8), None);
    }
}
