//! The pane of one connection: its life, both ends, holders, opener, queues, round-trip times.

use tracer_common::TcpState;

use crate::engine::book::Seen;
use crate::engine::conn::{Connection, Ends, How};
use crate::event::{Direction, Shape, SockId};
use crate::output::lines::{beyond, drops};
use crate::output::top::model::MarkKind;
use crate::output::top::tabs::cell::{self, Paint, counted, harmless, process};
use crate::output::top::tabs::connections::words;
use crate::output::top::tabs::life::Life;
use crate::output::top::tabs::openers::stack_lines;
use crate::output::top::tabs::pane::{Pane, PaneLine};
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::whose::{Whose, owner, whose};
use crate::time::Human;

/// Marks that are written out.
const MOST_MARKS: usize = 12;
/// Holders that are written out.
const MOST_HOLDERS: usize = 20;

/// What is known of one connection.
pub(super) fn pane(scene: &Scene<'_>, id: SockId) -> Option<Pane> {
    let conn = scene.table().find_any(id)?;
    let (local, remote) = cell::ends(scene.engine, conn);
    let mut pane = Pane::new(format!("{local} -> {remote}"));
    pane.words = words(conn);
    let life = Life::of(conn, scene.model.marks.of(id), scene.now);
    pane.lines.push(PaneLine::Life(life));
    marks(&mut pane, scene, conn);
    ends(&mut pane, scene, conn);
    traffic(&mut pane, scene, conn);
    opener(&mut pane, scene, id);
    Some(pane)
}

/// When what went wrong.
fn marks(pane: &mut Pane, scene: &Scene<'_>, conn: &Connection) {
    let marks = scene.model.marks.of(conn.id);
    let skipped = marks.len().saturating_sub(MOST_MARKS);
    for mark in marks.iter().skip(skipped) {
        let after = Human(mark.at.since(conn.born));
        let what = match mark.kind {
            MarkKind::Retransmit(segment) => {
                format!("after {after}: {} sent again", segment.name().to_uppercase())
            }
            MarkKind::Reset(Direction::Sent) => format!("after {after}: RST sent"),
            MarkKind::Reset(Direction::Received) => format!("after {after}: RST received"),
        };
        pane.line(Paint::Warn, what);
    }
}

/// Both ends: who holds it here, and who is at the other end where that is this machine.
fn ends(pane: &mut Pane, scene: &Scene<'_>, conn: &Connection) {
    pane.heading("Ends");
    pane.fact("socket", format!("cookie {} (sk:{:x} in ss -e)", conn.id.0, conn.id.0));
    pane.fact("role", conn.role.name());
    let holders = scene.table().holders_of(conn.id);
    if whose(conn) != Whose::Process || holders.is_empty() {
        pane.fact("held by", owner(scene.table(), conn));
    } else {
        for (at, holder) in holders.iter().take(MOST_HOLDERS).enumerate() {
            let name = if at == 0 { "held by" } else { "" };
            let who = process(&holder.comm, Some(holder.pid));
            pane.fact(name, format!("{who} fd {}", holder.fd));
        }
        if holders.len() > MOST_HOLDERS {
            let more = (holders.len() - MOST_HOLDERS) as u64;
            pane.fact("", format!("and {} more", counted(more, "descriptor")));
        }
    }
    if let Some(peer) = scene.table().peer(conn) {
        let name = peer.comm.map_or_else(|| "?".to_owned(), |comm| process(&comm, peer.pid));
        pane.fact("other end", format!("{name}, on this machine"));
    }
    let mut known = Vec::new();
    beyond::in_words(scene.engine, conn, &mut known);
    if !known.is_empty() {
        pane.fact("remote is", String::from_utf8_lossy(&known).into_owned());
    }
    let names = scene.engine.names();
    if let Some(cgroup) = names.cgroup(conn.cgroup) {
        pane.fact("cgroup", harmless(cgroup));
    }
    let place = names.place(conn.cgroup);
    if let Some(service) = place.service {
        pane.fact("service", harmless(service));
    }
    if let Some(id) = place.container {
        pane.fact("container", harmless(id));
    }
    if let Some(name) = place.container_name {
        pane.fact("container name", harmless(name));
    }
    if let (Some(namespace), Some(pod)) = (place.namespace, place.pod) {
        pane.fact("pod", format!("{}/{}", harmless(namespace), harmless(pod)));
    }
    pane.fact("netns", conn.netns.to_string());
    match conn.first_close {
        Ends::None => {}
        ends => {
            pane.fact("closed first", ends.name());
        }
    }
    if conn.how != How::Unknown && conn.state == TcpState::TimeWait {
        pane.fact("ended by", conn.how.name());
    }
}

