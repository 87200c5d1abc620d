//! `w`: a report of the run with the table as it is shown, and the table in two more files: text, and an object a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use crate::output::json::Object;
use crate::output::report::{Draft, Shown};
use crate::output::top::tabs::{Cell, Column, Key, counted};

/// Rows that are written at most.
const MOST: usize = 20_000;
/// Of those, in the report: a browser has to lay them out.
const MOST_SHOWN: usize = 500;

/// A table on its way into files.
#[derive(Debug, Default)]
pub(super) struct Saving {
    outcome: Option<Receiver<String>>,
}

/// What is written.
pub(super) struct Page {
    pub(super) title: String,
    pub(super) tab: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Vec<Cell>>,
    /// Rows there are; those beyond [`Page::MOST`] are not written.
    pub(super) all: usize,
}

impl Page {
    pub(super) const MOST: usize = MOST;

    /// As the report has it.
    pub(super) fn shown(&self) -> Shown {
        let cell = |cell: &Cell| {
            let number = if let Key::Number(number) = cell.key { Some(number) } else { None };
            (cell.text.clone(), number)
        };
        let rows = self.rows.iter().take(MOST_SHOWN);
        Shown {
            title: self.title.clone(),
            columns: self.columns.iter().map(|column| (column.title, column.right)).collect(),
            rows: rows.map(|row| row.iter().map(cell).collect()).collect(),
            all: self.all,
        }
    }

    /// As text: columns as wide as what is in them.
    pub(super) fn text(&self) -> Vec<u8> {
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let title = self.columns.get(at).map_or(0, |column| column.title.len());
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0).max(title)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut out = format!("{}\n", self.title).into_bytes();
        let titles: Vec<&str> = self.columns.iter().map(|column| column.title).collect();
        self.line(&titles, &widths, &mut out);
        for row in &self.rows {
            let texts: Vec<&str> = row.iter().map(|cell| cell.text.as_str()).collect();
            self.line(&texts, &widths, &mut out);
        }
        if self.all > self.rows.len() {
            out.extend_from_slice(format!("and {} more\n", self.all - self.rows.len()).as_bytes());
        }
        out
    }

    fn line(&self, texts: &[&str], widths: &[usize], out: &mut Vec<u8>) {
        let mut line = String::new();
        for ((text, width), column) in texts.iter().zip(widths).zip(self.columns) {
            if column.right {
                line.push_str(&format!("{text:>width$}  "));
            } else {
                line.push_str(&format!("{text:<width$}  "));
            }
        }
        out.extend_from_slice(line.trim_end().as_bytes());
        out.push(b'\n');
    }

    /// An object for each row: the columns by their titles, as they are shown.
    pub(super) fn ndjson(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for row in &self.rows {
            let mut object = Object::event(&mut out, "top");
            object.plain("tab", self.tab);
            for (column, cell) in self.columns.iter().zip(row) {
                let name = name_of(column.title);
                match cell.text.as_str() {
                    "-" => object.null(&name),
                    text => object.string(&name, text.as_bytes()),
                };
            }
            object.end();
        }
        out
    }
}

/// `HS p99` as `hs_p99`.
fn name_of(title: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    title.replace('%', " percent").chars().map(plain).collect()
}

impl Saving {
    /// Writes on a thread of its own: a disk may take its time. `time` is in the names: 2026-11-20T11:05:47.123Z.
    pub(super) fn begin(&mut self, page: Page, draft: Draft, time: &str) {
        let (sender, outcome) = channel();
        self.outcome = Some(outcome);
        let stamp: String =
            time.chars().filter(|c| c.is_ascii_digit() || *c == 'T').take(15).collect();
        let name = PathBuf::from(format!("tcptrail-{}-{stamp}", page.tab));
        let work = move || {
            let said = draft.page().map_err(|error| format!("nothing was written: {error}"));
            let said = said.and_then(|html| write(&page, &html, &name));
            let _ = sender.send(said.unwrap_or_else(|why| why));
        };
        if let Err(error) = std::thread::Builder::new().name("tcptrail-save".to_owned()).spawn(work)
        {
            let (sender, outcome) = channel();
            let _ = sender.send(format!("nothing was written: there can be no thread: {error}"));
            self.outcome = Some(outcome);
        }
    }

