//! What each tab shows: rows of cells made of what the engine and the model know, and the lines of the pane that
//! opens on a row. Nothing here knows how it is drawn.

mod cell;
mod connection;
mod connections;
mod ends;
mod findings;
mod grouped;
mod kept;
mod life;
mod line_search;
mod listeners;
mod openers;
mod pane;
mod processes;
mod remotes;
mod row;
mod scene;
mod search;
mod tab;
mod table;
mod whose;

pub(super) use cell::{Cell, Column, Key, Paint, counted, ends, spent_text, thousands};
pub(super) use kept::Kept;
pub(super) use life::Life;
pub(super) use pane::{Pane, PaneLine};
pub(super) use processes::fullest;
pub(super) use row::RowId;
pub(super) use scene::Scene;
pub(super) use tab::{Order, Tab};
#[cfg(test)]
pub(super) use table::Lazy;
pub(super) use table::Table;
pub(super) use whose::owner;

use crate::output::top::tabs::kept::Made;
use crate::output::top::tabs::row::Row;
use crate::output::top::words::Wanted;

/// The table of a tab, of what was gathered before if that is kept.
pub(super) fn table(tab: Tab, scene: &Scene<'_>, order: &Order<'_>, kept: &mut Kept) -> Table {
    let mut table = match (kept.of(tab, scene, order), order.group) {
        (Some(Made::Connections(sorted)), _) => return connections::table(sorted, scene, order),
        (Some(Made::Remotes(sums)), _) => return remotes::table(sums, order),
        (Some(Made::Rows(rows)), _) => rows.with(|row| has_text(row, order)),
        (None, Some(by)) if tab == Tab::Connections => connections::grouped(scene, order, by),
        (None, _) => findings::table(scene, order.wanted).with(|row| has_text(row, order)),
    };
    if tab != Tab::Connections && order.group.is_some() {
        table = grouped::grouped(table);
    }
    table.sort(order.column, order.descending);
    table
}

fn has_text(row: &Row, order: &Order<'_>) -> bool {
    order.wanted.has_text(row.cells.iter().map(|cell| cell.text.as_str()))
}

/// Columns of a tab's table, as it is grouped.
pub(super) fn columns(tab: Tab, group: Option<usize>) -> &'static [Column] {
    match (tab, group) {
        (Tab::Connections, Some(_)) => connections::GROUP_COLUMNS,
        (Tab::Connections, None) => connections::COLUMNS,
        (Tab::Findings, _) => findings::COLUMNS,
        (Tab::Processes, _) => processes::COLUMNS,
        (Tab::Listeners, _) => listeners::COLUMNS,
        (Tab::Remotes, _) => remotes::COLUMNS,
        (Tab::Openers, _) => openers::COLUMNS,
    }
}

/// The pane that opens on a row; `None` when what it was about is no more.
pub(super) fn pane(tab: Tab, id: &RowId, scene: &Scene<'_>, wanted: &Wanted) -> Option<Pane> {
    match id {
        RowId::Conn(id) => connection::pane(scene, *id),
        RowId::Finding(id) => findings::pane(scene, id),
        RowId::Process(process) => processes::pane(scene, *process, wanted),
        RowId::Listener(key) => listeners::pane(scene, key, wanted),
        RowId::Remote(remote) => remotes::pane(scene, remote, wanted),
        RowId::Opener(key) => openers::pane(scene, key, wanted),
        RowId::Group(_) => {
            debug_assert!(!tab.groups().is_empty());
            None
        }
    }
}

/// The cells of a row.
pub(super) fn cells_of(scene: &Scene<'_>, table: &Table, index: usize) -> Vec<Cell> {
    if let Some(row) = table.rows.get(index) {
        return row.cells.clone();
    }
    let conn = table.lazy.get(index).and_then(|lazy| connections::at(scene, lazy));
    match conn {
        Some(conn) => connections::cells(scene, conn),
        None => {
            let gone = Cell::text("gone").painted(Paint::Dim);
            let rest = table.columns.iter().skip(1).map(|_| Cell::unknown());
            std::iter::once(gone).chain(rest).collect()
        }
    }
}

/// Words of a filter that lets just the connections of a row through.
pub(super) fn words_of(scene: &Scene<'_>, table: &Table, index: usize) -> String {
    if let Some(row) = table.rows.get(index) {
        return row.words.clone();
    }
    let conn = table.lazy.get(index).and_then(|lazy| connections::at(scene, lazy));
    conn.map_or_else(String::new, connections::words)
}
