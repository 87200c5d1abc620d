//! wrk, with pauses between the requests of a connection, before haproxy and nginx, and before Tomcat.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::java::Program;
use tests::netns::Netns;
use tests::web::{BACK, Kind, TOOLS, Web};

const TOMCAT: u16 = 8082;
/// A connection asks, waits for 20 to 60 ms, and asks again: the machine stays usable.
const SCRIPT: &str = "function delay() return math.random(20, 60) end\n";
/// Loads come and go.
const ON: Duration = Duration::from_secs(50);
const OFF: Duration = Duration::from_secs(20);

pub(crate) fn ready() -> bool {
    tests::java::ready(TOOLS)
}

/// Writes the script that paces wrk.
pub(crate) fn script(dir: &Path) -> Result<std::path::PathBuf> {
    let path = dir.join("delay.lua");
    fs::write(&path, SCRIPT)?;
    Ok(path)
}

/// wrk with one thread, out of the way of whoever else uses the machine.
pub(crate) fn start(
    netns: &Netns,
    script: &Path,
    (connections, seconds): (u32, u64),
    more: &[&str],
    url: &str,
) -> Result<Child> {
    let mut wrk = Command::new("nice");
    wrk.args(["-n", "10", "wrk", "-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]);
    wrk.args(["--timeout", "10s", "-s"]).arg(script).args(more).arg(url);
    wrk.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    netns.spawn(&mut wrk)
}

/// What it says of requests and errors.
pub(crate) fn finish(child: Child) -> Result<String> {
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said.contains("Requests/sec"), "wrk: {said}");
    let about = |line: &&str| {
        line.contains("requests in") || line.contains("errors") || line.contains("Non-2xx")
    };
    Ok(said.lines().filter(about).map(str::trim).collect::<Vec<_>>().join(", "))
}

pub(crate) fn run(netns: &Netns, time: Duration) -> Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let script = script(dir.path())?;
    let _web = Web::start(netns, Kind::Http)?;
    let args = [TOMCAT.to_string(), BACK.to_string(), "fixed".to_owned()];
    let mut tomcat =
        Program::java(netns, &[], "PageServlet", &args.each_ref().map(String::as_str))?;
    tomcat.wait_for("ready")?;
    let page = format!("http://127.0.0.1:{TOMCAT}/pages/index.html");
    let missing = format!("http://127.0.0.1:{TOMCAT}/pages/missing");
    let front = Web::url();
    let close = ["-H", "Connection: close"];
    let loads: [(&str, &str, u32, &[&str]); 4] = [
        ("haproxy and nginx", &front, 30, &[]),
        ("haproxy and nginx, a connection each", &front, 4, &close),
        ("Tomcat and nginx", &page, 15, &[]),
        ("Tomcat, what nginx does not have", &missing, 2, &close),
    ];
    let mut did = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time {
        let seconds = ON.min(time.saturating_sub(began.elapsed())).as_secs().max(1);
        let started = loads.map(|(what, url, connections, more)| {
            (what, start(netns, &script, (connections, seconds), more, url))
        });
        for (what, child) in started {
            did.push(format!("{what}: {}", finish(child?)?));
        }
        sleep(OFF.min(time.saturating_sub(began.elapsed())));
    }
    Ok(did)
}
