//! Deploys under load: haproxy before two places for a JVM with Tomcat. A new one is started, the old one drained
//! and ended, and the other way round.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tests::java::Program;
use tests::netns::Netns;
use tests::servers::nginx;
use tests::web::Daemon;
use tests::witness::eventually;

use crate::verdicts::wrk;

const FRONT: u16 = 8080;
const BACK: u16 = 8081;
const PLACES: [(&str, u16); 2] = [("a", 9001), ("b", 9002)];
/// How long a JVM serves before the next comes.
const SERVES: Duration = Duration::from_secs(35);
/// How long an old one has to answer what it was asked.
const DRAIN: Duration = Duration::from_secs(8);

pub(crate) fn ready() -> bool {
    tests::java::ready(&["haproxy", "nginx", "wrk"])
}

fn jvm(netns: &Netns, place: usize) -> Result<Program> {
    let args = [PLACES[place].1.to_string(), BACK.to_string(), "fixed".to_owned()];
    let mut jvm = Program::java(netns, &[], "PageServlet", &args.each_ref().map(String::as_str))?;
    jvm.wait_for("ready")?;
    Ok(jvm)
}

fn haproxy(netns: &Netns, dir: &Path) -> Result<Daemon> {
    let servers: String = PLACES
        .iter()
        .map(|(name, port)| {
            format!("    server {name} 127.0.0.1:{port} check inter 500 fall 2 rise 2\n")
        })
        .collect();
    let config = dir.join("haproxy.cfg");
    fs::write(
        &config,
        format!(
            "global
    maxconn 4096
    stats socket {}/admin level admin
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    option redispatch
frontend front
    bind 127.0.0.1:{FRONT}
    default_backend back
backend back
    option httpchk GET /pages/index.html
{servers}",
            dir.display()
        ),
    )?;
    let mut haproxy = Command::new("haproxy");
    haproxy.args(["-db", "-f"]).arg(&config).stdout(Stdio::null());
    Daemon::spawn(netns, &mut haproxy)
}

/// Tells haproxy something, and reads what it answers.
fn tell(dir: &Path, words: &str) -> Result<String> {
    let mut admin = UnixStream::connect(dir.join("admin")).context("haproxy's socket")?;
    admin.write_all(format!("{words}\n").as_bytes())?;
    let mut answer = String::new();
    admin.read_to_string(&mut answer)?;
    Ok(answer)
}

fn is_up(dir: &Path, place: usize) -> Result<()> {
    let begin = format!("back,{},", PLACES[place].0);
    eventually("a server that is up", Duration::from_secs(30), || {
        let stat = tell(dir, "show stat").unwrap_or_default();
        let line = stat.lines().find(|line| line.starts_with(&begin));
        Ok(line.is_some_and(|line| line.contains(",UP,")).then_some(()))
    })
}

/// Ends a JVM as an init system does.
fn end(mut jvm: Program) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(jvm.pid())?).context("a pid")?;
    kill_process(pid, Signal::TERM)?;
    eventually("the end of the old JVM", Duration::from_secs(20), || {
        Ok((!jvm.runs()?).then_some(()))
    })
}

pub(crate) fn run(netns: &Netns, time: Duration) -> Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let script = wrk::script(dir.path())?;
    let _nginx = nginx(netns, BACK, "75s")?;
    let mut old = jvm(netns, 0)?;
    let _haproxy = haproxy(netns, dir.path())?;
    is_up(dir.path(), 0)?;
    let url = format!("http://127.0.0.1:{FRONT}/pages/index.html");
    let began = Instant::now();
    let load = (25, time.as_secs());
    let kept = wrk::start(netns, &script, load, &[], &url)?;
    let anew = wrk::start(netns, &script, (4, time.as_secs()), &["-H", "Connection: close"], &url)?;
    let (mut place, mut deploys) = (0, 0);
    while began.elapsed() + SERVES + DRAIN + Duration::from_secs(15) < time {
        sleep(SERVES);
        let next = 1 - place;
        let new = jvm(netns, next)?;
        tell(dir.path(), &format!("set server back/{} state ready", PLACES[next].0))?;
        is_up(dir.path(), next)?;
        tell(dir.path(), &format!("set server back/{} state drain", PLACES[place].0))?;
        sleep(DRAIN);
        end(std::mem::replace(&mut old, new))?;
        (place, deploys) = (next, deploys + 1);
    }
    Ok(vec![
        format!("connections that are kept: {}", wrk::finish(kept)?),
        format!("a connection each: {}", wrk::finish(anew)?),
        format!("{deploys} deploys"),
    ])
}