/// What went over it.
fn traffic(pane: &mut Pane, scene: &Scene<'_>, conn: &Connection) {
    let walked = scene.model.walked.map(|at| Human(scene.now.since(at)));
    let as_of = walked.map_or_else(String::new, |ago| format!(" (walk {ago} ago)"));
    pane.heading("Traffic");
    if conn.shape == Shape::Full {
        pane.fact(
            "queues",
            format!(
                "{} not read, {} not acknowledged{as_of}",
                counted(u64::from(conn.recv_queue), "byte"),
                counted(u64::from(conn.send_queue), "byte"),
            ),
        );
    }
    match conn.counters() {
        Some(counters) => {
            pane.fact(
                "payload",
                format!(
                    "{} sent, {} received",
                    counted(counters.bytes_sent, "byte"),
                    counted(counters.bytes_received, "byte")
                ),
            );
            pane.fact("sent again", counted(u64::from(counters.retransmits), "segment"));
            pane.maybe("RTT", counters.srtt_us.map(|us| Human(u64::from(us) * 1_000).to_string()));
        }
        None => {
            let why = match conn.shape {
                Shape::Full => "unknown: tcptrail has not read it yet",
                Shape::Request | Shape::Mini => "unknown: the kernel keeps no counters for it",
            };
            pane.painted("payload", Paint::Dim, why);
        }
    }
    dropped(pane, scene, conn);
    pane.maybe("handshake", conn.handshake_ns().map(|ns| Human(ns).to_string()));
    if let Some(ns) = conn.accept_ns() {
        pane.fact("accepted", format!("after at most {}", Human(ns)));
    }
    let rtts = scene.model.marks.rtts(conn.id);
    if let (Some(first), Some(least), Some(most)) = (
        rtts.first(),
        rtts.iter().map(|(_, rtt)| *rtt).min(),
        rtts.iter().map(|(_, rtt)| *rtt).max(),
    ) {
        let us = |us: u32| Human(u64::from(us) * 1_000);
        let since = Human(scene.now.since(first.0));
        let said = format!("{} to {} in {since}", us(least), us(most));
        let values = rtts.iter().map(|(_, rtt)| *rtt).collect();
        pane.lines.push(PaneLine::Spark("RTT over time", values, said));
    }
}

/// Which of its segments the kernel threw away, and why.
fn dropped(pane: &mut Pane, scene: &Scene<'_>, conn: &Connection) {
    let mut words = Vec::new();
    drops::of_connection(scene.engine, conn, &mut words);
    if !words.is_empty() {
        pane.painted("dropped", Paint::Bad, String::from_utf8_lossy(&words));
    }
}

/// Which code opened it.
fn opener(pane: &mut Pane, scene: &Scene<'_>, id: SockId) {
    pane.heading("Opened by");
    let book = &scene.engine.book;
    if let Some(sighting) = book.seen(id).and_then(Seen::opener) {
        let thread = harmless(sighting.thread.bytes());
        pane.fact("thread", format!("{thread} (tid {}) of process {}", sighting.tid, sighting.pid));
        stack_lines(pane, book, sighting);
        return;
    }
    let known = scene.engine.watch().and_then(|watch| watch.openers.of(id));
    match known {
        Some(name) => pane.line(Paint::Plain, harmless(name.as_bytes())),
        None if book.is_empty() => pane.words(
            Paint::Dim,
            "unknown: no stacks were taken (recordings have only the openers' names)",
        ),
        None => pane.words(
            Paint::Dim,
            "unknown: it was opened before the run began, or accepted (see --accepted)",
        ),
    };
}
