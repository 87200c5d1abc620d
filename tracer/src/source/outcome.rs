//! What a run, live or replayed, says at its end.

use std::fmt::Write;

use crate::event::LossCause;
use crate::output::session::Session;
use crate::time::Human;

/// The last line of every run.
pub(super) fn summary(session: &Session, duration_ns: u64) -> String {
    let totals = session.totals();
    if let Some(own) = session.summary(&totals, duration_ns) {
        return own;
    }
    let open = match totals.open {
        0 => String::new(),
        open => format!(" ({open} of them still open)"),
    };
    let mut text = format!(
        "tcptrail: {} events, {} connections{open}, {} lost",
        totals.events,
        totals.connections,
        totals.all_lost()
    );
    let causes: Vec<String> = LossCause::ALL
        .iter()
        .zip(totals.lost)
        .filter(|(_, count)| *count != 0)
        .map(|(cause, count)| format!("{} {count}", cause.name()))
        .collect();
    if !causes.is_empty() {
        // A write to a String cannot fail.
        let _ = write!(text, " ({})", causes.join(", "));
    }
    let _ = write!(text, " in {}", Human(duration_ns));
    text
}

/// Says of how many dropped segments it is not known whether the filter wants them.
pub(super) fn tell_left_out(session: &Session) {
    let count = session.left_out();
    if count != 0 {
        eprintln!(
            "tcptrail: the kernel dropped {count} more segments, too many in a second to show each; some of them may be segments that \
             the filter wants"
        );
    }
}

/// The exit code of a run in which nothing went wrong. Says the reason, where there is one.
pub(super) fn exit_code(session: &Session) -> u8 {
    let Some(verdict) = session.verdict() else { return 0 };
    if let Some(reason) = verdict.reason {
        eprintln!("tcptrail: {reason}");
    }
    verdict.code
}
