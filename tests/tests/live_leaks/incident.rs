//! The incident: Tomcat with a servlet that forgets the response of Apache HttpClient when the resource is
//! missing, against a backend that closes. `leaks` and `stuck` look on.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::java::{Program, line_of};
use tests::netns::Netns;
use tests::pace::is_slow;
use tests::reported;
use tests::tcptrail::{Event, Tcptrail, command};
use tests::traffic::connect;
use tests::witness::now_ns;

use crate::stage::{PATIENCE, check_frames, check_silent, closing_server, leaks, wait_for_leak};

const COUNT: u64 = 16;
const MISSING: &[u8] =
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot here\n";

fn get(netns: &Netns, port: u16) -> Result<()> {
    let mut stream = connect(netns, ([127, 0, 0, 1], port).into())?;
    stream.write_all(b"GET /pages/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    Ok(())
}

fn stuck(netns: &Netns, threshold: &str) -> Result<Tcptrail> {
    Tcptrail::start(&["stuck", "--netns", netns.name(), "--threshold", threshold])
}

fn finding(tcptrail: &mut Tcptrail, rule: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
    tcptrail.wait_for_within(rule, PATIENCE, |event| {
        event.kind() == "stuck"
            && event.text("rule") == rule
            && event.text("change") != "clear"
            && wanted(event)
    })
}

#[test]
fn the_servlet_that_forgets_is_named_and_the_mended_one_is_not() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let backend = closing_server(&netns, MISSING)?.to_string();
    let dir = tempfile::tempdir()?;
    let html = dir.path().join("incident.html");
    let place = html.to_str().context("UTF-8")?;
    // The first: it does not say when it is attached, those after it do.
    let args = ["report", "--netns", netns.name(), "--threshold", "CLOSE_WAIT=3s", "--for", "5m"];
    let report = Tcptrail::spawn(command(&[&args[..], &["-o", place]].concat()))?;
    let mut leaks = leaks(&netns, &["--comm", "java"])?;
    let mut stuck = stuck(&netns, "CLOSE_WAIT=3s")?;
    let mut leaking = Program::java(&netns, &[], "PageServlet", &["8089", &backend, "leak"])?;
    let mut mended = Program::java(&netns, &[], "PageServlet", &["8090", &backend, "fixed"])?;
    leaking.wait_for("ready")?;
    mended.wait_for("ready")?;
    for _ in 0..COUNT {
        get(&netns, 8089)?;
        get(&netns, 8090)?;
        // One after the other, so that there is a growth to tell.
        thread::sleep(Duration::from_millis(500));
    }
    let leak = wait_for_leak(&mut leaks, leaking.pid(), COUNT)?;
    let line = line_of("PageServlet", "client.execute(")?;
    assert_eq!(leak.text("opener"), format!("com.acme.PageServlet.doGet:{line}"));
    check_frames(
        &leak,
        &[
            "java.net.Socket.connect",
            "org.apache.http.impl.client.CloseableHttpClient.execute",
            "com.acme.PageServlet.doGet",
            "org.apache.catalina.core.StandardWrapperValve.invoke",
        ],
    )?;
    assert_eq!(leak.text("comm"), "java");
    assert_eq!(leak.text("remote"), format!("127.0.0.1:{backend}"));
    assert_eq!(leak.0["states"], serde_json::json!({ "CLOSE_WAIT": COUNT }));

    let pid = u64::from(leaking.pid());
    let found = finding(&mut stuck, "close_wait", |event| {
        event.number("pid") == Some(pid)
            && event.text("severity") == "leak"
            && event.0["growth_per_min"].as_f64().is_some()
            && !event.0["opener"].is_null()
    })?;
    assert_eq!(found.text("comm"), "java");
    assert_eq!(found.text("state"), "CLOSE_WAIT");
    assert_eq!(found.text("remote"), format!("127.0.0.1:{backend}"));
    assert_eq!(found.text("opener"), "com.acme.PageServlet.doGet");
    for word in
        ["java[", "leaks CLOSE_WAIT", "/min", "none closed", "opened by com.acme.PageServlet.doGet"]
    {
        assert!(found.text("verdict").contains(word), "{word}: {}", found.text("verdict"));
    }
    let run = leaks.stop()?;
    check_silent(&run, mended.pid())?;
    run.check_whole()?;
    let run = stuck.stop()?;
    let accused =
        run.of_kind("stuck").find(|event| event.number("pid") == Some(mended.pid().into()));
    ensure!(accused.is_none(), "the mended one is accused: {accused:?}");
    run.check_whole()?;
    let run = report.stop()?;
    ensure!(run.code() == Some(0) && run.stderr.contains("open it in a browser"), "{}", run.stderr);
    if !tests::ready(&["chromium", "mkfifo"]) {
        return Ok(());
    }
    let process = format!("java[{pid}] leaks CLOSE_WAIT");
    let words =
        [process.as_str(), "opened by com.acme.PageServlet.doGet", "has not called close()"];
    let charts = ["chart-states", "chart-rates", "chart-findings", "chart-stacks"];
    reported::check(&html, &words, &charts, "java")
}

