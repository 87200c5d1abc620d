//! Rows with the same name as one row.

use crate::output::top::tabs::cell::{Cell, Column, Fold, Key, counted, float, thousands};
use crate::output::top::tabs::row::{Row, RowId};
use crate::output::top::tabs::table::Table;

/// One row for all whose column of names says the same.
pub(super) fn grouped(table: Table) -> Table {
    let Some(by) = table.columns.iter().position(|column| column.fold == Fold::Name) else {
        return table;
    };
    let mut groups: Vec<(String, Vec<Row>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for row in table.rows {
        let name = row.cells.get(by).map(|cell| name_of(&cell.text)).unwrap_or_default();
        let place = *places.entry(name.clone()).or_insert_with(|| {
            groups.push((name, Vec::new()));
            groups.len() - 1
        });
        if let Some((_, rows)) = groups.get_mut(place) {
            rows.push(row);
        }
    }
    let rows = groups.into_iter().map(|(name, rows)| merge(table.columns, name, rows)).collect();
    Table::of(table.columns, rows, table.empty)
}

/// A process goes by its name, an endpoint by its address.
fn name_of(text: &str) -> String {
    let process = text.strip_suffix(']').and_then(|text| text.rsplit_once('['));
    if let Some((name, _)) = process.filter(|(name, _)| !name.is_empty()) {
        return name.to_owned();
    }
    match text.rsplit_once(':') {
        Some((addr, _)) if addr.parse::<std::net::IpAddr>().is_ok() || addr.ends_with(']') => {
            addr.to_owned()
        }
        _ => text.to_owned(),
    }
}

fn merge(columns: &[Column], name: String, rows: Vec<Row>) -> Row {
    let cells = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let cells = || rows.iter().filter_map(|row| row.cells.get(at));
            let numbers = || {
                cells().filter_map(|cell| match cell.key {
                    Key::Number(number) => Some((number, cell)),
                    _ => None,
                })
            };
            match column.fold {
                Fold::Name => Cell::text(format!("{name} ({})", thousands(rows.len() as u64))),
                Fold::Sum => sum(numbers().map(|(number, _)| number)),
                Fold::Most => numbers()
                    .max_by(|(one, _), (other, _)| one.total_cmp(other))
                    .map_or_else(Cell::unknown, |(_, cell)| cell.clone()),
                Fold::Same => same(cells()),
            }
        })
        .collect();
    // One word for all, where there is one: the name.
    Row { id: RowId::Group(name.clone()), cells, words: name }
}

fn sum(numbers: impl Iterator<Item = f64>) -> Cell {
    let mut any = false;
    let sum: f64 = numbers.inspect(|_| any = true).sum();
    if !any {
        return Cell::unknown();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of counts")]
    let whole = sum as u64;
    if sum < 0.0 || (sum - float(whole)).abs() > 1e-9 {
        return Cell::per_minute(Some(sum));
    }
    Cell::count(whole)
}

fn same<'a>(mut cells: impl Iterator<Item = &'a Cell>) -> Cell {
    let Some(first) = cells.next() else { return Cell::unknown() };
    let others = cells.filter(|cell| cell.text != first.text).count() as u64;
    match others {
        0 => first.clone(),
        _ => Cell::text(format!("{} and {}", first.text, counted(others, "other"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_without_numbers() {
        let check = |text: &str, expect: &str| assert_eq!(name_of(text), expect);
        check("java[123]", "java");
        check("a[b][7]", "a[b]");
        check("10.0.0.1:80", "10.0.0.1");
        check("[2001:db8::1]:80", "[2001:db8::1]");
        check("com.acme.Crawler.fetch:42", "com.acme.Crawler.fetch:42");
        check("kernel", "kernel");
    }
}
