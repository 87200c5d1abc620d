//! What is at the other end of a connection, or of those of a finding: its process, what its address and port are called,
//! and where the connection really goes; in JSON and for people.

use std::net::SocketAddr;

use crate::engine::Engine;
use crate::engine::conn::{Connection, Role};
use crate::engine::rules::Finding;
use crate::event::Comm;
use crate::names::{HostSource, Names, bytes_of};
use crate::output::json::{Object, key};
use crate::output::lines::pieces::PeerPieces;
use crate::text::{self, Paint, Row};

/// The other end, where it is on this machine.
pub(super) fn peer(
    object: &mut Object<'_>,
    kept: &mut PeerPieces,
    engine: &Engine,
    conn: &Connection,
) {
    let Some(peer) = engine.table().peer(conn) else {
        object.null(key!("peer_conn")).null(key!("peer_pid")).null(key!("peer_comm"));
        return;
    };
    object.number_as_string(key!("peer_conn"), peer.id.0);
    let names = engine.names();
    let says = (peer.pid, peer.comm, peer.cgroup, names.version());
    kept.put(object, peer.pid.unwrap_or(0).into(), says, |object| {
        let place = names.place(peer.cgroup);
        object
            .number_or_null(key!("peer_pid"), peer.pid)
            .string_or_null(key!("peer_comm"), peer.comm.as_ref().map(Comm::bytes))
            .string_or_null(key!("peer_service"), place.service)
            .string_or_null(key!("peer_container_name"), place.container_name)
            .string_or_null(key!("peer_pod"), place.pod)
            .string_or_null(key!("peer_k8s_namespace"), place.namespace);
    });
}

/// What the remote end is called, and where the connection really goes.
pub(super) fn remote(object: &mut Object<'_>, engine: &Engine, conn: &Connection) {
    let names = engine.names();
    match host(names, conn) {
        Some((name, source)) => {
            object
                .string(key!("remote_name"), name)
                .plain(key!("remote_name_source"), source.name());
        }
        None => {
            object.null(key!("remote_name"));
        }
    }
    object.string_or_null(key!("port_name"), port(names, conn));
    match engine.table().translation(conn) {
        Some(real) => object.endpoint(key!("remote_real"), real.remote()),
        None => object.null(key!("remote_real")),
    };
}

/// The same in a text: `postgresql on db.internal, NAT to 10.1.0.7:5432`; nothing where nothing is known. A name of
/// loopback says no more than its address.
pub(crate) fn in_words(engine: &Engine, conn: &Connection, out: &mut Vec<u8>) {
    let (names, before) = (engine.names(), out.len());
    let is_server = matches!(conn.role, Role::Server | Role::Listener);
    if !is_server
        && server_end(conn) == Some(conn.tuple.remote_port)
        && let Some(port) = names.port(conn.tuple.remote_port)
    {
        text::name(port, out);
    }
    if let Some((name, _)) = host(names, conn).filter(|_| !conn.tuple.remote().ip().is_loopback()) {
        out.extend_from_slice(if out.len() > before { b" on " } else { b"" });
        text::name(name, out);
    }
    if let Some(real) = engine.table().translation(conn) {
        out.extend_from_slice(if out.len() > before { b", " } else { b"" });
        out.extend_from_slice(b"NAT to ");
        text::endpoint(real.remote(), out);
    }
}

/// Whether there is more to say than the name of a port, which many lines would repeat.
fn is_worth_a_line(engine: &Engine, conn: &Connection) -> bool {
    let named = !conn.tuple.remote().ip().is_loopback() && host(engine.names(), conn).is_some();
    named || engine.table().translation(conn).is_some()
}

/// The same at the end of the row of an event, if that has room for it.
pub(super) fn of_event(row: &mut Row<'_>, engine: &Engine, conn: &Connection, cell: &mut Vec<u8>) {
    if is_worth_a_line(engine, conn) {
        where_room(row, engine, conn, cell);
    }
}

