//! `report`: the page of real traffic, opened in a real browser.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::Page;
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::{Tcptrail, command};
use tests::traffic::{Both, listen, read_end, transfer};

/// Connections that both ends close.
const DONE: usize = 12;
/// Connections whose client forgets to close after the server has.
const FORGOTTEN: usize = 5;
const BYTES: usize = 1000;

/// Records connections that the test makes; `served` is the port of those that end well.
fn record(file: &Path) -> Result<(u16, u16)> {
    let netns = Netns::new()?;
    let file = file.to_str().context("UTF-8")?;
    let mut tail = Tcptrail::start(&["tail", "--netns", netns.name(), "--record", file])?;
    let served = listen(&netns, "127.0.0.1:0")?;
    let to = served.local_addr()?;
    for _ in 0..DONE {
        let both = Both::new(&netns, &served, to)?;
        transfer(&both.client, &both.server, BYTES)?;
        drop(both.client);
        read_end(&both.server)?;
    }
    let left = listen(&netns, "[::1]:0")?;
    let mut forgotten = Vec::new();
    for _ in 0..FORGOTTEN {
        let both = Both::new(&netns, &left, left.local_addr()?)?;
        drop(both.server);
        forgotten.push(both.client);
    }
    // Each is told in the order in which it happens.
    for _ in 0..DONE {
        tail.wait_for_next("the end", |event| event.is_step("LAST_ACK>CLOSE"))?;
    }
    for _ in 0..FORGOTTEN {
        tail.wait_for_next("the FIN", |event| event.is_step("ESTABLISHED>CLOSE_WAIT"))?;
    }
    tail.stop()?;
    Ok((to.port(), left.local_addr()?.port()))
}

fn data(page: &str) -> Result<Value> {
    let data = page.split("type=\"application/json\">").nth(1).context("no data")?;
    Ok(serde_json::from_str(data.split("</script>").next().context("no end")?)?)
}

fn row<'a>(rows: &'a Value, name: &str) -> Result<&'a Value> {
    let mut rows = rows.as_array().context("no rows")?.iter();
    rows.find(|row| row["name"] == name).with_context(|| format!("no row {name}"))
}

#[test]
fn what_happened_is_on_the_page() -> Result<()> {
    if !ready(&["unshare"]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let (file, html) = (dir.path().join("run.tcpt"), dir.path().join("run.html"));
    let (served, left) = record(&file)?;
    let paths = [&file, &html].map(|path| path.to_string_lossy().into_owned());
    let made = command(&["report", &paths[0], "-o", &paths[1]]).output()?;
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success() && said.contains("open it in a browser"), "{said}");
    let data = data(&fs::read_to_string(&html)?)?;
    // What this test has done, both ends of each connection.
    let all = DONE + FORGOTTEN;
    let sum = |name: &str| {
        data["timeline"][name]
            .as_array()
            .map_or(0, |counts| counts.iter().filter_map(Value::as_u64).sum::<u64>())
    };
    ensure!(sum("opened") == 2 * all as u64, "{} opened", sum("opened"));
    ensure!(sum("failed") == 0 && sum("lost") == 0);
    let port = row(&data["listeners"], &format!(":{served}"))?;
    ensure!(port["opened"] == DONE && port["closed"] == DONE, "{port}");
    ensure!(port["bytes_received"] == DONE * BYTES, "{port}");
    let remote = row(&data["remotes"], &format!("[::1]:{left}"))?;
    ensure!(remote["open"] == FORGOTTEN, "{remote}");
    ensure!(remote["states"] == serde_json::json!([["CLOSE_WAIT", FORGOTTEN]]), "{remote}");
    in_a_browser(&html)
}

/// It draws itself, loads nothing, fits and can be used.
fn in_a_browser(html: &Path) -> Result<()> {
    if !ready(&["chromium", "mkfifo"]) {
        return Ok(());
    }
    let mut page = Page::open(html, (1280, 900));
    let rows = "document.querySelectorAll('#listeners tbody tr').length";
    ensure!(page.value(rows) == 2, "{}", page.value(rows));
    for chart in ["states", "rates"] {
        let lines = format!(
            "document.querySelectorAll('#chart-{chart} polygon, #chart-{chart} polyline').length"
        );
        ensure!(page.value(&lines).as_u64() > Some(0), "chart {chart} is empty");
    }
    // What is typed above a table chooses rows; a click on a heading sorts.
    page.value("(() => { const words = document.querySelector('#closings input'); words.value = '[::1] close_wait'; words.dispatchEvent(new Event('input')); })()");
    let told = page.value("document.querySelector('#closings .tools span').textContent");
    let expect = format!("{FORGOTTEN} of ");
    ensure!(told.as_str().is_some_and(|told| told.starts_with(&expect)), "{told}");
    page.value("document.querySelectorAll('#listeners th')[1].click()");
    let first = "document.querySelector('#listeners tbody td').textContent";
    let ascending = page.value(first);
    page.value("document.querySelectorAll('#listeners th')[1].click()");
    ensure!(ascending != page.value(first), "sorting changed nothing");
    // A time selected on one chart is selected on all of them.
    page.value("select([data.about.from, data.about.from + 1])");
    let marks = page
        .value("document.querySelectorAll('#chart-states .select, #chart-rates .select').length");
    ensure!(marks == 4, "{marks} marks");
    page.value("document.getElementById('clear').click()");
    page.resize((390, 844));
    page.value("new Promise(done => setTimeout(done, 300))");
    let wide = page.value("document.documentElement.scrollWidth");
    ensure!(wide.as_u64() <= Some(390), "{wide} pixels wide on a telephone");
    ensure!(page.requests().is_empty(), "{:?}", page.requests());
    ensure!(page.complaints().is_empty(), "{:?}", page.complaints());
    Ok(())
}

#[test]
fn a_report_that_cannot_be_is_refused_before_anything_runs() -> Result<()> {
    let check = |args: &[&str], code: i32, words: &str| -> Result<()> {
        let made = command(args).output()?;
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        ensure!(made.status.code() == Some(code) && said.contains(words), "{args:?}: {said}");
        Ok(())
    };
    check(&["report", "/nowhere/x.tcpt"], 1, "/nowhere/x.tcpt")?;
    check(&["report", "x.tcpt", "--for", "5s"], 2, "--for")?;
    check(&["report", "x.tcpt", "--json"], 2, "HTML")?;
    check(&["report", "--duration", "5s"], 2, "--for")?;
    check(&["report", "--for", "5s", "-o", "/nowhere/x.html"], 1, "cannot write /nowhere/x.html")
}
