//! `--fail-on`: conditions that end a run with exit code 3.

use std::time::Duration;

use tracer_common::TcpState;

use crate::engine::rules::scan::Scan;
use crate::engine::rules::thresholds::plain;
use crate::engine::rules::{Finding, What};
use crate::time::{Human, MonoNs};

/// How a condition is written.
pub const GRAMMAR: &str = "WHAT>NUMBER [for TIME] or WHAT>=NUMBER [for TIME], where WHAT is a TCP state (CLOSE_WAIT, \
    LAST_ACK, ...), UNACCEPTED or FINDINGS, or FDS, PORTS or ACCEPT_QUEUE with a NUMBER in percent: \
    'CLOSE_WAIT>100 for 60s', 'FDS>=90%'";

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Counted {
    State(TcpState),
    Unaccepted,
    Findings,
    Percent(What),
}

/// One condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gate {
    text: String,
    counted: Counted,
    /// It holds from this number on.
    from: u64,
    for_ns: u64,
    since: Option<MonoNs>,
}

/// Shares of what can run out, the fullest of each, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shares {
    pub(crate) fds: u64,
    pub(crate) ports: u64,
    pub(crate) accept_queue: u64,
}

impl Gate {
    /// From the command line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Gate, String> {
        let (what, rest) =
            text.split_once('>').ok_or_else(|| format!("there is no > in it; write {GRAMMAR}"))?;
        let (rest, or_equal) = match rest.strip_prefix('=') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (number, time) = match rest.trim().split_once(char::is_whitespace) {
            None => (rest.trim(), None),
            Some((number, rest)) => {
                let time = rest.trim().strip_prefix("for").filter(|time| time.starts_with(' '));
                let time = time
                    .ok_or_else(|| format!("after {number} comes `for TIME`; write {GRAMMAR}"))?;
                (number, Some(time.trim()))
            }
        };
        let counted = counted(what.trim()).ok_or_else(|| {
            format!("{} is nothing that is counted; write {GRAMMAR}", what.trim())
        })?;
        let percent = number.strip_suffix('%');
        if percent.is_some() != matches!(counted, Counted::Percent(_)) {
            let how = if percent.is_some() { "no percentage" } else { "a percentage" };
            return Err(format!("{} is {how}; write {GRAMMAR}", what.trim()));
        }
        let number: u64 = percent
            .unwrap_or(number)
            .parse()
            .map_err(|_| format!("{number} is no whole number; write {GRAMMAR}"))?;
        let time = match time {
            None => Duration::ZERO,
            Some(time) => crate::time::parse(time)
                .map_err(|error| format!("{time} is no time: {error}; write {GRAMMAR}"))?,
        };
        Ok(Gate {
            text: text.trim().to_owned(),
            counted,
            from: if or_equal { number } else { number.saturating_add(1) },
            for_ns: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            since: None,
        })
    }

    /// Whether it holds now, and has for its time: then the reason.
    pub(crate) fn check(
        &mut self,
        scan: &Scan,
        shares: &Shares,
        findings: u64,
        now: MonoNs,
    ) -> Option<String> {
        let value = match self.counted {
            Counted::State(state) => scan.in_state(state),
            Counted::Unaccepted => scan.unaccepted,
            Counted::Findings => findings,
            Counted::Percent(What::Fds) => shares.fds,
            Counted::Percent(What::Ports) => shares.ports,
            Counted::Percent(_) => shares.accept_queue,
        };
        if value < self.from {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let held = now.since(since);
        (held >= self.for_ns).then(|| {
            let percent = if matches!(self.counted, Counted::Percent(_)) { "%" } else { "" };
            let time = match self.for_ns {
                0 => String::new(),
                _ => format!(", and it held for {}", Human(held)),
            };
            format!("--fail-on '{}': it is {value}{percent}{time}", self.text)
        })
    }

    /// Whether it must hold for a while.
    #[must_use]
    pub fn takes_time(&self) -> bool {
        self.for_ns != 0
    }
}

fn counted(what: &str) -> Option<Counted> {
    Some(match plain(what).as_str() {
        "UNACCEPTED" => Counted::Unaccepted,
        "FINDINGS" => Counted::Findings,
        "FDS" => Counted::Percent(What::Fds),
        "PORTS" => Counted::Percent(What::Ports),
        "ACCEPTQUEUE" => Counted::Percent(What::AcceptQueue),
        "ESTAB" => Counted::State(TcpState::Established),
        name => Counted::State(
            TcpState::ALL
                .into_iter()
                .find(|state| plain(state.name()) == name && *state != TcpState::Close)?,
        ),
    })
}

/// How many findings count: notes do not.
pub(crate) fn findings<'a>(all: impl Iterator<Item = &'a Finding>) -> u64 {
    all.filter(|finding| finding.severity != super::Severity::Note).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn conditions_are_parsed() {
        let check = |text: &str, expect: Option<(Counted, u64, u64)>| {
            let got = Gate::parse(text).map(|gate| (gate.counted, gate.from, gate.for_ns / SECOND));
            match (&got, expect) {
                (Ok(got), Some(expect)) => assert_eq!(*got, expect, "{text}"),
                (Err(error), None) => assert!(error.contains(GRAMMAR), "{text}: {error}"),
                _ => panic!("{text}: {got:?}"),
            }
        };
        let close_wait = Counted::State(TcpState::CloseWait);
        check("CLOSE_WAIT>100 for 60s", Some((close_wait, 101, 60)));
        check(" close-wait >= 100 for 1m ", Some((close_wait, 100, 60)));
        check("CLOSE_WAIT>0", Some((close_wait, 1, 0)));
        check("fds>=90%", Some((Counted::Percent(What::Fds), 90, 0)));
        check("findings>0", Some((Counted::Findings, 1, 0)));
        for wrong in [
            "",
            "CLOSE_WAIT",
            "CLOSE_WAIT=1",
            "CLOSE_WAIT>",
            "CLOSE_WAIT>x",
            "CLOSE_WAIT>-1",
            "NOISE>1",
            "CLOSE_WAIT>1 60s",
            "CLOSE_WAIT>1 for",
            "CLOSE_WAIT>1 for ever",
            "CLOSE_WAIT>5%",
            "FDS>90",
            "CLOSE>1",
            "CLOSE_WAIT>1 for60s",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_condition_must_hold_all_the_time() {
        let mut gate = Gate::parse("CLOSE_WAIT>2 for 10s").expect("sound");
        let mut at = |second: u64, count: u64| {
            let mut scan = Scan::default();
            scan.states[usize::from(TcpState::CloseWait.number())] = count;
            gate.check(&scan, &Shares::default(), 0, MonoNs(second * SECOND)).is_some()
        };
        assert!(!at(0, 3));
        assert!(!at(9, 3));
        assert!(!at(10, 2));
        assert!(!at(11, 5));
        assert!(!at(20, 5));
        assert!(at(21, 5));
    }
}
