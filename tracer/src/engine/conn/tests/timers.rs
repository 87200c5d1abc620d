//! What ends by its timer, and what is asked for: mini-sockets without a look at all of them.

use super::*;
use crate::engine::conn::Question;
use crate::event::{Drop, Dropped, Place};
use crate::time::Jiffies;

/// A grain of 512 jiffies, 2,048 ms, begins at the start.
const JIFFIES: Jiffies = Jiffies { number: 512, began_ns: START };
const ASKED: Options = Options { jiffies: Some(JIFFIES), minis_are_asked_for: true, ..OPTIONS };

/// A client in TIME_WAIT since 11 ms.
fn client_waits() -> Life {
    life(7).syn(0).established(1).fin_wait1(10).orphaned().fin_is_in().fin_wait2(11).close(11)
}

const CLIENT_WAITS: &str = "
    0 #7 CLOSE > SYN_SENT -
    1ms #7 SYN_SENT > ESTABLISHED 1ms
    10ms #7 ESTABLISHED > FIN_WAIT1 9ms
    11ms #7 FIN_WAIT1 > FIN_WAIT2 1ms
    11ms #7 FIN_WAIT2 > TIME_WAIT 0
    11ms #7 finished: client, fin, first local, 11ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms
";

/// The kernel was asked, and there is none.
fn none(id: u64, shape: Shape, ms: u64) -> Life {
    life(id).row_as(ms, TcpState::Close, shape)
}

fn questions(table: &Table, ms: u64) -> Vec<u64> {
    let (questions, all) = table.questions(at(ms), 10);
    assert!(all, "few");
    let mut ids: Vec<u64> = questions.iter().map(|Question { id, .. }| id.0).collect();
    ids.sort_unstable();
    ids
}

fn asked(table: &Table, ms: u64, most: usize) -> (usize, bool) {
    let (questions, all) = table.questions(at(ms), most);
    (questions.len(), all)
}

#[test]
fn a_time_wait_ends_when_its_timer_fires_and_nobody_looks() {
    let ends = |options: Options, before: u64, after: u64, told: &str| {
        let table = Table::new(options);
        let script = Script::from(client_waits()).tick(30_000).tick(before).tick(after);
        let expect = format!("{CLIENT_WAITS} {told}");
        assert!(check_in(table, script, &expect).is_empty());
        let script = Script::from(client_waits()).tick(30_000).tick(before);
        assert_eq!(check_in(Table::new(options), script, CLIENT_WAITS).len(), 1);
    };
    let jiffies = Options { jiffies: Some(JIFFIES), ..OPTIONS };
    let told = "61440ms #7 TIME_WAIT > CLOSE ~61429ms
                61440ms #7 gone";
    ends(jiffies, 61_900, 61_950, told);
    // Where the grain's beginning is not known, a whole one is waited, and the least is told.
    let told = "60011ms #7 TIME_WAIT > CLOSE ~60s
                60011ms #7 gone";
    ends(OPTIONS, 62_500, 62_600, told);
}

#[test]
fn a_walk_tells_sooner_than_a_timer_that_may_be_late() {
    let script = Script::from(client_waits()).and(minis(60_500, nothing())).tick(62_600);
    let told = "60011ms #7 TIME_WAIT > CLOSE ~60s
                60011ms #7 gone";
    check(script, &format!("{CLIENT_WAITS} {told}"));
}

