//! Openers: which code opened what is still open; the pane has its stack.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use tracer_common::TcpState;
use tracer_common::stack::StackKind;

use crate::engine::book::{Book, Seen, Sighting};
use crate::engine::conn::{Connection, Spent};
use crate::engine::open::is_open;
use crate::event::Comm;
use crate::frame::{Kind, opener};
use crate::output::top::tabs::cell::{
    Cell, Column, Fold, Paint, ends, figures, harmless, process, spent_text, text_column,
};
use crate::output::top::tabs::pane::Pane;
use crate::output::top::tabs::processes::by_state;
use crate::output::top::tabs::row::{OpenerKey, Row, RowId, Who};
use crate::output::top::tabs::scene::Scene;
use crate::output::top::tabs::table::Table;
use crate::output::top::words::Wanted;
use crate::time::MonoNs;

pub(super) const COLUMNS: &[Column] = &[
    text_column("PROCESS", 0, 24, Fold::Name, "their process"),
    figures("OPEN", 0, Fold::Sum, "sockets that are still open"),
    figures("CLOSE_WAIT", 1, Fold::Sum, "of those, closed by the peer: not needed any more"),
    figures("OLDEST", 0, Fold::Most, "how long the oldest has been open"),
    text_column(
        "DID",
        2,
        9,
        Fold::Same,
        "connected, accepted, read from them last, or handles their requests",
    ),
    text_column("OPENED BY", 0, 0, Fold::Same, "the application's method or function"),
];

#[derive(Default)]
struct Sum<'a> {
    comm: Comm,
    open: u64,
    close_wait: u64,
    oldest: Option<Spent>,
    /// Whose stack the pane shows: of the oldest.
    sighting: Option<&'a Sighting>,
    conns: Vec<&'a Connection>,
}

/// Who opened a socket, and with which stack.
fn who<'a>(scene: &Scene<'a>, conn: &Connection) -> (OpenerKey, Option<&'a Sighting>) {
    let book = &scene.engine.book;
    let owner = conn.owner.as_ref();
    let pid = owner.and_then(|owner| owner.pid()).unwrap_or(0);
    if let Some(sighting) = book.seen(conn.id).and_then(Seen::opener) {
        let accepted = sighting.kind != StackKind::Connect;
        let key = OpenerKey { pid: sighting.pid, accepted, who: named(book, sighting) };
        return (key, Some(sighting));
    }
    let known = scene.engine.watch().and_then(|watch| watch.openers.of(conn.id));
    let who = match known {
        Some(name) => Who::Code(Arc::clone(name)),
        None if conn.complete => Who::Unseen,
        None => Who::Before,
    };
    (OpenerKey { pid, accepted: false, who }, None)
}

fn named(book: &Book, sighting: &Sighting) -> Who {
    let frame = book.frames(sighting).and_then(opener);
    match (frame, sighting.stack) {
        (Some(frame), _) => Who::Code(frame.name.as_str().into()),
        (None, Some(stack)) => Who::Nameless(stack),
        (None, None) => Who::Unseen,
    }
}

fn sums<'a>(scene: &Scene<'a>, wanted: &'a Wanted) -> HashMap<OpenerKey, Sum<'a>, FixedState> {
    let mut sums: HashMap<OpenerKey, Sum<'_>, FixedState> = HashMap::default();
    for conn in scene.wanted(wanted).filter(|conn| is_open(conn) && conn.accepted) {
        let (key, sighting) = who(scene, conn);
        let sum = sums.entry(key).or_default();
        let age = open_for(conn, scene.now);
        if sum.open == 0
            && let Some(owner) = &conn.owner
        {
            sum.comm = owner.task.comm;
        }
        if sum.oldest.is_none_or(|oldest| age.ns() >= oldest.ns()) {
            sum.oldest = Some(age);
            sum.sighting = sighting.or(sum.sighting);
        }
        sum.open += 1;
        sum.close_wait += u64::from(conn.state == TcpState::CloseWait);
        sum.conns.push(conn);
    }
    sums
}

/// How long it has been open; of one that was there before at least this.
fn open_for(conn: &Connection, now: MonoNs) -> Spent {
    let ns = now.since(conn.born);
    if conn.complete { Spent::Exactly(ns) } else { Spent::at_least(ns) }
}

