//! Asks the kernel for single sockets, and gives its answers as rows, like those of a walk: where few are looked for
//! among many, a walk over all costs a hundred times as much.

use std::collections::BTreeMap;

use rustix::io;
use tracer_common::TcpState;
use tracer_common::wire::{AF_INET6, Record, RecordKind, SocketRow, flags};
use zerocopy::{FromZeros, IntoBytes};

use super::netns::Way;
use super::places::is_in;
use super::sock_diag::{Address, SockDiag, TIMER_OF_MINI, TIMER_OF_REQUEST, Told};
use crate::engine::conn::Question;
use crate::event::Shape;
use crate::time::MonoNs;

/// Whether the kernel answers here. Where it cannot, it says of every socket that there is none.
///
/// # Errors
/// Its words.
pub(super) fn probe() -> Result<(), String> {
    SockDiag::open().and_then(|mut diag| diag.probe()).map_err(|error| error.to_string())
}

/// Asks, namespace by namespace. Of what is in one that cannot be entered there is no answer.
pub(super) fn ask(
    questions: &[Question],
    namespaces: &BTreeMap<u32, Way>,
    jiffy_ns: u64,
) -> io::Result<Vec<u8>> {
    let mut rows = Vec::new();
    for (&inode, way) in namespaces {
        if !is_in(inode, way) {
            continue;
        }
        let mut diag = SockDiag::open()?;
        for question in questions.iter().filter(|question| question.netns == inode) {
            let before = MonoNs::now();
            let told = diag.tell(&address(question))?;
            if let Some(row) = row(question, told.as_ref(), before, jiffy_ns) {
                rows.extend_from_slice(row.as_bytes());
            }
        }
    }
    Ok(rows)
}

fn address(question: &Question) -> Address {
    Address {
        local: question.tuple.local(),
        remote: question.tuple.remote(),
        interface: question.interface,
        cookie: question.id.0,
    }
}

/// What the answer says, if anything. What is there was so `before`; what is not is gone by now.
fn row(
    question: &Question,
    told: Option<&Told>,
    before: MonoNs,
    jiffy_ns: u64,
) -> Option<SocketRow> {
    let mut row = SocketRow::new_zeroed();
    let (state, at, more) = match (question.shape, told) {
        (Shape::Mini, Some(told)) if told.timer == TIMER_OF_MINI => (told.state?, before, 0),
        (Shape::Request, Some(told)) if told.timer == TIMER_OF_REQUEST => {
            row.record.retransmits = told.retransmits.into();
            (TcpState::SynRecv, before, 0)
        }
        (Shape::Full, Some(told)) if told.inode != 0 => {
            (TcpState::Close, MonoNs::now(), flags::HAS_SOCKET)
        }
        (Shape::Mini | Shape::Request, None) => (TcpState::Close, MonoNs::now(), 0),
        // Another socket has its identity by now, or events will tell.
        _ => return None,
    };
    let shape = match question.shape {
        Shape::Mini => flags::MINI,
        Shape::Request => flags::REQUEST,
        Shape::Full => 0,
    };
    let expires_ns = told.map_or(0, |told| u64::from(told.expires_ms).saturating_mul(1_000_000));
    row.timer = u32::try_from(expires_ns / jiffy_ns.max(1)).unwrap_or(u32::MAX);
    row.record = Record {
        mono_ns: at.0,
        id: question.id.0,
        netns: question.netns,
        kind: RecordKind::Socket as u8,
        family: AF_INET6,
        old_state: state.number(),
        new_state: state.number(),
        flags: shape | more,
        local_port: question.tuple.local_port,
        remote_port: question.tuple.remote_port,
        local_addr: question.tuple.local_addr,
        remote_addr: question.tuple.remote_addr,
        pid: question.interface,
        ..row.record
    };
    Some(row)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::engine::decode;
    use crate::event::{Family, SockId, Tuple, What};

    fn question(shape: Shape) -> Question {
        let mapped = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last];
        let tuple = Tuple {
            local_addr: mapped(1),
            remote_addr: mapped(2),
            local_port: 40_000,
            remote_port: 80,
            family: Family::V4,
        };
        Question { id: SockId(7), netns: 1, tuple, interface: 3, shape }
    }

    #[test]
    fn answers_are_rows() {
        let mini = Told {
            state: Some(TcpState::FinWait2),
            timer: TIMER_OF_MINI,
            retransmits: 0,
            expires_ms: 1_234,
            inode: 0,
        };
        let request = Told { timer: TIMER_OF_REQUEST, retransmits: 2, ..mini };
        let child = Told { timer: 0, state: Some(TcpState::Established), ..mini };
        let accepted = Told { inode: 99, ..child };
        let now = MonoNs::now();
        let check = |shape, told: Option<Told>, expect: Option<(TcpState, Shape, u32, u32)>| {
            let question = question(shape);
            let row = row(&question, told.as_ref(), now, 4_000_000);
            let told = row.map(|row| {
                let event = decode::event(row.as_bytes()).expect("a row");
                assert_eq!((event.id, event.netns, event.interface), (question.id, 1, 3));
                assert_eq!(event.tuple, question.tuple);
                let What::Socket(existing) = event.what else { panic!("{event:?}") };
                let gone = existing.state == TcpState::Close;
                assert_eq!(event.at > now, gone, "{existing:?}");
                assert_eq!(event.flags.has_socket, gone && shape == Shape::Full);
                (existing.state, existing.shape, existing.timer, existing.unanswered)
            });
            assert_eq!(told, expect);
        };
        check(Shape::Mini, Some(mini), Some((TcpState::FinWait2, Shape::Mini, 308, 0)));
        check(Shape::Mini, None, Some((TcpState::Close, Shape::Mini, 0, 0)));
        check(Shape::Mini, Some(child), None);
        check(Shape::Request, Some(request), Some((TcpState::SynRecv, Shape::Request, 308, 2)));
        check(Shape::Request, None, Some((TcpState::Close, Shape::Request, 0, 0)));
        // Its child has its identity: events tell of that.
        check(Shape::Request, Some(child), None);
        check(Shape::Full, Some(child), None);
        check(Shape::Full, None, None);
        check(Shape::Full, Some(accepted), Some((TcpState::Close, Shape::Full, 308, 0)));
    }

    /// A connection that waits to be accepted, and then is.
    #[test]
    fn the_kernel_says_whether_a_connection_was_accepted() {
        if let Err(error) = probe() {
            return println!("skipped: no tcp_diag here: {error}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("its own")).expect("loopback");
        let mut diag = SockDiag::open().expect("as for the probe");
        let mut tell = |cookie| {
            let address = Address {
                local: client.peer_addr().expect("connected"),
                remote: client.local_addr().expect("its own"),
                interface: 0,
                cookie,
            };
            diag.tell(&address).expect("it answers")
        };
        // Any cookie will do (INET_DIAG_NOCOOKIE).
        let waits = tell(u64::MAX).expect("it is there");
        assert_eq!((waits.state, waits.inode), (Some(TcpState::Established), 0));
        let (accepted, _) = listener.accept().expect("it waits");
        let cookie = rustix::net::sockopt::socket_cookie(&accepted).expect("a cookie");
        assert_ne!(tell(cookie).expect("it is there").inode, 0);
        assert_eq!(tell(cookie + (1 << 32)), None);
    }
}