    /// What became of it, once that is known.
    pub(super) fn outcome(&mut self) -> Option<String> {
        let said = self.outcome.as_ref()?.try_recv().ok()?;
        self.outcome = None;
        Some(said)
    }
}

/// Writes all three files, or none.
///
/// # Errors
/// Why there is none, in a sentence.
fn write(page: &Page, html: &str, name: &Path) -> Result<String, String> {
    let bytes = [html.as_bytes().to_vec(), page.text(), page.ndjson()];
    let paths = ["html", "txt", "ndjson"].map(|kind| name.with_extension(kind));
    let mut made: Vec<(File, &PathBuf)> = Vec::new();
    for path in &paths {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match file {
            Ok(file) => made.push((file, path)),
            Err(error) => return Err(refused(&made, path, &error)),
        }
    }
    for ((file, path), bytes) in made.iter().zip(&bytes) {
        let mut file = file;
        if let Err(error) = file.write_all(bytes) {
            return Err(refused(&made, path, &error));
        }
    }
    let whole = std::path::absolute(&paths[0]).unwrap_or_else(|_| paths[0].clone());
    let rows = counted(page.rows.len() as u64, "row");
    Ok(format!("written: {} (report), .txt and .ndjson ({rows})", whole.display()))
}

/// Takes back what was made.
fn refused(made: &[(File, &PathBuf)], path: &Path, error: &io::Error) -> String {
    for (_, path) in made {
        // What cannot be removed stays; it is said that it is not whole.
        let _ = std::fs::remove_file(path);
    }
    let why = match error.kind() {
        io::ErrorKind::AlreadyExists => "it is there already: press w again".to_owned(),
        _ => format!("{error}: start top in a folder of yours that has room"),
    };
    format!("nothing was written, {}: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::top::tabs::{Tab, columns};

    fn page() -> Page {
        let columns = &columns(Tab::Remotes, None)[..3];
        let rows = vec![
            vec![Cell::text("10.0.0.1:80"), Cell::text("out"), Cell::count(1200)],
            vec![Cell::text("a"), Cell::unknown(), Cell::count(3)],
        ];
        Page { title: "remotes".to_owned(), tab: "remotes", columns, rows, all: 5 }
    }

    #[test]
    fn text_stands_in_columns() {
        let text = String::from_utf8(page().text()).expect("UTF-8");
        let expect = "remotes\nREMOTE       WAY   OPEN\n10.0.0.1:80  out  1,200\na            -        3\nand 3 more\n";
        assert_eq!(text, expect);
    }

    #[test]
    fn each_row_is_an_object() {
        let text = String::from_utf8(page().ndjson()).expect("UTF-8");
        let rows: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["schema"], 1);
        assert_eq!(rows[0]["event"], "top");
        assert_eq!(rows[0]["remote"], "10.0.0.1:80");
        assert!(rows[1]["way"].is_null());
    }

    #[test]
    fn files_that_are_there_are_not_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = folder.path().join("top");
        // One of the three is there: the two others are not left behind.
        std::fs::write(name.with_extension("ndjson"), "mine").expect("written");
        let refused = write(&page(), "<html>", &name).expect_err("it is there");
        assert!(refused.contains("top.ndjson: it is there already"), "{refused}");
        let left = std::fs::read_dir(folder.path()).expect("the folder").count();
        assert_eq!(left, 1);
        std::fs::remove_file(name.with_extension("ndjson")).expect("removed");
        let said = write(&page(), "<html>", &name).expect("written");
        let path = name.with_extension("html");
        assert_eq!(
            said,
            format!("written: {} (report), .txt and .ndjson (2 rows)", path.display())
        );
        assert_eq!(std::fs::read(path).expect("the report"), b"<html>");
    }
}
