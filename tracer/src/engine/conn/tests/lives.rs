//! Lives as the tracepoints tell them.

use super::*;

const REFUSED: u16 = 111;
const TIMED_OUT: u16 = 110;
const RESET: u16 = 104;
const ABORTED: u16 = 103;
const NO_ROUTE: u16 = 113;

/// A client that is ESTABLISHED since 1 ms.
fn client(id: u64) -> Life {
    life(id).syn(0).established(1)
}

/// The other end of that client, accepted at 1 ms with a first RTT sample of 400 us.
fn server(id: u64, client: u64) -> Life {
    let mut life = life(id).server_of(client).accepted(1, 30).srtt(400);
    life.flags.has_socket = true;
    life
}

#[test]
fn a_client_that_closes_first() {
    check(
        client(7).fin_wait1(101).orphaned().fin_wait2(102).fin_is_in().close(102),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         101ms #7 ESTABLISHED > FIN_WAIT1 100ms
         102ms #7 FIN_WAIT1 > FIN_WAIT2 1ms
         102ms #7 FIN_WAIT2 > TIME_WAIT 0
         102ms #7 finished: client, fin, first local, 102ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 100ms, FIN_WAIT1 1ms",
    );
}

#[test]
fn a_client_whose_peer_closes_first() {
    check(
        client(7).close_wait(11).last_ack(21).close(23),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         11ms #7 ESTABLISHED > CLOSE_WAIT 10ms
         21ms #7 CLOSE_WAIT > LAST_ACK 10ms
         23ms #7 LAST_ACK > CLOSE 2ms
         23ms #7 finished: client, fin, first remote, 23ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 10ms, CLOSE_WAIT 10ms, LAST_ACK 2ms
         23ms #7 gone",
    );
}

#[test]
fn data_that_comes_after_close_ends_it_by_our_reset() {
    check(
        client(7).fin_wait1(101).orphaned().fin_wait2(102).close(102).reset(Direction::Sent, 102),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         101ms #7 ESTABLISHED > FIN_WAIT1 100ms
         102ms #7 FIN_WAIT1 > FIN_WAIT2 1ms
         102ms #7 RST Sent in CLOSE
         102ms #7 FIN_WAIT2 > CLOSE 0
         102ms #7 finished: client, rst_sent, first local, 102ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 100ms, FIN_WAIT1 1ms
         102ms #7 gone",
    );
}

#[test]
fn a_simultaneous_open_is_one_handshake() {
    let table = check(
        life(7).syn(0).to(TcpState::SynRecv, 3).established(5),
        "0 #7 CLOSE > SYN_SENT -
         3ms #7 SYN_SENT > SYN_RECV 3ms
         5ms #7 SYN_RECV > ESTABLISHED 2ms",
    );
    assert_eq!(find(&table, 7).handshake_ns(), Some(5 * MS));
}

#[test]
fn a_server_has_its_handshake_from_the_first_rtt_sample() {
    let table = check(
        server(8, 7),
        "1ms #8 LISTEN > SYN_RECV -
         1030us #8 SYN_RECV > ESTABLISHED 400us",
    );
    let conn = find(&table, 8);
    assert_eq!(conn.handshake_ns(), Some(400_000));
    assert_eq!(conn.born, MonoNs(at(1).0 + 30_000 - 400_000));
    assert!(conn.complete);
}

#[test]
fn without_a_sample_the_microseconds_in_syn_recv_are_no_handshake() {
    check(
        life(8).server_of(7).accepted(1, 30).close_wait(5).last_ack(6).close(7),
        "1ms #8 LISTEN > SYN_RECV -
         1030us #8 SYN_RECV > ESTABLISHED >=30us
         5ms #8 ESTABLISHED > CLOSE_WAIT 3970us
         6ms #8 CLOSE_WAIT > LAST_ACK 1ms
         7ms #8 LAST_ACK > CLOSE 1ms
         7ms #8 finished: server, fin, first remote, 6ms, SYN_RECV 30us, ESTABLISHED 3970us, CLOSE_WAIT 1ms, LAST_ACK 1ms
         7ms #8 gone",
    );
}

