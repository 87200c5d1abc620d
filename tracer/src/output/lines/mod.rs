//! Lines for a person or a program to read: a view each, as text and as JSON.

mod again;
pub(crate) mod beyond;
pub(crate) mod drops;
mod ended;
pub(crate) mod ends;
mod leaks;
mod life;
pub(crate) mod list;
mod loss;
mod pieces;
mod runs_in;
mod screen;
mod stuck;
mod tail;
pub(crate) mod whose;

pub use leaks::Leaks;
pub use life::Life;
pub use list::List;
pub use pieces::Pieces;
use pieces::{Own, OwnPieces, Says};
pub(crate) use runs_in::{Known, called, place_of, surroundings, where_room, whereabouts};
pub(crate) use stuck::object as finding_object;
pub use stuck::{Form, Stuck};
pub use tail::Tail;

use jiff::tz::TimeZone;

use crate::engine::Engine;
use crate::engine::conn::{Connection, Owner, OwnerSource, Spent};
use crate::event::{Direction, Loss, LossCause};
use crate::filter::Filter;
use crate::input::Origin;
use crate::output::Run;
use crate::output::json::{Object, key};
use crate::text::{self, Terminal};
use crate::time::clock::Clock;
use crate::time::{Anchor, Human, MonoNs};

/// What all views write with.
#[derive(Debug)]
pub struct Pen {
    /// NDJSON, or text.
    pub json: bool,
    /// The names of columns have a line.
    pub header: bool,
    /// What stdout is.
    pub terminal: Terminal,
    /// Wall time.
    pub clock: Clock,
    /// Reused for cells.
    pub cell: Vec<u8>,
    /// Reused for JSON.
    pub pieces: Pieces,
}

impl Pen {
    /// For this kind of output and the time zone of its reader.
    #[must_use]
    pub fn new(json: bool, terminal: Terminal, zone: TimeZone) -> Pen {
        let clock = Clock::new(Anchor { wall_at_zero: 0 }, zone);
        let (cell, pieces) = (Vec::new(), Pieces::default());
        Pen { json, header: true, terminal, clock, cell, pieces }
    }

    /// The run begins: its clock, and in JSON the first line.
    pub(crate) fn begin(&mut self, engine: &Engine, out: &mut Vec<u8>) {
        let origin = engine.origin();
        self.clock.set_anchor(origin.anchor());
        if self.json {
            start(self, origin, out);
        }
    }

    /// Events that were lost.
    pub(crate) fn loss(&mut self, loss: &Loss, out: &mut Vec<u8>) {
        if !self.json {
            loss::line(self, loss, out);
            return;
        }
        let mut object = Object::event(out, "lost");
        times(&mut object, &mut self.clock, loss.to);
        object
            .number(key!("count"), loss.count)
            .plain(key!("where"), loss.cause.name())
            .with(key!("from"), |out| quoted_time(&mut self.clock, loss.from, out))
            .with(key!("to"), |out| quoted_time(&mut self.clock, loss.to, out))
            .end();
    }

    /// The run is over: in JSON the last line.
    pub(crate) fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) {
        if !self.json {
            return;
        }
        let &Run { engine, totals, now } = run;
        let mut object = Object::event(out, "end");
        times(&mut object, &mut self.clock, now);
        object.number(key!("events"), totals.events).number(key!("lost"), totals.all_lost());
        for (cause, count) in LossCause::ALL.iter().zip(totals.lost) {
            if count != 0 {
                object.number(&format!("lost_{}", cause.name()), count);
            }
        }
        object
            .number(key!("connections"), totals.connections)
            .number(key!("open"), totals.open)
            .number(key!("duration_ns"), now.since(engine.origin().start()))
            .end();
    }
}

/// What a view is made with.
#[derive(Debug)]
pub struct Setting {
    /// How it writes.
    pub pen: Pen,
    /// Which connections it shows.
    pub filter: Filter,
}

fn start(pen: &mut Pen, origin: &Origin, out: &mut Vec<u8>) {
    let mut object = Object::event(out, "start");
    times(&mut object, &mut pen.clock, origin.start());
    object
        .string(key!("version"), origin.version.as_bytes())
        .string(key!("kernel"), origin.kernel.as_bytes())
        .strings(key!("hooks"), origin.hooks.iter().map(String::as_str))
        .strings(key!("filters"), origin.filters.iter().map(String::as_str))
        .end();
}

fn quoted_time(clock: &mut Clock, at: MonoNs, out: &mut Vec<u8>) {
    out.push(b'"');
    clock.rfc3339(at, out);
    out.push(b'"');
}

