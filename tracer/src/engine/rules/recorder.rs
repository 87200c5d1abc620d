//! The flight recorder cannot write. No look at sockets finds that: whoever knows of it asks for the words.

use crate::engine::rules::explain::Code;
use crate::engine::rules::finding::{Finding, Severity};
use crate::engine::rules::id::RuleId;
use crate::engine::rules::openers::Opened;
use crate::time::Human;

/// Nothing was recorded for so long, nanoseconds; `why` names the directory and what is wrong.
#[must_use]
pub fn paused(lasts: u64, why: &str) -> Finding {
    let whole_seconds = lasts / 1_000_000_000 * 1_000_000_000;
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
            Human(whole_seconds)
        ),
        advice: "Make room in its file system: recording then resumes by itself. Tracing, metrics and findings go on."
            .to_owned(),
        forecast: None,
        idle_timeout_ns: None,
    }
}
