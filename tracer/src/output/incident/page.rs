//! The page: what is wrong, whose code, since when, until when, what to do, how sure; then the evidence.
//!
//! Pure: the same findings and evidence give the same page, live and from a bundle.

use std::fmt::Write;

use super::code::{belongs, whose_code};
use super::evidence::{Evidence, Leak};
use super::words::{counted, field, round, safe, sockets, wrap};
use crate::engine::rules::{Finding, Severity};
use crate::time::{Human, MonoNs};

/// Findings told in full; the rest as one sentence each.
const MOST_IN_FULL: usize = 8;

/// A finding and how long it was one.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// The finding, as it was last.
    pub finding: Finding,
    /// When it appeared.
    pub since: MonoNs,
    /// When it was over, where it is.
    pub over: Option<MonoNs>,
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Sockets there were at the end.
    pub sockets: usize,
    /// Connections met.
    pub connections: u64,
    /// Events taken in.
    pub events: u64,
    /// Events lost.
    pub lost: u64,
    /// The end of the watch, as people write it: `2026-11-27 03:12:04`.
    pub ended: String,
}

/// What the page is made of.
pub struct Case<'a> {
    /// All findings there were.
    pub found: &'a [Found],
    /// What was looked at.
    pub looked: &'a Looked,
    /// What no recording holds.
    pub evidence: &'a Evidence,
    /// The end of the watch.
    pub now: MonoNs,
    /// A time of day for a moment.
    pub clock: &'a mut dyn FnMut(MonoNs) -> String,
    /// Columns.
    pub width: usize,
}

/// Writes the page.
#[must_use]
pub fn page(case: &mut Case<'_>) -> String {
    let mut out = String::new();
    title(case, &mut out);
    let found = case.found;
    let counts = |found: &&Found| found.finding.severity != Severity::Note;
    let wrong: Vec<&Found> = found.iter().filter(counts).filter(|it| it.over.is_none()).collect();
    if wrong.is_empty() {
        nothing(case, &mut out);
    }
    for (index, found) in wrong.iter().enumerate() {
        if index < MOST_IN_FULL {
            finding(case, index + 1, found, &mut out);
        } else {
            let text = format!("{}. {}", index + 1, found.finding.verdict);
            wrap(&text, 0, 3, case.width, &mut out);
        }
    }
    over(case, &mut out);
    notes(case, &mut out);
    unknown(case, &mut out);
    looked_at(case, &mut out);
    out
}

fn title(case: &Case<'_>, out: &mut String) {
    let about = &case.evidence.about;
    let what = if about.filters.is_empty() {
        "all sockets".to_owned()
    } else {
        format!("sockets with {}", about.filters.join(" "))
    };
    let text = format!(
        "tcptrail incident on {}: {what}, watched for {} until {}",
        about.host,
        round(about.watched_ns),
        case.looked.ended
    );
    wrap(&text, 0, 0, case.width, out);
    out.push('\n');
}

fn finding(case: &mut Case<'_>, number: usize, found: &Found, out: &mut String) {
    let width = case.width;
    let it = &found.finding;
    wrap(&format!("{number}. {}", it.verdict), 0, 3, width, out);
    let leaks: Vec<&Leak> = case.evidence.leaks.iter().filter(|leak| belongs(leak, it)).collect();
    for (index, line) in whose_code(case.evidence, it, &leaks).iter().enumerate() {
        field(if index == 0 { "Whose code" } else { "" }, line, width, out);
    }
    field("Since when", &since(case, found), width, out);
    field("Until when", &until(it), width, out);
    field("What to do", &it.advice_and_more(), width, out);
    field("How sure", &how_sure(case, found, &leaks), width, out);
    out.push('\n');
}

fn since(case: &mut Case<'_>, found: &Found) -> String {
    match found.finding.oldest_ns {
        Some(age) => format!(
            "{} or earlier: the oldest is at least {} old",
            (case.clock)(case.now.before(age)),
            Human(age)
        ),
        None => format!("seen since {}; its beginning is unknown", (case.clock)(found.since)),
    }
}