#[test]
fn too_many_open_files_are_foretold() -> Result<()> {
    if !tests::java::ready(&["prlimit"]) {
        return Ok(());
    }
    if is_slow() {
        println!(
            "skipped: on an emulated processor a JVM gets faster all the time, and no forecast holds"
        );
        return Ok(());
    }
    const SPARE: usize = 170;
    const EVERY: Duration = Duration::from_millis(220);
    let netns = Netns::new()?;
    let backend = closing_server(&netns, MISSING)?.to_string();
    let mut stuck = stuck(&netns, "CLOSE_WAIT=3s")?;
    let mut leaking = Program::java(&netns, &[], "PageServlet", &["8089", &backend, "leak"])?;
    leaking.wait_for("ready")?;
    // What it opens once, on its first requests, is no growth.
    for _ in 0..5 {
        get(&netns, 8089)?;
    }
    let pid = leaking.pid();
    let limit = fs::read_dir(format!("/proc/{pid}/fd"))?.count() + SPARE;
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &pid.to_string(), &format!("--nofile={limit}:{limit}")]);
    ensure!(prlimit.status()?.success(), "prlimit failed");

    let ran_out = {
        let began = Instant::now();
        let mut next = began;
        loop {
            next += EVERY;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            if get(&netns, 8089).is_err() {
                break now_ns();
            }
            ensure!(began.elapsed() < Duration::from_secs(80), "it never runs out");
        }
    };
    let foretold = finding(&mut stuck, "fds", |event| {
        event.number("pid") == Some(u64::from(pid))
            && event.0["forecast"]["left_ns"].as_u64() > Some(0)
    })?;
    let said = foretold.number("mono_ns").context("a time")?;
    let left = foretold.0["forecast"]["left_ns"].as_u64().context("a forecast")?;
    ensure!(said < ran_out, "it came too late");
    let really = ran_out - said;
    let wrong = left.abs_diff(really);
    println!("foretold {} ms, really {} ms", left / 1_000_000, really / 1_000_000);
    ensure!(3 * wrong <= really, "foretold {left} ns, it was {really} ns: {foretold:?}");
    assert_eq!(foretold.0["forecast"]["limit"], limit);
    stuck.stop()?.check_whole()
}

#[test]
fn a_server_that_never_closes_is_stuck_and_one_that_closes_is_not() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut stuck = stuck(&netns, "CLOSE_WAIT=3s")?;
    let mut forgets = Program::java(&netns, &[], "Server", &["8207", "forget"])?;
    let mut closes = Program::java(&netns, &[], "Server", &["8208", "close"])?;
    for (program, port) in [(&mut forgets, 8207u16), (&mut closes, 8208)] {
        program.wait_for("ready")?;
        for _ in 0..6 {
            let stream = connect(&netns, ([127, 0, 0, 1], port).into())?;
            std::io::Write::write_all(&mut &stream, b"?")?;
        }
    }
    let pid = u64::from(forgets.pid());
    let found = finding(&mut stuck, "close_wait", |event| event.number("count") == Some(6))?;
    assert_eq!(found.number("pid"), Some(pid));
    assert_eq!(found.number("local_port"), Some(8207));
    println!("{}", found.text("verdict"));
    let run = stuck.stop()?;
    let accused = run.of_kind("stuck").find(|event| event.number("pid") != Some(pid));
    ensure!(accused.is_none(), "an innocent is accused: {accused:?}");
    run.check_whole()
}

#[test]
fn an_acceptor_that_sleeps_is_named_and_one_that_works_is_not() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut stuck = stuck(&netns, "UNACCEPTED=2s")?;
    let mut sleeps = Program::java(&netns, &[], "Server", &["8204", "sleep"])?;
    let mut works = Program::java(&netns, &[], "Server", &["8205", "close"])?;
    let mut held = Vec::new();
    for (program, port) in [(&mut sleeps, 8204u16), (&mut works, 8205)] {
        program.wait_for("ready")?;
        for _ in 0..6 {
            held.push(connect(&netns, ([127, 0, 0, 1], port).into())?);
        }
    }
    let pid = u64::from(sleeps.pid());
    let found = finding(&mut stuck, "unaccepted", |event| event.number("count") == Some(5))?;
    assert_eq!(found.number("pid"), Some(pid));
    assert_eq!(found.number("local_port"), Some(8204));
    let run = stuck.stop()?;
    let accused = run.of_kind("stuck").find(|event| event.number("pid") != Some(pid));
    ensure!(accused.is_none(), "an innocent is accused: {accused:?}");
    run.check_whole()
}

/// The JDK's own HTTP server under load: nothing, by default thresholds. `HEALTHY_SECONDS=120` makes it
/// two minutes.
#[test]
fn a_healthy_java_server_under_load_is_left_in_peace() -> Result<()> {
    if !tests::java::ready(&["wrk"]) {
        return Ok(());
    }
    let seconds =
        std::env::var("HEALTHY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10u32);
    let netns = Netns::new()?;
    let stuck = Tcptrail::start(&["stuck", "--netns", netns.name()])?;
    let mut server = Program::java(&netns, &[], "Pages", &["8206"])?;
    server.wait_for("ready")?;
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c20", &format!("-d{seconds}s"), "http://127.0.0.1:8206/"]);
    let output = netns.output(wrk)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said.contains("Requests/sec"), "wrk: {said}");
    let run = stuck.stop()?;
    let found: Vec<&str> = run.of_kind("stuck").map(|event| event.text("verdict")).collect();
    ensure!(found.is_empty(), "{found:?} beside {said}");
    run.check_whole()
}
