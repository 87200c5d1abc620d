//! The flight recorder: its metrics, and the finding that it cannot write.

use std::fmt::Error;

use crate::engine::rules::{Code, Finding, Opened, RuleId, Severity};
use crate::output::recorder::{Pause, Status};
use crate::output::serve::families::{Families, number};
use crate::time::{Human, MonoNs};

/// Writes them.
pub(super) fn recorder(families: &mut Families<'_, '_>, status: &Status) -> Result<(), Error> {
    families.gauges(
        "tcptrail_recorder_segments",
        "Segments of the flight recorder on disk",
        [(vec![], number(status.segments()))],
    )?;
    families.gauges(
        "tcptrail_recorder_bytes",
        "Bytes of the flight recorder's segments on disk",
        [(vec![], number(status.bytes()))],
    )?;
    families.gauges(
        "tcptrail_recorder_paused",
        "Whether the flight recorder records nothing now, because it cannot write",
        [(vec![], number(u64::from(status.pause().is_some())))],
    )?;
    families.counters(
        "tcptrail_recorder_gaps",
        "Times that a write of the flight recorder failed, so that something is missing in it",
        [(vec![], status.gaps())],
    )
}

/// That nothing is recorded.
pub(super) fn finding(Pause { since, why }: &Pause, now: MonoNs) -> Finding {
    let lasts = now.since(*since);
    Finding {
        id: RuleId::Recorder.name().to_owned(),
        rule: RuleId::Recorder,
        code: Code::Recorder,
        severity: Severity::Exhaustion,
        state: None,
        count: 1,
        in_state: 1,
        oldest_ns: Some(lasts),
        growth_per_min: None,
        closed_share: None,
        late_closed_share: None,
        netns: None,
        cgroup: 0,
        process: None,
        workers: Vec::new(),
        local_port: None,
        remote: None,
        opener: None,
        opened: Opened::default(),
        conns: Vec::new(),
        verdict: format!(
            "tcptrail's flight recorder has recorded nothing for {}: {why}",
            Human(lasts / 1_000_000_000 * 1_000_000_000)
        ),
        advice: "Make room in its file system: recording then resumes by itself. Tracing, metrics and findings go on."
            .to_owned(),
        forecast: None,
        idle_timeout_ns: None,
    }
}