fn until(finding: &Finding) -> String {
    match finding.forecast {
        Some(forecast) => {
            let what = match forecast.what {
                crate::engine::rules::What::Fds => "file descriptors",
                crate::engine::rules::What::Ports => "local ports",
                crate::engine::rules::What::AcceptQueue => "the accept queue",
                crate::engine::rules::What::GiveUp => "the kernel's retransmissions",
            };
            match forecast.left_ns {
                Some(0) => {
                    format!("{what}: used up now, {} of {}", forecast.in_use, forecast.limit)
                }
                Some(left) => format!(
                    "{what}: used up in about {}, {} of {} now",
                    round(left),
                    forecast.in_use,
                    forecast.limit
                ),
                None => format!(
                    "{what}: {} of {} in use, and their number does not grow",
                    forecast.in_use, forecast.limit
                ),
            }
        }
        None if finding.severity == Severity::Leak => {
            "no limit is near yet, but a leak does not end by itself".to_owned()
        }
        None => "tcptrail sees nothing that runs out because of it".to_owned(),
    }
}

fn how_sure(case: &Case<'_>, found: &Found, leaks: &[&Leak]) -> String {
    let finding = &found.finding;
    let mut line = match finding.severity {
        _ if case.looked.lost > 0 => {
            format!(
                "fairly sure: {} events were lost, so some figures may be wrong",
                case.looked.lost
            )
        }
        Severity::Leak => {
            "sure: no event was lost, the number kept growing, and the old sockets stayed"
                .to_owned()
        }
        Severity::Exhaustion => {
            "sure of what is in use; the time left is an estimate from its growth".to_owned()
        }
        Severity::Stuck => {
            "sure that they are stuck, but not yet that they get more: watch for longer (--for 10m)"
                .to_owned()
        }
        Severity::Note => "a hint".to_owned(),
    };
    // The finding's own sockets; the lines above are of all that the code has open, younger ones, too.
    let opened = &finding.opened;
    let known: u64 = opened.by.iter().map(|(_, count)| count).sum();
    let seen: u64 = leaks.iter().filter(|leak| leak.side.is_some()).map(|leak| leak.count).sum();
    if known > 0 {
        let of = known + opened.before + opened.unknown;
        let _ = write!(line, "; who opened {known} of the {} is known", sockets(of));
    } else if seen > 0 {
        let _ = write!(line, "; the stacks of {} that are open were seen", sockets(seen));
    }
    line
}

fn nothing(case: &Case<'_>, out: &mut String) {
    let text = format!(
        "Nothing is wrong now, as far as tcptrail can see: {} watched for {}.",
        sockets(case.looked.sockets as u64),
        round(case.evidence.about.watched_ns)
    );
    wrap(&text, 0, 0, case.width, out);
    wrap(
        "It looked for: connections that leak or are stuck in any state, connects and closes without an answer, \
         connections not accepted, full accept queues, file descriptors and ports that run out, idle connections \
         that the other side resets. It does not see: slow answers, errors inside a protocol, other protocols \
         than TCP.",
        0,
        0,
        case.width,
        out,
    );
    wrap("A slow leak needs a longer watch: tcptrail incident --for 10m.", 0, 0, case.width, out);
    out.push('\n');
}

/// What was wrong for a while.
fn over(case: &mut Case<'_>, out: &mut String) {
    let mut title = "Over while tcptrail watched\n";
    for found in case.found {
        let Some(end) = found.over.filter(|_| found.finding.severity != Severity::Note) else {
            continue;
        };
        out.push_str(title);
        title = "";
        let (from, to) = ((case.clock)(found.since), (case.clock)(end));
        let text = format!("- {from} to {to}: {}", found.finding.verdict);
        wrap(&text, 2, 4, case.width, out);
    }
    if title.is_empty() {
        out.push('\n');
    }
}

