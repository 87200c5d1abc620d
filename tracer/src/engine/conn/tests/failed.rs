//! Why connections were never established.

use super::*;
use crate::engine::conn::Failed;

/// What is said of the one connection that finishes.
fn check(script: impl Into<Script>, expect: Option<Failed>) {
    let mut table = table();
    let mut inputs = script.into().0;
    inputs.sort_by_key(|(arrives, _)| *arrives);
    let (mut changes, mut told) = (Vec::new(), Vec::new());
    for (_, input) in &inputs {
        feed(&mut table, input, &mut changes);
        for change in changes.drain(..).filter(|change| change.kind == Kind::Finished) {
            told.push(table.get(change.conn).expect("there until it is settled").failed);
        }
        table.settle();
    }
    assert_eq!(told, [expect], "{inputs:?}");
}

fn connecting() -> Life {
    life(7).syn(0)
}

#[test]
fn a_connect_fails_by_its_error() {
    for (errno, expect) in [
        (111, Failed::Refused),
        (110, Failed::Timeout),
        (113, Failed::Unreachable),
        (101, Failed::Unreachable),
        // ICMP: protocol unreachable; of IPv6: not allowed.
        (92, Failed::Unreachable),
        (13, Failed::Unreachable),
        (104, Failed::Reset),
        (103, Failed::Aborted),
    ] {
        check(connecting().close(3_000).errno(errno), Some(expect));
        // Whoever is told of it.
        check(connecting().close(3_000).errno(errno).by(100, "java"), Some(expect));
    }
}

#[test]
fn a_connect_without_an_error_was_given_up() {
    check(connecting().close(500).by(100, "java"), Some(Failed::GivenUp));
    check(connecting().retransmit(Segment::Syn, 400, 1).close(500), Some(Failed::Aborted));
    let mut no_port = connecting();
    no_port.tuple.local_port = 0;
    check(no_port.close(0).by(100, "java"), Some(Failed::NoPort));
}

#[test]
fn what_was_established_did_not_fail() {
    let established = || life(7).syn(0).established(1);
    check(established().close(50).errno(104), None);
    check(established().close(50).errno(110), None);
    check(established().close(50).by(100, "java"), None);
    check(established().fin_wait1(10).close(50).errno(110), None);
}

#[test]
fn handshakes_of_a_server_fail_too() {
    let request = life(8).server_of(7);
    let gone = |script: Script, seen: u64| {
        script.and(minis(seen + 4_000, nothing())).and(minis(seen + 5_000, nothing()))
    };
    // Its timer ran out.
    let twice = Script::from(request.clone().synack(1_000, 1).synack(3_000, 2))
        .and(minis(4_000, request.clone().request(4_000, 2, 3_000)));
    check(gone(twice, 4_000), Some(Failed::Timeout));
    // It was gone before that could be.
    let once = Script::from(request.clone().synack(1_000, 1))
        .and(minis(1_500, request.request(1_500, 1, 1_500)));
    check(gone(once, 1_500), Some(Failed::Unknown));
    // A child whose third ACK came is reset before it is established (TCP_FASTOPEN).
    let child = life(8).server_of(7).to(TcpState::SynRecv, 0);
    check(child.clone().close(5).errno(104), Some(Failed::Reset));
    check(child.close(5).errno(110), Some(Failed::Timeout));
}

#[test]
fn what_was_lost_did_not_fail() {
    // Nobody saw how its SYN_SENT ended.
    let lost = Script::from(connecting()).and(all(2_000, nothing())).and(all(3_000, nothing()));
    check(lost, None);
}