#[test]
fn ends_that_no_fin_makes() {
    let how = |life: Life, expect: &str| {
        let mut table = table();
        let mut lines = String::new();
        play(&mut table, life.into(), &mut lines);
        let line = lines.lines().find(|line| line.contains("finished")).unwrap_or("no end");
        let words = line.split_once("finished: ").map_or(line, |(_, words)| words);
        let words: Vec<_> = words.split(", ").skip(1).take(2).collect();
        assert_eq!(words.join(", "), expect, "{lines}");
        assert!(table.is_empty(), "{table:?}");
    };
    let (sent, received) = (Direction::Sent, Direction::Received);

    how(life(7).syn(0).close(1).errno(REFUSED), "refused, first remote");
    how(life(7).syn(0).reset(received, 1).close(1).errno(REFUSED), "refused, first remote");
    how(life(7).syn(0).close(127_000).errno(TIMED_OUT), "timeout, first none");
    how(life(7).syn(0).close(3_000).errno(NO_ROUTE), "unreachable, first none");
    how(life(7).syn(0).orphaned().close(3_000), "aborted, first local");

    how(client(7).reset(received, 5).close(5).errno(RESET), "rst_received, first remote");
    // Kernels without the tracepoint, or a filter that lets no reset through.
    how(client(7).close(5).errno(RESET), "rst_received, first remote");
    // EPIPE: the peer's FIN was in.
    how(client(7).close_wait(3).close(5).errno(32), "rst_received, first remote");
    // Data after close: we answer with a RST, and tcp_reset sets ECONNRESET.
    how(
        client(7).fin_wait1(5).orphaned().reset(sent, 6).close(6).errno(RESET),
        "rst_sent, first local",
    );
    // Unread data or SO_LINGER 0: the RST goes out after the state is CLOSE.
    how(client(7).orphaned().close(5).reset(sent, 5), "rst_sent, first local");
    how(client(7).close_wait(3).orphaned().close(5).reset(sent, 5), "rst_sent, first remote");
    // A child nobody accepted when its listener closed.
    how(server(8, 7).orphaned().close(5), "rst_sent, first local");

    how(client(7).close(900_000).errno(TIMED_OUT), "timeout, first none");
    how(client(7).fin_wait1(5).orphaned().close(100_000).errno(TIMED_OUT), "timeout, first local");
    how(
        client(7).close_wait(5).last_ack(6).close(100_000).errno(TIMED_OUT),
        "timeout, first remote",
    );
    how(client(7).close(5).errno(NO_ROUTE), "unreachable, first none");
    // `ss -K`.
    how(client(7).reset(sent, 5).close(5).errno(ABORTED), "aborted, first local");
    // tcp_out_of_resources
    how(client(7).fin_wait1(5).orphaned().close(9), "aborted, first local");
}

/// With `tcp_send_reset`: the RST of a close comes after the CLOSE.
#[test]
fn the_rst_that_closes_is_told_before_the_end() {
    let seen = || Table::new(Options { resets_are_seen: true, ..OPTIONS });
    let begins = "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         5ms #7 ESTABLISHED > CLOSE 4ms";
    let end = "5ms #7 finished: client, rst_sent, first local, 5ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 4ms
         5ms #7 gone";
    let sent = Direction::Sent;
    let close = client(7).orphaned().close(5);
    let table = check_in(
        seen(),
        close.clone().reset(sent, 6),
        &format!("{begins}\n6ms #7 RST Sent in CLOSE\n{end}"),
    );
    assert!(table.is_empty());
    // It never comes: the next tick ends the wait, or whatever comes for that id.
    check_in(seen(), Script::from(close.clone()).tick(900), &format!("{begins}\n{end}"));
    check_in(
        seen(),
        close.clone().syn(20),
        &format!("{begins}\n{end}\n20ms #7 CLOSE > SYN_SENT -"),
    );
    let late = life(7).already(TcpState::Established).row(4).late(20);
    let row = poll(PollKind::All, 4, 30, late);
    check_in(seen(), row.and(close).tick(900), &format!("{begins}\n{end}"));
}

#[test]
fn a_second_close_is_no_transition_but_tells_who_let_go() {
    let again = client(7).fin_wait1(10).fin_wait2(11).to(TcpState::FinWait2, 500).by(9, "curl");
    let table = check(again, CLOSED_AND_WAITING);
    assert_eq!(find(&table, 7).owner.as_ref().map(|owner| owner.task.pid), Some(9));
    assert_eq!(find(&table, 7).in_state(at(511)), Spent::Exactly(500 * MS));
    assert!(check(life(7).to(TcpState::Close, 5), "").is_empty());
}

#[test]
fn our_rst_ends_the_mini_socket_at_the_other_end() {
    let other = server(8, 7).close_wait(10).orphaned().close(500);
    check(
        Script::from(closed_and_waiting(7)).and(other),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         1ms #8 LISTEN > SYN_RECV -
         1030us #8 SYN_RECV > ESTABLISHED 400us
         10ms #7 ESTABLISHED > FIN_WAIT1 9ms
         10ms #8 ESTABLISHED > CLOSE_WAIT 8970us
         11ms #7 FIN_WAIT1 > FIN_WAIT2 1ms
         500ms #8 CLOSE_WAIT > CLOSE 490ms
         500ms #8 finished: server, rst_sent, first remote, 499370us, handshake 400us, SYN_RECV 400us, ESTABLISHED 8970us, CLOSE_WAIT 490ms
         500ms #8 gone
         500ms #7 FIN_WAIT2 > CLOSE 489ms
         500ms #7 finished: client, rst_received, first local, 500ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms, FIN_WAIT2 489ms
         500ms #7 gone",
    );
}

#[test]
fn an_error_is_kept_until_the_end() {
    check(
        client(7).reports(TIMED_OUT, 4).close(5).errno(TIMED_OUT),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         5ms #7 ESTABLISHED > CLOSE 4ms
         5ms #7 finished: client, timeout, first none, 5ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 4ms
         5ms #7 gone",
    );
}

