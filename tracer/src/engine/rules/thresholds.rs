//! From when on something counts as stuck: a time for each rule, all settable.

use crate::engine::rules::RuleId;
use crate::time;

const SECOND: u64 = 1_000_000_000;

/// A time for each rule, nanoseconds, by [`RuleId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    ns: [u64; RuleId::ALL.len()],
}

impl Default for Thresholds {
    fn default() -> Self {
        let mut ns = [0; RuleId::ALL.len()];
        for rule in RuleId::ALL {
            ns[rule as usize] = SECOND * default_seconds(rule);
        }
        Thresholds { ns }
    }
}

/// Long enough that a healthy busy service has nothing, short enough to be told within a minute.
const fn default_seconds(rule: RuleId) -> u64 {
    match rule {
        // Two SYNs without an answer.
        RuleId::SynSent => 5,
        RuleId::SynRecv | RuleId::Unaccepted => 10,
        RuleId::Established | RuleId::FinWait1 | RuleId::Closing | RuleId::LastAck => 30,
        RuleId::CloseWait | RuleId::Closed | RuleId::TimeWaitOverflow | RuleId::Collected => 60,
        // The kernel ends what the application has closed after tcp_fin_timeout, 60 s.
        RuleId::FinWait2 => 120,
        RuleId::AcceptQueue => 5,
        RuleId::Fds | RuleId::Ports => 3600,
        // Load balancers and NATs forget after 1 to 6 minutes; most servers' keep-alive is shorter.
        RuleId::Idle => 300,
        // However soon after the FIN; however short the pause.
        RuleId::StaleReuse | RuleId::Recorder => 0,
        RuleId::IdleReset => 10,
        RuleId::EstablishedIdle => 300,
    }
}

impl Thresholds {
    /// Of a rule, nanoseconds.
    #[must_use]
    pub const fn of(&self, rule: RuleId) -> u64 {
        self.ns[rule as usize]
    }

    /// Takes in `CLOSE_WAIT=30s`.
    ///
    /// # Errors
    /// What is wrong, with what would be right.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let names = || RuleId::ALL.map(|rule| rule.threshold_name()).join(", ");
        let (name, time) = text
            .split_once('=')
            .ok_or_else(|| format!("no NAME=TIME, as in CLOSE_WAIT=30s; names: {}", names()))?;
        let wanted = plain(name);
        let rule = RuleId::ALL
            .into_iter()
            .find(|rule| plain(rule.threshold_name()) == wanted)
            .ok_or_else(|| format!("unknown name {name}; use one of {}", names()))?;
        let time = time::parse(time)
            .map_err(|error| format!("{time} is no time like 500ms, 30s or 5m: {error}"))?;
        self.ns[rule as usize] = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Ok(())
    }
}

/// Names in any case, with any of `_`, `-` or nothing between their words.
pub(crate) fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_set_by_name() {
        let check = |text: &str, rule: RuleId, expect: Option<u64>| {
            let mut thresholds = Thresholds::default();
            let got = thresholds.set(text).ok().map(|()| thresholds.of(rule));
            assert_eq!(got, expect, "{text}");
        };
        check("CLOSE_WAIT=30s", RuleId::CloseWait, Some(30 * SECOND));
        check("close-wait=1m", RuleId::CloseWait, Some(60 * SECOND));
        check("unaccepted = 500ms", RuleId::Unaccepted, Some(SECOND / 2));
        check("close_wait=30", RuleId::CloseWait, Some(30 * SECOND));
        check("FDS=6h", RuleId::Fds, Some(6 * 3600 * SECOND));
        check("CLOSE_WAIT", RuleId::CloseWait, None);
        check("CLOSE_WAIT=", RuleId::CloseWait, None);
        check("CLOSE_WAIT=soon", RuleId::CloseWait, None);
        check("NONSENSE=1s", RuleId::CloseWait, None);
    }
}