#[test]
fn of_a_peer_elsewhere_the_kernel_is_asked_before_its_time_wait_ends() {
    let waits = Script::from(client_waits()).tick(30_000);
    let table = check_in(Table::new(ASKED), waits.clone(), CLIENT_WAITS);
    assert!(questions(&table, 30_000).is_empty() && !table.has_questions());
    let due = waits.tick(62_000);
    let table = check_in(Table::new(ASKED), due.clone(), CLIENT_WAITS);
    assert_eq!(questions(&table, 62_000), [7]);
    // It is gone, as it should.
    let gone = "61440ms #7 TIME_WAIT > CLOSE ~61429ms
                61440ms #7 gone";
    let script = due.clone().and(none(7, Shape::Mini, 62_010));
    check_in(Table::new(ASKED), script, &format!("{CLIENT_WAITS} {gone}"));
    // A FIN came again at 20 s.
    let row = life(7).mini(62_010, TcpState::TimeWait, 17_990);
    let anew = due.clone().and(row).tick(63_000).tick(80_000);
    let table = check_in(Table::new(ASKED), anew.clone(), CLIENT_WAITS);
    assert!(!table.has_questions());
    let script = anew.tick(83_000).and(none(7, Shape::Mini, 83_010));
    let later = "81920ms #7 TIME_WAIT > CLOSE ~81909ms
                 81920ms #7 gone";
    check_in(Table::new(ASKED), script, &format!("{CLIENT_WAITS} {later}"));
    // There is no answer.
    let script = due.tick(64_000).tick(66_900).tick(67_000);
    check_in(Table::new(ASKED), script, &format!("{CLIENT_WAITS} {gone}"));
}

#[test]
fn after_a_peer_on_this_machine_nobody_asks() {
    let server = life(8).server_of(7).accepted(1, 30).close_wait(10).last_ack(10).close(12);
    let script = Script::from(client_waits()).and(server).tick(30_000).tick(61_950);
    let mut table = Table::new(ASKED);
    let mut lines = String::new();
    play(&mut table, script, &mut lines);
    assert!(table.is_empty() && lines.contains("61440ms #7 TIME_WAIT > CLOSE ~61429ms"), "{lines}");
}

#[test]
fn a_fin_that_was_sent_again_sets_the_timer_anew() {
    // Our ACK was lost, and the third FIN's came.
    let server = life(8).server_of(7).accepted(1, 30).close_wait(10).last_ack(10);
    let server =
        server.retransmit(Segment::Fin, 211, 1).retransmit(Segment::Fin, 4_000, 2).close(4_001);
    let script = Script::from(client_waits()).and(server).tick(30_000).tick(62_000).tick(64_100);
    let mut table = Table::new(ASKED);
    let mut lines = String::new();
    play(&mut table, script.clone(), &mut lines);
    assert_eq!(table.len(), 1, "{lines}");
    play(&mut table, Script::default().tick(66_100), &mut lines);
    assert!(table.is_empty() && lines.contains("65536ms #7 TIME_WAIT > CLOSE ~65525ms"), "{lines}");
}

#[test]
fn while_too_many_end_timers_alone_tell() {
    let mut table = Table::new(Options { limit: 10_000, ..ASKED });
    let mut lines = String::new();
    for id in 1..=600 {
        let waits = life(id).syn(0).established(1).fin_wait1(10).orphaned().fin_is_in();
        play(&mut table, waits.fin_wait2(11).close(11).into(), &mut lines);
    }
    play(&mut table, Script::default().tick(62_000), &mut lines);
    assert_eq!(table.len(), 500);
    assert_eq!(asked(&table, 62_000, 100), (100, true));
}

/// An orphan in FIN_WAIT2 since 11 ms.
fn orphan() -> Life {
    life(7).syn(0).established(1).fin_wait1(10).orphaned().fin_wait2(11).close(11)
}

#[test]
fn a_fin_wait2_is_asked_for_unless_its_peer_tells() {
    let asked_for = |script: Script, ms| {
        let mut table = Table::new(ASKED);
        play(&mut table, script, &mut String::new());
        questions(&table, ms)
    };
    assert_eq!(asked_for(orphan().into(), 100), [7]);
    let timed = Script::from(orphan()).and(life(7).mini(100, TcpState::FinWait2, 59_900));
    assert_eq!(asked_for(timed.clone(), 100), [7]);
    let mut server = life(8).server_of(7).accepted(1, 30);
    server.flags.has_socket = true;
    let server = server.close_wait(10);
    assert_eq!(asked_for(Script::from(orphan()).and(server.clone()), 100), [7], "no timer");
    let told = timed.clone().and(server.clone());
    assert_eq!(asked_for(told.clone(), 100), [8u64; 0]);
    assert_eq!(asked_for(told, 61_000), [7], "it has run out");
    assert_eq!(asked_for(timed.and(server.last_ack(200)), 300), [7], "its FIN may be lost");
}

