//! Ports that run out in other ways than by destination.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::ready;

use crate::stage::{Python, check_verdict, finding, silent, start};

/// Opens connections to several servers until one fails, and says how many there are and the errno.
fn opens(netns: &Netns, most: usize, bound: bool, option: bool) -> Result<Python> {
    let bind = if bound { "c.bind(('127.0.0.1', 0))" } else { "pass" };
    let option = if option { "c.setsockopt(socket.IPPROTO_IP, 24, 1)" } else { "pass" };
    let script = format!(
        "servers = [listen(port, 1024) for port in (9001, 9002, 9003)]
keep = []
try:
    while len(keep) < {most}:
        c = socket.socket()
        {option}
        {bind}
        c.connect(('127.0.0.1', 9001 + len(keep) % 3))
        keep.append(c)
    print(len(keep), 0, flush=True)
except OSError as error:
    print(len(keep), error.errno, flush=True)
time.sleep(600)
"
    );
    Python::start(netns, &script)
}

#[test]
fn ports_that_bind_chose_are_taken_for_all_destinations() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.sysctl("ipv4/ip_local_port_range", "41000 41099")?;
    let mut stuck = start(&netns, &[])?;
    let mut process = opens(&netns, 200, true, false)?;
    // The witness: bind itself. EADDRINUSE
    ensure!(process.said(Duration::from_secs(20))?.as_deref() == Some("100 98"));
    let found = finding(&mut stuck, "ports", |event| event.number("count") == Some(100))?;
    check_verdict(
        &found,
        &[
            "no local port is left for sockets that are bound to 127.0.0.1 before they connect: 100 of 100 in use",
            "; used by python3[",
        ],
    )?;
    ensure!(found.0["remote"].is_null(), "{found:?}");
    ensure!(found.text("advice").contains("EADDRINUSE"), "{found:?}");
    ensure!(found.text("advice").contains("IP_BIND_ADDRESS_NO_PORT"), "{found:?}");
    stuck.stop()?.check_whole()
}

/// The twins: connect chooses, with bind before it (and the option) or without: three destinations have
/// three times the ports.
#[test]
fn ports_that_connect_chose_are_not_told() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    for (bound, option) in [(false, false), (true, true)] {
        let netns = Netns::new()?;
        netns.sysctl("ipv4/ip_local_port_range", "41000 41099")?;
        let stuck = start(&netns, &[])?;
        let mut process = opens(&netns, 150, bound, option)?;
        let said = process.said(Duration::from_secs(20))?.context("a line")?;
        ensure!(said == "150 0", "{said}");
        std::thread::sleep(Duration::from_secs(5));
        silent(stuck)?;
    }
    Ok(())
}

#[test]
fn reserved_ports_leave_fewer() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.sysctl("ipv4/ip_local_reserved_ports", "32768-60979")?;
    let mut stuck = start(&netns, &[])?;
    // Twenty to each of three destinations. EADDRNOTAVAIL
    let mut process = opens(&netns, 100, false, false)?;
    let said = process.said(Duration::from_secs(20))?.context("a line")?;
    ensure!(said == "60 99", "{said}");
    let found = finding(&mut stuck, "ports", |event| event.number("count") == Some(20))?;
    check_verdict(&found, &["no local port is left to 127.0.0.1:900", ": 20 of 20 in use"])?;
    let advice = found.text("advice");
    ensure!(advice.contains("ip_local_reserved_ports keeps 28212"), "{advice}");
    stuck.stop()?.check_whole()
}
