//! Three million transitions at full speed, for each command: nothing may be lost.

use std::path::Path;

use anyhow::Result;
use tests::netns::Netns;

use crate::Tools;
use crate::measure::churn;
use crate::subject::{Subject, Tracer};
use crate::target::Target;

/// Of the `mixed` load: 9.6 transitions each.
const TRANSITIONS_A_CONNECTION: f64 = 9.6;

/// A run of each command; every transition must be shown.
pub(crate) fn targets(tools: &Tools, dir: &Path, transitions: f64) -> Result<Vec<Target>> {
    let connections = (transitions / TRANSITIONS_A_CONNECTION).ceil().to_string();
    let mut targets = Vec::new();
    for subject in Subject::OWN {
        eprintln!("bench: {transitions} transitions for {}", subject.name());
        let netns = Netns::new()?;
        // Else the kernel keeps whoever writes waiting until what others wrote before is on the disk.
        rustix::fs::sync();
        let Some(tracer) = Tracer::start(subject, tools, dir)? else { continue };
        let load = churn(tools, &netns, &["--connections", &connections])?;
        let left = tracer.stop()?;
        let name = subject.name();
        targets.push(Target::zero(
            &format!("lost at full speed, as `{name}` says"),
            left.lost,
            load.transitions,
        ));
        let unseen = left.seen.map(|seen| load.transitions.saturating_sub(seen));
        targets.push(Target::zero(
            &format!("not shown at full speed, `{name}`"),
            unseen,
            load.transitions,
        ));
    }
    Ok(targets)
}
