//! What goes into the page, as JSON for its charts and tables. Times are Unix milliseconds, lengths milliseconds.

use serde::Serialize;

use crate::engine::rules::Severity;

/// The page's data.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    pub(super) about: About,
    pub(super) timeline: Series,
    pub(super) findings: Vec<Found>,
    pub(super) stacks: Vec<(String, u64)>,
    pub(super) processes: Vec<Row>,
    pub(super) listeners: Vec<Row>,
    pub(super) remotes: Vec<Row>,
    /// Segments that the kernel threw away, by why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) drops: Vec<Drop>,
    /// Why segments were sent again, in a sentence without its stop.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) again: String,
    /// A table that somebody looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shown: Option<Shown>,
    pub(super) handshakes: Vec<One>,
    pub(super) closings: Vec<One>,
    pub(super) bounds_us: &'static [u64],
    pub(super) in_states: Vec<Lengths>,
    /// What is not in the page, in sentences.
    pub(super) cut: Vec<String>,
}

/// The run.
#[derive(Debug, Serialize)]
pub(super) struct About {
    pub(super) source: String,
    pub(super) version: String,
    pub(super) kernel: String,
    pub(super) filters: Vec<String>,
    pub(super) from: i64,
    pub(super) to: i64,
    /// Beginning and end as people write them, in the time zone of who made the report.
    pub(super) from_text: String,
    pub(super) to_text: String,
    /// Minutes that its clocks are ahead of UTC.
    pub(super) zone_minutes: i32,
    pub(super) events: u64,
    pub(super) connections: u64,
    /// Sockets that are there at the end, those in TIME_WAIT included; and of those, listeners and TIME_WAIT.
    pub(super) sockets: u64,
    pub(super) listening: u64,
    pub(super) time_wait: u64,
    pub(super) lost: u64,
    pub(super) lost_by: Vec<(&'static str, u64)>,
}

/// Segments that the kernel threw away for one reason.
#[derive(Debug, Serialize)]
pub(super) struct Drop {
    pub(super) count: u64,
    pub(super) why: String,
    /// The kernel's name.
    pub(super) reason: String,
    pub(super) hook: &'static str,
}

/// A table as somebody looked at it.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// What it is, with its filter.
    pub title: String,
    /// Titles of its columns, and whether they are of figures.
    pub columns: Vec<(&'static str, bool)>,
    /// Cells: what they say, and what they are sorted by where it is a figure that is known.
    pub rows: Vec<Vec<(String, Option<f64>)>>,
    /// Rows there were, more perhaps than here.
    pub all: usize,
}

/// Figures of each interval.
#[derive(Debug, Default, Serialize)]
pub(super) struct Series {
    pub(super) start: i64,
    pub(super) width: u64,
    pub(super) intervals: usize,
    /// Sockets by state; `null` in an interval without a look.
    pub(super) states: Vec<(&'static str, Vec<Option<u32>>)>,
    pub(super) opened: Vec<u64>,
    pub(super) failed: Vec<u64>,
    pub(super) closed: Vec<u64>,
    pub(super) retransmits: Vec<u64>,
    pub(super) resets: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) dropped: Vec<u64>,
    pub(super) lost: Vec<u64>,
    /// Descriptors in use, the limit and the process, of the fullest one.
    pub(super) fds: Vec<Option<(u64, u64, u32)>>,
}

/// A finding.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) rule: &'static str,
    pub(super) severity: &'static str,
    pub(super) verdict: String,
    pub(super) advice: String,
    pub(super) since: i64,
    pub(super) until: Option<i64>,
    pub(super) since_text: String,
    pub(super) until_text: Option<String>,
    pub(super) count: u64,
    pub(super) points: Vec<(i64, u64)>,
    pub(super) opened_by: Vec<(String, u64)>,
}

/// A row of a table.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) opened: u64,
    pub(super) failed: u64,
    pub(super) closed: u64,
    pub(super) how: Vec<(&'static str, u64)>,
    pub(super) retransmits: u64,
    pub(super) resets_sent: u64,
    pub(super) resets_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) handshake_p50: Option<f64>,
    pub(super) handshake_p99: Option<f64>,
    pub(super) accept_p50: Option<f64>,
    pub(super) accept_p99: Option<f64>,
    pub(super) open: u64,
    pub(super) states: Vec<(&'static str, u64)>,
    pub(super) queue: Option<(u32, u32)>,
    pub(super) fds: Option<(u64, u64)>,
}

/// A connection.
#[derive(Debug, Serialize)]
pub(super) struct One {
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) role: &'static str,
    pub(super) process: String,
    pub(super) start: i64,
    /// What it is in the list for.
    pub(super) length: f64,
    pub(super) handshake: Option<f64>,
    pub(super) states: Vec<(&'static str, f64)>,
    pub(super) how: Option<&'static str>,
    pub(super) retransmits: u64,
    pub(super) exact: bool,
}

/// How long connections stayed in a state.
#[derive(Debug, Serialize)]
pub(super) struct Lengths {
    pub(super) state: &'static str,
    pub(super) count: u64,
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) bars: Vec<u64>,
}

/// Whether something is wrong at the end of the run.
pub(super) fn wrong(data: &Data) -> impl Iterator<Item = &Found> {
    data.findings
        .iter()
        .filter(|found| found.until.is_none() && found.severity != Severity::Note.name())
}
