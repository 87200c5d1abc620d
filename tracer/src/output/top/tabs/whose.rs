//! Whose a connection is, in words.

use std::io::Write;

use crate::engine::conn::{Connection, Table};
pub(super) use crate::output::lines::whose::{Whose, whose};
use crate::text;

/// Whose it is, in words.
pub(crate) fn owner(table: &Table, conn: &Connection) -> String {
    let mut out = Vec::with_capacity(24);
    owner_into(table, conn, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn owner_into(table: &Table, conn: &Connection, out: &mut Vec<u8>) {
    without_holders(conn, out);
    if let more @ 2.. = table.holders_of(conn.id).len()
        && whose(conn) == Whose::Process
        && conn.owner.is_some()
    {
        // A write to a Vec cannot fail.
        let _ = write!(out, " +{}", more - 1);
    }
}

/// Whose it is, without how many others hold it.
pub(super) fn without_holders(conn: &Connection, out: &mut Vec<u8>) {
    let whose = whose(conn);
    let name = conn.owner.as_ref().filter(|_| whose != Whose::Handshake);
    out.extend_from_slice(match (whose, name.is_some()) {
        (Whose::Process, true) => b"",
        (Whose::Process, false) => b"?",
        (Whose::Kernel, true) => b"kernel, was ",
        (Whose::Kernel, false) => b"kernel",
        (Whose::Queue, true) => b"not accepted by ",
        (Whose::Queue, false) => b"not accepted",
        (Whose::Handshake, _) => b"kernel (handshake)",
    });
    let Some(owner) = name else { return };
    text::process(&owner.task.comm, owner.pid(), out);
}
