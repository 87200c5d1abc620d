//! What watches a service: a real Prometheus with the alert rules of `packaging/`, and a real Alertmanager.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::netns::Netns;
use crate::web::Daemon;

/// Prometheus, which scrapes 127.0.0.1:9435 in its network namespace every second, and Alertmanager.
pub struct Monitoring {
    prometheus: Daemon,
    alertmanager: Daemon,
}

impl Monitoring {
    /// Starts both; their files are in `dir`. Rules that wait for two minutes wait for a second.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start(home: &Netns, dir: &Path) -> Result<Monitoring> {
        let alertmanager = alertmanager(home, dir)?;
        let config = dir.join("prometheus.yml");
        fs::write(&config, PROMETHEUS)?;
        // Two minutes are for people.
        let rules = fs::read_to_string(packaging("prometheus/tcptrail.rules.yml"))?;
        fs::write(dir.join("rules.yml"), rules.replace("for: 2m", "for: 1s"))?;
        let mut prometheus = Command::new("prometheus");
        prometheus.arg(format!("--config.file={}", config.display()));
        prometheus.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        prometheus.args(["--web.listen-address=127.0.0.1:9090", "--log.level=error"]);
        Ok(Monitoring { prometheus: Daemon::spawn(home, &mut prometheus)?, alertmanager })
    }

    /// Ends both.
    ///
    /// # Errors
    /// When one does not end.
    pub fn end(&mut self) -> Result<()> {
        self.prometheus.end(Signal::TERM)?;
        self.alertmanager.end(Signal::TERM)
    }
}

/// Asks from inside a network namespace.
///
/// # Errors
/// When there is no answer.
pub fn curl(home: &Netns, args: &[&str]) -> Result<String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20"]).args(args);
    let output = home.output(command)?;
    ensure!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Asks Prometheus; the value of the first series.
///
/// # Errors
/// When the value is no number.
pub fn query(home: &Netns, query: &str) -> Result<Option<f64>> {
    let query = format!("query={query}");
    let args = ["-G", "--data-urlencode", &query, "http://127.0.0.1:9090/api/v1/query"];
    let Ok(text) = curl(home, &args) else { return Ok(None) };
    // While it starts it says so in plain text.
    let Ok(told) = serde_json::from_str::<Value>(&text) else { return Ok(None) };
    let value = told["data"]["result"][0]["value"][1].as_str();
    Ok(value.map(str::parse).transpose()?)
}

const PROMETHEUS: &str = "\
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:9093']}]}]}
scrape_configs:
  - {job_name: tcptrail, static_configs: [{targets: ['127.0.0.1:9435']}]}
";

/// A file of `packaging/`.
#[must_use]
pub fn packaging(file: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging")).join(file)
}

fn alertmanager(home: &Netns, dir: &Path) -> Result<Daemon> {
    let config = dir.join("alertmanager.yml");
    fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")?;
    let mut alertmanager = Command::new("prometheus-alertmanager");
    alertmanager.arg(format!("--config.file={}", config.display()));
    alertmanager.arg(format!("--storage.path={}", dir.join("alerts").display()));
    alertmanager.args(["--web.listen-address=127.0.0.1:9093", "--cluster.listen-address="]);
    Daemon::spawn(home, &mut alertmanager)
}

/// What Alertmanager has of a leak now.
///
/// # Errors
/// When it does not answer.
pub fn alert_of_leak(home: &Netns) -> Result<Option<Value>> {
    let filter = ["-G", "--data-urlencode", "filter=alertname=\"SocketLeak\""];
    let url = "http://127.0.0.1:9093/api/v2/alerts";
    let told: Value = serde_json::from_str(&curl(home, &[&filter[..], &[url]].concat())?)?;
    let alerts = told.as_array().with_context(|| format!("no list: {told}"))?;
    Ok(alerts.first().cloned())
}