/// `time` and `mono_ns`, which every line has.
pub(crate) fn times(object: &mut Object<'_>, clock: &mut Clock, at: MonoNs) {
    object.with(key!("time"), |out| quoted_time(clock, at, out)).number(key!("mono_ns"), at.0);
}

/// What says when, which socket it is and whose, in every line about one.
pub(crate) fn socket(
    object: &mut Object<'_>,
    pen: &mut Pen,
    engine: &Engine,
    (conn, at): (&Connection, MonoNs),
) {
    times(object, &mut pen.clock, at);
    let own = own(&mut pen.pieces.own, engine, conn);
    object.put(&own.which);
    match &conn.owner {
        Some(owner) => {
            // Of an inherited owner the thread is the listener's and says nothing here.
            let inherited = owner.source == OwnerSource::Listener;
            let says = (*owner.task, inherited);
            pen.pieces.tasks.put(object, owner.task.tid.into(), says, |object| {
                task(object, owner, inherited);
            });
            object
                .number_or_null(key!("fd"), owner.fd())
                .plain(key!("owner_source"), owner.source.name());
        }
        None => {
            object
                .null(key!("pid"))
                .null(key!("comm"))
                .null(key!("tid"))
                .null(key!("thread"))
                .null(key!("fd"))
                .null(key!("owner_source"));
        }
    }
    let names = engine.names();
    let says = (conn.cgroup, names.version());
    pen.pieces.places.put(object, conn.cgroup, says, |object| {
        let cgroup = (conn.cgroup != 0).then_some(conn.cgroup);
        object.number_or_null(key!("cgroup_id"), cgroup);
        called(object, &names.place(conn.cgroup));
    });
    if conn.interface() != 0 {
        let name = names.interface(conn.netns, conn.interface());
        object.number(key!("ifindex"), conn.interface()).string_or_null(key!("interface"), name);
    }
    beyond::peer(object, &mut pen.pieces.peers, engine, conn);
    object.put(&own.remote);
}

/// What a connection's lines have in common, whoever has it.
#[inline]
fn own<'p>(kept: &'p mut OwnPieces, engine: &Engine, conn: &Connection) -> &'p Own {
    let says = Says {
        id: conn.id,
        netns: conn.netns,
        tuple: conn.tuple,
        role: conn.role,
        real: engine.table().translation(conn).copied(),
        version: engine.names().version(),
    };
    kept.get(conn.id.0, says, |own| {
        own.which.clear();
        Object::piece(&mut own.which)
            .number_as_string(key!("conn"), conn.id.0)
            .number(key!("netns"), conn.netns)
            .plain(key!("family"), conn.tuple.family.name())
            .endpoint(key!("local"), conn.tuple.local())
            .endpoint(key!("remote"), conn.tuple.remote())
            .plain(key!("role"), conn.role.name());
        own.remote.clear();
        beyond::remote(&mut Object::piece(&mut own.remote), engine, conn);
    })
}

/// The task that has a socket: `pid`, `comm`, `tid`, `thread`.
fn task(object: &mut Object<'_>, owner: &Owner, inherited: bool) {
    let task = &owner.task;
    object.number_or_null(key!("pid"), owner.pid()).string(key!("comm"), task.comm.bytes());
    if task.tid == 0 || inherited {
        object.null(key!("tid")).null(key!("thread"));
    } else {
        object.number(key!("tid"), task.tid).string(key!("thread"), task.thread.bytes());
    }
}

/// A duration as text: `>=` a lower bound, `~` from a timer, `-` unknown.
pub(crate) fn spent(spent: Spent, out: &mut Vec<u8>) {
    let ns = match spent {
        Spent::Exactly(ns) => ns,
        Spent::About(ns) => {
            out.push(b'~');
            ns
        }
        Spent::AtLeast(ns) => {
            out.extend_from_slice(b">=");
            ns
        }
        Spent::Unknown => {
            out.push(b'-');
            return;
        }
    };
    human(ns, out);
}

/// A duration as people read it.
pub(crate) fn human(ns: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 16];
    let length = Human(ns).write(&mut digits);
    out.extend_from_slice(&digits[..length]);
}

/// Who has it: `java[31467]`, `?` unknown, and for orphans and queues what that means.
pub(crate) fn process(conn: &Connection, out: &mut Vec<u8>) {
    match &conn.owner {
        Some(owner) => text::process(&owner.task.comm, owner.pid(), out),
        None => out.push(b'?'),
    }
}

/// `sent` or `received`, as in the JSON contract.
pub(crate) const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Sent => "sent",
        Direction::Received => "received",
    }
}
