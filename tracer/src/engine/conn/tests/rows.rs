//! Rows of walks: what was there before, what events did not tell, and what they told wrong.

use super::*;

fn client(id: u64) -> Life {
    life(id).syn(0).established(1)
}

const BEGINS: &str = "
    0 #7 CLOSE > SYN_SENT -
    1ms #7 SYN_SENT > ESTABLISHED 1ms
";

#[test]
fn rows_of_what_was_there_before_have_ages_at_least() {
    let age = |life: Life, change: &dyn Fn(&mut Existing)| {
        let mut row = life.row(100);
        change(row.existing());
        let table = check(all(99, row), "");
        let conn = find(&table, 7);
        assert!(!conn.complete);
        conn.in_state(at(100))
    };
    let jiffies = |ms| jiffies(ms);
    let open = life(7).already(TcpState::Established);
    assert_eq!(
        age(open.clone(), &|row| {
            row.since_received = jiffies(4_000);
            row.since_sent = jiffies(60_000);
            row.since_ack = jiffies(8_000);
        }),
        Spent::AtLeast(59_996 * MS)
    );
    let close_wait = life(7).already(TcpState::CloseWait);
    assert_eq!(
        age(close_wait, &|row| {
            // Data came and went before the FIN.
            row.since_received = jiffies(60_000);
            row.since_sent = jiffies(60_000);
            row.since_ack = jiffies(8_000);
        }),
        Spent::AtLeast(7_996 * MS)
    );
    let syn_sent = life(7).already(TcpState::SynSent);
    assert_eq!(age(syn_sent, &|row| row.unanswered = 3), Spent::AtLeast(2_996 * MS));
}

#[test]
fn rows_say_which_side_closed_first() {
    let first = |state: TcpState| {
        let table = check(all(99, life(7).already(state).row(100)), "");
        find(&table, 7).first_close.name()
    };
    assert_eq!(first(TcpState::Established), "none");
    assert_eq!(first(TcpState::FinWait1), "local");
    assert_eq!(first(TcpState::FinWait2), "local");
    assert_eq!(first(TcpState::CloseWait), "remote");
    assert_eq!(first(TcpState::LastAck), "remote");
}

#[test]
fn what_was_there_before_is_the_servers_where_somebody_listens() {
    let listener = life(1).already(TcpState::Listen).with_tuple(listener_tuple());
    let ours = life(8).server_of(7).already(TcpState::CloseWait);
    let client = life(7).already(TcpState::FinWait2);
    let other = life(9).already(TcpState::Established);
    let rows = Script::from(client.row(51)).and(ours.row(51)).and(other.row(51));
    let table = check(all(50, rows.and(listener.row(52))), "");
    let role = |id| find(&table, id).role.name();
    assert_eq!((role(1), role(8), role(9)), ("listener", "server", "unknown"));
    // The other end of a server's.
    assert_eq!(role(7), "client");
}

#[test]
fn sockets_that_are_only_bound_are_nobodys_business() {
    assert!(check(all(50, life(7).row(51)), "").is_empty());
}

#[test]
fn a_row_tells_queues_owner_flags_and_the_port() {
    let mut row = life(7).already(TcpState::SynSent).row(500);
    row.existing().send_queue = 1;
    let table = check(Script::from(life(7).syn(0)).and(all(499, row)), "0 #7 CLOSE > SYN_SENT -");
    let conn = find(&table, 7);
    assert_eq!((conn.send_queue, conn.accepted, conn.orphan), (1, true, false));
    assert_eq!(conn.tuple.local_port, 40_007, "chosen after CLOSE->SYN_SENT");
    assert!(conn.complete, "a row that agrees is no gap");

    let queued = life(8).server_of(7).accepted(1, 30);
    let mut row = queued.clone();
    row.script = Script::default();
    let table = check(
        Script::from(queued.srtt(400)).and(all(499, row.row(500))),
        "1ms #8 LISTEN > SYN_RECV -
         1030us #8 SYN_RECV > ESTABLISHED 400us",
    );
    assert!(!find(&table, 8).accepted);
}

