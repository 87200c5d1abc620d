//! A ring that is too small and a reader that stands still: the loss is counted, and the truth is
//! found again, marked for what it is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::disk::Stopped;
use tests::netns::Netns;
use tests::pace::slack;
use tests::ready;
use tests::tcptrail::{Event, Tcptrail, command, run, shown};
use tests::traffic::{Both, Ends, churn, finish_sending, listen, read_end};
use tests::witness::{Socket, eventually, now_ns, ss};

/// Far more than 64 KiB hold.
const BURST: usize = 400;

#[test]
fn a_loss_is_counted_and_live_connections_are_repaired() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let args = ["--ring-size", "64KiB", "--netns", netns.name()];
    let mut tail = Tcptrail::start(&args)?;
    let mut life = Tcptrail::start(&[&["life"], &args[..]].concat())?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let both = Both::new(&netns, &listener, addr)?;
    let untouched = Both::new(&netns, &listener, addr)?;
    // All of them are known before the reader stands still.
    wait_established(&mut tail, untouched.ends)?;

    tail.signal(Signal::STOP)?;
    life.signal(Signal::STOP)?;
    churn(&netns, BURST)?;
    // No room for any of this:
    finish_sending(&both.client)?;
    read_end(&both.server)?;
    tail.signal(Signal::CONT)?;
    life.signal(Signal::CONT)?;
    let resumed = now_ns();

    let lost = tail.wait_for("lost", |event| event.kind() == "lost")?;
    ensure!(lost.number("count").is_some_and(|count| count > 0), "{lost:?}");
    ensure!(lost.text("where") == "ring", "{lost:?}");
    ensure!(!lost.text("from").is_empty() && !lost.text("to").is_empty(), "{lost:?}");
    life.wait_for("lost", |event| event.kind() == "lost")?;

    // `ss` says CLOSE_WAIT; within two ticks so does tcptrail.
    let server = shown(both.ends.server);
    let peer = shown(both.ends.client);
    let repaired = tail.wait_for("the repair", |event| {
        event.text("local") == server
            && event.text("remote") == peer
            && event.text("new") == "CLOSE_WAIT"
    })?;
    ensure!(repaired.truth("exact") == Some(false), "{repaired:?}");
    let took = repaired.number("mono_ns").context("no time")?.saturating_sub(resumed);
    ensure!(took < 3_000_000_000 + 10 * slack(), "repaired after {took} ns");
    let sockets = ss(&netns)?;
    let socket = sockets
        .iter()
        .find(|socket| socket.local == server && socket.remote == peer)
        .context("ss does not have it")?;
    ensure!(socket.state == "CLOSE_WAIT", "{socket:?}");
    ensure!(repaired.has_cookie(socket.cookie), "{socket:?} {repaired:?}");

    // The other side too, and from then on it goes on as ever.
    tail.wait_for("the repair of the other end", |event| {
        event.text("local") == peer && event.text("new") == "FIN_WAIT2"
    })?;
    drop(both.server);
    read_end(&both.client)?;
    drop(both.client);
    drop(untouched.client);
    read_end(&untouched.server)?;
    drop(untouched.server);
    let (tail, life) = (tail.stop()?, life.stop()?);
    tail.check_good_end()?;
    ensure!(!tail.stderr.contains(" 0 lost"), "{}", tail.stderr);
    let end = tail.of_kind("end").next().context("no end line")?;
    let told: u64 = tail.of_kind("lost").filter_map(|event| event.number("count")).sum();
    ensure!(end.number("lost") == Some(told), "{told} told: {end:?}");

    let side = tail.side(both.ends.server, both.ends.client);
    let after: Vec<_> = side.steps();
    ensure!(
        after.ends_with(&["CLOSE_WAIT>LAST_ACK".to_owned(), "LAST_ACK>CLOSE".to_owned()]),
        "{after:?}"
    );
    let left = side.leaving("CLOSE_WAIT")?;
    ensure!(left.truth("exact") == Some(false), "its beginning was lost: {left:?}");
    let left = side.leaving("LAST_ACK")?;
    ensure!(left.truth("exact") == Some(true), "nothing of it was lost: {left:?}");
    let of_life = life.side(both.ends.server, both.ends.client);
    ensure!(of_life.only("close")?.truth("exact") == Some(false), "{of_life:?}");
    // One that nothing happened to in the dark is as exact as ever.
    let untouched = tail.side(untouched.ends.client, untouched.ends.server);
    untouched.check_steps(&[
        "CLOSE>SYN_SENT",
        "SYN_SENT>ESTABLISHED",
        "ESTABLISHED>FIN_WAIT1",
        "FIN_WAIT1>FIN_WAIT2",
        "FIN_WAIT2>TIME_WAIT",
    ])?;
    ensure!(
        untouched.leaving("ESTABLISHED")?.truth("exact") == Some(true),
        "{:?}",
        untouched.leaving("ESTABLISHED")?
    );
    Ok(())
}

