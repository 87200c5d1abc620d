//! How a connection ended, and why it was never established, in words and in JSON.

use std::io::Write;

use crate::engine::conn::{Connection, Ends, Failed, How, Role, errno_name};
use crate::output::json::Object;
use crate::text::{Paint, Row};

/// Who ended it and how, in at most thirteen characters.
pub(super) fn how(conn: &Connection) -> (&'static str, Paint) {
    if let Some(failed) = conn.failed {
        let paint = if failed == Failed::Unknown { Paint::Warn } else { Paint::Bad };
        return (word(failed), paint);
    }
    match (conn.how, conn.first_close) {
        (How::Fin, Ends::Local) => ("we closed", Paint::Plain),
        (How::Fin, Ends::Remote) => ("peer closed", Paint::Plain),
        (How::Fin, Ends::None) => ("closed", Paint::Plain),
        (How::RstSent, _) => ("reset by us", Paint::Bad),
        (How::RstReceived, _) => ("reset by peer", Paint::Bad),
        (How::Timeout, _) => ("timed out", Paint::Bad),
        (How::Refused, _) => ("refused", Paint::Bad),
        (How::Unreachable, _) => ("unreachable", Paint::Bad),
        (How::Aborted, _) => ("aborted", Paint::Bad),
        (How::Unknown, _) => ("end not seen", Paint::Warn),
    }
}

/// `how`, `failed` and `errno` of the JSON contract.
pub(super) fn fields(object: &mut Object<'_>, conn: &Connection) {
    object
        .plain("how", conn.how.name())
        .string_or_null("failed", conn.failed.map(|failed| failed.name().as_bytes()));
    match conn.error {
        0 => object.null("errno"),
        errno => match errno_name(errno) {
            Some(name) => object.plain("errno", name),
            None => object.string("errno", format!("errno {errno}").as_bytes()),
        },
    };
}

/// Why it was never established: cells at the end of a row.
pub(super) fn remarks(row: &mut Row<'_>, conn: &Connection, failed: Failed, cell: &mut Vec<u8>) {
    for write in [why, errno] {
        cell.clear();
        write(conn, failed, cell);
        if !cell.is_empty() {
            row.cell(0, Paint::Bad, cell);
        }
    }
}

/// What stands where others have how they ended, in at most thirteen characters.
pub(super) const fn word(failed: Failed) -> &'static str {
    match failed {
        Failed::Refused => "refused",
        Failed::Timeout => "timed out",
        Failed::Unreachable => "unreachable",
        Failed::Reset => "reset by peer",
        Failed::GivenUp => "given up",
        Failed::NoPort => "no free port",
        Failed::Aborted => "aborted",
        Failed::Unknown => "end not seen",
    }
}

/// What the word does not say: `3 SYNs, no answer`, `the program stopped waiting; 1 SYN, no answer`.
pub(super) fn why(conn: &Connection, failed: Failed, cell: &mut Vec<u8>) {
    // The kernel counts SYN-ACKs; of SYNs some may be missing when the beginning was not seen.
    let (segment, again, known) = match conn.role {
        Role::Server => ("SYN-ACK", conn.retransmits.synack, conn.retransmits.synack != 0),
        _ => ("SYN", conn.retransmits.syn, conn.complete),
    };
    let count = u32::from(again) + 1;
    let least = if known && again != u8::MAX { "" } else { "at least " };
    let s = if count == 1 && least.is_empty() { "" } else { "s" };
    let sent = format_args!("{least}{count} {segment}{s}");
    // A write to a Vec cannot fail.
    let _ = match failed {
        Failed::Timeout => write!(cell, "{sent}, no answer"),
        Failed::GivenUp => write!(cell, "the program stopped waiting; {sent}, no answer"),
        Failed::Refused => match conn.rst_received {
            true => write!(cell, "a RST came back"),
            false => write!(cell, "a RST or ICMP came back"),
        },
        Failed::Unreachable => write!(cell, "ICMP error, or no route"),
        Failed::Reset => write!(cell, "in the handshake"),
        Failed::NoPort => write!(cell, "no SYN was sent"),
        Failed::Aborted => write!(cell, "after {sent}"),
        Failed::Unknown => write!(cell, "gone after {sent}"),
    };
}

/// The error that the program got, where it got one.
fn errno(conn: &Connection, failed: Failed, cell: &mut Vec<u8>) {
    let _ = match (failed, conn.error) {
        // connect() returns it without setting sk_err.
        (Failed::NoPort, 0) => write!(cell, "EADDRNOTAVAIL"),
        (_, 0) => Ok(()),
        (_, errno) => match errno_name(errno) {
            Some(name) => write!(cell, "{name}"),
            None => write!(cell, "errno {errno}"),
        },
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_fit_their_column() {
        for failed in [
            Failed::Refused,
            Failed::Timeout,
            Failed::Unreachable,
            Failed::Reset,
            Failed::GivenUp,
            Failed::NoPort,
            Failed::Aborted,
            Failed::Unknown,
        ] {
            assert!(word(failed).len() <= 13, "{failed:?}");
        }
    }
}