#[test]
fn rows_older_than_what_is_known_tell_nothing() {
    let row = life(7).already(TcpState::Established).row(10).late(20);
    let table = check(
        Script::from(client(7).close_wait(15)).and(poll(PollKind::All, 9, 30, row)),
        &format!("{BEGINS} 15ms #7 ESTABLISHED > CLOSE_WAIT 14ms"),
    );
    assert!(find(&table, 7).complete);
}

#[test]
fn a_row_a_moment_after_its_transition_may_still_have_the_old_state() {
    let row = life(7).already(TcpState::Established).row(17);
    let table = check(
        Script::from(client(7).close_wait(15)).and(all(9, row)),
        &format!("{BEGINS} 15ms #7 ESTABLISHED > CLOSE_WAIT 14ms"),
    );
    assert_eq!(find(&table, 7).state, TcpState::CloseWait);
}

#[test]
fn rows_of_what_went_during_the_walk_do_not_bring_it_back() {
    let gone = client(7).close_wait(11).last_ack(21).close(23);
    let row = life(7).already(TcpState::LastAck).row(22).late(24);
    let table = check(
        Script::from(gone).and(poll(PollKind::All, 20, 30, row)),
        &format!(
            "{BEGINS}
             11ms #7 ESTABLISHED > CLOSE_WAIT 10ms
             21ms #7 CLOSE_WAIT > LAST_ACK 10ms
             23ms #7 LAST_ACK > CLOSE 2ms
             23ms #7 finished: client, fin, first remote, 23ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 10ms, CLOSE_WAIT 10ms, LAST_ACK 2ms
             23ms #7 gone"
        ),
    );
    assert!(table.is_empty());
    // After the walk an id may live again: without cookies it is an address.
    let row = life(7).already(TcpState::Established).row(500);
    assert_eq!(check_in(table, all(499, row), "").len(), 1);
}

#[test]
fn a_row_that_contradicts_repairs_and_is_not_exact() {
    let row = life(7).already(TcpState::CloseWait).row(5_000).idle(1_000);
    let table = check(
        Script::from(client(7)).and(all(4_999, row)),
        &format!("{BEGINS} 5s #7 ESTABLISHED > CLOSE_WAIT -"),
    );
    let conn = find(&table, 7);
    assert!(!conn.complete);
    assert_eq!(conn.first_close.name(), "remote");
    assert_eq!(conn.in_state(at(6_000)), Spent::AtLeast(1_996 * MS));
}

#[test]
fn a_repair_does_not_begin_before_what_was_seen() {
    let row = life(7).already(TcpState::CloseWait).row(500).idle(10_000);
    let table = check(
        Script::from(client(7)).and(all(499, row)),
        &format!("{BEGINS} 500ms #7 ESTABLISHED > CLOSE_WAIT -"),
    );
    assert_eq!(find(&table, 7).in_state(at(500)), Spent::AtLeast(499 * MS));
}

#[test]
fn missed_once_is_chance_and_missed_twice_is_gone() {
    let script = Script::from(client(7)).and(all(1_000, nothing()));
    check(script.clone(), BEGINS);
    // Met in between: the count starts again.
    let met = script
        .clone()
        .and(all(2_000, life(7).already(TcpState::Established).row(2_001)))
        .and(all(3_000, nothing()));
    check(met, BEGINS);
    // Walks over mini-sockets miss full ones as a matter of course.
    check(script.clone().and(minis(2_000, nothing())).and(minis(3_000, nothing())), BEGINS);
    let table = check(
        script.and(all(2_000, nothing())),
        &format!(
            "{BEGINS}
             2010ms #7 ESTABLISHED > CLOSE -
             2010ms #7 finished: client, unknown, first none, >=1ms, handshake 1ms, SYN_SENT 1ms
             2010ms #7 gone"
        ),
    );
    assert!(table.is_empty());
}

