//! Segments that the kernel dropped: whose they are, and those that are nobody's.

use super::*;
use crate::engine::conn::Unclaimed;
use crate::event::{Drop, Dropped, Place};

const SYN: Drop =
    Drop { reason: 9, place: Place::Input, segment: Dropped::Syn, payload: 0, untold: 0 };

/// A drop that no socket is known of, in another namespace than the client's, as the receiver has its ends.
fn at_the_server(ms: u64, drop: Drop) -> Script {
    let mut life = life(0).with_tuple(life(7).tuple.reversed()).what(ms, What::Dropped(drop));
    life.script.last_event().netns = NETNS + 1;
    life.into()
}

/// What nobody claims by then.
fn unclaimed(table: &mut Table, ms: u64) -> Vec<Unclaimed> {
    let mut changes = Vec::new();
    let groups = table.unclaimed(at(ms), false, &mut changes);
    assert!(changes.is_empty(), "{changes:?}");
    groups
}

#[test]
fn the_socket_that_the_kernel_names_has_it_and_its_port() {
    let drop = Drop { place: Place::Output, ..SYN };
    let table = check(
        life(7).syn(0).what(1, What::Dropped(drop)),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 syn Sent in SYN_SENT dropped: 9 (output)",
    );
    assert_eq!(find(&table, 7).tuple.local_port, 40_007);
    let [count] = table.drops_of(SockId(7)) else { panic!("one") };
    assert_eq!((count.reason, count.count, count.direction), (9, 1, Direction::Sent));
}

#[test]
fn a_client_whose_port_is_not_known_yet_has_it_later() {
    let again = What::Retransmit {
        segment: Segment::Syn,
        state: TcpState::SynSent,
        times: 0,
        again: Again::default(),
    };
    let client = life(7).syn(0).what(1_000, again);
    check(
        Script::from(client).and(at_the_server(1, SYN)).and(at_the_server(1_001, SYN)),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 syn Sent in SYN_SENT dropped: 9 (input)
         1s #7 syn again in SYN_SENT
         1001ms #7 syn Sent in SYN_SENT dropped: 9 (input)",
    );
}

#[test]
fn the_receiver_comes_before_the_sender() {
    let data = Drop { segment: Dropped::Data, payload: 100, ..SYN };
    let mut here = life(0).with_tuple(life(7).tuple.reversed()).what(2, What::Dropped(data));
    here.id = 0;
    let both = Script::from(life(7).already(TcpState::SynSent).established(1))
        .and(life(8).server_of(7).accepted(1, 10));
    let mut lines = String::new();
    let mut table = table();
    play(&mut table, both.and(here), &mut lines);
    assert!(lines.contains("#8 data Received in ESTABLISHED dropped: 9 (input)"), "{lines}");
}

#[test]
fn what_is_nobodys_is_one_line_a_port() {
    let mut table = table();
    let mut lines = String::new();
    let script = at_the_server(0, SYN)
        .and(at_the_server(1, Drop { untold: 40, ..SYN }))
        .and(at_the_server(2, Drop { reason: 3, ..SYN }));
    play(&mut table, script, &mut lines);
    assert_eq!(lines, "");
    assert!(unclaimed(&mut table, 500).is_empty(), "a connection may show yet");
    let groups = unclaimed(&mut table, 1_500);
    let told: Vec<(u16, u64, u32)> =
        groups.iter().map(|group| (group.drop.reason, group.count, group.remotes)).collect();
    assert_eq!(told, [(9, 42, 2), (3, 1, 1)]);
    assert!(unclaimed(&mut table, 9_000).is_empty());
}

#[test]
fn of_too_many_to_wait_none_is_forgotten() {
    let mut table = table();
    for _ in 0..9_000 {
        play(&mut table, at_the_server(0, SYN), &mut String::new());
    }
    let count = |ms, table: &mut Table| unclaimed(table, ms).iter().map(|group| group.count).sum();
    let (early, late): (u64, u64) = (count(500, &mut table), count(1_500, &mut table));
    assert_eq!(early + late, 9_000, "{early} told at once");
    assert!(late >= 8_192, "{late} waited for their connection");
}

#[test]
fn a_keepalive_probe_is_no_loss_where_it_has_no_reason_of_its_own() {
    let data = Drop { segment: Dropped::Data, payload: 1, ..SYN };
    let ack = Drop { segment: Dropped::Ack, ..SYN };
    for (names, drop, told) in [
        (["", "TCP_INVALID_SEQUENCE"], ack, 0),
        (["", "TCP_INVALID_SEQUENCE"], data, 1),
        (["", "TCP_INVALID_SEQUENCE"], Drop { untold: 3, ..ack }, 1),
        (["", "NETFILTER_DROP"], ack, 1),
        (["TCP_OLD_SEQUENCE", "TCP_INVALID_SEQUENCE"], ack, 1),
    ] {
        let mut table = table();
        let mut reasons = vec![String::new(); 10];
        reasons[8..10].clone_from_slice(&names.map(str::to_owned));
        table.tell_drops(reasons);
        let mut lines = String::new();
        let client = life(7).already(TcpState::SynSent).established(1);
        play(&mut table, client.what(2, What::Dropped(drop)).into(), &mut lines);
        assert_eq!(lines.matches("dropped").count(), told, "{names:?} {drop:?}: {lines}");
    }
}

#[test]
fn a_socket_that_connects_again_begins_with_none() {
    let drop = Drop { place: Place::Output, ..SYN };
    let first = life(7).syn(0).what(1, What::Dropped(drop)).to(TcpState::Close, 2);
    let table = check_in_silence(Script::from(first).and(life(7).syn(10)));
    assert!(table.drops_of(SockId(7)).is_empty());
}

fn check_in_silence(script: Script) -> Table {
    let mut table = table();
    play(&mut table, script, &mut String::new());
    table
}
