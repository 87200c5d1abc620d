//! What a segment begins with: the sockets there are, their holders and names, as a walk over everything would give
//! them.
//!
//! A row says "it was in this state at this moment". The first row of a socket is of the moment it entered its state, so
//! that its age is what it was; a second one of when it was last met has its queues as they were then. More is not
//! claimed: how a connection came about, which side opened it and for how long it was in earlier states no row can
//! say, so a replay that begins here treats it as a live run does what was there before.

use tracer_common::TcpState;
use tracer_common::wire::{
    AF_INET, AF_INET6, HolderRow, Record, RecordKind, SocketRow, ends, flags,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::engine::Engine;
use crate::engine::conn::{Connection, Mark, Poll, PollKind};
use crate::event::{Family, Holder, Shape};
use crate::input::Input;
use crate::names::{self, Entry, Translation};
use crate::time::MonoNs;

/// TIME_WAIT (TCP_TIMEWAIT_LEN): for a mini-socket whose timer is not known.
const TIME_WAIT_NS: u64 = 60_000_000_000;
/// A SYN-ACK's first timeout (TCP_TIMEOUT_INIT); it is sent just then.
const FIRST_TIMEOUT_NS: u64 = 1_000_000_000;

/// Gives the inputs that make a table like this one, and the tick that ends them. `facts` is what was last read of
/// processes and namespaces.
///
/// # Errors
/// What `push` returns.
pub(super) fn write<E>(
    engine: &Engine,
    facts: &[u8],
    now: MonoNs,
    mut push: impl FnMut(&Input<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut bytes = engine.names().all();
    if let Some(watch) = engine.watch() {
        for (id, opener) in watch.openers.iter() {
            names::encode(Entry::Opener(id.0), opener.as_bytes(), &mut bytes);
        }
    }
    push(&Input::Names(&bytes))?;
    // What older versions do not know, apart.
    push(&Input::Names(&engine.names().remotes()))?;
    push(&Input::PollBegin)?;
    let mut netns = Vec::new();
    let holders = engine.table().holders();
    // Before 5.12 sockets are told apart by their addresses, and what stands at one later cannot be known from here. The
    // next walk, within half a minute, shows them.
    let named = holders.iter().all(|holder| holder.address == 0);
    let there_is = |conn: &&Connection| named && conn.state != TcpState::Close;
    for conn in engine.table().iter().filter(there_is) {
        netns.push(conn.netns);
        for row in rows(conn, engine.origin().jiffy_ns) {
            push(&Input::Record(row.as_bytes()))?;
        }
    }
    netns.sort_unstable();
    netns.dedup();
    push(&Input::PollEnd { poll: Poll { began: now, netns, kind: PollKind::All }, now })?;
    let mut bytes = Vec::new();
    for holder in holders.iter().filter(|_| named) {
        bytes.extend_from_slice(holder_row(holder).as_bytes());
    }
    push(&Input::Holders(&bytes))?;
    push(&Input::Names(&translations(engine)))?;
    push(&Input::Facts(facts))?;
    push(&Input::Tick(now))
}

/// Where connections really go; after their rows, because it is kept only of those that there are.
fn translations(engine: &Engine) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, ends) in engine.table().translations() {
        let translation = Translation {
            local: (ends.local_addr, ends.local_port),
            remote: (ends.remote_addr, ends.remote_port),
        };
        names::encode(Entry::Translation(id.0), &translation.encode(), &mut bytes);
    }
    bytes
}

fn rows(conn: &Connection, jiffy_ns: u64) -> impl Iterator<Item = SocketRow> {
    let first = row(conn, first_seen(conn), jiffy_ns);
    let later = conn.shape == Shape::Full && conn.last > conn.entered;
    let later = later.then(|| row(conn, conn.last, jiffy_ns));
    std::iter::once(first).chain(later)
}

/// When the first row of a socket is of. A request's age is told from its last SYN-ACK: the timer of each is twice as long as
/// the one before (`reqsk_timer_handler`), so the n-th was sent again 2^n - 1 s after the first.
fn first_seen(conn: &Connection) -> MonoNs {
    match conn.shape {
        Shape::Request => {
            conn.entered.after(((1 << conn.retransmits.synack.min(16)) - 1) * FIRST_TIMEOUT_NS)
        }
        Shape::Full | Shape::Mini => conn.entered,
    }
}

fn row(conn: &Connection, at: MonoNs, jiffy_ns: u64) -> SocketRow {
    let mut row = SocketRow::new_zeroed();
    row.record = record(conn, at);
    let jiffies = |ns: u64| u32::try_from(ns / jiffy_ns.max(1)).unwrap_or(u32::MAX);
    let left = |usual: u64| match conn.expires {
        MonoNs(0) => jiffies(usual),
        expires => jiffies(expires.since(at)),
    };
    match conn.shape {
        Shape::Full if at >= conn.last => {
            (row.recv_queue, row.send_queue) = (conn.recv_queue, conn.send_queue);
        }
        Shape::Full => {}
        Shape::Mini => row.timer = left(TIME_WAIT_NS),
        Shape::Request => {
            row.record.retransmits = conn.retransmits.synack.into();
            row.timer = jiffies(FIRST_TIMEOUT_NS << conn.retransmits.synack.min(16));
        }
    }
    row.deferred = u8::from(conn.mark == Mark::Deferred);
    row
}

fn record(conn: &Connection, at: MonoNs) -> Record {
    let mut record = Record::new_zeroed();
    record.mono_ns = at.0;
    record.id = conn.id.0;
    record.netns = conn.netns;
    record.kind = RecordKind::Socket as u8;
    (record.local_port, record.remote_port) = (conn.tuple.local_port, conn.tuple.remote_port);
    (record.old_state, record.new_state) = (conn.state.number(), conn.state.number());
    (record.local_addr, record.remote_addr) = (conn.tuple.local_addr, conn.tuple.remote_addr);
    record.family = AF_INET6;
    if conn.tuple.family == Family::V4 {
        record.family = AF_INET;
        for addr in [&mut record.local_addr, &mut record.remote_addr] {
            addr.copy_within(12.., 0);
            addr[4..].fill(0);
        }
    }
    let set = [
        (conn.orphan, flags::DEAD),
        (conn.accepted, flags::HAS_SOCKET),
        (conn.shape == Shape::Request, flags::REQUEST),
        (conn.shape == Shape::Mini, flags::MINI),
    ];
    record.flags = set.iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | flag);
    // Without an owner this is the interface.
    record.pid = conn.interface();
    record.cgroup = conn.cgroup;
    if let Some(counters) = conn.counters().filter(|_| conn.shape == Shape::Full) {
        record.flags |= flags::COUNTERS;
        record.bytes_sent = counters.bytes_sent;
        record.bytes_received = counters.bytes_received;
        record.retransmits = counters.retransmits;
        record.srtt_us = counters.srtt_us.unwrap_or(0);
    }
    record
}

fn holder_row(holder: &Holder) -> HolderRow {
    let end = |is: bool, bit: u8| if is { bit } else { 0 };
    HolderRow {
        id: holder.id.0,
        start_ns: holder.start_ns,
        pid: holder.pid,
        fd: holder.fd,
        comm: holder.comm.0,
        netns: holder.netns,
        flags: 0,
        state: holder.state.map_or(0, TcpState::number),
        ends: end(holder.bound, ends::BOUND) | end(holder.connected, ends::CONNECTED),
        mono_ns: holder.at.0,
    }
}