#[test]
fn a_half_close_waits_in_fin_wait2_with_its_owner() {
    // shutdown(SHUT_WR): the socket lives on, and so do its states.
    let table = check(
        client(7).fin_wait1(10).by(100, "curl").fin_wait2(11),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         10ms #7 ESTABLISHED > FIN_WAIT1 9ms
         11ms #7 FIN_WAIT1 > FIN_WAIT2 1ms",
    );
    let conn = find(&table, 7);
    assert_eq!((conn.shape, conn.orphan), (Shape::Full, false));
    assert_eq!(conn.in_state(at(5_011)), Spent::Exactly(5_000 * MS));
}

#[test]
fn a_simultaneous_close_goes_through_closing() {
    check(
        client(7).fin_wait1(10).orphaned().closing(11).close(14),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         10ms #7 ESTABLISHED > FIN_WAIT1 9ms
         11ms #7 FIN_WAIT1 > CLOSING 1ms
         14ms #7 CLOSING > TIME_WAIT 3ms
         14ms #7 finished: client, fin, first local, 14ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms, CLOSING 3ms",
    );
}

/// What the kernel calls CLOSE a moment after FIN_WAIT2 is a mini-socket in FIN_WAIT2.
fn closed_and_waiting(id: u64) -> Life {
    client(id).fin_wait1(10).by(100, "curl").orphaned().fin_wait2(11).close(11)
}

const CLOSED_AND_WAITING: &str = "
    0 #7 CLOSE > SYN_SENT -
    1ms #7 SYN_SENT > ESTABLISHED 1ms
    10ms #7 ESTABLISHED > FIN_WAIT1 9ms
    11ms #7 FIN_WAIT1 > FIN_WAIT2 1ms
";

#[test]
fn an_orphan_in_fin_wait2_lives_on_until_fin_and_time_wait_are_over() {
    let tw = TcpState::TimeWait;
    let rows = |ms, left| life(7).mini(ms, tw, left);
    let script = Script::from(closed_and_waiting(7))
        .and(minis(1_000, life(7).mini(1_001, TcpState::FinWait2, 59_008)))
        // The FIN came at 20 s.
        .and(minis(20_500, rows(20_501, 59_500)))
        .and(minis(79_000, rows(79_001, 1_000)))
        .and(minis(81_000, nothing()));
    let table = check(
        script,
        &format!(
            "{CLOSED_AND_WAITING}
             20001ms #7 FIN_WAIT2 > TIME_WAIT ~19990ms
             20001ms #7 finished: client, fin, first local, 20001ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms, FIN_WAIT2 19990ms
             80001ms #7 TIME_WAIT > CLOSE ~60s
             80001ms #7 gone"
        ),
    );
    assert!(table.is_empty());
}

#[test]
fn a_fin_wait2_that_times_out() {
    let script = Script::from(closed_and_waiting(7))
        .and(minis(1_000, life(7).mini(1_000, TcpState::FinWait2, 59_012)))
        .and(minis(60_500, nothing()));
    check(
        script,
        &format!(
            "{CLOSED_AND_WAITING}
             60012ms #7 FIN_WAIT2 > CLOSE ~60001ms
             60012ms #7 finished: client, timeout, first local, 60012ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms, FIN_WAIT2 60001ms
             60012ms #7 gone"
        ),
    );
}

#[test]
fn a_mini_socket_that_goes_before_its_time_went_for_an_unknown_reason() {
    // Once may be chance.
    let script = Script::from(closed_and_waiting(7))
        .and(minis(1_000, life(7).mini(1_000, TcpState::FinWait2, 59_012)))
        .and(minis(2_000, nothing()));
    check(script.clone(), CLOSED_AND_WAITING);
    check(
        script.and(minis(3_000, nothing())),
        &format!(
            "{CLOSED_AND_WAITING}
             3010ms #7 FIN_WAIT2 > CLOSE ~2999ms
             3010ms #7 finished: client, unknown, first local, 3010ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms, FIN_WAIT2 2999ms
             3010ms #7 gone"
        ),
    );
}

#[test]
fn when_the_other_end_is_here_too_its_last_ack_dates_the_fin_exactly() {
    let other = server(8, 7).close_wait(10).last_ack(5_011).close(5_012);
    check(
        Script::from(closed_and_waiting(7)).and(other),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         1ms #8 LISTEN > SYN_RECV -
         1030us #8 SYN_RECV > ESTABLISHED 400us
         10ms #7 ESTABLISHED > FIN_WAIT1 9ms
         10ms #8 ESTABLISHED > CLOSE_WAIT 8970us
         11ms #7 FIN_WAIT1 > FIN_WAIT2 1ms
         5011ms #8 CLOSE_WAIT > LAST_ACK 5001ms
         5012ms #8 LAST_ACK > CLOSE 1ms
         5012ms #8 finished: server, fin, first remote, 5011370us, handshake 400us, SYN_RECV 400us, ESTABLISHED 8970us, CLOSE_WAIT 5001ms, LAST_ACK 1ms
         5012ms #8 gone
         5012ms #7 FIN_WAIT2 > TIME_WAIT 5001ms
         5012ms #7 finished: client, fin, first local, 5012ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms, FIN_WAIT2 5001ms",
    );
}

