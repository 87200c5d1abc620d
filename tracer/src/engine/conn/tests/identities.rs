//! Which connection an event is about where the kernel gives an address instead of a cookie.

use super::*;
use crate::engine::conn::Identities;

const CHILD: u64 = 0xffff_8880_0000_1000;

/// An event at an address; `cookie` where the kernel has one.
fn event(ms: u64, address: u64, cookie: Option<u64>, tuple: Tuple, what: What) -> Event {
    Event {
        at: at(ms),
        id: SockId(cookie.unwrap_or(address)),
        address,
        netns: NETNS,
        tuple,
        cgroup: 0,
        interface: 0,
        flags: SocketFlags { id_is_address: cookie.is_none(), ..SocketFlags::default() },
        error: 0,
        ages: None,
        counters: None,
        what,
    }
}

fn step(old: TcpState, new: TcpState) -> What {
    What::Transition { old, new, actor: None }
}

fn row(shape: Shape, state: TcpState) -> What {
    What::Socket(Existing {
        state,
        shape,
        inode: 0,
        uid: 0,
        recv_queue: 0,
        send_queue: 0,
        since_received: 0,
        since_sent: 0,
        since_ack: 0,
        timer: 0,
        unanswered: 0,
        probes: 0,
        deferred: false,
    })
}

/// Milliseconds, identity and remote port of what comes out.
fn resolve(identities: &mut Identities, events: &[Event]) -> Vec<(u64, u64, u16)> {
    let mut out = Vec::new();
    for event in events {
        identities.resolve(*event, |event| {
            out.push((event.at.since(at(0)) / MS, event.id.0, event.tuple.remote_port));
        });
    }
    out
}

const BEGIN: (TcpState, TcpState) = (TcpState::Listen, TcpState::SynRecv);
const ESTABLISHED: (TcpState, TcpState) = (TcpState::SynRecv, TcpState::Established);

#[test]
fn a_child_waits_for_its_cookie_and_its_ends() {
    let ends = tuple(1, PORT, 2, 5000);
    let begin = event(1, CHILD, None, listener_tuple(), step(BEGIN.0, BEGIN.1));
    let mut second = begin;
    second.flags.maybe_repeated = true;
    let next = event(2, CHILD, Some(7), ends, step(ESTABLISHED.0, ESTABLISHED.1));
    let mut identities = Identities::default();
    assert_eq!(resolve(&mut identities, &[begin, second]), []);
    assert_eq!(resolve(&mut identities, &[next]), [(1, 7, 5000), (2, 7, 5000)]);
    // Nothing is left of it.
    assert_eq!(resolve(&mut identities, &[next]), [(2, 7, 5000)]);
}

#[test]
fn an_address_that_is_used_again_is_another_connection() {
    let (one, two) = (tuple(1, 5000, 2, PORT), tuple(1, 5001, 2, PORT));
    let at = |ms, tuple, old, new| event(ms, CHILD, None, tuple, step(old, new));
    let mut again = at(5, one, TcpState::Established, TcpState::Close);
    again.flags.maybe_repeated = true;
    let script = [
        at(1, tuple(1, 0, 2, PORT), TcpState::Close, TcpState::SynSent),
        at(2, one, TcpState::SynSent, TcpState::Established),
        at(5, one, TcpState::Established, TcpState::Close),
        again,
        // A RST is told after the end.
        event(
            6,
            CHILD,
            None,
            one,
            What::Reset { direction: Direction::Sent, state: TcpState::Close, reason: 0 },
        ),
        at(7, tuple(1, 0, 2, PORT), TcpState::Close, TcpState::SynSent),
        at(8, two, TcpState::SynSent, TcpState::Established),
        // Its end is lost, and so is the next one's beginning.
        event(9, CHILD, None, one, row(Shape::Full, TcpState::Established)),
    ];
    let ids: Vec<u64> = resolve(&mut Identities::default(), &script).iter().map(|e| e.1).collect();
    assert_eq!(ids, [1, 1, 1, 1, 1, 2, 2, 3]);
}

#[test]
fn a_row_that_is_older_than_who_has_the_address_now_is_of_nobody() {
    let (one, two) = (tuple(1, 5000, 2, PORT), tuple(1, 5001, 2, PORT));
    let at = |ms, tuple, old, new| event(ms, CHILD, None, tuple, step(old, new));
    let script = [
        at(1, tuple(1, 0, 2, PORT), TcpState::Close, TcpState::SynSent),
        at(2, one, TcpState::SynSent, TcpState::Established),
        at(5, one, TcpState::Established, TcpState::Close),
        at(7, tuple(1, 0, 2, PORT), TcpState::Close, TcpState::SynSent),
        at(8, two, TcpState::SynSent, TcpState::Established),
        // A walk that takes long hands over its rows after what has happened since.
        event(4, CHILD, None, one, row(Shape::Full, TcpState::Established)),
        at(9, two, TcpState::Established, TcpState::Close),
        event(4, CHILD, None, one, row(Shape::Full, TcpState::Established)),
        event(8, CHILD, None, two, row(Shape::Full, TcpState::Established)),
    ];
    let got = resolve(&mut Identities::default(), &script);
    let ids: Vec<_> = got.iter().map(|&(ms, id, _)| (ms, id)).collect();
    assert_eq!(ids, [(1, 1), (2, 1), (5, 1), (7, 2), (8, 2), (9, 2), (8, 2)]);
}

