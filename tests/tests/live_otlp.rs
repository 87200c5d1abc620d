//! `serve --otlp`, pushing to a real collector; and to what is none, or no longer.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::holder::Holder;
use tests::netns::Netns;
use tests::rotel::{self, Point, Rotel};
use tests::tcptrail::{Tcptrail, command};
use tests::traffic::{accept, connect, listen};
use tests::web::Daemon;
use tests::witness::{eventually, ss};

const PATIENCE: Duration = Duration::from_secs(20);
const COLLECTOR: &str = "127.0.0.1:4318";
const PORT: u16 = 8089;
const LEAKED: usize = 5;

fn ask(home: &Netns, path: &str) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "20"]).arg(format!("http://127.0.0.1:9435{path}"));
    let output = home.output(curl)?;
    ensure!(output.status.success(), "curl {path}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Starts it in `home`, about `netns`, and waits until it is ready.
fn serve(home: &Netns, netns: &Netns) -> Result<Tcptrail> {
    let mut command = command(&["serve", "--netns", netns.name(), "--json", "--no-openers"]);
    command.args(["--threshold", "CLOSE_WAIT=1s", "--otlp-interval", "1s"]);
    command.arg("--otlp").arg(format!("http://{COLLECTOR}"));
    command.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test%2C1");
    let tcptrail = home.run(|| Tcptrail::spawn(command))?;
    eventually("an answer", PATIENCE, || {
        // Until it listens curl fails.
        Ok(ask(home, "/readyz").ok().filter(|told| told == "ready\n"))
    })?;
    Ok(tcptrail)
}

/// A server in a process of its own that does not close what its clients have closed.
fn leak(netns: &Netns) -> Result<Holder> {
    let address = SocketAddr::from(([127, 0, 0, 1], PORT));
    let holder = Holder::start(netns, address)?;
    for _ in 0..LEAKED {
        drop(connect(netns, address)?);
    }
    Ok(holder)
}

/// Sockets by state, in the words of OpenTelemetry.
fn by_state(netns: &Netns) -> Result<BTreeMap<String, u64>> {
    let mut sums = BTreeMap::new();
    for socket in ss(netns)? {
        let state = match socket.state.as_str() {
            "SYN_RECV" => "syn_received".to_owned(),
            "FIN_WAIT1" => "fin_wait_1".to_owned(),
            "FIN_WAIT2" => "fin_wait_2".to_owned(),
            other => other.to_lowercase(),
        };
        *sums.entry(state).or_default() += 1;
    }
    Ok(sums)
}

fn pushed_by_state(points: &[Point]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for point in points {
        let state = point.attributes.get("network.connection.state").cloned();
        *sums.entry(state.unwrap_or_default()).or_default() += point.value as u64;
    }
    sums
}

#[test]
fn a_leak_is_told_to_a_collector_until_it_ends() -> Result<()> {
    if !rotel::ready(&["curl", "ss", "python3"]) {
        return Ok(());
    }
    let (home, netns) = (Netns::new()?, Netns::new()?);
    let rotel = Rotel::start(&home)?;
    let mut tcptrail = serve(&home, &netns)?;
    let holder = leak(&netns)?;
    let pid = holder.pid().to_string();
    let log = rotel.log("the finding", |log| {
        log.text("tcptrail.finding.rule") == "close_wait"
            && log.text("tcptrail.finding.state") == "appeared"
    })?;
    for (key, value) in [
        ("process.pid", pid.as_str()),
        ("process.executable.name", "python3"),
        ("network.local.port", "8089"),
        ("network.transport", "tcp"),
        ("network.connection.state", "close_wait"),
    ] {
        ensure!(log.text(key) == value, "{key}: {log:#?}");
    }
    ensure!(log.record.event_name == "tcptrail.finding" && log.scope == "tcptrail", "{log:#?}");
    for (key, value) in [("os.type", "linux"), ("deployment.environment.name", "test,1")] {
        ensure!(log.resource.get(key).is_some_and(|it| it == value), "{key}: {log:#?}");
    }
    // Whose it is: where the test runs decides what that is called.
    let workload = log.text("tcptrail.workload");
    ensure!(!workload.is_empty() && log.resource["service.name"] == workload, "{log:#?}");
    // The line of the journal is about the same moment.
    let id = log.text("tcptrail.finding.id").to_owned();
    let line = tcptrail.wait_for("the same finding", |event| event.text("id") == id)?;
    ensure!(line.text("change") == "appear" && line.text("verdict") == log.body(), "{line:?}");
    for (key, attribute) in
        [("code", "tcptrail.finding.code"), ("severity", "tcptrail.finding.severity")]
    {
        ensure!(line.text(key) == log.text(attribute), "{key}: {log:#?}");
    }
    ensure!(
        line.number("count").map(|it| it.to_string()).as_deref()
            == Some(log.text("tcptrail.finding.sockets"))
    );
    let time = i64::try_from(log.record.time_unix_nano)?;
    ensure!(
        jiff::Timestamp::from_nanosecond(time.into())? == line.text("time").parse()?,
        "{line:?}"
    );
    // What is asked for has it, too.
    let findings: Value = serde_json::from_str(&ask(&home, "/findings")?)?;
    let found = findings.as_array().context("a list")?.iter().find(|found| found["id"] == *id);
    let found = found.with_context(|| format!("{id} is not in {findings}"))?;
    ensure!(found["rule"] == "close_wait" && found["local_port"] == PORT, "{found}");

    check_metrics(&home, &netns, &rotel)?;
    check_thread(tcptrail.pid())?;

    drop(holder);
    let over = rotel.log("the end of the finding", |log| {
        log.text("tcptrail.finding.id") == id && log.text("tcptrail.finding.state") == "ended"
    })?;
    ensure!(
        over.body().starts_with("over after ") && over.record.severity_number == 9,
        "{over:#?}"
    );
    // Now that connections have ended, it is known how long they were in each state.
    eventually("a histogram", PATIENCE, || {
        Ok(rotel
            .received()
            .histograms
            .get("tcptrail.state.duration")
            .filter(|&&it| it != 0)
            .copied())
    })?;
    tcptrail.signal(Signal::TERM)?;
    let run = tcptrail.wait()?;
    run.check_good_end()?;
    let said = format!("pushing findings, and metrics every 1s, to http://{COLLECTOR}");
    ensure!(run.stderr.contains(&said) && !run.stderr.contains("do not reach"), "{}", run.stderr);
    Ok(())
}

/// By way of a file, with the configuration that we ship: as `--otlp` tells it.
#[test]
fn findings_in_a_file_reach_a_collector_with_the_same_names() -> Result<()> {
    if !rotel::ready(&["python3"]) || !rotel::filelog_is_ready() {
        return Ok(());
    }
    let (home, netns) = (Netns::new()?, Netns::new()?);
    let rotel = Rotel::start(&home)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("findings.ndjson");
    let _collector = rotel::start_filelog(&home, &file)?;
    let mut stuck = command(&["stuck", "--json", "--netns", netns.name(), "--no-openers"]);
    stuck.args(["--threshold", "CLOSE_WAIT=1s"]).stdout(fs::File::create(&file)?);
    let mut stuck = Daemon(stuck.spawn()?);
    let holder = leak(&netns)?;
    let log = rotel.log("the finding", |log| {
        log.text("tcptrail.finding.rule") == "close_wait"
            && log.text("tcptrail.finding.state") == "appeared"
    })?;
    for (key, value) in [
        ("process.pid", holder.pid().to_string().as_str()),
        ("process.executable.name", "python3"),
        ("network.local.port", "8089"),
        ("network.transport", "tcp"),
    ] {
        ensure!(log.text(key) == value, "{key}: {log:#?}");
    }
    let lines = fs::read_to_string(&file)?;
    let id = log.text("tcptrail.finding.id");
    let line = lines.lines().map(serde_json::from_str::<Value>).map_while(Result::ok);
    let line = line.into_iter().find(|line| line["id"] == id && line["change"] == "appear");
    let line = line.with_context(|| format!("{id} is not in {lines}"))?;
    ensure!(line["verdict"] == log.body() && line["code"] == log.text("tcptrail.finding.code"));
    let time = i64::try_from(log.record.time_unix_nano)?;
    let time = jiff::Timestamp::from_nanosecond(time.into())?;
    ensure!(time == line["time"].as_str().context("a time")?.parse()?, "{line} {log:#?}");
    // WARN, or WARN2 of a leak.
    ensure!((13..=14).contains(&log.record.severity_number), "{log:#?}");
    drop(holder);
    let over = rotel.log("the end of the finding", |log| {
        log.text("tcptrail.finding.id") == id && log.text("tcptrail.finding.state") == "ended"
    })?;
    ensure!(over.record.severity_number == 9, "{over:#?}");
    stuck.end(Signal::INT)
}

/// Who pushes has no capabilities.
fn check_thread(pid: u32) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        if fs::read_to_string(path.join("comm"))? == "tcptrail-otlp\n" {
            let status = fs::read_to_string(path.join("status"))?;
            ensure!(status.contains("CapPrm:\t0000000000000000\n"), "{status}");
            ensure!(status.contains("NoNewPrivs:\t1\n"), "{status}");
            return Ok(());
        }
    }
    anyhow::bail!("no thread of that name")
}

