//! An acceptor that sleeps, against one that is only slow; a queue that is full.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::ready;
use tests::traffic::connect;

use crate::stage::{Python, check_verdict, cleared, finding, listening, silent, start};

const PORT: u16 = 8089;

fn clients(netns: &Netns, count: usize) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| connect(netns, ([127, 0, 0, 1], PORT).into())).collect()
}

#[test]
fn an_acceptor_that_sleeps_is_named_with_its_queue() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let server = Python::start(&netns, "s = listen(8089, 20)\ntime.sleep(600)\n")?;
    listening(&netns)?;
    let mut stuck = start(&netns, &["--threshold", "UNACCEPTED=3s"])?;
    let mut clients = clients(&netns, 6)?;
    // Two lose patience.
    clients.truncate(4);
    let found = finding(&mut stuck, "unaccepted", |event| event.number("count") == Some(6))?;
    let who =
        format!("python3[{}] does not accept on :{PORT}: 6 connections, oldest ", server.pid());
    check_verdict(&found, &[&who, "2 given up by the client (CLOSE_WAIT)", "queue 6 of 21"])?;
    let advice = found.text("advice");
    ensure!(advice.contains("no thread calls accept()"), "{advice}");
    ensure!(found.0["forecast"]["what"] == "accept_queue", "{found:?}");
    ensure!(found.0["forecast"]["in_use"] == 6 && found.0["forecast"]["limit"] == 21, "{found:?}");
    server.end()?;
    cleared(&mut stuck, "unaccepted")?;
    stuck.stop()?.check_whole()
}

#[test]
fn a_full_queue_is_told_with_what_it_dropped() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let server = Python::start(&netns, "s = listen(8089, 2)\ntime.sleep(600)\n")?;
    listening(&netns)?;
    let mut stuck = start(&netns, &["--threshold", "ACCEPT_QUEUE=2s"])?;
    let _clients = clients(&netns, 3)?;
    let found = finding(&mut stuck, "accept_queue", |_| true)?;
    let says = format!("the accept queue of python3[{}] on :{PORT} is full: 3 of 3", server.pid());
    check_verdict(&found, &[&says])?;
    ensure!(found.text("severity") == "exhaustion", "{found:?}");
    stuck.stop()?.check_whole()
}

/// The twin of both: accepts one each 300 ms, with a queue that is filled in one go.
#[test]
fn a_slow_acceptor_is_not_accused() -> Result<()> {
    if !ready(&["ss", "python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _server = Python::start(
        &netns,
        "s = listen(8089, 20)\nkeep = []\nwhile True:\n    time.sleep(0.3)\n    keep.append(s.accept()[0])\n",
    )?;
    listening(&netns)?;
    let thresholds = ["--threshold", "UNACCEPTED=6s", "--threshold", "ACCEPT_QUEUE=2s"];
    let stuck = start(&netns, &thresholds)?;
    let clients = clients(&netns, 8).context("clients")?;
    // As long as a finding would have taken.
    sleep(Duration::from_secs(9));
    silent(stuck)?;
    drop(clients);
    Ok(())
}
