//! Draws the table: as many columns as there is room for, as wide as what is in them.

use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::output::top::state::State;
use crate::output::top::tabs::{Cell, Column, RowId, cells_of};
use crate::output::top::view::canvas::{Canvas, columns, shortened, wrapped};
use crate::output::top::view::hits::{Hit, Hits};
use crate::output::top::view::screen::Screen;

/// Lines a row takes at most, where not all rows have room.
const FEW_LINES: usize = 3;
/// Before each row: the pointer, and a mark.
const MARGIN: u16 = 2;
/// Text columns are not made narrower than this.
const LEAST: u16 = 8;
/// A column that breaks its text is not made narrower than this.
const LEAST_WRAPPED: u16 = 24;

/// A row on its way to the screen.
struct Seen {
    index: usize,
    cells: Vec<Cell>,
}

/// Draws titles and rows.
pub(crate) fn draw(
    canvas: &mut Canvas<'_>,
    area: Rect,
    screen: &Screen<'_>,
    state: &mut State,
    hits: &mut Hits,
) {
    let (table, theme) = (screen.table, screen.theme);
    let rows_area = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    hits.page = rows_area.height;
    if table.len() == 0 {
        titles(
            canvas,
            area,
            screen,
            state,
            &layout(table.columns, &mut Vec::new(), area.width),
            hits,
        );
        canvas.cut(
            (area.x + MARGIN, rows_area.y),
            usize::from(area.width),
            &table.empty,
            theme.dim(),
        );
        return;
    }
    let sheet = state.sheet_mut();
    let room = usize::from(rows_area.height).max(1);
    // Rows may take several lines: how many fit is known once they are laid out.
    sheet.first = sheet.first.min(sheet.cursor);
    if sheet.cursor >= sheet.first + room {
        sheet.first = sheet.cursor + 1 - room;
    }
    let mut seen = see(screen, sheet.first, room);
    widen(&mut sheet.widths, table.columns, &seen);
    let layout = layout(table.columns, &mut sheet.widths, area.width);
    let whole: usize = seen.iter().map(|row| height(row, &layout, usize::MAX)).sum();
    let most = if whole <= room && seen.len() == table.len() { usize::MAX } else { FEW_LINES };
    // The row that is chosen is to be seen.
    let mut lines: usize = seen
        .iter()
        .take_while(|row| row.index <= sheet.cursor)
        .map(|row| height(row, &layout, most))
        .sum();
    while lines > room && sheet.first < sheet.cursor {
        lines -= seen.first().map_or(0, |row| height(row, &layout, most));
        seen.remove(0);
        sheet.first += 1;
    }
    titles(canvas, area, screen, state, &layout, hits);
    rows(canvas, rows_area, (&seen, most), &layout, (screen, state), hits);
}

/// Cells of the rows that can be seen.
fn see(screen: &Screen<'_>, first: usize, room: usize) -> Vec<Seen> {
    let last = (first + room).min(screen.table.len());
    (first..last)
        .map(|index| Seen { index, cells: cells_of(&screen.scene, screen.table, index) })
        .collect()
}

/// Columns become as wide as what is in them, and stay so.
fn widen(widths: &mut Vec<u16>, all: &[Column], seen: &[Seen]) {
    if widths.len() != all.len() {
        *widths = all.iter().map(|column| narrow(columns(column.title) + 2)).collect();
    }
    for row in seen {
        for ((width, column), cell) in widths.iter_mut().zip(all).zip(&row.cells) {
            if column.most != 0 {
                *width = (*width).max(narrow(columns(&cell.text))).min(column.most.max(12));
            }
        }
    }
}

fn narrow(width: usize) -> u16 {
    u16::try_from(width).unwrap_or(u16::MAX)
}

/// A column on the screen: which, from where, how wide.
#[derive(Clone, Copy, Debug)]
struct Placed {
    index: usize,
    x: u16,
    width: u16,
    right: bool,
    wrapped: bool,
}

/// Which columns there is room for.
fn layout(all: &[Column], widths: &mut Vec<u16>, width: u16) -> Vec<Placed> {
    if widths.len() != all.len() {
        *widths = all.iter().map(|column| narrow(columns(column.title) + 2)).collect();
    }
    let room = width.saturating_sub(MARGIN);
    let least = |index: usize| match all.get(index) {
        Some(column) if column.most == 0 => LEAST_WRAPPED,
        _ => widths.get(index).copied().unwrap_or(0),
    };
    let needed = |kept: &[usize]| -> u16 {
        kept.iter().map(|&index| least(index).saturating_add(1)).fold(0, u16::saturating_add)
    };
    let mut kept: Vec<usize> = (0..all.len()).collect();
    while needed(&kept) > room + 1 {
        let last = kept
            .iter()
            .enumerate()
            .filter(|(_, index)| all[**index].rank != 0)
            .max_by_key(|(at, index)| (all[**index].rank, *at));
        let Some((at, _)) = last else { break };
        kept.remove(at);
    }
    let mut given: Vec<u16> = kept.iter().map(|&index| least(index)).collect();
    shrink(&kept, &mut given, all, room);
    let used: u16 = given.iter().map(|width| width + 1).sum();
    let rest = (room + 1).saturating_sub(used);
    let mut x = MARGIN;
    let mut placed = Vec::new();
    for (&index, mut width) in kept.iter().zip(given) {
        let wrapped = all[index].most == 0;
        if wrapped {
            width += rest;
        }
        placed.push(Placed { index, x, width, right: all[index].right, wrapped });
        x += width + 1;
    }
    // On the narrowest of terminals not even what always stays has room.
    placed.retain(|placed| placed.x + placed.width <= width.max(MARGIN + LEAST));
    placed
}

