//! Whose code it is: who opened, used and handled the sockets of a finding, and where those threads are now.

use std::fmt::Write;

use super::evidence::{Evidence, Leak};
use super::words::{counted, safe};
use crate::engine::rules::Finding;

/// Frames shown of where a thread is now.
const MOST_FRAMES: usize = 3;

/// Whether a line of `leaks` is about sockets of a finding.
pub(super) fn belongs(leak: &Leak, finding: &Finding) -> bool {
    let pid = finding.process.and_then(|process| process.pid);
    if pid.is_none() || leak.pid != pid {
        return false;
    }
    let there = match (&leak.remote, finding.remote, leak.local_port, finding.local_port) {
        (Some(leaks), Some(remote), _, _) => *leaks == remote.to_string(),
        (_, _, Some(leaks), Some(port)) => leaks == port,
        // Several endpoints on either side: they may be the same sockets.
        (None, _, None, _) | (_, None, _, None) => true,
        _ => false,
    };
    let named = |opener: &str| {
        let method = leak.opener.as_deref().map(|text| text.rsplit_once(':').map_or(text, |x| x.0));
        method.is_none_or(|method| method == opener)
    };
    there && finding.opener.as_deref().is_none_or(named)
}

pub(super) fn whose_code(evidence: &Evidence, finding: &Finding, leaks: &[&Leak]) -> Vec<String> {
    let mut lines = Vec::new();
    for leak in leaks.iter().filter(|leak| leak.side.is_some()) {
        let mut line = String::new();
        let did = match leak.side.as_deref() {
            Some("accept") => "accepted by",
            Some("last_read") => "last read by",
            _ => "opened by",
        };
        let opener = leak.opener.as_deref().map_or("code without a name".to_owned(), safe);
        let _ = write!(line, "{} {did} {opener}", counted(leak.count, "open socket"));
        if let Some(user) = &leak.user {
            let _ = write!(line, ", last used by {}", safe(user));
        }
        if let Some(handler) = &leak.handler {
            let _ = write!(line, ", handled by {}", safe(handler));
        }
        if let Some(thread) = &leak.thread {
            let _ = write!(line, ", thread {}", safe(thread));
        }
        lines.push(line);
        if let (Some(pid), Some(nid)) = (leak.pid, leak.nid) {
            lines.extend(where_now(evidence, pid, nid));
        }
    }
    if lines.is_empty() {
        lines.push(match (&finding.opener, finding.process) {
            (Some(opener), _) => format!("opened by {opener}"),
            (None, Some(_)) => {
                "unknown: the sockets were opened before the watch began, or their stacks were not seen"
                    .to_owned()
            }
            (None, None) => "no process holds them: the application has closed them".to_owned(),
        });
    }
    lines
}

fn where_now(evidence: &Evidence, pid: u32, nid: u32) -> Option<String> {
    let thread = evidence.thread(pid, nid)?;
    let mut line = format!("that thread is {} now", safe(thread.state.as_str()));
    if evidence.stays(pid, nid) {
        line.push_str(", in both dumps");
    }
    let own = thread.frames.iter().position(|frame| {
        let name = frame.split('(').next().unwrap_or(frame);
        crate::frame::Frame::java(name, None).kind == crate::frame::Kind::Application
    });
    // Of a thread of a pool that has nothing to do, one frame says it.
    let (from, most) = own.map_or((0, 1), |own| (own, MOST_FRAMES));
    for (index, frame) in thread.frames.iter().skip(from).take(most).enumerate() {
        line.push_str(if index == 0 { ", in " } else { " <- " });
        line.push_str(&safe(frame));
    }
    Some(line)
}
