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
mod runs_in;
mod screen;
mod stuck;
mod tail;
pub(crate) mod whose;

pub use leaks::Leaks;
pub use life::Life;
pub use list::List;
pub(crate) use runs_in::{Known, called, place_of, surroundings, where_room, whereabouts};
pub(crate) use stuck::object as finding_object;
pub use stuck::{Form, Stuck};
pub use tail::Tail;

use jiff::tz::TimeZone;

use crate::engine::Engine;
use crate::engine::conn::{Connection, Spent};
use crate::event::{Direction, Loss, LossCause};
use crate::filter::Filter;
use crate::input::Origin;
use crate::output::Run;
use crate::output::json::Object;
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
}

impl Pen {
    /// For this kind of output and the time zone of its reader.
    #[must_use]
    pub fn new(json: bool, terminal: Terminal, zone: TimeZone) -> Pen {
        let clock = Clock::new(Anchor { wall_at_zero: 0 }, zone);
        Pen { json, header: true, terminal, clock, cell: Vec::new() }
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
            .number("count", loss.count)
            .plain("where", loss.cause.name())
            .with("from", |out| quoted_time(&mut self.clock, loss.from, out))
            .with("to", |out| quoted_time(&mut self.clock, loss.to, out))
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
        object.number("events", totals.events).number("lost", totals.all_lost());
        for (cause, count) in LossCause::ALL.iter().zip(totals.lost) {
            if count != 0 {
                object.number(&format!("lost_{}", cause.name()), count);
            }
        }
        object
            .number("connections", totals.connections)
            .number("open", totals.open)
            .number("duration_ns", now.since(engine.origin().start()))
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
        .string("version", origin.version.as_bytes())
        .string("kernel", origin.kernel.as_bytes())
        .strings("hooks", origin.hooks.iter().map(String::as_str))
        .strings("filters", origin.filters.iter().map(String::as_str))
        .end();
}

fn quoted_time(clock: &mut Clock, at: MonoNs, out: &mut Vec<u8>) {
    out.push(b'"');
    clock.rfc3339(at, out);
    out.push(b'"');
}

/// `time` and `mono_ns`, which every line has.
pub(crate) fn times(object: &mut Object<'_>, clock: &mut Clock, at: MonoNs) {
    object.with("time", |out| quoted_time(clock, at, out)).number("mono_ns", at.0);
}

/// What says which socket it is and whose, in every line about one.
pub(crate) fn socket(object: &mut Object<'_>, engine: &Engine, conn: &Connection) {
    object
        .number_as_string("conn", conn.id.0)
        .number("netns", conn.netns)
        .plain("family", conn.tuple.family.name())
        .endpoint("local", conn.tuple.local())
        .endpoint("remote", conn.tuple.remote())
        .plain("role", conn.role.name());
    match &conn.owner {
        Some(owner) => {
            object.number_or_null("pid", owner.pid()).string("comm", owner.task.comm.bytes());
            // Of an inherited owner the thread is the listener's and says nothing here.
            if owner.task.tid == 0 || owner.source == crate::engine::conn::OwnerSource::Listener {
                object.null("tid").null("thread");
            } else {
                object.number("tid", owner.task.tid).string("thread", owner.task.thread.bytes());
            }
            object.number_or_null("fd", owner.fd()).plain("owner_source", owner.source.name());
        }
        None => {
            object
                .null("pid")
                .null("comm")
                .null("tid")
                .null("thread")
                .null("fd")
                .null("owner_source");
        }
    }
    let cgroup = (conn.cgroup != 0).then_some(conn.cgroup);
    object.number_or_null("cgroup_id", cgroup);
    called(object, &engine.names().place(conn.cgroup));
    if conn.interface() != 0 {
        let name = engine.names().interface(conn.netns, conn.interface());
        object.number("ifindex", conn.interface()).string_or_null("interface", name);
    }
    beyond::peer(object, engine, conn);
    beyond::remote(object, engine, conn);
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