fn notes(case: &Case<'_>, out: &mut String) {
    let notes = case.found.iter().filter(|found| found.finding.severity == Severity::Note);
    let notes: Vec<&Finding> = notes.map(|found| &found.finding).collect();
    if notes.is_empty() {
        return;
    }
    out.push_str("Also seen\n");
    for note in notes {
        wrap(&format!("- {}", note.verdict), 2, 4, case.width, out);
    }
    out.push('\n');
}

/// Of a script the stack has the interpreter's functions only.
fn script_line(leak: &Leak, pid: u32) -> Option<String> {
    if leak.opener.is_some() {
        return None;
    }
    let comm = leak.comm.as_deref().unwrap_or_default();
    let hint = match comm {
        _ if comm.starts_with("python") => format!("py-spy dump --pid {pid}"),
        _ if comm.starts_with("ruby") => format!("rbspy snapshot --pid {pid}"),
        _ => format!("tcptrail leaks --pid {pid} --full"),
    };
    Some(format!(
        "Which line of {}[{pid}] opens them: the stack has no name of its own code. Try: {hint}",
        safe(comm)
    ))
}

/// What is not known, each with the command that finds out.
fn unknown(case: &Case<'_>, out: &mut String) {
    let about = &case.evidence.about;
    let mut lines = about.not_seen.clone();
    let accused: Vec<u32> = case
        .found
        .iter()
        .filter(|found| found.over.is_none())
        .filter_map(|found| found.finding.process?.pid)
        .collect();
    for leak in case.evidence.leaks.iter() {
        let Some(pid) = leak.pid.filter(|pid| accused.contains(pid)) else { continue };
        if leak.side.is_some() {
            lines.extend(script_line(leak, pid));
            continue;
        }
        lines.push(format!(
            "Who opened {} of process {pid}: they are older than this watch. One more of them is enough: \
             tcptrail leaks --pid {pid} --duration 10m",
            sockets(leak.count)
        ));
    }
    if about.stacks_lost > 0 {
        lines.push(format!(
            "Who opened up to {} sockets: their stacks were lost. Watch less at once: --pid PID",
            about.stacks_lost
        ));
    }
    for told in &case.evidence.jvms {
        if let Some(why) = &told.jvm.refused {
            let (comm, pid) = (safe(&told.jvm.comm), told.jvm.pid);
            lines.push(format!(
                "What the threads of {comm}[{pid}] do: {}. Ask it yourself: jcmd {pid} Thread.print",
                safe(why)
            ));
        }
    }
    if case.looked.lost > 0 {
        lines.push(format!(
            "{} events were lost on their way out of the kernel. A larger ring helps: --ring-size 64MiB",
            case.looked.lost
        ));
    }
    if lines.is_empty() {
        return;
    }
    out.push_str("Not known\n");
    for line in lines {
        wrap(&format!("- {line}"), 2, 4, case.width, out);
    }
    out.push('\n');
}

fn looked_at(case: &Case<'_>, out: &mut String) {
    let (looked, about) = (case.looked, &case.evidence.about);
    out.push_str("Looked at\n");
    let text = format!(
        "- {} at the end, {} and {} while it watched, {} lost; Linux {}, tcptrail {}",
        sockets(looked.sockets as u64),
        counted(looked.connections, "connection"),
        counted(looked.events, "event"),
        looked.lost,
        safe(&about.kernel),
        safe(&about.version)
    );
    wrap(&text, 2, 4, case.width, out);
    for told in &case.evidence.jvms {
        if told.jvm.refused.is_some() {
            continue;
        }
        let threads = told.dumps.last().map_or(0, Vec::len);
        let mut text = format!(
            "- {}[{}]: {}, the last of {}",
            safe(&told.jvm.comm),
            told.jvm.pid,
            counted(told.dumps.len() as u64, "thread dump"),
            counted(threads as u64, "thread")
        );
        if !told.classes.is_empty() {
            text.push_str("; on its heap");
            for (index, class) in told.classes.iter().take(8).enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let _ = write!(text, "{comma} {} {}", class.instances, class.name);
            }
        }
        wrap(&text, 2, 4, case.width, out);
    }
}