/// The same at the end of a row, if that has room for it.
pub(super) fn where_room(
    row: &mut Row<'_>,
    engine: &Engine,
    conn: &Connection,
    cell: &mut Vec<u8>,
) {
    cell.clear();
    cell.extend_from_slice(b"| ");
    let empty = cell.len();
    in_words(engine, conn, cell);
    if cell.len() > empty && row.has_room(text::columns(cell)) {
        row.cell(0, Paint::Dim, cell);
    }
}

/// What is at the other end of what a finding is about, kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Beyond {
    name: Option<(Box<[u8]>, HostSource)>,
    port: Option<Box<[u8]>>,
    /// Where each of its samples really goes.
    real: Vec<Option<SocketAddr>>,
}

impl Beyond {
    /// Of a finding, while its sockets are known.
    pub(crate) fn of(engine: &Engine, finding: &Finding) -> Beyond {
        let (names, table) = (engine.names(), engine.table());
        let host = finding.remote.and_then(|remote| names.host(&bytes_of(remote.ip())));
        let port = finding.remote.map(|remote| remote.port()).or(finding.local_port);
        let real = finding.conns.iter().map(|sample| {
            let conn = table.find_any(sample.id)?;
            Some(table.translation(conn)?.remote())
        });
        Beyond {
            name: host.map(|(name, source)| (name.into(), source)),
            port: port.and_then(|port| names.port(port)).map(Box::from),
            real: real.collect(),
        }
    }

    /// Where a sample really goes.
    pub(super) fn real_of(&self, sample: usize) -> Option<SocketAddr> {
        self.real.get(sample).copied().flatten()
    }

    /// Where all of them really go, where that is one place.
    fn real(&self) -> Option<SocketAddr> {
        let first = self.real_of(0)?;
        self.real.iter().all(|real| *real == Some(first)).then_some(first)
    }

    /// The same fields as of a connection.
    pub(super) fn fields(&self, object: &mut Object<'_>) {
        object.string_or_null(key!("remote_name"), self.name.as_ref().map(|(name, _)| &**name));
        if let Some((_, source)) = &self.name {
            object.plain(key!("remote_name_source"), source.name());
        }
        object.string_or_null(key!("port_name"), self.port.as_deref());
        match self.real() {
            Some(real) => object.endpoint(key!("remote_real"), real),
            None => object.null(key!("remote_real")),
        };
    }

    /// As [`in_words`], of the remote end of a finding.
    pub(super) fn in_words(&self, remote: Option<SocketAddr>, out: &mut Vec<u8>) {
        if remote.is_none_or(|remote| remote.ip().is_loopback()) && self.real().is_none() {
            return;
        }
        let before = out.len();
        if let Some((name, _)) = &self.name {
            if let Some(port) = &self.port {
                text::name(port, out);
                out.extend_from_slice(b" on ");
            }
            text::name(name, out);
        }
        if let Some(real) = self.real() {
            if out.len() > before {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(b"NAT to ");
            text::endpoint(real, out);
        }
    }
}

fn host<'n>(names: &'n Names, conn: &Connection) -> Option<(&'n [u8], HostSource)> {
    (conn.tuple.remote_port != 0).then(|| names.host(&conn.tuple.remote_addr)).flatten()
}

/// Of the server's end.
fn port<'n>(names: &'n Names, conn: &Connection) -> Option<&'n [u8]> {
    names.port(server_end(conn)?)
}

/// The server's port. Where the side is not known, the lower one is taken for that.
fn server_end(conn: &Connection) -> Option<u16> {
    let (local, remote) = (conn.tuple.local_port, conn.tuple.remote_port);
    let port = match conn.role {
        Role::Client => remote,
        Role::Server | Role::Listener => local,
        Role::Unknown => local.min(remote),
    };
    (port != 0).then_some(port)
}