#[test]
fn without_rows_nobody_knows_what_becomes_of_a_mini_socket() {
    let table = check_in(
        Table::new(Options { minis_are_seen: false, ..OPTIONS }),
        closed_and_waiting(7),
        &format!(
            "{CLOSED_AND_WAITING}
             11ms #7 FIN_WAIT2 > CLOSE 0
             11ms #7 finished: client, unknown, first local, 11ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms
             11ms #7 gone"
        ),
    );
    assert!(table.is_empty());
}

#[test]
fn without_rows_a_time_wait_ends_with_its_timer() {
    let life = client(7).fin_wait1(10).orphaned().fin_is_in().fin_wait2(11).close(11);
    let table = check_in(
        Table::new(Options { minis_are_seen: false, ..OPTIONS }),
        Script::from(life).tick(60_010).tick(61_000),
        &format!(
            "{CLOSED_AND_WAITING}
             11ms #7 FIN_WAIT2 > TIME_WAIT 0
             11ms #7 finished: client, fin, first local, 11ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms
             60011ms #7 TIME_WAIT > CLOSE ~60s
             60011ms #7 gone"
        ),
    );
    assert!(table.is_empty());
}

#[test]
fn a_new_connection_with_the_same_ends_replaces_a_mini_socket() {
    let first = client(7).fin_wait1(10).orphaned().fin_is_in().fin_wait2(11).close(11);
    // tcp_tw_reuse: the port is known at ESTABLISHED only.
    let again = life(9).with_tuple(life(7).tuple).syn(5_000).established(5_001);
    let table = check(
        Script::from(first).and(again),
        &format!(
            "{CLOSED_AND_WAITING}
             11ms #7 FIN_WAIT2 > TIME_WAIT 0
             11ms #7 finished: client, fin, first local, 11ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms
             5s #9 CLOSE > SYN_SENT -
             5001ms #7 TIME_WAIT > CLOSE ~4990ms
             5001ms #7 gone
             5001ms #9 SYN_SENT > ESTABLISHED 1ms"
        ),
    );
    assert_eq!(table.len(), 1);
}

#[test]
fn a_mini_socket_is_replaced_when_that_is_told_and_not_before() {
    // The new owner of the ports has been in SYN_SENT since before the mini-socket was made.
    let again = life(9).with_tuple(life(7).tuple).syn(2).reset(Direction::Received, 500);
    let table = check(
        Script::from(closed_and_waiting(7)).and(again),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         2ms #9 CLOSE > SYN_SENT -
         10ms #7 ESTABLISHED > FIN_WAIT1 9ms
         11ms #7 FIN_WAIT1 > FIN_WAIT2 1ms
         500ms #7 FIN_WAIT2 > CLOSE ~489ms
         500ms #7 finished: client, unknown, first local, 500ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms, FIN_WAIT2 489ms
         500ms #7 gone
         500ms #9 RST Received in SYN_SENT",
    );
    assert_eq!(table.len(), 1);
}

#[test]
fn a_syn_to_a_time_wait_of_ours_replaces_it() {
    // The server closed first; the client's next connection has the same port.
    let first = server(8, 7).fin_wait1(10).orphaned().fin_is_in().fin_wait2(11).close(11);
    let again = life(9).server_of(7).accepted(5_000, 20).srtt(300);
    let table = check(
        Script::from(first).and(again),
        "1ms #8 LISTEN > SYN_RECV -
         1030us #8 SYN_RECV > ESTABLISHED 400us
         10ms #8 ESTABLISHED > FIN_WAIT1 8970us
         11ms #8 FIN_WAIT1 > FIN_WAIT2 1ms
         11ms #8 FIN_WAIT2 > TIME_WAIT 0
         11ms #8 finished: server, fin, first local, 10370us, handshake 400us, SYN_RECV 400us, ESTABLISHED 8970us, FIN_WAIT1 1ms
         5s #8 TIME_WAIT > CLOSE ~4989ms
         5s #8 gone
         5s #9 LISTEN > SYN_RECV -
         5000020us #9 SYN_RECV > ESTABLISHED 300us",
    );
    assert_eq!(table.len(), 1);
}

#[test]
fn a_socket_connects_again_while_its_mini_socket_lives() {
    // connect, shutdown, FIN, connect again: the same cookie twice.
    let first = client(7).fin_wait1(10).fin_is_in().fin_wait2(11).close(11);
    let other = tuple(1, 50_000, 3, PORT);
    let again = life(7).with_tuple(other).syn(20).established(22);
    let table = check(
        Script::from(first)
            .and(again)
            .and(minis(59_000, life(7).mini(59_000, TcpState::TimeWait, 1_012)))
            .and(minis(61_000, nothing())),
        &format!(
            "{CLOSED_AND_WAITING}
             11ms #7 FIN_WAIT2 > TIME_WAIT 0
             11ms #7 finished: client, fin, first local, 11ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms
             20ms #7 CLOSE > SYN_SENT -
             22ms #7 SYN_SENT > ESTABLISHED 2ms
             60012ms #7 TIME_WAIT > CLOSE ~60001ms
             60012ms #7 gone"
        ),
    );
    let conn = find(&table, 7);
    assert_eq!((conn.state, conn.tuple), (TcpState::Established, other));
}

