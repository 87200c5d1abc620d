//! The report of a million connections, every one of them made: how large it is, what it takes, and whether a browser
//! opens it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::reported;
use tests::witness::peak_memory;

/// Asked of a report of a million connections.
const MOST_BYTES: u64 = 5_000_000;
const MOST_TIME: Duration = Duration::from_secs(10);
const MOST_MEMORY: u64 = 192_000_000;
/// The load is given up after this.
const PATIENCE: Duration = Duration::from_secs(600);

/// Records so many connections, each of which has both its ends in the recording, and reports them.
pub(crate) fn run(program: &Path, connections: u64) -> Result<bool> {
    ensure!(tests::ready(&["chromium", "mkfifo"]), "it cannot run here");
    let dir = tempfile::tempdir()?;
    let (file, html) = (dir.path().join("many.tcpt"), dir.path().join("many.html"));
    record(program, &file, connections)?;
    let size = fs::metadata(&file)?.len();
    println!("the recording has {} MB", size / 1_000_000);

    let began = Instant::now();
    let mut report = Command::new(program);
    report.arg("report").arg(&file).arg("-o").arg(&html);
    let mut report = report.stdin(Stdio::null()).spawn().context("tcptrail")?;
    let mut peak = 0;
    let status = loop {
        if let Some(status) = report.try_wait()? {
            break status;
        }
        peak = peak_memory(report.id()).unwrap_or(0).max(peak);
        sleep(Duration::from_millis(5));
    };
    let took = began.elapsed();
    ensure!(status.success(), "report failed");

    let page = fs::read_to_string(&html)?;
    let told = data(&page)?["about"]["connections"].as_u64().context("connections")?;
    let mut good = true;
    let mut judge = |what: String, holds: bool| {
        println!("{} {what}", if holds { "ok" } else { "NO" });
        good &= holds;
    };
    judge(
        format!("{told} connections are in it, {} were made", 2 * connections),
        told == 2 * connections,
    );
    judge(format!("{} bytes of HTML", page.len()), page.len() as u64 <= MOST_BYTES);
    judge(format!("built in {:.2} s", took.as_secs_f64()), took < MOST_TIME);
    judge(format!("{} MB at most", peak / 1_000_000), peak < MOST_MEMORY);
    let charts = ["chart-states", "chart-rates"];
    let opened = reported::check(&html, &["tcptrail report"], &charts, "load");
    judge(format!("opened in a browser, 1280 and 390 wide: {opened:?}"), opened.is_ok());
    Ok(good)
}

fn record(program: &Path, file: &Path, connections: u64) -> Result<()> {
    let netns = Netns::new()?;
    let mut record = Command::new(program);
    record.args(["record", "--netns", netns.name()]).arg(file);
    let mut record = record.stdin(Stdio::null()).spawn().context("tcptrail")?;
    // It is attached when its file begins to grow.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fs::metadata(file).is_ok_and(|meta| meta.len() != 0) {
        ensure!(Instant::now() < deadline, "the recording did not begin");
        sleep(Duration::from_millis(50));
    }
    sleep(Duration::from_secs(1));
    let load = std::env::current_exe()?.with_file_name("load");
    let mut churn = Command::new(load);
    churn.args(["churn", "--connections", &connections.to_string()]).stdin(Stdio::null());
    let mut churn = netns.spawn(&mut churn)?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = churn.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            churn.kill()?;
            churn.wait()?;
        }
        sleep(Duration::from_millis(50));
    };
    ensure!(status.success(), "the load failed, or took longer than {PATIENCE:?}");
    let pid = i32::try_from(record.id()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.context("a pid")?, rustix::process::Signal::INT)?;
    ensure!(record.wait()?.success(), "the recording failed");
    Ok(())
}

fn data(page: &str) -> Result<serde_json::Value> {
    let data = page.split("type=\"application/json\">").nth(1).context("no data")?;
    Ok(serde_json::from_str(data.split("</script>").next().context("no end")?)?)
}