/// The figures are those of `ss` and of `/metrics`.
fn check_metrics(home: &Netns, netns: &Netns, rotel: &Rotel) -> Result<()> {
    let points = eventually("the sockets of ss", PATIENCE, || {
        let there = by_state(netns)?;
        let received = rotel.received();
        let points = received.points.get("system.network.connection.count");
        Ok(points.filter(|points| pushed_by_state(points) == there).cloned())
    })?;
    ensure!(pushed_by_state(&points).get("close_wait") == Some(&(LEAKED as u64)), "{points:#?}");
    for point in &points {
        ensure!(point.unit == "{connection}", "{point:#?}");
        ensure!(point.resource["service.name"] == "tcptrail", "{point:#?}");
        ensure!(!point.resource["service.instance.id"].is_empty(), "{point:#?}");
        ensure!(point.attributes["network.transport"] == "tcp", "{point:#?}");
        ensure!(point.attributes.contains_key("workload"), "{point:#?}");
    }
    let received = rotel.received();
    let opened = received.points.get("tcptrail.connections.opened").context("a sum")?;
    let both: f64 = opened.iter().map(|point| point.value).sum();
    ensure!(both == 2.0 * LEAKED as f64, "{opened:#?}");
    ensure!(opened.iter().all(|point| 0 < point.start_ns && point.start_ns < point.time_ns));
    drop(received);
    let exports = value(&ask(home, "/metrics")?, "tcptrail_otlp_exports_total{signal=\"logs\"}")?;
    ensure!(exports >= 1.0, "{exports}");
    Ok(())
}