/// What still does not fit: the widest text columns give way.
fn shrink(kept: &[usize], given: &mut [u16], all: &[Column], room: u16) {
    while given.iter().map(|width| width + 1).sum::<u16>() > room + 1 {
        let widest = given
            .iter()
            .enumerate()
            .filter(|(at, width)| !all[kept[*at]].right && **width > LEAST)
            .max_by_key(|(_, width)| **width)
            .map(|(at, _)| at);
        let Some(widest) = widest else { return };
        given[widest] -= 1;
    }
}

/// Lines of a row, at most so many.
fn height(row: &Seen, layout: &[Placed], most: usize) -> usize {
    let lines = layout.iter().filter(|placed| placed.wrapped).filter_map(|placed| {
        let cell = row.cells.get(placed.index)?;
        Some(wrapped(&cell.text, placed.width.into()).len())
    });
    lines.max().unwrap_or(1).clamp(1, most)
}

fn titles(
    canvas: &mut Canvas<'_>,
    area: Rect,
    screen: &Screen<'_>,
    state: &State,
    layout: &[Placed],
    hits: &mut Hits,
) {
    let (theme, sheet) = (screen.theme, state.sheet());
    for placed in layout {
        let Some(column) = screen.table.columns.get(placed.index) else { continue };
        let text = if placed.index == sheet.column {
            format!("{}{}", column.title, theme.arrow(sheet.descending))
        } else {
            column.title.to_owned()
        };
        let width = usize::from(placed.width);
        let lead = if placed.right { width.saturating_sub(columns(&text)) } else { 0 };
        let at = (area.x + placed.x + narrow(lead), area.y);
        canvas.put(at, width - lead.min(width), &text, theme.title());
        let hit = Rect { x: area.x + placed.x, y: area.y, width: placed.width, height: 1 };
        hits.add(hit, Hit::Column(placed.index));
    }
}

fn rows(
    canvas: &mut Canvas<'_>,
    area: Rect,
    (seen, most): (&[Seen], usize),
    layout: &[Placed],
    (screen, state): (&Screen<'_>, &State),
    hits: &mut Hits,
) {
    let theme = screen.theme;
    let mut y = area.y;
    for row in seen {
        if y >= area.bottom() {
            break;
        }
        let high = narrow(height(row, layout, most)).min(area.bottom() - y);
        let line = Rect { y, height: high, ..area };
        let chosen = row.index == state.sheet().cursor;
        let marked = match screen.table.id(row.index) {
            Some(RowId::Conn(id)) => state.marked.contains(&id),
            _ => false,
        };
        let pointer = if chosen { theme.pointer() } else { ' ' };
        let mark = if marked { '*' } else { ' ' };
        canvas.put((area.x, y), 2, &format!("{pointer}{mark}"), theme.bold());
        for placed in layout {
            let Some(cell) = row.cells.get(placed.index) else { continue };
            draw_cell(canvas, line, placed, cell, theme.paint(cell.paint));
        }
        if chosen {
            canvas.buffer.set_style(line, theme.chosen());
        }
        hits.add(line, Hit::Row(row.index));
        y += high;
    }
}

fn draw_cell(canvas: &mut Canvas<'_>, line: Rect, placed: &Placed, cell: &Cell, style: Style) {
    let width = usize::from(placed.width);
    let x = line.x + placed.x;
    let ellipsis = canvas.theme.ellipsis();
    if !placed.wrapped {
        let text = canvas.theme.text(&cell.text).into_owned();
        let text = shortened(&text, width, ellipsis);
        let lead = if placed.right { width.saturating_sub(columns(&text)) } else { 0 };
        canvas.put((x + narrow(lead), line.y), width, &text, style);
        return;
    }
    let mut lines = wrapped(&canvas.theme.text(&cell.text), width);
    let high = usize::from(line.height);
    if lines.len() > high {
        let rest = lines.split_off(high.saturating_sub(1)).join(" ");
        lines.push(shortened(&rest, width, ellipsis));
    }
    for (text, y) in lines.iter().zip(line.y..line.bottom()) {
        canvas.put((x, y), width, text, style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::top::tabs::{Tab, columns as columns_of};

    #[test]
    fn columns_fit_whatever_the_width() {
        for tab in Tab::ALL {
            let all = columns_of(tab, None);
            for width in 40..400 {
                let mut widths: Vec<u16> = all
                    .iter()
                    .map(|column| if column.most == 0 { 12 } else { column.most.min(40) })
                    .collect();
                let placed = layout(all, &mut widths, width);
                let last = placed.last().expect("a column");
                assert!(last.x + last.width <= width, "{tab:?} {width}: {placed:?}");
                assert!(width < 80 || placed.len() > 2, "{tab:?} {width}: {placed:?}");
                for two in placed.windows(2) {
                    assert!(two[0].x + two[0].width < two[1].x, "{tab:?} {width}: {placed:?}");
                }
            }
        }
    }
}