#[test]
fn a_connect_that_never_got_a_port_does_not_stay_for_ever() {
    let script = Script::from(life(7).syn(0)).and(all(1_000, nothing())).and(all(2_000, nothing()));
    let table = check(
        script,
        "0 #7 CLOSE > SYN_SENT -
         2010ms #7 SYN_SENT > CLOSE -
         2010ms #7 finished: client, unknown, first none, >=0
         2010ms #7 gone",
    );
    assert!(table.is_empty());
}

#[test]
fn what_is_younger_than_the_walk_or_elsewhere_is_not_missed() {
    let young = life(7).syn(1_005).established(1_006);
    let table = check(
        Script::from(young).and(all(1_000, nothing())).and(poll(
            PollKind::All,
            1_001,
            1_020,
            nothing(),
        )),
        "1005ms #7 CLOSE > SYN_SENT -
         1006ms #7 SYN_SENT > ESTABLISHED 1ms",
    );
    assert_eq!(table.len(), 1);

    let elsewhere = |began| {
        let mut script = all(began, nothing());
        if let Some((_, Input::PollEnd(poll, _))) = script.0.last_mut() {
            poll.netns = vec![2];
        }
        script
    };
    let script =
        Script::from(client(7)).and(elsewhere(1_000)).and(elsewhere(2_000)).and(elsewhere(3_000));
    assert_eq!(check(script, BEGINS).len(), 1);
}

#[test]
fn requests_have_an_age_from_their_timer() {
    // Sent again twice; the third step is 4 s long and 3 s of it are left: 1 + 2 + 1 s.
    let table = check(minis(10_000, life(8).server_of(7).request(10_000, 2, 3_000)), "");
    let conn = find(&table, 8);
    assert_eq!((conn.role, conn.shape), (Role::Server, Shape::Request));
    assert_eq!(conn.in_state(at(10_000)), Spent::About(4_000 * MS));
    assert_eq!(conn.retransmits.synack, 2);
}

#[test]
fn a_request_seen_by_a_row_has_its_handshake_from_the_sample() {
    let request = life(8).server_of(7);
    let row = minis(1_000, request.clone().request(1_000, 0, 980));
    let table = check(
        Script::from(request.accepted(1_050, 30).srtt(70_123)).and(row),
        "1050ms #8 LISTEN > SYN_RECV -
         1050030us #8 SYN_RECV > ESTABLISHED 70123us",
    );
    assert_eq!(find(&table, 8).handshake_ns(), Some(70_123_000));
}

#[test]
fn time_wait_that_was_there_before_began_a_minute_before_its_timer() {
    let row = life(7).mini(1_000, TcpState::TimeWait, 20_000);
    let table = check(
        minis(999, row).and(minis(21_500, nothing())),
        "21s #7 TIME_WAIT > CLOSE ~60s
         21s #7 gone",
    );
    assert!(table.is_empty());
}

#[test]
fn fin_wait2_that_was_there_before_is_at_least_as_old_as_its_row() {
    let script = minis(999, life(7).mini(1_000, TcpState::FinWait2, 30_000))
        .and(minis(5_000, life(7).mini(5_000, TcpState::TimeWait, 59_000)));
    check(
        script,
        "4s #7 FIN_WAIT2 > TIME_WAIT >=3s
         4s #7 finished: unknown, fin, first local, >=3s, FIN_WAIT2 3s",
    );
}

#[test]
fn a_row_of_a_mini_socket_whose_socket_still_has_events_to_come_waits() {
    let early = life(7).mini(12, TcpState::FinWait2, 59_996);
    let last = client(7).fin_wait1(10).orphaned().fin_wait2(11).close(11).late(14);
    let table = check(
        Script::from(last).and(poll(PollKind::Minis, 11, 20, early)),
        &format!(
            "{BEGINS}
             10ms #7 ESTABLISHED > FIN_WAIT1 9ms
             11ms #7 FIN_WAIT1 > FIN_WAIT2 1ms"
        ),
    );
    let conn = find(&table, 7);
    assert_eq!((conn.shape, conn.state), (Shape::Mini, TcpState::FinWait2));
}