fn name(key: &OpenerKey, sum: &Sum<'_>) -> Cell {
    match &key.who {
        Who::Code(name) => Cell::text(harmless(name.as_bytes())),
        Who::Nameless(_) => {
            let thread = sum.sighting.map(|sighting| harmless(sighting.thread.bytes()));
            Cell::text(format!("thread {} (no names yet)", thread.unwrap_or_default()))
                .painted(Paint::Dim)
        }
        Who::Before => Cell::text("opened before the run began").painted(Paint::Dim),
        Who::Unseen => Cell::text("their opener was not seen").painted(Paint::Dim),
    }
}

pub(super) fn table(scene: &Scene<'_>, wanted: &Wanted) -> Table {
    let mut rows: Vec<(OpenerKey, Row)> = Vec::new();
    for (key, sum) in sums(scene, wanted) {
        let pid = (key.pid != 0).then_some(key.pid);
        let did = match (&key.who, sum.sighting.map(|sighting| sighting.kind)) {
            (Who::Before | Who::Unseen, _) => Cell::unknown(),
            (_, Some(StackKind::Read)) => Cell::text("read"),
            (_, Some(StackKind::Handle)) => Cell::text("handles"),
            (_, Some(StackKind::Accept)) => Cell::text("accepted"),
            (_, Some(StackKind::Connect) | None) => Cell::text("connected"),
        };
        let cells = vec![
            Cell::text(process(&sum.comm, pid)),
            Cell::count(sum.open),
            Cell::count(sum.close_wait).marked(Paint::Warn),
            Cell::spent(sum.oldest.unwrap_or(Spent::Unknown)),
            did,
            name(&key, &sum),
        ];
        let words = pid.map_or_else(String::new, |pid| format!("pid:{pid}"));
        rows.push((key.clone(), Row { id: RowId::Opener(key), cells, words }));
    }
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    Table::of(COLUMNS, rows, "nothing is open")
}

pub(super) fn pane(scene: &Scene<'_>, key: &OpenerKey, wanted: &Wanted) -> Option<Pane> {
    let sum = sums(scene, wanted).remove(key)?;
    let mut pane = Pane::new(name(key, &sum).text);
    let pid = (key.pid != 0).then_some(key.pid);
    pane.words = pid.map_or_else(String::new, |pid| format!("pid:{pid}"));
    pane.fact("process", process(&sum.comm, pid));
    pane.maybe("oldest", sum.oldest.map(|oldest| format!("open for {}", spent_text(oldest))));
    pane.heading("Stack of the oldest");
    match sum.sighting {
        Some(sighting) => {
            let thread = harmless(sighting.thread.bytes());
            pane.fact("thread", format!("{thread} (tid {})", sighting.tid));
            stack_lines(&mut pane, &scene.engine.book, sighting);
        }
        None => {
            pane.words(
                Paint::Dim,
                "no stack was taken: they are older than this run, or accepted (see --accepted), or this is a recording, which has only names",
            );
        }
    }
    pane.heading("Still open, by state");
    by_state(&mut pane, &sum.conns);
    pane.heading("The oldest");
    let mut conns = sum.conns;
    conns.sort_unstable_by_key(|conn| (conn.born, conn.id));
    for conn in conns.iter().take(10) {
        let age = spent_text(open_for(conn, scene.now));
        let (local, remote) = ends(scene.engine, conn);
        pane.line(Paint::Plain, format!("{age:>8}  {local} -> {remote}"));
    }
    Some(pane)
}

/// A stack, the innermost frame first; the application's own stand out.
pub(super) fn stack_lines(pane: &mut Pane, book: &Book, sighting: &Sighting) {
    let named = sighting.stack.and_then(|id| book.stack(id)).map(|stack| &stack.named);
    match named {
        None => {
            pane.words(Paint::Dim, "its stack was lost");
        }
        Some(None) => {
            pane.words(Paint::Dim, "its stack has no names yet");
        }
        Some(Some(named)) => {
            for frame in &named.frames {
                let paint = match frame.kind {
                    Kind::Application => Paint::Good,
                    Kind::Library => Paint::Plain,
                    Kind::Runtime | Kind::Unknown => Paint::Dim,
                };
                pane.line(paint, format!("  {}", harmless(frame.text().as_bytes())));
            }
            if let Some(note) = &named.note {
                pane.words(Paint::Dim, harmless(note.as_bytes()));
            }
        }
    }
}
