//! `serve`, asked by curl and scraped by a real Prometheus; its figures against `ss` and what the test did.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::{Tcptrail, command};
use tests::traffic::{Both, listen, read_end, transfer};
use tests::web::Daemon;
use tests::witness::{eventually, ss};

const PATIENCE: Duration = Duration::from_secs(20);
const DONE: usize = 7;
const BYTES: usize = 1000;

/// Asks from inside the namespace that `serve` is in.
fn curl(home: &Netns, args: &[&str]) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20"]).args(args);
    let output = home.output(command)?;
    ensure!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn ask(home: &Netns, path: &str) -> Result<String> {
    curl(home, &[&format!("http://127.0.0.1:9435{path}")])
}

/// Starts it in `home`, about `netns`, and waits until it is ready.
fn serve(home: &Netns, netns: &Netns, socket: &Path) -> Result<Tcptrail> {
    let listen = format!("unix:{}", socket.display());
    let mut command = command(&["serve", "--netns", netns.name(), "--json", "--no-openers"]);
    command.args([
        "--threshold",
        "CLOSE_WAIT=1s",
        "--listen",
        "127.0.0.1:9435",
        "--listen",
        &listen,
    ]);
    let tcptrail = home.run(|| Tcptrail::spawn(command))?;
    eventually("an answer", PATIENCE, || {
        // Until it listens curl fails.
        Ok(ask(home, "/readyz").ok().filter(|told| told == "ready\n"))
    })?;
    Ok(tcptrail)
}

/// The samples of a metric: the value of `label`, and the sum of those that have it.
fn sums(metrics: &str, name: &str, label: &str) -> Result<BTreeMap<String, u64>> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix(name).filter(|rest| rest.starts_with('{')) else {
            continue;
        };
        let (labels, value) = rest.rsplit_once(' ').context("a value")?;
        let value: f64 = value.parse()?;
        let of =
            labels.split(&format!("{label}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        *sums.entry(of.with_context(|| line.to_owned())?.to_owned()).or_default() += value as u64;
    }
    Ok(sums)
}

fn by_state(netns: &Netns) -> Result<BTreeMap<String, u64>> {
    let mut sums = BTreeMap::new();
    for socket in ss(netns)? {
        *sums.entry(socket.state).or_default() += 1;
    }
    Ok(sums)
}

fn promtool(metrics: &str) -> Result<()> {
    if !ready(&["promtool"]) {
        return Ok(());
    }
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    check.stdin.take().context("a pipe")?.write_all(metrics.as_bytes())?;
    let output = check.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success() && said.is_empty(), "promtool: {said}");
    Ok(())
}