#[test]
fn a_second_mini_socket_of_a_cookie_ends_the_first() {
    let first = client(7).fin_wait1(10).fin_is_in().fin_wait2(11).close(11);
    let again = life(7).syn(20).established(22).fin_wait1(23).fin_is_in().fin_wait2(24).close(24);
    let table = check(
        Script::from(first).and(again.with_tuple(tuple(1, 50_000, 3, PORT))),
        &format!(
            "{CLOSED_AND_WAITING}
             11ms #7 FIN_WAIT2 > TIME_WAIT 0
             11ms #7 finished: client, fin, first local, 11ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 9ms, FIN_WAIT1 1ms
             20ms #7 CLOSE > SYN_SENT -
             22ms #7 TIME_WAIT > CLOSE ~11ms
             22ms #7 gone
             22ms #7 SYN_SENT > ESTABLISHED 2ms
             23ms #7 ESTABLISHED > FIN_WAIT1 1ms
             24ms #7 FIN_WAIT1 > FIN_WAIT2 1ms
             24ms #7 FIN_WAIT2 > TIME_WAIT 0
             24ms #7 finished: client, fin, first local, 4ms, handshake 2ms, SYN_SENT 2ms, ESTABLISHED 1ms, FIN_WAIT1 1ms"
        ),
    );
    assert_eq!(table.len(), 1);
}

#[test]
fn an_id_that_begins_again_has_lost_its_end() {
    // Without cookies the id is an address, and used again within microseconds.
    check(
        client(7).already(TcpState::Close).syn(50),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         50ms #7 ESTABLISHED > CLOSE -
         50ms #7 finished: client, unknown, first none, >=1ms, handshake 1ms, SYN_SENT 1ms
         50ms #7 gone
         50ms #7 CLOSE > SYN_SENT -",
    );
}

#[test]
fn a_listener_and_its_children() {
    let listener = life(1).listen(0).by(100, "nginx");
    let end = Life { script: Script::default(), ..listener.clone() }.close(900);
    let table = check(
        Script::from(listener).and(server(8, 7)),
        "0 #1 CLOSE > LISTEN -
         1ms #8 LISTEN > SYN_RECV -
         1030us #8 SYN_RECV > ESTABLISHED 400us",
    );
    let owner = find(&table, 8).owner.clone().expect("the listener's");
    assert_eq!((owner.task.pid, owner.source.name()), (100, "listener"));
    check_in(
        table,
        end,
        "900ms #1 LISTEN > CLOSE 900ms
                          900ms #1 gone",
    );
}

#[test]
fn a_listener_without_bind_gets_its_port_after_listen() {
    let mut listener = life(1).listen(0);
    listener.script.last_event().tuple.local_port = 0;
    let row = Life { script: Script::default(), ..listener.clone() };
    let table =
        check(Script::from(listener).and(all(100, row.clone().row(101))), "0 #1 CLOSE > LISTEN -");
    assert_eq!(find(&table, 1).tuple.local_port, PORT);
    let table = check_in(
        table,
        row.close(200),
        "200ms #1 LISTEN > CLOSE 200ms
                                                 200ms #1 gone",
    );
    assert!(table.is_empty());
}

#[test]
fn segments_sent_again_are_counted_by_kind() {
    let table = check(
        life(7)
            .syn(0)
            .retransmit(Segment::Syn, 1_000, 1)
            .retransmit(Segment::Syn, 3_000, 2)
            .established(3_001)
            .retransmit(Segment::Data, 4_000, 3)
            .fin_wait1(5_000)
            .retransmit(Segment::Fin, 5_200, 4),
        "0 #7 CLOSE > SYN_SENT -
         1s #7 syn again in SYN_SENT: 1
         3s #7 syn again in SYN_SENT: 2
         3001ms #7 SYN_SENT > ESTABLISHED 3001ms
         4s #7 data again in ESTABLISHED: 3
         5s #7 ESTABLISHED > FIN_WAIT1 1999ms
         5200ms #7 fin again in FIN_WAIT1: 4",
    );
    let counts = find(&table, 7).retransmits;
    assert_eq!((counts.syn, counts.synack, counts.data, counts.fin), (2, 0, 1, 1));
    assert_eq!(find(&table, 7).handshake_ns(), Some(3_001 * MS));
}

#[test]
fn a_retransmitted_syn_fills_in_the_port() {
    let table = check(
        life(7).syn(0).retransmit(Segment::Syn, 1_000, 1),
        "0 #7 CLOSE > SYN_SENT -
         1s #7 syn again in SYN_SENT: 1",
    );
    assert_eq!(find(&table, 7).tuple.local_port, 40_007);
}