#[test]
fn too_many_are_not_asked_for_one_by_one() {
    let mut table = Table::new(ASKED);
    for id in 1..=6 {
        let orphan = life(id).syn(0).established(1).fin_wait1(10).orphaned();
        play(&mut table, orphan.fin_wait2(11).close(11).into(), &mut String::new());
    }
    assert_eq!(asked(&table, 100, 5), (0, false));
    assert_eq!(asked(&table, 100, 1), (0, false));
    assert_eq!(asked(&table, 100, 6), (6, true));
    // Whether connections were accepted matters less than when a FIN came.
    for id in 11..=14 {
        play(&mut table, life(id).server_of(id).accepted(1, 0).into(), &mut String::new());
    }
    assert_eq!(asked(&table, 100, 6), (6, false));
    assert_eq!(asked(&table, 100, 8), (8, false));
    assert_eq!(asked(&table, 100, 10), (10, true));
}

const ORPHAN: &str = "
    0 #7 CLOSE > SYN_SENT -
    1ms #7 SYN_SENT > ESTABLISHED 1ms
    10ms #7 ESTABLISHED > FIN_WAIT1 9ms
    11ms #7 FIN_WAIT1 > FIN_WAIT2 1ms
";

#[test]
fn an_answer_tells_when_the_fin_came() {
    let script = Script::from(orphan()).and(life(7).mini(5_001, TcpState::TimeWait, 59_000));
    let table = check_in(
        Table::new(ASKED),
        script,
        &format!(
            "{ORPHAN}
             4001ms #7 FIN_WAIT2 > TIME_WAIT ~3990ms
             4001ms #7 finished: client, fin, first local, 4001ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms, FIN_WAIT2 3990ms"
        ),
    );
    assert!(!table.has_questions());
}

#[test]
fn what_the_kernel_has_no_more_is_gone() {
    let found = Script::from(orphan()).and(life(7).mini(1_000, TcpState::FinWait2, 59_012));
    let end = |when: &str, spent: &str, how: &str| {
        format!(
            "{ORPHAN}
             {when} #7 FIN_WAIT2 > CLOSE ~{spent}
             {when} #7 finished: client, {how}, first local, {when}, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms, FIN_WAIT2 {spent}
             {when} #7 gone"
        )
    };
    let check = |script: Script, expect: &str| check_in(Table::new(ASKED), script, expect);
    let reset = found.clone().and(none(7, Shape::Mini, 2_000));
    assert!(check(reset, &end("2s", "1989ms", "unknown")).is_empty());
    let over = found.and(none(7, Shape::Mini, 61_000));
    assert!(check(over, &end("60012ms", "60001ms", "timeout")).is_empty());
    // What was never found once may be bound to an interface that we do not know of.
    let never = Script::from(orphan()).and(none(7, Shape::Mini, 1_000));
    let table = check(never.clone(), ORPHAN);
    assert_eq!(questions(&table, 1_000), [7]);
    let twice = never.and(none(7, Shape::Mini, 2_000));
    assert!(check(twice, &end("2s", "1989ms", "unknown")).is_empty());
}

