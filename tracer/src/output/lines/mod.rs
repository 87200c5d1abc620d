//! What is shown: each view turns changes into lines. Views read the table and never change it.

pub mod leaks;
pub mod life;
pub mod list;
pub mod stuck;
pub mod tail;

use crate::engine::conn::{Change, Connection, Spent, Table};
use crate::event::{Comm, Direction, Loss};
use crate::input::Origin;
use crate::names::Names;
use crate::output::json::Object;
use crate::text::{self, Terminal};
use crate::time::clock::Clock;
use crate::time::{Human, MonoNs};

/// What all views write with.
#[derive(Debug)]
pub struct Pen {
    /// Where and how the inputs were made.
    pub origin: Origin,
    /// NDJSON, or text.
    pub json: bool,
    /// What stdout is.
    pub terminal: Terminal,
    /// Names of cgroups and executables.
    pub names: Names,
    /// Wall time.
    pub clock: Clock,
    /// Reused for cells.
    pub cell: Vec<u8>,
}

/// A view.
#[derive(Debug)]
pub enum View {
    /// Transitions, retransmits, resets.
    Tail,
    /// Finished connections.
    Life {
        /// When their TIME_WAIT is over.
        with_time_wait: bool,
    },
    /// What there is, on demand.
    List,
    /// Who opened what is still open, on demand.
    Leaks {
        /// Nothing but stacks goes out.
        folded: bool,
    },
    /// What is stuck.
    Stuck {
        /// Drawn anew each time, on a terminal; else lines as findings come, change and go.
        frames: bool,
        /// Once, on demand.
        once: bool,
    },
    /// Nothing.
    Nothing,
}

impl View {
    /// What stands before everything else.
    pub fn head(&self, pen: &mut Pen, out: &mut Vec<u8>) {
        if pen.json {
            if !self.is_silent() {
                start(pen, out);
            }
            return;
        }
        match self {
            View::Tail => tail::header(pen, out),
            View::Life { .. } => life::header(pen, out),
            View::List | View::Leaks { .. } | View::Stuck { .. } | View::Nothing => {}
        }
    }

    /// Whether nothing but its own reports may go out.
    fn is_silent(&self) -> bool {
        matches!(self, View::Nothing | View::Leaks { folded: true })
    }

    /// One change of a connection that passed the filter.
    pub fn change(
        &self,
        pen: &mut Pen,
        table: &Table,
        conn: &Connection,
        change: &Change,
        out: &mut Vec<u8>,
    ) {
        match self {
            View::Tail => tail::change(pen, table, conn, change, out),
            View::Life { with_time_wait } => {
                life::change(pen, table, conn, change, *with_time_wait, out);
            }
            View::List | View::Leaks { .. } | View::Stuck { .. } | View::Nothing => {}
        }
    }

    /// Events that were lost.
    pub fn loss(&self, pen: &mut Pen, loss: &Loss, out: &mut Vec<u8>) {
        // A frame says so in its first line.
        let drawn = matches!(self, View::Stuck { frames: true, .. }) && !pen.json;
        if self.is_silent() || drawn {
            return;
        }
        if pen.json {
            let mut object = Object::event(out, "lost");
            times(&mut object, &mut pen.clock, loss.to);
            object
                .number("count", loss.count)
                .plain("where", loss.cause.name())
                .with("from", |out| quoted_time(&mut pen.clock, loss.from, out))
                .with("to", |out| quoted_time(&mut pen.clock, loss.to, out))
                .end();
        } else {
            tail::loss(pen, loss, out);
        }
    }
}

fn start(pen: &mut Pen, out: &mut Vec<u8>) {
    let mut object = Object::event(out, "start");
    times(&mut object, &mut pen.clock, pen.origin.start());
    object
        .string("version", pen.origin.version.as_bytes())
        .string("kernel", pen.origin.kernel.as_bytes())
        .strings("hooks", pen.origin.hooks.iter().map(String::as_str))
        .strings("filters", pen.origin.filters.iter().map(String::as_str))
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
pub(crate) fn socket(object: &mut Object<'_>, table: &Table, conn: &Connection) {
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
    match table.peer(conn) {
        Some(peer) => {
            object.number_as_string("peer_conn", peer.id.0);
            object.number_or_null("peer_pid", peer.pid);
            object.string_or_null("peer_comm", peer.comm.as_ref().map(Comm::bytes));
        }
        None => {
            object.null("peer_conn").null("peer_pid").null("peer_comm");
        }
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

/// Where it runs: `cgroup` (its path) and `container` (its id), in lines about sockets and ends.
pub(crate) fn surroundings(object: &mut Object<'_>, names: &Names, conn: &Connection) {
    let cgroup = names.cgroup(conn.cgroup);
    object
        .string_or_null("cgroup", cgroup)
        .string_or_null("container", cgroup.and_then(crate::names::container));
}