#[test]
fn a_reset_fills_in_the_port() {
    let table = check(
        life(7).syn(0).reset(Direction::Received, 1),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 RST Received in SYN_SENT",
    );
    assert_eq!(find(&table, 7).tuple.local_port, 40_007);
}

#[test]
fn syn_acks_sent_again_then_established() {
    let request = life(8).server_of(7);
    check(
        request.synack(1_000, 1).synack(3_000, 2).accepted(3_500, 30).srtt(2_500_000),
        "1s #8 synack again in SYN_RECV: 1
         3s #8 synack again in SYN_RECV: 2
         3500ms #8 LISTEN > SYN_RECV -
         3500030us #8 SYN_RECV > ESTABLISHED ~3500030us",
    );
}

#[test]
fn syn_acks_sent_again_in_vain() {
    let request = life(8).server_of(7);
    let script = Script::from(request.clone().synack(1_000, 1).synack(3_000, 2))
        .and(minis(4_000, request.request(4_000, 2, 3_000)))
        .and(minis(8_000, nothing()))
        .and(minis(9_000, nothing()));
    let table = check(
        script,
        "1s #8 synack again in SYN_RECV: 1
         3s #8 synack again in SYN_RECV: 2
         7s #8 SYN_RECV > CLOSE ~7s
         7s #8 finished: server, timeout, first none, >=7s, SYN_RECV 7s
         7s #8 gone",
    );
    assert!(table.is_empty());
}

/// Looks may be so rare that its timer has run out by the next, without another SYN-ACK.
#[test]
fn a_request_that_goes_after_its_first_synack_again_did_not_time_out() {
    let request = life(8).server_of(7);
    let script = Script::from(request.clone().synack(1_000, 1))
        .and(minis(1_500, request.request(1_500, 1, 1_500)))
        .and(minis(5_000, nothing()))
        .and(minis(9_000, nothing()));
    check(
        script,
        "1s #8 synack again in SYN_RECV: 1
         9010ms #8 SYN_RECV > CLOSE >=1500ms
         9010ms #8 finished: server, unknown, first none, >=1500ms, SYN_RECV 1500ms
         9010ms #8 gone",
    );
}

#[test]
fn a_request_whose_first_transition_was_lost_is_a_connection_all_the_same() {
    let request = life(8).server_of(7);
    let child = request.clone().to(TcpState::SynRecv, 1_200).lost().established(1_200);
    let table = check(
        Script::from(request.synack(1_000, 1))
            .and(child)
            .and(minis(2_000, nothing()))
            .and(minis(3_000, nothing())),
        "1s #8 synack again in SYN_RECV: 1
         1200ms #8 SYN_RECV > ESTABLISHED ~1200ms",
    );
    assert_eq!(find(&table, 8).shape, Shape::Full);
}

#[test]
fn what_the_covering_program_repeats_is_taken_once() {
    let life = life(7).syn(0).repeated().established(1).repeated();
    let life = life.close_wait(11).repeated().last_ack(21).repeated().close(23).repeated();
    check(
        life,
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         11ms #7 ESTABLISHED > CLOSE_WAIT 10ms
         21ms #7 CLOSE_WAIT > LAST_ACK 10ms
         23ms #7 LAST_ACK > CLOSE 2ms
         23ms #7 finished: client, fin, first remote, 23ms, handshake 1ms, SYN_SENT 1ms, ESTABLISHED 10ms, CLOSE_WAIT 10ms, LAST_ACK 2ms
         23ms #7 gone",
    );
}

#[test]
fn what_only_the_covering_program_saw_is_taken() {
    // Also when the request was known before its child.
    let only = |life: Life| {
        let mut life = life;
        life.script.last_event().flags.maybe_repeated = true;
        life
    };
    let request = life(8).server_of(7).synack(1_000, 1);
    let child = only(request.to(TcpState::SynRecv, 1_200)).established(1_200);
    let table = check(
        child,
        "1s #8 synack again in SYN_RECV: 1
         1200ms #8 LISTEN > SYN_RECV -
         1200ms #8 SYN_RECV > ESTABLISHED ~1200ms",
    );
    assert_eq!(find(&table, 8).shape, Shape::Full);
}

#[test]
fn a_lost_transition_leaves_a_gap_and_says_so() {
    check(
        client(7).close_wait(11).lost().last_ack(21).close(23),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         21ms #7 CLOSE_WAIT > LAST_ACK -
         23ms #7 LAST_ACK > CLOSE 2ms
         23ms #7 finished: client, fin, first remote, >=23ms, handshake 1ms, SYN_SENT 1ms, LAST_ACK 2ms
         23ms #7 gone",
    );
}