#[test]
fn figures_are_those_of_ss_and_of_what_was_done() -> Result<()> {
    if !ready(&["curl", "ss"]) {
        return Ok(());
    }
    let (home, netns) = (Netns::new()?, Netns::new()?);
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("http.sock");
    let tcptrail = serve(&home, &netns, &socket)?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let to = listener.local_addr()?;
    for _ in 0..DONE {
        let both = Both::new(&netns, &listener, to)?;
        transfer(&both.client, &both.server, BYTES)?;
        drop(both.client);
        read_end(&both.server)?;
    }
    let open: Vec<Both> =
        (0..3).map(|_| Both::new(&netns, &listener, to)).collect::<Result<_>>()?;
    let metrics = eventually("the sockets of ss", PATIENCE, || {
        let metrics = ask(&home, "/metrics")?;
        let same = sums(&metrics, "tcptrail_connections", "state")? == by_state(&netns)?;
        Ok(same.then_some(metrics))
    })?;
    let sum = |name: &str, label: &str| sums(&metrics, name, label);
    let pair = |one: &str, count: usize, other: &str, too: usize| {
        BTreeMap::from([(one.to_owned(), count as u64), (other.to_owned(), too as u64)])
    };
    let all = DONE + open.len();
    ensure!(
        sum("tcptrail_connections_opened_total", "role")? == pair("client", all, "server", all)
    );
    ensure!(
        sum("tcptrail_connections_closed_total", "role")? == pair("client", DONE, "server", DONE)
    );
    // Each byte is sent by one end and received by the other.
    let bytes = pair("sent", DONE * BYTES, "received", DONE * BYTES);
    ensure!(sum("tcptrail_bytes_total", "direction")? == bytes, "{metrics}");
    let lives = sum("tcptrail_connection_duration_seconds_count", "role")?;
    ensure!(lives == pair("client", DONE, "server", DONE), "{lives:?}");
    ensure!(!metrics.contains("127.0.0.1") && !metrics.contains("pid="), "{metrics}");
    promtool(&metrics)?;
    let over_unix = ["--unix-socket", &socket.to_string_lossy(), "http://x/healthz"];
    ensure!(curl(&home, &over_unix)? == "ok\n");
    let refused = curl(
        &home,
        &["-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "http://127.0.0.1:9435/"],
    )?;
    ensure!(refused == "405", "{refused}");
    drop(open);
    tcptrail.signal(Signal::TERM)?;
    tcptrail.wait()?.check_good_end()?;
    ensure!(!socket.exists(), "the socket is left behind");
    Ok(())
}

/// Asks Prometheus; the value of the only series.
fn query(home: &Netns, query: &str) -> Result<Option<f64>> {
    let query = format!("query={query}");
    let args = ["-G", "--data-urlencode", &query, "http://127.0.0.1:9090/api/v1/query"];
    let Ok(text) = curl(home, &args) else { return Ok(None) };
    let told: Value = serde_json::from_str(&text)?;
    let value = told["data"]["result"][0]["value"][1].as_str();
    Ok(value.map(str::parse).transpose()?)
}

#[test]
fn prometheus_sees_a_leak_with_its_workload_and_rule() -> Result<()> {
    if !ready(&["curl", "prometheus"]) {
        return Ok(());
    }
    let (home, netns) = (Netns::new()?, Netns::new()?);
    let dir = tempfile::tempdir()?;
    let tcptrail = serve(&home, &netns, &dir.path().join("http.sock"))?;
    let config = dir.path().join("prometheus.yml");
    fs::write(
        &config,
        "global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: tcptrail\n    static_configs: [{targets: ['127.0.0.1:9435']}]\n",
    )?;
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", config.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
    prometheus.args(["--web.listen-address=127.0.0.1:9090", "--log.level=error"]);
    let mut prometheus = Daemon::spawn(&home, &mut prometheus)?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let to = listener.local_addr()?;
    // The peer of each closes, and nobody closes here.
    let mut leaked: Vec<TcpStream> = Vec::new();
    let query_of_leak = "sum(tcptrail_leaked_sockets * on(fingerprint) group_left(rule) tcptrail_leak_info{rule=\"close_wait\"})";
    let count = eventually("the leak in Prometheus", Duration::from_secs(45), || {
        let both = Both::new(&netns, &listener, to)?;
        drop(both.client);
        read_end(&both.server)?;
        leaked.push(both.server);
        std::thread::sleep(Duration::from_millis(200));
        query(&home, query_of_leak)
    })?;
    ensure!(count >= 3.0 && count <= leaked.len() as f64, "{count} of {}", leaked.len());
    // No more of them: then it is exactly those.
    let exactly = format!("sum(tcptrail_connections{{state=\"CLOSE_WAIT\"}}) == {}", leaked.len());
    eventually("all of them", PATIENCE, || query(&home, &exactly))?;
    let up = query(&home, "up{job=\"tcptrail\"}")?;
    ensure!(up == Some(1.0), "{up:?}");
    let findings: Value = serde_json::from_str(&ask(&home, "/findings")?)?;
    let found = &findings[0];
    ensure!(found["rule"] == "close_wait" && found["event"] == "stuck", "{findings}");
    ensure!(found["local_port"] == to.port(), "{findings}");
    let page = ask(&home, "/")?;
    let verdict = found["verdict"].as_str().context("a sentence")?;
    let start = verdict.split(':').next().unwrap_or_default();
    ensure!(page.contains(start), "{page}");
    prometheus.end(Signal::TERM)?;
    tcptrail.signal(Signal::TERM)?;
    let run = tcptrail.wait()?;
    run.check_good_end()?;
    // The journal has it, too.
    let lines = run.of_kind("stuck").filter(|event| event.text("rule") == "close_wait").count();
    ensure!(lines != 0, "nothing is said on stdout");
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let check = |text: &str, more: &[&str], code: i32, words: &str| -> Result<()> {
        let file = dir.path().join("tcptrail.toml");
        fs::write(&file, text)?;
        let file = file.to_string_lossy().into_owned();
        let output = command(&[&["serve", "--config", &file][..], more].concat()).output()?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(
            output.status.code() == Some(code) && said.contains(words),
            "{text} {more:?}: {said}"
        );
        Ok(())
    };
    let example =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/tcptrail.toml"))?;
    check(&example, &["--check-config"], 0, "is right")?;
    check("lissen = '127.0.0.1:1'", &["--check-config"], 2, "did you mean listen?")?;
    check("threshold = ['CLOSWAIT=1s']", &["--check-config"], 2, "did you mean CLOSE_WAIT?")?;
    check("listen = 'localhost'", &["--check-config"], 2, "not an address with a port")?;
    check("listen = [", &["--check-config"], 2, "tcptrail.toml")?;
    if ready(&[]) {
        let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
        let taken = taken.local_addr()?.to_string();
        check("", &["--listen", &taken], 1, "cannot listen on")?;
    }
    Ok(())
}

/// Needs no root: only Prometheus's own tool.
#[test]
fn alerts_fire_when_they_should_and_the_scrape_job_is_right() -> Result<()> {
    if !ready(&["promtool"]) {
        return Ok(());
    }
    let files = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus"));
    let promtool = |args: &[&str]| -> Result<()> {
        let output = Command::new("promtool").args(args).current_dir(files).output()?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(output.status.success() && said.contains("SUCCESS"), "promtool {args:?}: {said}");
        Ok(())
    };
    promtool(&["check", "rules", "tcptrail.rules.yml"])?;
    promtool(&["test", "rules", "tcptrail.test.yml"])?;
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("prometheus.yml");
    let job = fs::read_to_string(files.join("scrape.yml"))?;
    fs::write(&config, format!("scrape_configs:\n{job}"))?;
    promtool(&["check", "config", &config.to_string_lossy()])
}