/// A disk or a terminal that keeps the writer waiting: what came meanwhile is shown then.
#[test]
fn output_that_stands_still_for_a_moment_loses_nothing() -> Result<()> {
    check_reader(None)
}

/// One that takes less than comes.
#[test]
fn output_that_is_slow_for_a_moment_loses_nothing() -> Result<()> {
    check_reader(Some(Duration::from_millis(4)))
}

/// Whoever reads reads nothing until the load is over, or waits so long after each piece.
fn check_reader(pause: Option<Duration>) -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    // Twice as much as the ring holds, of which the output takes a tenth before it stands still.
    let connections = 6_000;
    let args = ["tail", "--json", "--netns", netns.name()];
    let mut child = command(&args).stderr(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("a pipe")?);
    // It has begun when there is a line.
    out.read_line(&mut String::new())?;
    let read = move || read_in_pieces(out, pause.unwrap_or_default());
    let reader = if pause.is_some() {
        let reader = thread::spawn(read);
        churn(&netns, connections)?;
        reader
    } else {
        churn(&netns, connections)?;
        thread::spawn(read)
    };
    kill_process(Pid::from_child(&child), Signal::INT)?;
    let shown = reader.join().map_err(|_| anyhow!("the reader panicked"))??;
    let said = child.wait_with_output()?.stderr;
    let said = String::from_utf8_lossy(&said);
    ensure!(said.contains(" 0 lost "), "{said}");
    let is_end = |line: &&str| line.contains("\"LAST_ACK\",\"new\":\"CLOSE\"");
    let ends = shown.lines().filter(is_end).count();
    ensure!(ends == connections, "{ends} of {connections} ends: {said}");
    Ok(())
}

/// A disk that stands still while twice as much comes as the ring holds: the recording has it all.
#[test]
fn a_recording_whose_disk_stands_still_for_a_moment_loses_nothing() -> Result<()> {
    if !Stopped::is_possible() {
        return Ok(());
    }
    let netns = Netns::new()?;
    let (connections, pieces) = (6_000, 30);
    for view in [&["record"][..], &["life", "--json", "--record"]] {
        let folder = tempfile::tempdir()?;
        let disk = Stopped::mount(folder.path(), 64 << 20)?;
        let path = folder.path().join("whole.trail");
        let file = path.to_str().context("a path")?;
        let args = [view, &[file, "--netns", netns.name()]].concat();
        let tcptrail = Tcptrail::spawn(command(&args))?;
        eventually("the recording", Duration::from_secs(10), || {
            Ok(path.metadata().is_ok_and(|meta| meta.len() != 0).then_some(()))
        })?;
        // Programs are attached, and what the walk at the start found is in the file.
        let _listener = listen(&netns, "127.0.0.1:0")?;
        let before = path.metadata()?.len();
        eventually("the listener", Duration::from_secs(10), || {
            Ok((path.metadata()?.len() > before).then_some(()))
        })?;
        disk.stop()?;
        // Not faster than a debug build packs it.
        for _ in 0..pieces {
            churn(&netns, connections / pieces)?;
            thread::sleep(Duration::from_millis(50));
        }
        disk.go_on()?;
        let run = tcptrail.stop()?;
        ensure!(run.stderr.contains(" 0 lost "), "{view:?}: {}", run.stderr);
        let replayed = tests::tcptrail::run(&["replay", file, "tail", "--json"])?;
        replayed.check_whole()?;
        let ends = replayed.of_kind("transition").filter(|event| event.is_step("LAST_ACK>CLOSE"));
        let ends = ends.count();
        ensure!(ends == connections, "{view:?}: {ends} of {connections} ends in the recording");
    }
    Ok(())
}

