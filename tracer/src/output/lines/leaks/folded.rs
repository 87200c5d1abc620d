//! Folded stacks, as flame graph tools read them.

use std::collections::BTreeMap;
use std::io::Write;

use crate::engine::book::Book;
use crate::output::lines::leaks::find::{Findings, named};
use crate::text;

/// A line for each stack: the thread, the frames from the outermost on, and how many sockets.
pub(super) fn folded(findings: &Findings<'_>, book: &Book, out: &mut Vec<u8>) {
    let mut lines: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for group in &findings.groups {
        for conn in &group.conns {
            let mut line = Vec::new();
            let mut comm = Vec::new();
            text::name(group.comm.bytes(), &mut comm);
            part(&comm, &mut line);
            match book.seen(conn.id).and_then(|seen| seen.opener()) {
                Some(sighting) => {
                    line.push(b';');
                    let mut thread = Vec::new();
                    text::name(sighting.thread.bytes(), &mut thread);
                    part(&thread, &mut line);
                    let frames = named(book, sighting).map_or(&[][..], |named| &named.frames);
                    for frame in frames.iter().rev() {
                        line.push(b';');
                        let mut name = Vec::new();
                        text::name(frame.name.as_bytes(), &mut name);
                        part(&name, &mut line);
                    }
                    if frames.is_empty() {
                        line.extend_from_slice(b";[unknown]");
                    }
                }
                None if group.missed => line.extend_from_slice(b";[stack not seen]"),
                None => line.extend_from_slice(b";[opened before tcptrail started]"),
            }
            *lines.entry(line).or_insert(0) += 1;
        }
    }
    for (line, count) in lines {
        out.extend_from_slice(&line);
        let _ = writeln!(out, " {count}");
    }
}

/// A part of a folded line: the semicolon divides parts.
fn part(name: &[u8], line: &mut Vec<u8>) {
    line.extend(name.iter().map(|&byte| if byte == b';' { b':' } else { byte }));
}
