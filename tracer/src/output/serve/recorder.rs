//! Metrics of the flight recorder.

use std::fmt::Error;

use crate::output::recorder::Status;
use crate::output::serve::families::Families;

/// Writes them.
pub(super) fn recorder(families: &mut Families<'_>, status: &Status) -> Result<(), Error> {
    families.gauges(
        "tcptrail_recorder_segments",
        "Segments of the flight recorder on disk",
        [(vec![], status.segments())],
    )?;
    families.gauges(
        "tcptrail_recorder_bytes",
        "Bytes of the flight recorder's segments on disk",
        [(vec![], status.bytes())],
    )?;
    families.gauges(
        "tcptrail_recorder_paused",
        "Whether the flight recorder records nothing now, because it cannot write",
        [(vec![], u64::from(status.pause().is_some()))],
    )?;
    families.counters(
        "tcptrail_recorder_gaps",
        "Times that a write of the flight recorder failed, so that something is missing in it",
        [(vec![], status.gaps())],
    )
}
