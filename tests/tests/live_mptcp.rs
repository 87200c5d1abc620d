//! MPTCP shares the tracepoint: of its connections only the subflows, which are TCP, are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::Tcptrail;
use tests::traffic::accept;

const IPPROTO_MPTCP: i32 = 262;

fn mptcp() -> std::io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(IPPROTO_MPTCP)))
}

#[test]
fn an_mptcp_connection_is_shown_as_its_subflow_and_nothing_else() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    if let Err(error) = netns.run(|| Ok(mptcp()?)) {
        println!("skipped: no MPTCP in this kernel ({error:#})");
        return Ok(());
    }
    let listener: TcpListener = netns.run(|| {
        let socket = mptcp()?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        socket.listen(8)?;
        Ok(socket.into())
    })?;
    let to = listener.local_addr()?;
    let mut tcptrail = Tcptrail::start(&["--netns", netns.name()])?;
    let client: TcpStream = netns.run(|| {
        let socket = mptcp()?;
        socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
        Ok(socket.into())
    })?;
    let server = accept(&listener)?;
    tcptrail.wait_for("the child", |event| event.is_step("SYN_RECV>ESTABLISHED"))?;
    drop(client);
    drop(server);
    tcptrail.wait_for("a close", |event| event.is_step("ESTABLISHED>FIN_WAIT1"))?;
    let run = tcptrail.stop()?;
    run.check_whole()?;
    // A kernel thread closes the subflows (`mptcp_worker`); they are still the process's. Who has a listener older than the
    // run is not known: its descriptor is that of the MPTCP socket.
    let ours = u64::from(std::process::id());
    for event in run.of_kind("transition") {
        ensure!(event.number("pid").is_none_or(|pid| pid == ours), "another owner: {event:?}");
    }

    // What the parents do, also with protocol 262, would make a second life or doubled steps.
    let mut lives: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in run.of_kind("transition") {
        let steps = lives.entry(event.text("conn").to_owned()).or_default();
        ensure!(steps.insert(event.step()), "twice: {event:?}");
    }
    ensure!(lives.len() == 2, "{} lives of one connection's two ends: {lives:?}", lives.len());
    for first in ["CLOSE>SYN_SENT", "LISTEN>SYN_RECV"] {
        ensure!(lives.values().any(|steps| steps.contains(first)), "no {first}: {lives:?}");
    }
    Ok(())
}