fn read_in_pieces(mut from: impl Read, pause: Duration) -> Result<String> {
    let (mut all, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Ok(String::from_utf8(all)?);
        }
        all.extend_from_slice(&piece[..length]);
        thread::sleep(pause);
    }
}

/// Waits until the server's end of a connection is known.
fn wait_established(tail: &mut Tcptrail, ends: Ends) -> Result<()> {
    let (local, remote) = (shown(ends.server), shown(ends.client));
    tail.wait_for("the last connection", |event| {
        event.is_step("SYN_RECV>ESTABLISHED")
            && event.text("local") == local
            && event.text("remote") == remote
    })?;
    Ok(())
}

#[test]
fn what_ended_during_a_loss_has_ended() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let args = ["--ring-size", "64KiB", "--netns", netns.name()];
    let mut tail = Tcptrail::start(&args)?;
    let mut life = Tcptrail::start(&[&["life"], &args[..]].concat())?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let both = Both::new(&netns, &listener, listener.local_addr()?)?;
    let ends = both.ends;
    wait_established(&mut tail, ends)?;
    tail.signal(Signal::STOP)?;
    life.signal(Signal::STOP)?;
    churn(&netns, BURST)?;
    drop(both.client);
    read_end(&both.server)?;
    drop(both.server);
    tail.signal(Signal::CONT)?;
    life.signal(Signal::CONT)?;
    for (local, remote) in [(ends.server, ends.client), (ends.client, ends.server)] {
        let (local, remote) = (shown(local), shown(remote));
        let this = |event: &Event| event.text("local") == local && event.text("remote") == remote;
        let ended = life.wait_for(&format!("the end of {local}, which nobody saw"), |event| {
            event.kind() == "close" && this(event)
        })?;
        ensure!(ended.truth("exact") == Some(false), "{ended:?}");
        let ended = tail.wait_for(&format!("the end of {local}, which nobody saw"), |event| {
            this(event) && ["CLOSE", "TIME_WAIT"].contains(&event.text("new"))
        })?;
        ensure!(ended.truth("exact") == Some(false), "{ended:?}");
    }
    Ok(())
}

/// State of every socket by cookie.
fn states(sockets: &[Socket]) -> BTreeMap<String, String> {
    sockets
        .iter()
        .filter(|socket| socket.state != "CLOSE")
        .map(|socket| (socket.key(), socket.state.clone()))
        .collect()
}

#[test]
fn after_a_loss_the_list_is_what_ss_says() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let args = ["list", "--watch=200ms", "--ring-size", "64KiB", "--netns", netns.name()];
    let mut list = Tcptrail::start(&args)?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(Both::new(&netns, &listener, addr)?);
    }
    let known = all.last().context("one")?.ends;
    let (local, remote) = (shown(known.client), shown(known.server));
    list.wait_for("the last connection", |event| {
        event.text("local") == local && event.text("remote") == remote
    })?;
    list.signal(Signal::STOP)?;
    churn(&netns, BURST)?;
    // A third half-closes, a third closes, a third stays; new ones come.
    let mut kept = Vec::new();
    for (number, both) in all.into_iter().enumerate() {
        match number % 3 {
            0 => {
                finish_sending(&both.client)?;
                read_end(&both.server)?;
                kept.push(both);
            }
            1 => {
                drop(both.client);
                read_end(&both.server)?;
            }
            _ => kept.push(both),
        }
    }
    for _ in 0..5 {
        kept.push(Both::new(&netns, &listener, addr)?);
    }
    list.signal(Signal::CONT)?;
    let resumed = now_ns();
    // All lines of one listing have the same time.
    let mut last_wrong = String::new();
    let same = eventually("a list equal to ss", Duration::from_secs(8), || {
        // Not once for all: the ACK of a FIN may be delayed.
        let expected = states(&ss(&netns)?);
        let at = list.wait_for_next("a listing", |event| event.kind() == "socket")?;
        let at = at.number("mono_ns").context("no time")?;
        // The next line of another time ends it.
        list.wait_for_next("the next listing", |event| {
            event.number("mono_ns").is_some_and(|time| time > at)
        })?;
        let listing: BTreeMap<String, String> = list
            .events()
            .iter()
            .filter(|event| event.kind() == "socket" && event.number("mono_ns") == Some(at))
            .map(|event| (event.key(), event.text("state").to_owned()))
            .collect();
        if listing == expected {
            return Ok(Some(at));
        }
        let wrong = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
            one.iter()
                .filter(|(conn, state)| other.get(*conn) != Some(state))
                .map(|(conn, state)| format!("{conn} {state}"))
                .take(5)
                .collect::<Vec<_>>()
        };
        last_wrong = format!(
            "{} listed, {} in ss; listed wrongly: {:?}; in ss: {:?}",
            listing.len(),
            expected.len(),
            wrong(&listing, &expected),
            wrong(&expected, &listing)
        );
        Ok(None)
    });
    let at = same.with_context(|| last_wrong.clone())?;
    let took = at.saturating_sub(resumed);
    ensure!(
        took < 3_000_000_000 + 10 * slack(),
        "equal to ss only after {took} ns; before: {last_wrong}"
    );
    let run = list.stop()?;
    ensure!(!run.stderr.contains(" 0 lost"), "nothing was lost: {}", run.stderr);
    Ok(())
}