#[test]
fn a_row_that_is_older_than_the_end_leaves_nothing_behind() {
    let ends = tuple(1, 5000, 2, PORT);
    let script = [
        event(1, CHILD, None, ends, step(TcpState::Close, TcpState::SynSent)),
        event(5, CHILD, None, ends, step(TcpState::Established, TcpState::Close)),
        event(4, CHILD, None, ends, row(Shape::Full, TcpState::Established)),
    ];
    let mut identities = Identities::default();
    resolve(&mut identities, &script);
    identities.tick(at(200_000));
    assert_eq!(identities.kept(), 0);
}

#[test]
fn a_row_that_is_older_than_a_child_does_not_go_with_it() {
    let (one, two) = (tuple(1, PORT, 2, 5000), tuple(1, PORT, 2, 5001));
    let script = [
        event(3, CHILD, None, listener_tuple(), step(BEGIN.0, BEGIN.1)),
        event(2, CHILD, None, one, row(Shape::Full, TcpState::LastAck)),
        event(4, CHILD, None, two, step(ESTABLISHED.0, ESTABLISHED.1)),
    ];
    let got = resolve(&mut Identities::default(), &script);
    assert_eq!(got, [(3, 1, 5001), (4, 1, 5001)]);
}

#[test]
fn a_holder_that_is_older_than_who_has_the_address_now_holds_another() {
    let ends = tuple(1, 5000, 2, PORT);
    let mut identities = Identities::default();
    let held = |ms| Holder { address: CHILD, at: at(ms), ..holder(CHILD, 12, "java", 3) };
    resolve(
        &mut identities,
        &[event(3, CHILD, None, ends, row(Shape::Full, TcpState::Established))],
    );
    // It was merely met then.
    assert_eq!(identities.resolve_holder(held(2)).map(|holder| holder.id), Some(SockId(1)));
    let script = [
        event(5, CHILD, None, ends, step(TcpState::Established, TcpState::Close)),
        event(7, CHILD, None, tuple(1, 0, 2, PORT), step(TcpState::Close, TcpState::SynSent)),
    ];
    resolve(&mut identities, &script);
    assert_eq!(identities.resolve_holder(held(6)), None);
    assert_eq!(identities.resolve_holder(held(8)).map(|holder| holder.id), Some(SockId(2)));
}

#[test]
fn a_row_of_a_request_that_has_become_a_connection_since_is_of_nobody() {
    let ends = tuple(1, PORT, 2, 5000);
    let at = |ms, old, new| event(ms, CHILD, None, ends, step(old, new));
    let script = [
        event(3, CHILD, None, listener_tuple(), step(BEGIN.0, BEGIN.1)),
        at(4, ESTABLISHED.0, ESTABLISHED.1),
        event(2, CHILD + 0x1000, None, ends, row(Shape::Request, TcpState::SynRecv)),
        at(5, TcpState::Established, TcpState::Close),
        event(2, CHILD + 0x1000, None, ends, row(Shape::Request, TcpState::SynRecv)),
    ];
    let ids: Vec<_> = resolve(&mut Identities::default(), &script).iter().map(|e| e.1).collect();
    assert_eq!(ids, [1, 1, 1]);
}

#[test]
fn request_socket_and_mini_socket_are_one_connection() {
    let (request, mini) = (CHILD + 0x1000, CHILD + 0x2000);
    let ends = tuple(1, PORT, 2, 5000);
    let at = |ms, old, new| event(ms, CHILD, None, ends, step(old, new));
    let again = What::Retransmit {
        segment: Segment::SynAck,
        state: TcpState::SynRecv,
        times: 1,
        again: Again::default(),
    };
    let script = [
        event(1, request, None, ends, row(Shape::Request, TcpState::SynRecv)),
        event(2, request, None, ends, again),
        event(3, CHILD, None, listener_tuple(), step(BEGIN.0, BEGIN.1)),
        at(4, ESTABLISHED.0, ESTABLISHED.1),
        at(5, TcpState::Established, TcpState::FinWait1),
        at(6, TcpState::FinWait1, TcpState::FinWait2),
        at(7, TcpState::FinWait2, TcpState::Close),
        event(8, mini, None, ends, row(Shape::Mini, TcpState::FinWait2)),
        event(9, mini, None, ends, row(Shape::Mini, TcpState::TimeWait)),
        // The same ports again, while the mini-socket lives: another request, another connection.
        event(10, request, None, ends, row(Shape::Request, TcpState::SynRecv)),
    ];
    let mut identities = Identities::default();
    let ids: Vec<u64> = resolve(&mut identities, &script).iter().map(|event| event.1).collect();
    assert_eq!(ids, [1, 1, 1, 1, 1, 1, 1, 1, 1, 2]);
    let held = Holder { address: CHILD, at: super::at(9), ..holder(CHILD, 12, "java", 3) };
    assert_eq!(identities.resolve_holder(held).map(|holder| holder.id), Some(SockId(1)));
    let unknown = Holder { address: CHILD + 8, ..held };
    assert_eq!(identities.resolve_holder(unknown), None);
}

#[test]
fn what_was_there_before_is_the_same_at_every_walk() {
    let mut identities = Identities::default();
    let ends = [tuple(1, PORT, 2, 5000), tuple(1, PORT, 2, 5001)];
    let shapes = [(Shape::Full, TcpState::Established), (Shape::Mini, TcpState::TimeWait)];
    for ms in [1, 2] {
        let rows: Vec<_> = ends
            .iter()
            .zip(shapes)
            .zip(0..)
            .map(|((&ends, (shape, state)), n)| {
                event(ms, CHILD + n * 64, None, ends, row(shape, state))
            })
            .collect();
        let ids: Vec<_> = resolve(&mut identities, &rows).iter().map(|event| event.1).collect();
        assert_eq!(ids, [1, 2], "walk {ms}");
    }
}
