//! Ends that leave something behind, or not what one would think: mini-sockets that are not made, sockets
//! that are not given back, and what the other end tells.

use super::*;
use crate::engine::conn::{How, Mark};

/// A client that closes first, where the namespace may have no room for a TIME_WAIT.
fn crowded(id: u64) -> Life {
    let mut life =
        life(id).syn(0).established(1).fin_wait1(10).orphaned().fin_wait2(11).fin_is_in();
    life.flags.time_wait_full = true;
    life.close(12)
}

const LIFE: &str = "
    0 #7 CLOSE > SYN_SENT -
    1ms #7 SYN_SENT > ESTABLISHED 1ms
    10ms #7 ESTABLISHED > FIN_WAIT1 9ms
    11ms #7 FIN_WAIT1 > FIN_WAIT2 1ms
";

#[test]
fn a_time_wait_that_is_not_there_is_an_end() {
    let table = check(
        Script::from(crowded(7)).and(minis(1_000, nothing())),
        &format!(
            "{LIFE}
             12ms #7 FIN_WAIT2 > CLOSE 1ms
             12ms #7 finished: client, fin, first local, 12ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, \
             FIN_WAIT1 1ms, FIN_WAIT2 1ms
             12ms #7 gone"
        ),
    );
    assert!(table.is_empty());
}

#[test]
fn a_time_wait_that_is_there_after_all_is_told_with_its_time() {
    let row = life(7).mini(1_001, TcpState::TimeWait, 59_010);
    let table = check(
        Script::from(crowded(7)).and(minis(1_000, row)),
        &format!(
            "{LIFE}
             12ms #7 FIN_WAIT2 > TIME_WAIT 1ms
             12ms #7 finished: client, fin, first local, 12ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, \
             FIN_WAIT1 1ms, FIN_WAIT2 1ms"
        ),
    );
    assert_ne!(find(&table, 7).mark, Mark::TimeWaitOverflow);
}

#[test]
fn until_the_next_look_nothing_is_said() {
    let table = check(crowded(7), LIFE);
    assert!(find(&table, 7).is_doubtful());
    assert!(!find(&table, 7).is_finished());
}

#[test]
fn a_run_that_ends_before_the_next_look_tells_what_the_kernel_reported() {
    let mut table = table();
    play(&mut table, Script::from(crowded(7)).and(crowded(8)), &mut String::new());
    let mut changes = Vec::new();
    table.confirm_all(&mut changes);
    let told: Vec<_> = changes.iter().map(|change| (change.at, change.kind)).collect();
    let to_time_wait = Kind::Transition {
        old: TcpState::FinWait2,
        new: TcpState::TimeWait,
        in_old: Spent::Exactly(1_000_000),
        ages: None,
    };
    let one = [(at(12), to_time_wait), (at(12), Kind::Finished)];
    assert_eq!(told, [one, one].concat());
    assert!(find(&table, 7).is_finished());
    // Nothing is told twice.
    table.confirm_all(&mut changes);
    assert_eq!(changes.len(), 4);
}

/// A socket that the peer resets, and that the application does not close.
fn reset(id: u64) -> Life {
    life(id).syn(0).established(1).close(50).errno(104)
}

#[test]
fn a_socket_that_was_reset_is_left_over_until_it_is_closed() {
    let play_out = |script: Script| {
        let mut table = table();
        table.remember_leftovers();
        play(&mut table, script, &mut String::new());
        table.leftover(SockId(7)).copied()
    };
    let holder =
        |ms| Holder { at: at(ms), state: Some(TcpState::Close), ..holder(7, 100, "java", 5) };
    let other = |ms| Holder { at: at(ms), ..holder_of_another() };
    let left = play_out(reset(7).into()).expect("left over");
    assert_eq!((left.how, left.at), (How::RstReceived, at(50)));
    // The next walk over descriptors meets it, or does not.
    assert!(play_out(Script::from(reset(7)).holders(100, &[holder(100)])).is_some());
    assert!(play_out(Script::from(reset(7)).holders(100, &[other(100)])).is_none());
    // A walk that began before says nothing.
    assert!(play_out(Script::from(reset(7)).holders(100, &[other(40)])).is_some());
    // It connects again.
    assert!(play_out(Script::from(reset(7)).and(life(7).syn(200))).is_none());
    // Closed before, or by the application's own doing, it has no descriptor.
    let closed = life(7).syn(0).established(1).orphaned().close(50).errno(104);
    assert!(play_out(closed.into()).is_none());
    assert!(play_out(life(7).syn(0).established(1).close(50).by(100, "java").into()).is_none());
}

fn holder_of_another() -> Holder {
    holder(8, 100, "java", 6)
}

#[test]
fn a_mini_socket_ends_with_the_rst_that_its_peer_gets() {
    let ours = life(7).syn(0).established(1).fin_wait1(10).orphaned().fin_wait2(11).close(12);
    let peer = life(8).server_of(7).accepted(1, 100);
    let peer = peer.close_wait(11).close(3_000).errno(32);
    let mut lines = String::new();
    let mut table = table();
    play(&mut table, Script::from(ours).and(peer), &mut lines);
    assert!(lines.contains("3s #7 FIN_WAIT2 > CLOSE 2989ms"), "{lines}");
    assert!(table.is_empty());
}

#[test]
fn the_other_end_gives_an_age_away() {
    let waits = life(7).already(TcpState::FinWait2).mini(1_000, TcpState::FinWait2, 50_000);
    let row = life(8).server_of(7).already(TcpState::CloseWait).row(1_001).idle(5_000);
    let table = check_ages(all(999, Script::from(waits).and(row)));
    assert_eq!(find(&table, 7).in_state(at(1_001)), Spent::AtLeast(4_996 * MS));
    // Alone it has none.
    let waits = life(7).already(TcpState::FinWait2).mini(1_000, TcpState::FinWait2, 50_000);
    let table = check_ages(all(999, waits));
    assert_eq!(find(&table, 7).in_state(at(1_001)), Spent::AtLeast(MS));
    // Its last ACK tells of a full socket.
    let table = check_ages(all(999, life(7).already(TcpState::FinWait2).row(1_001).idle(3_000)));
    assert_eq!(find(&table, 7).in_state(at(1_001)), Spent::AtLeast(2_996 * MS));
}

fn check_ages(script: Script) -> Table {
    let mut table = table();
    play(&mut table, script, &mut String::new());
    table
}
