//! Why segments were sent again.

use super::*;
use crate::engine::conn::Causes;
use crate::event::Cause;

/// What is known at the end of a connection of which these were sent again: the cause, how many segments, and what the
/// kernel has counted by then. `told` is what a transition to CLOSE says of those that came twice.
#[track_caller]
fn check(
    sent: &[(Option<Cause>, u16, u32)],
    told: u32,
    expect: Causes,
    unknown: u32,
    spurious: Option<u32>,
) {
    let mut table = table();
    let mut changes = Vec::new();
    let mut life = life(7).syn(0).established(1);
    let mut total = 0;
    for (index, &(cause, segments, counted)) in sent.iter().enumerate() {
        total = counted;
        let again = Again { cause, segments, ..Again::default() };
        let state = TcpState::Established;
        let counters = Counters { retransmits: counted, ..Counters::default() };
        let what = What::Retransmit { segment: Segment::Data, state, times: 0, again };
        life = life.what(2 + index as u64, what).counters(counters);
    }
    let counters = Counters { retransmits: total, got_twice: told, ..Counters::default() };
    let script: Script = life.close(900).counters(counters).into();
    for (_, input) in &script.0 {
        feed(&mut table, input, &mut changes);
    }
    let end = changes.iter().find(|change| change.kind == Kind::Finished).expect("an end");
    let conn = table.get(end.conn).expect("there until it is settled");
    assert_eq!((conn.causes(), conn.without_cause()), (expect, unknown), "{sent:?}");
    assert_eq!(conn.spurious(), spurious, "{sent:?}");
}

#[test]
fn what_was_sent_again_is_counted_by_cause() {
    let none = Causes::default();
    check(&[], 1, none, 0, None);
    check(&[(None, 0, 1)], 0, none, 1, None);
    let timeout = (Some(Cause::Timeout), 1, 1);
    let one = Causes { timeout: 1, ..none };
    check(&[timeout], 1, one, 0, Some(0));
    check(&[timeout], 0, one, 0, None);
    // Segments, not calls; and one that was not told.
    let fast = (Some(Cause::Fast), 3, 5);
    check(&[timeout, fast], 3, Causes { fast: 3, ..one }, 1, Some(2));
    let probe = (Some(Cause::Probe), 1, 2);
    let slow = (Some(Cause::SlowStart), 1, 3);
    check(&[timeout, probe, slow], 1, Causes { probe: 1, slow_start: 1, ..one }, 0, Some(0));
}

#[test]
fn more_than_was_sent_again_came_twice_of_the_networks_own() {
    let timeout = (Some(Cause::Timeout), 1, 1);
    check(&[timeout], 8, Causes { timeout: 1, ..Causes::default() }, 0, Some(1));
    check(&[], 8, Causes::default(), 0, None);
}