#[test]
fn what_was_there_before_is_at_least_as_old_as_the_run() {
    check(
        life(7).already(TcpState::CloseWait).last_ack(500).close(501),
        "500ms #7 CLOSE_WAIT > LAST_ACK >=500ms
         501ms #7 LAST_ACK > CLOSE 1ms
         501ms #7 finished: unknown, fin, first remote, >=501ms, CLOSE_WAIT 500ms, LAST_ACK 1ms
         501ms #7 gone",
    );
    // Even when nothing but its end is seen.
    check(
        life(7).already(TcpState::LastAck).close(501),
        "501ms #7 LAST_ACK > CLOSE >=501ms
         501ms #7 finished: unknown, fin, first remote, >=501ms, LAST_ACK 501ms
         501ms #7 gone",
    );
}

#[test]
fn both_ends_on_this_machine_know_each_other() {
    let here = client(7).by(100, "curl");
    let there = server(8, 7);
    let table = check(
        Script::from(here).and(there),
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         1ms #8 LISTEN > SYN_RECV -
         1030us #8 SYN_RECV > ESTABLISHED 400us",
    );
    assert_eq!(table.peer(find(&table, 7)).map(|peer| peer.id), Some(SockId(8)));
    assert_eq!(table.peer(find(&table, 8)).map(|peer| peer.id), Some(SockId(7)));
}

#[test]
fn loopback_addresses_of_other_namespaces_are_strangers() {
    let mut loopback = tuple(1, 40_007, 1, PORT);
    loopback.local_addr[12..].copy_from_slice(&[127, 0, 0, 1]);
    loopback.remote_addr[12..].copy_from_slice(&[127, 0, 0, 1]);
    let ends = |tuple: Tuple, other_netns: u32| {
        let here = life(7).with_tuple(tuple).syn(0).established(1);
        let mut there = life(8).with_tuple(tuple.reversed()).already(TcpState::Listen);
        there = there.accepted(1, 30);
        for (_, input) in &mut there.script.0 {
            if let Input::Event(event) = input {
                event.netns = other_netns;
            }
        }
        let mut table = table();
        play(&mut table, Script::from(here).and(there), &mut String::new());
        table.peer(find(&table, 7)).map(|peer| peer.id.0)
    };
    assert_eq!(ends(loopback, NETNS), Some(8));
    assert_eq!(ends(loopback, 2), None);
    // Two containers on one machine.
    assert_eq!(ends(tuple(1, 40_007, 2, PORT), 2), Some(8));
}

#[test]
fn a_full_table_counts_what_it_refuses_and_forgets_nothing_open() {
    let table = Table::new(Options { limit: 2, ..OPTIONS });
    let old = Script::from(life(1).already(TcpState::CloseWait).row(0)).and(client(2));
    let table = check_in(
        table,
        old.and(client(3)).and(client(4)),
        "0 #2 CLOSE > SYN_SENT -
         1ms #2 SYN_SENT > ESTABLISHED 1ms",
    );
    // Each of their events was refused, and is a loss.
    assert_eq!((table.len(), table.refused()), (2, 4));
    assert_eq!(find(&table, 1).state, TcpState::CloseWait);
    assert_eq!(find(&table, 2).state, TcpState::Established);
}

#[test]
fn better_knowledge_of_the_owner_replaces_worse() {
    let owner = |table: &Table, id: u64| {
        let owner = find(table, id).owner.clone().expect("known");
        let comm = String::from_utf8_lossy(owner.task.comm.bytes()).into_owned();
        (owner.task.pid, comm, owner.source.name(), owner.fd())
    };
    let run = |script: Script| {
        let mut table = table();
        play(&mut table, script, &mut String::new());
        table
    };
    let is = |pid, comm: &str, source, fd| (pid, comm.to_owned(), source, fd);
    let listener = Script::from(life(1).listen(0).by(100, "nginx"));
    let listened = listener.clone().and(server(8, 7));

    let table = run(listened.clone());
    assert_eq!(owner(&table, 8), is(100, "nginx", "listener", None));

    // A worker, not the master that called listen.
    let files = listened.clone().holders(5, &[holder(8, 101, "nginx", 9)]);
    assert_eq!(owner(&run(files.clone()), 8), is(101, "nginx", "files", Some(9)));
    let closes = server(8, 7).script.0.len();
    let mut close = server(8, 7).close_wait(6).last_ack(7).by(102, "helper");
    close.script.0.drain(..closes);
    let table = run(files.and(close));
    assert_eq!(owner(&table, 8), is(102, "helper", "close", None));

    // Whoever connected has it still, and now we know where.
    let connected = Script::from(life(7).syn(0).by(200, "curl").established(1));
    let table = run(connected.clone().holders(5, &[holder(7, 200, "curl", 5)]));
    assert_eq!(owner(&table, 7), is(200, "curl", "files", Some(5)));
    // A child that inherited the descriptor is not the one that connected, while that has it too.
    let (parent, child) = (holder(7, 200, "curl", 5), holder(7, 199, "child", 5));
    let table = run(connected.clone().holders(5, &[parent, child]));
    assert_eq!(owner(&table, 7), is(200, "curl", "files", Some(5)));
    assert_eq!(table.holders_of(SockId(7)).len(), 2);
    let table = run(connected.holders(5, &[child]));
    assert_eq!(owner(&table, 7), is(199, "child", "files", Some(5)));

    // The descriptor is kept when the same process closes it.
    let connected = Script::from(life(7).syn(0).by(200, "curl").established(1));
    let mut close = client(7).fin_wait1(6).by(200, "curl");
    close.script.0.drain(..2);
    let table = run(connected.holders(5, &[holder(7, 200, "curl", 5)]).and(close));
    assert_eq!(owner(&table, 7), is(200, "curl", "close", Some(5)));

    // The listener's own holders.
    let table = run(listener.holders(5, &[holder(1, 100, "nginx", 6), holder(1, 101, "nginx", 6)]));
    assert_eq!(owner(&table, 1), is(100, "nginx", "files", Some(6)));
    assert_eq!(table.holders_of(SockId(1)).len(), 2);
}

