//! A report in a real browser: it says what it has to, draws itself, loads nothing, and can be used on any screen.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::browser::Page;

/// Wide, and a telephone.
const SIZES: [(u32, u32); 2] = [(1280, 900), (390, 844)];

/// Opens a report. `words` are on it, these charts are drawn, and the table of processes can be filtered by `process`.
/// `TCPTRAIL_PICTURES=DIR` keeps pictures of it.
///
/// # Errors
/// What is not so.
pub fn check(html: &Path, words: &[&str], charts: &[&str], process: &str) -> Result<()> {
    let mut page = Page::open(html, SIZES[0]);
    let text = page.value("document.body.innerText");
    let text = text.as_str().context("no text")?;
    for word in words {
        ensure!(text.contains(word), "no {word} on the page:\n{text}");
    }
    for id in charts {
        let shapes = page.value(&format!(
            "document.querySelectorAll('#{id} svg polygon, #{id} svg polyline, #{id} svg rect').length"
        ));
        ensure!(shapes.as_u64() > Some(0), "{id} is empty");
    }
    filtered(&mut page, process)?;
    for size in SIZES {
        page.resize(size);
        // The page draws itself anew a little after the last change.
        sleep(Duration::from_millis(300));
        let wide = page.value("document.documentElement.scrollWidth");
        ensure!(wide.as_u64() <= Some(size.0.into()), "{wide} pixels wide on {}", size.0);
        picture(&mut page, &format!("report-{}", size.0))?;
    }
    if std::env::var_os("TCPTRAIL_PICTURES").is_some() {
        page.resize(SIZES[0]);
        page.dark();
        sleep(Duration::from_millis(300));
        picture(&mut page, "report-dark")?;
    }
    ensure!(page.requests().is_empty(), "{:?}", page.requests());
    ensure!(page.complaints().is_empty(), "{:?}", page.complaints());
    Ok(())
}

/// What is typed above a table chooses its rows.
fn filtered(page: &mut Page, process: &str) -> Result<()> {
    let rows = "document.querySelectorAll('#processes tbody tr:not(.none)').length";
    let type_in = |words: &str| {
        format!(
            "(() => {{ const field = document.querySelector('#processes input'); field.value = '{words}'; \
             field.dispatchEvent(new Event('input')); }})()"
        )
    };
    let all = page.value(rows).as_u64().context("rows")?;
    page.value(&type_in("nobody-is-called-so"));
    ensure!(page.value(rows) == 0, "{} of {all} rows are left", page.value(rows));
    page.value(&type_in(process));
    let left = page.value(rows).as_u64();
    ensure!(left > Some(0) && left <= Some(all), "{left:?} of {all} rows with {process}");
    page.value(&type_in(""));
    ensure!(page.value(rows) == all, "{} of {all} rows come back", page.value(rows));
    Ok(())
}

fn picture(page: &mut Page, name: &str) -> Result<()> {
    if let Some(folder) = std::env::var_os("TCPTRAIL_PICTURES") {
        let picture = page.picture(false);
        fs::write(Path::new(&folder).join(name).with_extension("png"), picture)?;
    }
    Ok(())
}
