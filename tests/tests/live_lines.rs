//! Lines of `tail` and `list`: interfaces of link-local addresses, order, limits and groups, and what a screen holds.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::{Netns, Pair};
use tests::ready;
use tests::tcptrail::{Tcptrail, binary, run};
use tests::traffic::{Both, connect, listen};
use tests::witness::{eventually, ss};

/// The link-local address of a namespace's `eth0`, once it is there.
fn link_local(netns: &Netns) -> Result<SocketAddrV6> {
    let found = eventually("a link-local address", Duration::from_secs(10), || {
        let text = netns.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/if_inet6")?))?;
        // Address, index, prefix length, scope, flags, name. A tentative one cannot be used yet.
        let found = text.lines().find_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [address, index, _, "20", "80", "eth0"] = words.as_slice() else { return None };
            let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
            Some(SocketAddrV6::new(address, 0, 0, u32::from_str_radix(index, 16).ok()?))
        });
        Ok(found)
    })?;
    Ok(found)
}

/// A listener that the left namespace reaches by a link-local address.
fn far_listener(pair: &Pair, port: u16) -> Result<(TcpListener, SocketAddrV6)> {
    // The names differ, so that no end can have the other's.
    pair.right.ip(&["link", "set", "eth0", "down"])?;
    pair.right.ip(&["link", "set", "eth0", "name", "far0"])?;
    pair.right.ip(&["link", "set", "far0", "up"])?;
    let ours = link_local(&pair.left)?;
    let listener = listen(&pair.right, &format!("[::]:{port}"))?;
    let theirs = eventually("the far link-local address", Duration::from_secs(10), || {
        let text =
            pair.right.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/if_inet6")?))?;
        let line = text.lines().find(|line| line.contains(" 20 80 ") && line.ends_with("far0"));
        Ok(line.map(str::to_owned))
    })?;
    let theirs = u128::from_str_radix(theirs.split(' ').next().context("an address")?, 16)?;
    Ok((listener, SocketAddrV6::new(Ipv6Addr::from(theirs), port, 0, ours.scope_id())))
}

#[test]
fn link_local_ends_have_their_zone_where_ss_has_it() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    let (listener, to) = far_listener(&pair, 8089)?;
    let mut tail = Tcptrail::start_text(&["tail", "--port", "8089"])?;
    let mut json = Tcptrail::start(&["tail", "--port", "8089"])?;
    let client = connect(&pair.left, SocketAddr::V6(to))?;
    let (server, _) = listener.accept()?;
    let of_left = ss(&pair.left)?;
    let of_right: Vec<_> = ss(&pair.right)?.into_iter().filter(|it| it.state != "LISTEN").collect();
    let ([left], [right]) = (of_left.as_slice(), of_right.as_slice()) else {
        anyhow::bail!("{of_left:?} {of_right:?}")
    };
    ensure!(left.local.contains("%eth0:") && right.local.contains("%far0:"), "{left:?} {right:?}");
    for local in [&left.local, &right.local] {
        let line =
            tail.wait_line("ESTABLISHED", |line| line.contains(&format!("ESTABLISHED {local} ")))?;
        // The other end is on the same link.
        ensure!(line.matches('%').count() == 2, "{line}");
    }
    for (local, interface, index) in
        [(client.local_addr()?, "eth0", to.scope_id()), (server.local_addr()?, "far0", 0)]
    {
        let SocketAddr::V6(local) = local else { anyhow::bail!("{local}") };
        let shown = format!("[{}]:{}", local.ip(), local.port());
        let event = json.wait_for("ESTABLISHED", |event| {
            event.text("new") == "ESTABLISHED" && event.text("local") == shown
        })?;
        // `local` is what it was; what is new has fields of its own.
        ensure!(event.text("interface") == interface, "{event:?}");
        ensure!(index == 0 || event.number("ifindex") == Some(index.into()), "{event:?}");
    }
    tail.stop()?.check_good_end()?;
    json.stop()?.check_good_end()?;
    // And of what was there before.
    let listed = run(&["list", "--port", "8089"])?;
    let text = String::from_utf8_lossy(&listed.raw).into_owned();
    for local in [&left.local, &right.local] {
        ensure!(text.lines().any(|line| line.contains(&format!(" {local} "))), "{local}: {text}");
    }
    // Their columns are in line.
    let comm = std::fs::read_to_string("/proc/self/comm")?;
    let holder = format!(" {}[", comm.trim());
    let places: Vec<_> = text.lines().filter_map(|line| line.find(&holder)).collect();
    ensure!(places.len() == 3 && places.iter().all(|place| *place == places[0]), "{text}");
    Ok(())
}

#[test]
fn findings_and_reports_have_zones_too() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    let (listener, to) = far_listener(&pair, 8090)?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("run.tcpt");
    let file = file.to_str().context("UTF-8")?;
    let left = ["--netns", pair.left.name()];
    let args = ["stuck", left[0], left[1], "--record", file, "--threshold", "CLOSE_WAIT=1s"];
    let mut stuck = Tcptrail::start(&args)?;
    let _client = connect(&pair.left, SocketAddr::V6(to))?;
    drop(listener.accept()?);
    let zoned = format!("[{}]%eth0:{}", to.ip(), to.port());
    let found = stuck.wait_for("the finding", |event| {
        event.kind() == "stuck" && event.text("rule") == "close_wait"
    })?;
    // As in ss, and `remote` of the contract is what it was.
    ensure!(found.text("remote") == format!("[{}]:{}", to.ip(), to.port()), "{found:?}");
    let witness = ss(&pair.left)?;
    ensure!(witness.iter().any(|socket| socket.state == "CLOSE_WAIT"), "{witness:?}");
    let leaks = run(&["leaks", left[0], left[1], "--older", "1s", "--duration", "2s"])?;
    let text = String::from_utf8_lossy(&leaks.raw).into_owned();
    ensure!(text.contains(&format!("to {zoned}")), "{text}\n{}", leaks.stderr);
    stuck.stop()?;
    let replayed = run(&["replay", file, "stuck", "--once", "--threshold", "CLOSE_WAIT=1s"])?;
    let text = String::from_utf8_lossy(&replayed.raw).into_owned();
    ensure!(text.contains(&zoned), "{text}");
    let report = run(&["report", file, "-o", "-"])?;
    let text = String::from_utf8_lossy(&report.raw).into_owned();
    let remote = format!("\"name\":\"{zoned}\"");
    ensure!(text.contains(&remote), "no {remote} among the remote ends");
    Ok(())
}

