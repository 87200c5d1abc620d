//! Connections whose destination is translated, and their other ends.

use super::*;

/// A client of the service at address 9, port 80, and what answers it: address 2, in this namespace.
fn both(other_netns: u32) -> Table {
    let socket = tuple(1, 40_007, 9, 80);
    let real = tuple(1, 40_007, 2, PORT);
    let here = life(7).with_tuple(socket).syn(0).established(1);
    let mut there = life(8).with_tuple(real.reversed()).already(TcpState::Listen);
    there = there.accepted(1, 30);
    for (_, input) in &mut there.script.0 {
        if let Input::Event(event) = input {
            event.netns = other_netns;
        }
    }
    let mut table = table();
    play(&mut table, Script::from(here).and(there), &mut String::new());
    table
}

fn translate(table: &mut Table, id: u64, to: u8) {
    let real = tuple(1, 40_007, to, PORT);
    table.translate(
        SockId(id),
        (real.local_addr, real.local_port),
        (real.remote_addr, real.remote_port),
    );
}

fn peer(table: &Table, id: u64) -> Option<u64> {
    table.peer(find(table, id)).map(|peer| peer.id.0)
}

#[test]
fn the_other_end_is_found_by_what_the_destination_becomes() {
    for netns in [NETNS, 2] {
        let mut table = both(netns);
        assert_eq!((peer(&table, 7), peer(&table, 8)), (None, None), "{netns}");
        translate(&mut table, 7, 2);
        assert_eq!((peer(&table, 7), peer(&table, 8)), (Some(8), Some(7)), "{netns}");
        let real = table.translation(find(&table, 7)).map(Tuple::remote);
        assert_eq!(real, Some(tuple(1, 1, 2, PORT).remote()));
        assert_eq!(table.translation(find(&table, 8)), None);
        table.check();
    }
}

#[test]
fn what_goes_elsewhere_has_no_other_end_here() {
    let mut table = both(NETNS);
    translate(&mut table, 7, 3);
    assert_eq!((peer(&table, 7), peer(&table, 8)), (None, None));
    // Nor is there one of what is not known.
    translate(&mut table, 99, 2);
    assert_eq!(table.translations().count(), 1);
}

#[test]
fn of_two_that_become_the_same_nobody_knows_which_it_is() {
    let mut table = both(2);
    let other = life(10).with_tuple(tuple(1, 40_007, 9, 81)).syn(0).established(1);
    play(&mut table, Script::from(other), &mut String::new());
    translate(&mut table, 7, 2);
    translate(&mut table, 10, 2);
    assert_eq!(peer(&table, 8), None);
    // The one that is left is the one.
    translate(&mut table, 10, 3);
    assert_eq!(peer(&table, 8), Some(7));
}

#[test]
fn a_translation_goes_with_its_connection() {
    let mut table = both(NETNS);
    translate(&mut table, 7, 2);
    let end = life(7).with_tuple(tuple(1, 40_007, 9, 80)).already(TcpState::LastAck).close(2_000);
    play(&mut table, Script::from(end), &mut String::new());
    assert_eq!(table.translations().count(), 0);
    // Who is left still knows who it was.
    assert_eq!(peer(&table, 8), Some(7));
}