/// Of a series in the text of `/metrics`.
fn value(metrics: &str, series: &str) -> Result<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    let line = line.with_context(|| format!("no {series} in {metrics}"))?;
    Ok(line.trim().parse()?)
}

/// tcptrail answers, and quickly.
fn check_answers(home: &Netns) -> Result<()> {
    let began = Instant::now();
    ensure!(ask(home, "/healthz")? == "ok\n");
    ensure!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    Ok(())
}

/// Waits until a series of `/metrics` is at least this.
fn wait_for(home: &Netns, series: &str, least: f64) -> Result<()> {
    eventually(&format!("{least} in {series}"), PATIENCE, || {
        Ok((value(&ask(home, "/metrics")?, series)? >= least).then_some(()))
    })
}

/// Its own pushes are in its trace here, too.
#[test]
fn a_collector_that_dies_and_comes_back_misses_nothing() -> Result<()> {
    if !rotel::ready(&["curl", "python3"]) {
        return Ok(());
    }
    let home = Netns::new()?;
    // It takes connections and never answers.
    let silent = listen(&home, COLLECTOR)?;
    let tcptrail = serve(&home, &home)?;
    let holder = leak(&home)?;
    let held: Vec<TcpStream> = (0..2).map(|_| accept(&silent)).collect::<Result<_>>()?;
    wait_for(&home, "tcptrail_otlp_queue_records", 1.0)?;
    check_answers(&home)?;
    // It dies: what was under way breaks, and then nobody listens.
    drop((silent, held));
    wait_for(&home, "tcptrail_otlp_failures_total{signal=\"logs\",reason=\"unreachable\"}", 2.0)?;
    check_answers(&home)?;
    // It is overloaded.
    let busy = listen(&home, COLLECTOR)?;
    loop {
        let stream = accept(&busy)?;
        let (path, _) = rotel::read_request(&stream)?;
        rotel::answer(&stream, "503 Service Unavailable", "Retry-After: 1\r\n")?;
        if path == "/v1/logs" {
            break;
        }
    }
    wait_for(&home, "tcptrail_otlp_failures_total{signal=\"logs\",reason=\"status\"}", 1.0)?;
    check_answers(&home)?;
    drop(busy);
    let rotel = Rotel::start(&home)?;
    let pid = holder.pid().to_string();
    let log = rotel.log("what waited", |log| {
        log.text("process.pid") == pid && log.text("tcptrail.finding.state") == "appeared"
    })?;
    ensure!(log.text("tcptrail.finding.rule") == "close_wait", "{log:#?}");
    wait_for(&home, "tcptrail_otlp_exports_total{signal=\"metrics\"}", 1.0)?;
    eventually("an empty queue", PATIENCE, || {
        let metrics = ask(&home, "/metrics")?;
        Ok((value(&metrics, "tcptrail_otlp_queue_records")? == 0.0).then_some(()))
    })?;
    let metrics = ask(&home, "/metrics")?;
    for reason in ["queue_full", "refused", "rejected"] {
        let series = format!("tcptrail_otlp_dropped_records_total{{reason=\"{reason}\"}}");
        ensure!(value(&metrics, &series)? == 0.0, "{series}");
    }
    tcptrail.signal(Signal::TERM)?;
    let run = tcptrail.wait()?;
    run.check_good_end()?;
    let own = run.of_kind("stuck").find(|event| event.text("comm") == "tcptrail");
    ensure!(own.is_none(), "a finding about itself: {own:?}");
    let failed = "records about findings do not reach the collector at http://127.0.0.1:4318";
    ensure!(run.stderr.matches(failed).count() == 1, "{}", run.stderr);
    ensure!(run.stderr.contains("takes records about findings again"), "{}", run.stderr);
    Ok(())
}
