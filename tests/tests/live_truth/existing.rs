//! Sockets that were there before tcptrail: in several namespaces, of several processes.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::pace::slack;
use tests::ready;
use tests::tcptrail::{Event, run};
use tests::traffic::{accept, finish_sending, listen, read_end};
use tests::watch::Frame;
use tests::witness::{Moment, eventually, now_ns, ss};

use crate::stage::{CLOSE_TO, SECOND, check_at};

/// A process of its own with a connection on descriptor 3, and perhaps a forked child that has it
/// too; they end with stdin.
struct Holder {
    child: Child,
}

impl Holder {
    fn new(netns: &Netns, to: SocketAddr, forks: bool) -> Result<Holder> {
        let fork = if forks { "(echo $BASHPID; read -u 5 x) &" } else { "" };
        let script = format!(
            "exec 3<>/dev/tcp/{}/{} 5<&0; {fork} echo $$; read -u 5 x; wait",
            to.ip(),
            to.port()
        );
        let child = netns.spawn(
            Command::new("bash").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()),
        )?;
        Ok(Holder { child })
    }

    /// Waits until all its processes have said their pids.
    fn pids(&mut self, count: usize) -> Result<BTreeSet<u64>> {
        let stdout = self.child.stdout.as_mut().context("a pipe")?;
        let mut text = String::new();
        while text.lines().count() < count || !text.ends_with('\n') {
            let mut byte = [0];
            ensure!(stdout.read(&mut byte)? == 1, "bash ended: {text}");
            text.push(char::from(byte[0]));
        }
        text.lines().map(|line| Ok(line.parse()?)).collect()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Both readers of the pipe end with it.
        if let Some(mut stdin) = self.child.stdin.take() {
            let _ = stdin.write_all(b"\n\n");
        }
        let _ = self.child.wait();
    }
}

/// What `list --json` shows of a namespace, once.
fn list(netns: &Netns) -> Result<Frame> {
    let run = run(&["list", "--json", "--netns", netns.name()])?;
    ensure!(run.code() == Some(0), "{}", run.stderr);
    let sockets: Vec<Event> = run.of_kind("socket").cloned().collect();
    let at = sockets.first().and_then(|socket| socket.number("mono_ns")).context("no sockets")?;
    Ok(Frame { at, sockets })
}

fn age(frame: &Frame, end: (SocketAddr, SocketAddr), state: &str) -> Result<(u64, bool)> {
    let socket = frame.find(end.0, end.1).with_context(|| format!("{end:?} is not listed"))?;
    ensure!(socket.text("state") == state, "not {state}: {socket:?}");
    let exact = socket.truth("exact").context("exact")?;
    Ok((socket.number("in_state_ns").unwrap_or(0), exact))
}

#[test]
fn all_that_was_there_before_is_listed_with_its_holders() -> Result<()> {
    if !ready(&["bash", "ss"]) {
        return Ok(());
    }
    let me = u64::from(std::process::id());
    let spaces = [Netns::new()?, Netns::new()?, Netns::new()?];
    let mut kept = Vec::new();
    let mut expected = Vec::new();
    for (index, netns) in spaces.iter().enumerate() {
        let began = now_ns();
        let listener = listen(netns, "127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let forks = index == 1;
        let mut holder = Holder::new(netns, addr, forks)?;
        let pids = holder.pids(1 + usize::from(forks))?;
        let server = accept(&listener)?;
        let client = server.peer_addr()?;
        // One more of each: half closed by us, half closed by the peer.
        let halves = tests::traffic::Both::new(netns, &listener, addr)?;
        let half_closed = finish_sending(&halves.client)?;
        read_end(&halves.server)?;
        // One in TIME_WAIT, and one that is never accepted.
        let over = tests::traffic::Both::new(netns, &listener, addr)?;
        let over_end = (over.ends.client, over.ends.server);
        drop(over.client);
        read_end(&over.server)?;
        let (ended, ()) = Moment::try_of(|| {
            drop(over.server);
            Ok(())
        })?;
        let queued = tests::traffic::connect(netns, addr)?;
        let quiet = now_ns();
        expected.push((
            client,
            addr,
            pids,
            halves.ends,
            half_closed,
            over_end,
            ended,
            began,
            quiet,
        ));
        kept.push((listener, holder, server, halves, queued));
    }
    // What nothing happens to gets older; less than this would be no measure.
    eventually("some age", Duration::from_secs(3), || {
        let last = expected.last().context("none")?.8;
        Ok((now_ns() - last > SECOND / 3).then_some(()))
    })?;
    for (netns, expected) in spaces.iter().zip(&expected) {
        let (client, addr, pids, halves, half_closed, over, ended, began, quiet) = expected;
        let before = ss(netns)?;
        let frame = list(netns)?;
        frame.check_same(&before)?;
        ensure!(frame.sockets.iter().all(|s| s.number("netns") == Some(netns.inode().into())));
        // The client's holders are bash, and its child where it forked.
        let held = frame.find(*client, *addr).context("the client is not listed")?;
        let holders: BTreeSet<u64> = held.0["holders"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|holder| holder["comm"] == "bash" && holder["fd"] == 3)
            .filter_map(|holder| holder["pid"].as_u64())
            .collect();
        ensure!(holders == *pids, "{pids:?}: {held:?}");
        ensure!(held.number("pid").is_some_and(|pid| pids.contains(&pid)), "{pids:?}: {held:?}");
        let server = frame.find(*addr, *client).context("the server is not listed")?;
        ensure!(server.number("pid") == Some(me), "{server:?}");
        ensure!(server.text("role") == "server", "{server:?}");
        // Lower bounds, and good ones.
        let most = frame.at - began;
        for (end, state, since) in [
            ((*client, *addr), "ESTABLISHED", *began),
            ((*addr, *client), "ESTABLISHED", *began),
            ((halves.server, halves.client), "CLOSE_WAIT", half_closed.from),
            ((halves.client, halves.server), "FIN_WAIT2", half_closed.from),
        ] {
            let (age, exact) = age(&frame, end, state)?;
            ensure!(!exact, "{state} {end:?} cannot be exact");
            ensure!(
                age <= frame.at - since + CLOSE_TO + slack(),
                "{state}: {age} of {}",
                frame.at - since
            );
            ensure!(age <= most + CLOSE_TO + slack(), "{state}: {age} of {most}");
            // Nothing was sent since.
            let least = if state == "FIN_WAIT2" { 0 } else { frame.at - quiet };
            ensure!(age + CLOSE_TO + slack() >= least, "{state}: {age}, not even {least}");
        }
        let waiting = frame
            .sockets
            .iter()
            .find(|s| s.truth("accepted") == Some(false) && s.is_at(*addr))
            .context("the queued one is not listed")?;
        ensure!(waiting.text("state") == "ESTABLISHED" && waiting.text("role") == "server");
        ensure!(waiting.number("pid") == Some(me), "who is to accept it: {waiting:?}");
        // Of TIME_WAIT the timer tells when it began.
        let (waited, _) = age(&frame, *over, "TIME_WAIT")?;
        check_at("TIME_WAIT", frame.at - waited, *ended, CLOSE_TO)?;
    }
    // Without a filter they are all there too.
    let run = run(&["list", "--json"])?;
    for netns in &spaces {
        let of_it = run
            .of_kind("socket")
            .filter(|socket| socket.number("netns") == Some(netns.inode().into()))
            .cloned()
            .collect();
        Frame { at: 0, sockets: of_it }.check_same(&ss(netns)?)?;
    }
    Ok(())
}