#[test]
fn an_answer_older_than_what_is_known_tells_nothing() {
    let again = life(7).already(TcpState::Close).with_tuple(tuple(1, 40_099, 2, PORT));
    // It connected again, with other ports, and closed again.
    let again = again.syn(500).established(501).fin_wait1(510).orphaned().fin_wait2(511).close(511);
    let mut table = Table::new(ASKED);
    let mut lines = String::new();
    let script = Script::from(orphan()).and(again).and(none(7, Shape::Mini, 400).late(600));
    play(&mut table, script, &mut lines);
    assert_eq!(table.len(), 1, "{lines}");
    // And none brings back who has ended since.
    let script = Script::from(life(99).mini(600, TcpState::TimeWait, 50_000))
        .and(life(98).server_of(7).request(600, 2, 3_000));
    play(&mut table, script, &mut lines);
    assert_eq!(table.len(), 1, "{lines}");
}

#[test]
fn a_request_that_is_no_more_timed_out_or_was_reset() {
    let request = life(8).server_of(7).synack(1_000, 1).synack(3_000, 2);
    let found = request.request(4_000, 2, 3_000);
    let end = |script: Life| {
        let mut table = Table::new(ASKED);
        assert!(!table.has_questions());
        let mut lines = String::new();
        play(&mut table, found.clone().into(), &mut lines);
        assert_eq!(questions(&table, 4_000), [8]);
        play(&mut table, script.into(), &mut lines);
        assert!(table.is_empty() && !table.has_questions());
        lines
    };
    let over = end(none(8, Shape::Request, 8_000));
    assert!(over.contains("7s #8 finished: server, timeout"), "{over}");
    let reset = end(none(8, Shape::Request, 5_000));
    assert!(reset.contains("5s #8 finished: server, unknown"), "{reset}");
}

#[test]
fn an_answer_tells_that_a_connection_was_accepted() {
    let mut table = Table::new(ASKED);
    let server = life(8).server_of(7).accepted(1, 0);
    play(&mut table, server.into(), &mut String::new());
    assert_eq!(questions(&table, 100), [8]);
    let mut answer = none(8, Shape::Full, 100);
    answer.script.last_event().flags.has_socket = true;
    play(&mut table, answer.into(), &mut String::new());
    assert_eq!(find(&table, 8).accept_ns(), Some(99 * MS));
    assert!(!table.has_questions());
}

#[test]
fn a_time_wait_whose_segment_nobody_took_is_asked_for() {
    let mut table = Table::new(ASKED);
    let mut lines = String::new();
    play(&mut table, client_waits().into(), &mut lines);
    let place = Place::Input;
    let drop = Drop { reason: 3, place, segment: Dropped::Ack, payload: 0, untold: 0 };
    // At the listener, whose RST is the answer.
    let mut dropped = life(0).with_tuple(life(7).tuple.reversed());
    dropped.flags = SocketFlags::default();
    play(&mut table, dropped.what(2_000, What::Dropped(drop)).into(), &mut lines);
    assert_eq!(questions(&table, 2_000), [7]);
    play(&mut table, none(7, Shape::Mini, 2_500).into(), &mut lines);
    assert!(table.is_empty() && lines.contains("2500ms #7 TIME_WAIT > CLOSE ~2489ms"), "{lines}");
}

#[test]
fn between_looks_that_are_far_apart_it_lasted_until_the_first_at_least() {
    let rows = |ms, left| life(7).mini(ms, TcpState::TimeWait, left);
    let seen = Script::from(client_waits()).and(minis(5_000, rows(5_001, 55_010)));
    let missed = seen.clone().and(minis(20_000, nothing()));
    let table = check_in(Table::new(ASKED), missed.clone(), CLIENT_WAITS);
    assert_eq!(questions(&table, 20_010), [7]);
    let told = |when: &str| {
        format!(
            "{CLIENT_WAITS}
             {when} #7 TIME_WAIT > CLOSE >=4990ms
             {when} #7 gone"
        )
    };
    let answered = missed.clone().and(none(7, Shape::Mini, 21_000));
    assert!(check_in(Table::new(ASKED), answered, &told("21s")).is_empty());
    let walked = missed.and(minis(40_000, nothing()));
    assert!(check_in(Table::new(ASKED), walked, &told("40010ms")).is_empty());
}