#[test]
fn a_mini_socket_whose_socket_lost_its_end_goes_on_with_its_life() {
    // FIN_WAIT1 and all after it were lost; the walk says what is.
    let row = |ms, left| life(7).mini(ms, TcpState::TimeWait, left);
    let script = Script::from(client(7))
        .and(all(10_000, row(10_000, 59_000)))
        .and(all(11_000, row(11_000, 58_000)))
        .and(all(12_000, row(12_000, 57_000)));
    let table = check(
        script,
        &format!(
            "{BEGINS}
             10s #7 ESTABLISHED > TIME_WAIT -
             10s #7 finished: client, fin, first local, >=9s, handshake 1ms, SYN_SENT 1ms"
        ),
    );
    assert_eq!(find(&table, 7).state, TcpState::TimeWait);
}

#[test]
fn holders_of_what_is_not_in_the_table_are_kept_too() {
    let table = check(nothing().holders(1, &[holder(9, 3, "b", 4), holder(9, 2, "a", 4)]), "");
    let pids: Vec<_> = table.holders_of(SockId(9)).iter().map(|holder| holder.pid).collect();
    assert_eq!(pids, [2, 3]);
    assert!(table.holders_of(SockId(8)).is_empty());
}

#[test]
fn a_holder_is_a_process_and_no_thread() {
    let row = life(7).already(TcpState::Established).row(100);
    let table = check(all(99, row).holders(200, &[holder(7, 50, "java", 60)]), "");
    let owner = find(&table, 7).owner.clone().expect("its holder");
    let Actor { pid, tid, thread, .. } = *owner.task;
    assert_eq!((pid, tid, thread), (50, 0, Comm::default()));
}

/// As systemd's activator does: it listens, and becomes the service.
#[test]
fn a_process_that_became_another_program_has_its_name() {
    let row = life(7).already(TcpState::Established).row(100);
    let script = all(99, row).holders(200, &[holder(7, 50, "systemd-socket-", 3)]);
    let table = check(script.holders(300, &[holder(7, 50, "python3", 3)]), "");
    let owner = find(&table, 7).owner.clone().expect("its holder");
    assert_eq!((owner.task.pid, owner.task.comm), (50, Comm::new(b"python3")));
}

#[test]
fn a_request_that_goes_before_its_synack_is_sent_again_did_not_time_out() {
    // A port scanner's RST, or the listener closed.
    let row = life(8).server_of(7).request(1_000, 0, 900);
    let script = minis(999, row).and(minis(2_000, nothing())).and(minis(3_000, nothing()));
    check(
        script,
        "3010ms #8 SYN_RECV > CLOSE >=100ms
         3010ms #8 finished: server, unknown, first none, >=100ms, SYN_RECV 100ms
         3010ms #8 gone",
    );
}

#[test]
fn who_is_to_accept_may_be_known_only_after_the_walk() {
    let listener = life(1).already(TcpState::Listen).with_tuple(listener_tuple());
    let mut queued = life(8).server_of(7).already(TcpState::Established);
    queued.flags.has_socket = false;
    let rows = Script::from(listener.row(51)).and(queued.row(51));
    let table = check(all(50, rows).holders(90, &[holder(1, 100, "java", 5)]), "");
    let owner = find(&table, 8).owner.clone().expect("its listener's");
    assert_eq!((owner.task.pid, owner.source.name()), (100, "listener"));
}