#[test]
fn sockets_are_sorted_limited_and_grouped() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let all = (0..12).map(|_| Both::new(&netns, &listener, addr)).collect::<Result<Vec<_>>>()?;
    for (index, both) in all.iter().enumerate() {
        (&both.client).write_all(&vec![b'x'; 10 * index])?;
    }
    eventually("all bytes", Duration::from_secs(5), || {
        let queues = ss(&netns)?.len();
        Ok((queues == 25).then_some(()))
    })?;
    let list = |args: &[&str]| run(&[&["list", "--netns", netns.name(), "--json"], args].concat());
    let queues = |run: &tests::tcptrail::Run| -> Vec<u64> {
        run.of_kind("socket").filter_map(|event| event.number("recv_queue")).collect()
    };
    let largest = list(&["--sort", "recv-q", "--top", "3"])?;
    ensure!(queues(&largest) == [110, 100, 90], "{:?}", queues(&largest));
    let left_out: Vec<_> =
        largest.of_kind("not_shown").filter_map(|event| event.number("count")).collect();
    ensure!(left_out == [22], "{left_out:?}");
    let smallest = list(&["--sort=-recv-q", "--top", "14", "--role", "server"])?;
    ensure!(queues(&smallest) == (0..12).map(|n| 10 * n).collect::<Vec<_>>());
    let again = list(&["--sort", "recv-q", "--reverse", "--role", "server"])?;
    ensure!(queues(&again) == queues(&smallest));

    // What ss counts is the witness of the groups.
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for socket in ss(&netns)? {
        *expected.entry(socket.state).or_default() += 1;
    }
    let grouped = list(&["--group-by", "process,state"])?;
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    let ours = u64::from(std::process::id());
    for group in grouped.of_kind("group") {
        ensure!(group.number("pid") == Some(ours), "{group:?}");
        *counted.entry(group.text("state").to_owned()).or_default() +=
            group.number("count").unwrap_or(0);
    }
    ensure!(counted == expected, "{counted:?} {expected:?}");
    let text = run(&["list", "--netns", netns.name(), "--group-by", "state", "--top", "1"])?;
    let text = String::from_utf8_lossy(&text.raw).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let [header, group, last] = lines.as_slice() else { anyhow::bail!("{text}") };
    ensure!(header.contains("COUNT") && header.contains("OLDEST"), "{text}");
    ensure!(group.trim_start().starts_with("24 ") && group.ends_with("ESTABLISHED"), "{text}");
    ensure!(last.starts_with("and 1 more groups"), "{text}");
    drop(all);
    Ok(())
}

/// Frames of what a terminal was sent.
fn frames(sent: &str) -> Vec<Vec<String>> {
    let plain = |line: &str| {
        let mut text = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('\x1b') {
            text.push_str(before);
            // `[31m`, `[K`, `[J`.
            let end =
                after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
            rest = &after[end..];
        }
        text + rest
    };
    let frames = sent.split("\x1b[H").skip(1);
    frames
        .map(|frame| frame.split('\n').map(|line| plain(line).replace('\r', "")).collect())
        .collect()
}

#[test]
fn a_watched_list_stays_within_its_screen() -> Result<()> {
    if !ready(&["ss", "script"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "[::1]:0")?;
    let addr = listener.local_addr()?;
    let _all = (0..40).map(|_| Both::new(&netns, &listener, addr)).collect::<Result<Vec<_>>>()?;
    let binary = binary();
    let inner = format!(
        "stty rows 24 cols 80; {} list --netns {} --watch 30s --duration 5s & sleep 3; \
         stty rows 12 cols 60; wait",
        binary.display(),
        netns.name()
    );
    let output = Command::new("script")
        .args(["-qec", &inner, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()?;
    let sent = String::from_utf8_lossy(&output.stdout).into_owned();
    let frames = frames(&sent);
    ensure!(frames.len() >= 2, "it was drawn {} times: {sent:?}", frames.len());
    let check = |frame: &[String], lines: usize, columns: usize| -> Result<()> {
        // What comes after the run is not the frame's.
        let frame: Vec<&String> =
            frame.iter().take_while(|line| !line.contains("81 sockets, ")).collect();
        ensure!(frame.len() <= lines + 1, "{} lines: {frame:#?}", frame.len());
        let wide = frame.iter().find(|line| line.chars().count() > columns);
        ensure!(wide.is_none(), "wider than {columns}: {wide:?}");
        ensure!(frame[0].starts_with("tcptrail list"), "{frame:#?}");
        ensure!(frame[0].contains("81 sockets: 80 ESTABLISHED"), "{frame:#?}");
        let last = frame.iter().find(|line| line.starts_with("and ")).context("no last line")?;
        ensure!(last.contains("more sockets"), "{last}");
        Ok(())
    };
    check(&frames[0], 24, 80)?;
    // The terminal became smaller, thirty seconds before the next walk.
    check(frames.last().context("a frame")?, 12, 60)
}
