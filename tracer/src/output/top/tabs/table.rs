//! Rows of a table, in an order.

use std::cmp::Ordering;

use crate::engine::conn::ConnRef;
use crate::event::SockId;
use crate::output::top::tabs::cell::{Column, Key};
use crate::output::top::tabs::row::{Row, RowId};

/// A connection's place in the order; its cells are made when it is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lazy {
    pub(crate) key: u128,
    pub(crate) id: SockId,
    /// Where it was.
    pub(crate) at: ConnRef,
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) columns: &'static [Column],
    /// Rows, or for connections only their order.
    pub(crate) rows: Vec<Row>,
    pub(crate) lazy: Vec<Lazy>,
    /// Further rows, that there are too many of to be made.
    pub(crate) left_out: usize,
    /// Shown where there are no rows.
    pub(crate) empty: String,
}

impl Table {
    /// Of these rows.
    pub(crate) fn of(columns: &'static [Column], rows: Vec<Row>, empty: impl Into<String>) -> Self {
        Table { columns, rows, lazy: Vec::new(), left_out: 0, empty: empty.into() }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.lazy.len()
    }

    /// What a row is about.
    pub(crate) fn id(&self, index: usize) -> Option<RowId> {
        match self.rows.get(index) {
            Some(row) => Some(row.id.clone()),
            None => self.lazy.get(index).map(|lazy| RowId::Conn(lazy.id)),
        }
    }

    /// Where a row is now.
    pub(crate) fn find(&self, id: &RowId) -> Option<usize> {
        match id {
            RowId::Conn(id) if self.rows.is_empty() => {
                self.lazy.iter().position(|lazy| lazy.id == *id)
            }
            id => self.rows.iter().position(|row| row.id == *id),
        }
    }

    /// Of these rows only.
    pub(crate) fn with(&self, wanted: impl Fn(&Row) -> bool) -> Self {
        let rows = self.rows.iter().filter(|row| wanted(row)).cloned().collect();
        Table { left_out: self.left_out, ..Table::of(self.columns, rows, self.empty.clone()) }
    }

    /// Brings rows into an order; equal ones stay as they are.
    pub(crate) fn sort(&mut self, column: usize, descending: bool) {
        let key = |row: &Row| row.cells.get(column).map(|cell| cell.key.clone());
        self.rows.sort_by(|one, other| {
            let (Some(one_cell), Some(other_cell)) =
                (one.cells.get(column), other.cells.get(column))
            else {
                return Ordering::Equal;
            };
            // What is not known stands at the end either way.
            let unknown = |row: &Row| key(row) == Some(Key::Unknown);
            let order = match (&one_cell.key, &other_cell.key) {
                (Key::Number(one), Key::Number(other)) => one.total_cmp(other),
                _ => one_cell.text.cmp(&other_cell.text),
            };
            let order = if descending { order.reverse() } else { order };
            unknown(one).cmp(&unknown(other)).then(order)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::top::tabs::cell::{Cell, Fold, figures};

    const COLUMNS: &[Column] = &[figures("N", 0, Fold::Sum, "")];

    #[test]
    fn unknown_is_last_either_way() {
        let row = |cell: Cell| Row {
            id: RowId::Group(cell.text.clone()),
            cells: vec![cell],
            words: String::new(),
        };
        let rows = [Cell::count(2), Cell::unknown(), Cell::count(10), Cell::count(1)];
        let mut table = Table::of(COLUMNS, rows.into_iter().map(row).collect(), "");
        let mut check = |descending, expect: &[&str]| {
            table.sort(0, descending);
            let texts: Vec<_> = table.rows.iter().map(|row| row.cells[0].text.as_str()).collect();
            assert_eq!(texts, expect);
        };
        check(true, &["10", "2", "1", "-"]);
        check(false, &["1", "2", "10", "-"]);
    }
}
