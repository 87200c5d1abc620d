use super::*;
use crate::output::top::tabs::columns;

fn table(rows: u64) -> Table {
    use crate::engine::conn::ConnRef;
    let lazy = |id| tabs::Lazy { key: u128::from(id), id: SockId(id), at: ConnRef(0) };
    let mut table = Table::of(columns(Tab::Connections, None), Vec::new(), "");
    table.lazy = (1..=rows).map(lazy).collect();
    table
}

fn state() -> State {
    let mut state = State::new();
    state.apply(Action::Tab(1), &table(5), 10);
    state.follow(&table(5));
    state
}

#[test]
fn movement_stays_within_the_table() {
    let mut state = state();
    let table = table(50);
    let mut check = |action, expect| {
        state.apply(action, &table, 10);
        assert_eq!(state.sheet().cursor, expect, "{action:?}");
    };
    check(Action::Up, 0);
    check(Action::Down, 1);
    check(Action::PageDown, 10);
    check(Action::Wheel(true), 13);
    check(Action::Last, 49);
    check(Action::Down, 49);
    check(Action::PageUp, 40);
    check(Action::First, 0);
}

#[test]
fn the_chosen_row_is_followed_when_others_come_and_go() {
    let mut state = state();
    state.apply(Action::Down, &table(5), 10);
    state.apply(Action::Down, &table(5), 10);
    assert_eq!(state.sheet().selected, Some(RowId::Conn(SockId(3))));
    let mut fewer = table(5);
    fewer.lazy.remove(0);
    state.follow(&fewer);
    assert_eq!((state.sheet().cursor, &state.sheet().selected), (1, &Some(RowId::Conn(SockId(3)))));
    // It has gone: the row in its place is chosen.
    fewer.lazy.remove(1);
    state.follow(&fewer);
    assert_eq!(state.sheet().selected, Some(RowId::Conn(SockId(4))));
    state.follow(&table(0));
    assert_eq!(state.sheet().selected, None);
    // Who looks at the top goes on doing so.
    let mut state = self::state();
    state.apply(Action::Down, &table(5), 10);
    state.apply(Action::First, &table(5), 10);
    fewer.lazy.insert(0, tabs::Lazy { id: SockId(9), ..fewer.lazy[0] });
    state.follow(&fewer);
    assert_eq!((state.sheet().cursor, &state.sheet().selected), (0, &None));
}

#[test]
fn groups_come_in_turn_and_end() {
    let mut state = state();
    for expect in [Some(0), Some(1), Some(2), Some(3), None] {
        state.apply(Action::Group, &table(5), 10);
        assert_eq!(state.sheet().group, expect);
    }
}

#[test]
fn a_column_that_is_chosen_again_turns_round() {
    let mut state = state();
    assert_eq!((state.sheet().column, state.sheet().descending), (1, true));
    state.apply(Action::SortRight, &table(5), 10);
    // Text from a to z, figures from the largest on.
    assert_eq!((state.sheet().column, state.sheet().descending), (2, false));
    state.sort(5);
    assert_eq!((state.sheet().column, state.sheet().descending), (5, true));
    state.sort(5);
    assert!(!state.sheet().descending);
}

#[test]
fn what_is_typed_wrong_leaves_the_filter_as_it_was() {
    let mut state = state();
    state.apply(Action::Filter, &table(5), 10);
    for character in "port:80 state:x".chars() {
        state.apply(Action::Type(character), &table(5), 10);
    }
    assert_eq!(state.wanted.words, "port:80 state:");
    assert!(state.wrong.as_deref().is_some_and(|wrong| wrong.contains("no TCP state")));
    state.apply(Action::EraseWord, &table(5), 10);
    assert_eq!((state.typed.as_str(), &state.wrong), ("port:80 ", &None));
    state.apply(Action::Close, &table(5), 10);
    assert!(state.wanted.is_all());
    assert_eq!(state.mode, Mode::Table);
}