#[test]
fn what_vanished_lived_at_least_until_it_was_last_met() {
    let row = life(7).already(TcpState::Established).row(5_000);
    let script = Script::from(client(7))
        .and(all(4_999, row))
        .and(all(6_000, nothing()))
        .and(all(7_000, nothing()));
    check(
        script,
        &format!(
            "{BEGINS}
             7010ms #7 ESTABLISHED > CLOSE >=4999ms
             7010ms #7 finished: client, unknown, first none, >=5s, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 4999ms
             7010ms #7 gone"
        ),
    );
}

/// A walk that could not enter the namespace of these tests.
fn elsewhere(began: u64) -> Script {
    let poll = Poll { began: at(began), netns: vec![NETNS + 1], kind: PollKind::Minis };
    let end = Input::PollEnd(poll, at(began + 10));
    Script(vec![(began, Input::PollBegin), (began + 10, end)])
}

#[test]
fn time_wait_in_a_namespace_that_is_gone_ends_with_its_timer() {
    let ended = client(7).fin_wait1(10).fin_wait2(20).fin_is_in().close(30);
    let begins = format!(
        "{BEGINS}
         10ms #7 ESTABLISHED > FIN_WAIT1 9ms
         20ms #7 FIN_WAIT1 > FIN_WAIT2 10ms
         30ms #7 FIN_WAIT2 > TIME_WAIT 10ms
         30ms #7 finished: client, fin, first local, 30ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 10ms, FIN_WAIT2 10ms"
    );
    let script = Script::from(ended.clone()).and(elsewhere(1_000)).and(elsewhere(61_000));
    check(script, &begins);
    let script = Script::from(ended).and(elsewhere(1_000)).and(elsewhere(61_500));
    let table = check(
        script,
        &format!(
            "{begins}
             60030ms #7 TIME_WAIT > CLOSE ~60s
             60030ms #7 gone"
        ),
    );
    assert!(table.is_empty() && !table.wants_poll());
}

#[test]
fn fin_wait2_in_a_namespace_that_is_gone_ends_some_time() {
    let orphan = client(7).fin_wait1(10).fin_wait2(20).close(30);
    let script = Script::from(orphan.clone()).and(elsewhere(100_000));
    assert!(!check_any(script).is_empty());
    let script = Script::from(orphan).and(elsewhere(100_000)).and(elsewhere(120_100));
    assert!(check_any(script).is_empty());
}

/// Runs a script for what it leaves in the table.
fn check_any(script: Script) -> Table {
    let mut table = table();
    play(&mut table, script, &mut String::new());
    table
}

#[test]
fn when_too_many_end_during_a_walk_rows_bring_nobody_back() {
    let mut table = table();
    let mut changes = Vec::new();
    table.begin_poll();
    for id in 0..1 << 18 {
        table.note_gone(SockId(id + 1_000));
    }
    table.note_gone(SockId(7));
    let mut lines = String::new();
    let row = life(7).already(TcpState::Established).row(100);
    play(&mut table, Script::from(row.clone()), &mut lines);
    assert!(table.is_empty());
    // The next walk has its row again, if it is there.
    table.end_poll(
        &Poll { began: at(90), netns: vec![NETNS], kind: PollKind::All },
        at(110),
        &mut changes,
    );
    play(&mut table, all(150, life(7).already(TcpState::Established).row(160)), &mut lines);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_late_row_does_not_bring_back_a_mini_whose_ports_were_taken() {
    let time_wait = life(8).server_of(7).mini(1_002, TcpState::TimeWait, 30_000).late(1_010);
    // The client's port again, from another socket: the kernel ends the TIME_WAIT for it.
    let again = life(9).server_of(7).accepted(1_005, 30);
    let there = life(8).server_of(7).mini(500, TcpState::TimeWait, 30_500);
    let script = minis(499, there).and(poll(
        PollKind::Minis,
        1_000,
        1_020,
        Script::from(time_wait).and(again),
    ));
    let table = check_any(script);
    assert_eq!(table.len(), 1, "only the new one");
}