/// What a walk over descriptors says holds also where it says the same as the one before.
#[test]
fn the_same_holders_again_are_looked_at_where_something_was_learned_since() {
    let check = |script: Script, id: u64, expect: (u32, Option<u32>)| {
        let mut table = table();
        play(&mut table, script, &mut String::new());
        let owner = find(&table, id).owner.clone().expect("known");
        assert_eq!((owner.task.pid, owner.fd()), expect);
    };
    let twice =
        |script: Script, holders: &[Holder]| script.holders(0, holders).holders(90, holders);
    // Its events come after the first walk. Who connected has it still, beside a child with a lower number.
    let connected = || Script::from(life(7).syn(1).by(200, "curl").established(2));
    let both = [holder(7, 199, "child", 6), holder(7, 200, "curl", 5)];
    check(twice(connected(), &both), 7, (200, Some(5)));
    // Who closed it does not have it, and who has it is known from before.
    let listener = Script::from(life(1).listen(0).by(100, "nginx"));
    let closed = listener.and(server(8, 7).close_wait(60).last_ack(70).by(102, "helper"));
    let has = [holder(8, 101, "nginx", 9)];
    check(twice(closed.clone(), &has), 8, (101, Some(9)));
    check(closed.holders(50, &has).holders(90, &has), 8, (101, Some(9)));
}

#[test]
fn beyond_what_is_remembered_all_are_looked_at() {
    const FIRST: u64 = 100;
    let ids = FIRST..FIRST + crate::engine::conn::learned::MOST as u64 + 10;
    let held: Vec<Holder> = ids.clone().map(|id| holder(id, 200, "curl", 5)).collect();
    let mut table = Table::new(Options { limit: held.len(), ..OPTIONS });
    table.set_holders(held.clone());
    for id in ids.clone() {
        for (_, input) in life(id).syn(1).by(200, "curl").script.0 {
            feed(&mut table, &input, &mut Vec::new());
        }
        table.settle();
    }
    table.set_holders(held);
    for id in ids {
        assert_eq!(find(&table, id).owner.as_ref().and_then(|it| it.fd()), Some(5), "{id}");
    }
}

#[test]
fn of_several_listeners_that_it_can_be_none_is_guessed() {
    let other = |pid| {
        let listener = life(2).listen(0).by(pid, "worker");
        let table = check(
            Script::from(life(1).listen(0).by(100, "worker")).and(listener).and(server(8, 7)),
            "0 #1 CLOSE > LISTEN -
             0 #2 CLOSE > LISTEN -
             1ms #8 LISTEN > SYN_RECV -
             1030us #8 SYN_RECV > ESTABLISHED 400us",
        );
        find(&table, 8).owner.as_ref().map(|owner| owner.task.pid)
    };
    assert_eq!(other(100), Some(100));
    assert_eq!(other(101), None);
}

#[test]
fn a_socket_that_listens_after_it_was_connected_is_another_life() {
    // Its CLOSE was lost, and the loss is not repaired yet.
    let gap = client(7).already(TcpState::Listen).with_tuple(listener_tuple()).close(60);
    let table = check(
        gap,
        "0 #7 CLOSE > SYN_SENT -
         1ms #7 SYN_SENT > ESTABLISHED 1ms
         60ms #7 ESTABLISHED > CLOSE -
         60ms #7 finished: client, unknown, first none, >=1ms, handshake 1ms, SYN_SENT 1ms
         60ms #7 gone
         60ms #7 LISTEN > CLOSE >=60ms
         60ms #7 gone",
    );
    assert!(table.is_empty());
    let gap = life(7).listen(0).already(TcpState::CloseWait).with_tuple(life(7).tuple);
    let table = check(
        gap.last_ack(60).close(61),
        "0 #7 CLOSE > LISTEN -
         60ms #7 LISTEN > CLOSE -
         60ms #7 gone
         60ms #7 CLOSE_WAIT > LAST_ACK >=60ms
         61ms #7 LAST_ACK > CLOSE 1ms
         61ms #7 finished: unknown, fin, first remote, >=61ms, CLOSE_WAIT 60ms, LAST_ACK 1ms
         61ms #7 gone",
    );
    assert!(table.is_empty());
}