#[test]
fn the_list_is_what_ss_says() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut kept = Vec::new();
    for host in ["127.0.0.1", "[::1]"] {
        let listener = listen(&netns, &format!("{host}:0"))?;
        let addr = listener.local_addr()?;
        for number in 0..6 {
            let both = Both::new(&netns, &listener, addr)?;
            match number % 3 {
                0 => {
                    finish_sending(&both.client)?;
                    read_end(&both.server)?;
                    kept.push(both);
                }
                1 => {
                    drop(both.client);
                    read_end(&both.server)?;
                }
                _ => kept.push(both),
            }
        }
        // One that nobody accepts.
        let waiting = tests::traffic::connect(&netns, addr)?;
        // The peer may acknowledge a FIN late: until then states change by themselves.
        let sockets = eventually("FINs that are acknowledged", Duration::from_secs(10), || {
            let all = ss(&netns)?;
            let settled = all.iter().all(|socket| socket.state != "FIN_WAIT1");
            Ok(settled.then_some(all))
        })?;
        let run = run(&["list", "--json", "--netns", netns.name()])?;
        run.check_whole()?;
        let listed: BTreeMap<String, String> = run
            .of_kind("socket")
            .map(|event| (event.key(), event.text("state").to_owned()))
            .collect();
        let expected = states(&sockets);
        ensure!(listed == expected, "{listed:?}\n{expected:?}");
        for socket in sockets.iter().filter(|socket| socket.state != "CLOSE") {
            let conn = socket.key();
            let event =
                run.of_kind("socket").find(|event| event.key() == conn).context("not listed")?;
            let holders: Vec<(u32, u32)> = event.0["holders"]
                .as_array()
                .context("no holders")?
                .iter()
                .filter_map(|holder| {
                    let number = |key: &str| u32::try_from(holder[key].as_u64()?).ok();
                    Some((number("pid")?, number("fd")?))
                })
                .collect();
            ensure!(holders == socket.users, "{event:?}, not {socket:?}");
            if !socket.rest.is_empty() && socket.state != "LISTEN" {
                ensure!(event.text("remote") == socket.remote, "{event:?}, not {socket:?}");
            }
            ensure!(event.text("local") == socket.local, "{event:?}, not {socket:?}");
        }
        let at = waiting.local_addr()?;
        let unaccepted: Vec<_> =
            run.of_kind("socket").filter(|event| event.text("remote") == shown(at)).collect();
        ensure!(unaccepted.len() == 1, "{unaccepted:?}");
        ensure!(unaccepted[0].truth("accepted") == Some(false), "{unaccepted:?}");
        ensure!(unaccepted[0].truth("orphan") == Some(false), "{unaccepted:?}");
        drop(waiting);
    }
    Ok(())
}
