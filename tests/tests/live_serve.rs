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
use tests::monitoring::{Monitoring, alert_of_leak, curl, packaging, query};
use tests::netns::Netns;
use tests::tcptrail::{Tcptrail, binary, command};
use tests::traffic::{Both, listen, read_end, transfer};
use tests::witness::{eventually, ss};
use tests::{kernel, ready};

const PATIENCE: Duration = Duration::from_secs(20);
const DONE: usize = 7;
const BYTES: usize = 1000;

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

/// Prometheus understands every query of the dashboard, and those that must have an answer now have one.
fn check_dashboard(home: &Netns) -> Result<()> {
    let board: Value =
        serde_json::from_str(&fs::read_to_string(packaging("grafana/tcptrail.json"))?)?;
    let panels = board["panels"].as_array().context("panels")?;
    let mut queries = 0;
    for panel in panels {
        let title = panel["title"].as_str().context("a title")?;
        let mut found = 0;
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().context("a query")?;
            let expr = expr.replace("$__rate_interval", "10s");
            let expr = expr.replace("$instance", ".*").replace("$workload", ".*");
            ensure!(!expr.contains('$'), "{title}: a variable that is not replaced: {expr}");
            let data = format!("query={expr}");
            let url = "http://127.0.0.1:9090/api/v1/query";
            let told = curl(home, &["-G", "--data-urlencode", &data, url])?;
            let told: Value = serde_json::from_str(&told)?;
            ensure!(told["status"] == "success", "{title}: {expr}: {told}");
            found += told["data"]["result"].as_array().map_or(0, Vec::len);
            queries += 1;
        }
        let must = ["Findings", "Leaks: where, which code, how many", "Sockets by state"];
        ensure!(found != 0 || !must.contains(&title), "{title}: no answer");
    }
    ensure!(queries > 20, "{queries} queries");
    Ok(())
}

#[test]
fn a_leak_is_an_alert_with_its_workload_and_rule_until_it_ends() -> Result<()> {
    if !ready(&["curl", "prometheus", "prometheus-alertmanager"]) {
        return Ok(());
    }
    let (home, netns) = (Netns::new()?, Netns::new()?);
    let dir = tempfile::tempdir()?;
    let tcptrail = serve(&home, &netns, &dir.path().join("http.sock"))?;
    let mut monitoring = Monitoring::start(&home, dir.path())?;
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
    let alert = eventually("the alert in Alertmanager", PATIENCE, || {
        // Until it has started there is no list.
        Ok(alert_of_leak(&home).ok().flatten())
    })?;
    let labels = &alert["labels"];
    ensure!(labels["rule"] == "close_wait" && labels["instance"] == "127.0.0.1:9435", "{alert}");
    let workload = labels["workload"].as_str().unwrap_or_default();
    let connections = format!("sum(tcptrail_connections{{workload=\"{workload}\"}}) > 2");
    ensure!(query(&home, &connections)?.is_some(), "nothing of the workload of {alert}");
    check_dashboard(&home)?;
    let page = ask(&home, "/")?;
    // Since they grow no more it may say "holds" by now, not "leaks".
    ensure!(page.contains(&format!("CLOSE_WAIT on :{}: ", to.port())), "{page}");
    // Whoever leaked them ends.
    drop(leaked);
    eventually("no alert any more", PATIENCE, || {
        Ok(alert_of_leak(&home)?.is_none().then_some(()))
    })?;
    monitoring.end()?;
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
    let example = fs::read_to_string(packaging("tcptrail.toml"))?;
    check(&example, &["--check-config"], 0, "is right")?;
    check("lissen = '127.0.0.1:1'", &["--check-config"], 2, "did you mean listen?")?;
    check("threshold = ['CLOSWAIT=1s']", &["--check-config"], 2, "did you mean CLOSE_WAIT?")?;
    check("listen = 'localhost'", &["--check-config"], 2, "not an address with a port")?;
    check("listen = [", &["--check-config"], 2, "tcptrail.toml")?;
    check("otlp = 'https://x:4318'", &["--check-config"], 2, "does not speak TLS")?;
    check("otlp-interval = '5s'", &["--check-config"], 2, "--otlp")?;
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
    let files = packaging("prometheus");
    let promtool = |args: &[&str]| -> Result<()> {
        let output = Command::new("promtool").args(args).current_dir(&files).output()?;
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

/// Needs no root and no systemd that runs: it is looked at as a file.
#[test]
fn the_unit_leaves_little_to_whoever_breaks_in() -> Result<()> {
    if !ready(&["systemd-analyze"]) {
        return Ok(());
    }
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--threshold=25"])
        .arg(packaging("systemd/tcptrail.service"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said.contains("Overall exposure"), "{said}");
    Ok(())
}

/// As systemd would start it: another user than root, with the unit's capabilities and no others.
#[test]
fn another_user_with_the_units_capabilities_sees_all() -> Result<()> {
    if !ready(&["curl", "setpriv"]) {
        return Ok(());
    }
    let unit = fs::read_to_string(packaging("systemd/tcptrail.service"))?;
    let line = unit.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
    let capabilities: Vec<String> = line
        .context("no capabilities")?
        .split(' ')
        .map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let capabilities = format!("-all,{}", capabilities.join(","));
    let (home, netns) = (Netns::new()?, Netns::new()?);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "--no-new-privs"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.args([set, &capabilities]);
    }
    command.arg(binary()).args(["serve", "--json", "--no-openers"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let tcptrail = home.run(|| Tcptrail::spawn(command))?;
    eventually("an answer", PATIENCE, || {
        Ok(ask(&home, "/readyz").ok().filter(|told| told == "ready\n"))
    })?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let to = listener.local_addr()?;
    // In a namespace that it has to enter, held by another user's process.
    let open: Vec<Both> =
        (0..3).map(|_| Both::new(&netns, &listener, to)).collect::<Result<_>>()?;
    let metrics = eventually("the sockets", PATIENCE, || {
        let metrics = ask(&home, "/metrics")?;
        let open = sums(&metrics, "tcptrail_connections_opened_total", "role")?;
        let enough = |role: &str| open.get(role).is_some_and(|&count| count >= 3);
        Ok((enough("client") && enough("server")).then_some(metrics))
    })?;
    for hook in metrics.lines().filter(|line| line.starts_with("tcptrail_hook_active{")) {
        ensure!(hook.ends_with(" 1.0") || kernel() < (6, 1), "{hook}");
    }
    drop(open);
    tcptrail.signal(Signal::TERM)?;
    tcptrail.wait()?.check_good_end()
}

/// The DaemonSet has the rights it names, and no others.
#[test]
fn the_daemonset_is_not_privileged() -> Result<()> {
    let text = fs::read_to_string(packaging("kubernetes/daemonset.yaml"))?;
    for must in [
        "privileged: false",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "drop: [ALL]",
        "automountServiceAccountToken: false",
    ] {
        ensure!(text.contains(must), "no {must}");
    }
    let mounts = text.lines().filter(|line| line.contains("mountPath:"));
    ensure!(
        mounts.clone().count() == 3 && mounts.clone().all(|line| line.contains("readOnly: true"))
    );
    Ok(())
}
