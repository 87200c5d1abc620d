//! What tcptrail has resident once it has started, as the kernel counts it.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::held::Held;
use tests::netns::Netns;
use tests::pace::is_slow;
use tests::tcptrail::{Tcptrail, binary};
use tests::traffic::{Both, listen};
use tests::witness::eventually;

/// Resident bytes of a process.
fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Beside so many sockets of this process it has at most so many megabytes, the ring buffers included.
fn check(args: &[&str], sockets: usize, megabytes: u64) -> Result<()> {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let to = listener.local_addr()?;
    let open: Vec<Both> =
        (0..sockets / 2).map(|_| Both::new(&netns, &listener, to)).collect::<Result<_>>()?;
    beside(args, &netns, &sockets.to_string(), megabytes)?;
    drop(open);
    Ok(())
}

fn beside(args: &[&str], netns: &Netns, sockets: &str, megabytes: u64) -> Result<()> {
    if binary().components().any(|part| part.as_os_str() == "debug") {
        println!("skipped: the debug build is several times as large");
        return Ok(());
    }
    let tcptrail = Tcptrail::start(&[args, &["--netns", netns.name()]].concat())?;
    // The first walk takes more for a moment.
    let what = format!("{args:?} beside {sockets} sockets: at most {megabytes} MB");
    // No event tells when it is over, and before it there is little.
    sleep(Duration::from_secs(1));
    let bytes = eventually(&what, Duration::from_secs(10), || {
        Ok(Some(resident(tcptrail.pid())?).filter(|&bytes| bytes <= megabytes * 1_000_000))
    })?;
    println!("{args:?} beside {sockets} sockets: {} kB", bytes / 1000);
    tcptrail.stop()?.check_good_end()
}

#[test]
fn what_shows_transitions_starts_small() -> Result<()> {
    check(&["tail"], 0, 24)?;
    check(&["life"], 0, 24)
}

#[test]
fn what_finds_leaks_and_names_openers_starts_small() -> Result<()> {
    check(&["stuck"], 0, 40)
}

/// A hundred thousand sockets, more than a process may have here: others hold them.
#[test]
fn a_hundred_thousand_sockets_take_little() -> Result<()> {
    let load = Path::new(env!("CARGO_BIN_EXE_load"));
    if is_slow() || !load.is_file() {
        println!("skipped: the guest has no room for so many sockets");
        return Ok(());
    }
    let netns = Netns::new()?;
    let _held = Held::open(load, &netns, 100_000)?;
    beside(&["tail"], &netns, "100,000", 60)?;
    beside(&["stuck"], &netns, "100,000", 64)
}

#[test]
fn serve_is_small_beside_ten_thousand_sockets() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let listen = format!("unix:{}", dir.path().join("http.sock").display());
    let sockets = if is_slow() { 200 } else { 10_000 };
    check(&["serve", "--listen", &listen], sockets, 40)
}
