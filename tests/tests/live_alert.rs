//! A JVM in a service of its own leaks sockets: a real Prometheus, a real Alertmanager and a real OpenTelemetry collector
//! are told whose they are and which method opened them, and that it is over.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tests::java::{Program, java};
use tests::monitoring::{Monitoring, alert_of_leak, curl, query};
use tests::netns::Netns;
use tests::rotel::{self, Rotel};
use tests::tcptrail::{Tcptrail, command};
use tests::traffic::listen;
use tests::witness::eventually;

const PATIENCE: Duration = Duration::from_secs(60);

const OPENER: &str = "com.acme.Crawler.fetch";

/// A cgroup of version 2 that is named like a unit of systemd.
struct Service {
    name: String,
    folder: PathBuf,
}

impl Service {
    /// `None` where there is no hierarchy of version 2 to be written to.
    fn make() -> Result<Option<Service>> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let mut words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let Some(mount) = words.find(|words| words.get(2) == Some(&"cgroup2")) else {
            return Ok(None);
        };
        let name = format!("shop-{}.service", std::process::id());
        let folder = Path::new(mount[1]).join(&name);
        Ok(fs::create_dir(&folder).is_ok().then_some(Service { name, folder }))
    }

    /// The same command, in this cgroup.
    fn run(&self, command: &Command) -> Command {
        let mut within = Command::new("sh");
        within.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]);
        within.arg(self.folder.join("cgroup.procs"));
        within.arg(command.get_program()).args(command.get_args());
        within
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The JVM has just been killed; the kernel may still be about to take it out.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A server that answers and closes.
fn closing_server(netns: &Netns) -> Result<u16> {
    let listener = listen(netns, "127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"hello");
        }
    });
    Ok(port)
}

fn serve(home: &Netns, netns: &Netns) -> Result<Tcptrail> {
    let mut command = command(&["serve", "--netns", netns.name(), "--json"]);
    command.args([
        "--threshold",
        "CLOSE_WAIT=1s",
        "--otlp",
        &format!("http://127.0.0.1:{}", rotel::PORT),
    ]);
    let tcptrail = home.run(|| Tcptrail::spawn(command))?;
    eventually("an answer", PATIENCE, || {
        // Until it listens curl fails.
        Ok(curl(home, &["http://127.0.0.1:9435/readyz"]).ok().filter(|told| told == "ready\n"))
    })?;
    Ok(tcptrail)
}

#[test]
fn a_jvm_that_leaks_is_an_alert_and_a_log_record_with_its_service_and_opener() -> Result<()> {
    let tools = ["curl", "prometheus", "prometheus-alertmanager"];
    if !tests::java::ready(&tools) || !rotel::ready(&tools) {
        return Ok(());
    }
    let Some(service) = Service::make()? else {
        println!("skipped: no cgroup of version 2 can be made here");
        return Ok(());
    };
    let (home, netns) = (Netns::new()?, Netns::new()?);
    let dir = tempfile::tempdir()?;
    let rotel = Rotel::start(&home)?;
    let tcptrail = serve(&home, &netns)?;
    let mut monitoring = Monitoring::start(&home, dir.path())?;
    let port = closing_server(&netns)?.to_string();
    let leaking = service.run(&java(&[], "Crawler", &[&port, "2000", "200"])?);
    let jvm = Program::start(&netns, leaking)?;

    let alert = eventually("the alert in Alertmanager", PATIENCE, || {
        // Until it has started there is no list. Before stacks have names there is another fingerprint.
        let alert = alert_of_leak(&home).ok().flatten();
        Ok(alert.filter(|alert| alert["labels"]["opener"] == OPENER))
    })?;
    let labels = &alert["labels"];
    ensure!(labels["workload"] == service.name.as_str(), "{alert}");
    ensure!(labels["rule"] == "close_wait" && labels["alertname"] == "SocketLeak", "{alert}");
    let said = alert["annotations"]["description"].as_str().context("a description")?;
    ensure!(said.starts_with(&format!("They are opened by {OPENER} and not closed")), "{alert}");

    let log = rotel.log("the finding", |log| {
        log.text("tcptrail.finding.rule") == "close_wait"
            && log.text("tcptrail.finding.opener") == OPENER
    })?;
    for (key, value) in [
        ("process.pid", jvm.pid().to_string().as_str()),
        ("process.executable.name", "java"),
        ("network.peer.address", "127.0.0.1"),
        ("network.peer.port", &port),
        ("tcptrail.workload", &service.name),
        ("tcptrail.finding.fingerprint", labels["fingerprint"].as_str().context("a label")?),
    ] {
        ensure!(log.text(key) == value, "{key} is not {value}: {log:#?}");
    }
    ensure!(log.resource["service.name"] == service.name, "{log:#?}");
    ensure!(log.body().contains(OPENER), "{log:#?}");

    // The witness: only this JVM has such sockets.
    let leaked = "sum(tcptrail_leaked_sockets)";
    let count = query(&home, leaked)?.context("no series of the leak")?;
    ensure!(count > 3.0, "{count}");
    drop(jvm);
    eventually("no alert any more", PATIENCE, || {
        Ok(alert_of_leak(&home)?.is_none().then_some(()))
    })?;
    let id = log.text("tcptrail.finding.id");
    rotel.log("the end of the finding", |over| {
        over.text("tcptrail.finding.id") == id && over.text("tcptrail.finding.state") == "ended"
    })?;
    monitoring.end()?;
    tcptrail.signal(Signal::TERM)?;
    tcptrail.wait()?.check_good_end()
}
