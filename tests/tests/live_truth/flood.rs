//! Too much at once: a ring that overflows while nobody reads it, and floods of SYNs.

use std::fs;
use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tests::hand::{ACK, Hand, SYN, flood, silence};
use tests::netns::{Netns, Pair};
use tests::pace::{is_slow, slack};
use tests::ready;
use tests::tcptrail::Tcptrail;
use tests::traffic::{Both, accept, churn, connect, finish_sending, listen, read_end};
use tests::watch::Watch;
use tests::witness::{counters, now_ns, ss};

use crate::stage::SECOND;

/// How many half-open connections.
const FLOOD: u32 = 2_000;

/// Resident memory of a process.
fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.context("no VmRSS")?.split_whitespace().next().context("no figure")?;
    Ok(words.parse()?)
}

/// The tracer stands still while sockets open, close and stay; what it missed, it finds.
#[test]
fn after_a_loss_the_table_is_what_ss_shows() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let args = ["--netns", netns.name(), "--ring-size", "64KiB"];
    let mut watch = Watch::start("1s", &args)?;
    // There before the loss: some go during it, some change, some stay.
    let mut before = Vec::new();
    for _ in 0..30 {
        before.push(Both::new(&netns, &listener, addr)?);
    }
    watch.until_same_as_ss(&netns)?;
    watch.tcptrail().signal(Signal::STOP)?;
    churn(&netns, 1_000)?;
    let mut kept = Vec::new();
    for (index, both) in before.into_iter().enumerate() {
        match index % 3 {
            0 => {
                drop(both.client);
                read_end(&both.server)?;
            }
            1 => {
                finish_sending(&both.client)?;
                read_end(&both.server)?;
                kept.push(both);
            }
            _ => kept.push(both),
        }
    }
    for _ in 0..30 {
        kept.push(Both::new(&netns, &listener, addr)?);
    }
    // Nobody accepts these.
    let _waiting = [connect(&netns, addr)?, connect(&netns, addr)?];
    let expected = ss(&netns)?;
    watch.tcptrail().signal(Signal::CONT)?;
    let went_on = now_ns();
    let same = watch.until_same_as_ss(&netns)?;
    let took = same.at - went_on;
    ensure!(
        took < 3 * SECOND + SECOND / 2 + 10 * slack(),
        "the table was right again after {took} ns"
    );
    ensure!(expected.len() > 500, "ss had only {} sockets", expected.len());
    // What was not seen to happen is not exact.
    let mut unsure = 0;
    for both in &kept {
        for end in [(both.ends.client, both.ends.server), (both.ends.server, both.ends.client)] {
            let socket = same.find(end.0, end.1).context("it is not listed")?;
            unsure += u32::from(socket.truth("exact") == Some(false));
        }
    }
    ensure!(unsure > 0, "everything is exact after a loss");
    let run = watch.stop()?;
    let lost: Vec<_> = run.of_kind("lost").collect();
    ensure!(!lost.is_empty(), "no `lost`: {}", run.stderr);
    let count: u64 = lost.iter().filter_map(|event| event.number("count")).sum();
    ensure!(count > 0 && lost[0].text("where") == "ring", "{lost:?}");
    let end = run.of_kind("end").next().context("no `end`")?;
    ensure!(end.number("lost") == Some(count), "{count} told: {end:?}");
    Ok(())
}

/// Thousands of SYNs from addresses that never answer.
fn flooded(cookies: &str) -> Result<()> {
    // They last 7 s; on a slow machine 31 s, or they were gone before anybody had looked.
    let retries: u64 = if is_slow() { 4 } else { 2 };
    let pair = Pair::new()?;
    silence(&pair.left)?;
    for (key, value) in [
        ("ipv4/tcp_syncookies", cookies),
        ("ipv4/tcp_synack_retries", &retries.to_string()),
        ("ipv4/tcp_max_syn_backlog", "16384"),
        ("core/somaxconn", "8192"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/eth0/rp_filter", "0"),
    ] {
        pair.right.sysctl(key, value)?;
    }
    pair.right.ip(&["route", "add", "10.99.0.0/16", "via", Pair::LEFT])?;
    let listener: std::net::TcpListener = pair.right.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], 0)).into())?;
        socket.listen(8192)?;
        Ok(socket.into())
    })?;
    let to = SocketAddrV4::new(Pair::RIGHT.parse()?, listener.local_addr()?.port());
    let mut tail = Tcptrail::start(&["--netns", pair.right.name()])?;
    let mut watch = Watch::start("1s", &["--netns", pair.right.name()])?;
    watch.next_frame()?;
    let before = resident_kib(watch.tcptrail().pid())?;
    let from = (0..FLOOD).map(|number| {
        let [.., high, low] = number.to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(10, 99, high, low), 1_024 + (number % 60_000) as u16)
    });
    flood(&pair.left, from, to)?;
    let half_open = |frame: &tests::watch::Frame| {
        frame.sockets.iter().filter(|socket| socket.text("state") == "SYN_RECV").count()
    };
    let in_ss = ss(&pair.right)?.iter().filter(|socket| socket.state == "SYN_RECV").count();
    // All of it is there, as far as the kernel keeps any of it.
    if cookies == "0" {
        ensure!(in_ss == FLOOD as usize, "ss shows {in_ss} half-open connections");
        // When all their timers come at once the queue of the veth is too short for the SYN-ACKs, and
        // the kernel lets those requests go.
        let frame = watch.until_same_as_ss(&pair.right)?;
        let listed = half_open(&frame);
        ensure!(listed > FLOOD as usize / 4, "{listed} of {FLOOD}");
    } else {
        ensure!(in_ss == 0, "ss shows {in_ss} half-open connections in spite of cookies");
    }
    // It still sees what else goes on, at once.
    let mut hand = Hand::new(&pair.left, SocketAddrV4::new(Pair::LEFT.parse()?, 5001), to)?;
    let asked = Instant::now();
    hand.send(SYN, &[])?;
    hand.expect(SYN | ACK)?;
    hand.send(ACK, &[])?;
    let remote = hand.addr().to_string();
    let event = tail.wait_for("ESTABLISHED", |event| {
        event.is_step("SYN_RECV>ESTABLISHED") && event.text("remote") == remote
    })?;
    ensure!(
        asked.elapsed() < Duration::from_millis(800) + Duration::from_nanos(5 * slack()),
        "after {:?}",
        asked.elapsed()
    );
    ensure!(event.text("role") == "server", "{event:?}");
    let _stream = accept(&listener)?;
    let most = resident_kib(watch.tcptrail().pid())?;
    ensure!(most < before + 16 * 1024, "{before} KiB before, {most} KiB during the flood");
    // Then the kernel gives up.
    let mut last = None;
    watch.until("the end of the flood", |frame| {
        if let Some(last) = last.replace(frame.at) {
            let pause = frame.at - last;
            ensure!(pause < 2 * SECOND + 10 * slack(), "{pause} ns between two frames of 1 s");
        }
        Ok((half_open(frame) == 0).then_some(()))
    })?;
    watch.until_same_as_ss(&pair.right)?;
    let after = resident_kib(watch.tcptrail().pid())?;
    ensure!(after < before + 16 * 1024, "{before} KiB before, {after} KiB after the flood");
    watch.stop_whole()?;
    let tail = tail.stop()?;
    tail.check_whole()?;
    let again = tail.of_kind("retransmit").filter(|event| event.text("kind") == "synack").count();
    let expected = if cookies == "0" { FLOOD as usize } else { 0 };
    let counted = counters(&pair.right)?.get("RetransSegs").copied().context("RetransSegs")?;
    ensure!(again as u64 == counted, "{again} SYN-ACKs sent again, the kernel counts {counted}");
    let timed_out = tail.of_kind("transition").filter(|e| e.is_step("SYN_RECV>CLOSE")).count();
    // Some the kernel gives up without another SYN-ACK; those may come and go between two looks.
    ensure!(
        retries * timed_out as u64 >= counted && timed_out <= expected,
        "{timed_out} requests ended, of {expected}; {counted} SYN-ACKs were sent again"
    );
    Ok(())
}

#[test]
fn a_flood_of_half_open_connections_passes() -> Result<()> {
    if !ready(&["nft", "ss"]) {
        return Ok(());
    }
    flooded("0")
}

#[test]
fn a_flood_answered_with_cookies_leaves_nothing() -> Result<()> {
    if !ready(&["nft", "ss"]) {
        return Ok(());
    }
    flooded("2")
}

/// How many half-open connections of the great flood.
const GREAT: u32 = 100_000;

/// A hundred thousand, all on loopback, where every SYN-ACK can be sent: to addresses whose owner drops
/// them. They are listed, timed and ended, in bounded memory, and other connections are seen as ever.
#[test]
fn a_hundred_thousand_half_open_connections_pass() -> Result<()> {
    if !ready(&["nft", "ss"]) {
        return Ok(());
    }
    if is_slow() {
        println!("skipped: an emulated processor does not send so many before the first time out");
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.nft(
        "table inet silence {
            chain arriving {
                type filter hook input priority 0; policy accept;
                ip daddr 127.64.0.0/10 drop
            }
        }",
    )?;
    for (key, value) in [
        ("ipv4/tcp_syncookies", "0"),
        ("ipv4/tcp_synack_retries", "2"),
        ("ipv4/tcp_max_syn_backlog", "400000"),
        ("core/somaxconn", "200000"),
    ] {
        netns.sysctl(key, value)?;
    }
    let listener: std::net::TcpListener = netns.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        socket.listen(200_000)?;
        Ok(socket.into())
    })?;
    let addr = listener.local_addr()?;
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, addr.port());

    let mut life =
        tests::tcptrail::command(&["life", "--json", "--netns", netns.name()]).spawn()?;
    let pid = life.id();
    let out = life.stdout.take().context("a pipe")?;
    let (told, lines) = std::sync::mpsc::channel();
    // Only counted: as JSON in our memory they would take more than they do in tcptrail's.
    let reader = std::thread::spawn(move || {
        let mut half_open = 0_u32;
        for line in std::io::BufReader::new(out).lines().map_while(std::result::Result::ok) {
            if line.contains("\"how\":\"timeout\"") && line.contains("\"role\":\"server\"") {
                half_open += 1;
            } else if told.send(line).is_err() {
                break;
            }
        }
        half_open
    });
    let wait_line = |what: &str, wanted: &dyn Fn(&str) -> bool| -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left).with_context(|| format!("no {what}"))?;
            if wanted(&line) {
                return Ok(line);
            }
        }
    };
    let outcome = (|| -> Result<()> {
        wait_line("start", &|line| line.contains("\"event\":\"start\""))?;
        let before = resident_kib(pid)?;
        let from = (0..GREAT).map(|number| {
            let [_, high, middle, low] = number.to_be_bytes();
            SocketAddrV4::new(Ipv4Addr::new(127, 64 + high, middle, low), 5_000)
        });
        let began = Instant::now();
        flood(&netns, from, to)?;
        let sent = began.elapsed();
        let mut command = std::process::Command::new("ss");
        command.args(["-tanH", "state", "syn-recv"]);
        let in_ss = netns.output(command)?.stdout.iter().filter(|&&byte| byte == b'\n').count();
        // Some may have ended by now where the machine is slow.
        ensure!(in_ss > GREAT as usize / 2, "ss shows {in_ss} half-open connections");
        let list =
            tests::tcptrail::command(&["list", "--json", "--netns", netns.name()]).output()?;
        let listed =
            String::from_utf8_lossy(&list.stdout).matches("\"state\":\"SYN_RECV\"").count();
        let again = {
            let mut command = std::process::Command::new("ss");
            command.args(["-tanH", "state", "syn-recv"]);
            netns.output(command)?.stdout.iter().filter(|&&byte| byte == b'\n').count()
        };
        ensure!(
            (again.min(in_ss)..=in_ss.max(again)).contains(&listed),
            "{listed} listed, ss had {in_ss} before and {again} after"
        );
        // What else happens is seen at once.
        let both = Both::new(&netns, &listener, addr)?;
        let client = both.ends.client.to_string();
        drop(both.client);
        read_end(&both.server)?;
        drop(both.server);
        wait_line("line of another connection", &|line| line.contains(&client))?;
        // Given up by the kernel after 7 s, and known to be by the next look.
        let mut most = 0;
        tests::witness::eventually("the end of the flood", Duration::from_secs(40), || {
            most = most.max(resident_kib(pid)?);
            let mut command = std::process::Command::new("ss");
            command.args(["-tanH", "state", "syn-recv"]);
            Ok(netns.output(command)?.stdout.is_empty().then_some(()))
        })?;
        std::thread::sleep(Duration::from_secs(4));
        most = most.max(resident_kib(pid)?);
        println!(
            "{GREAT} SYNs in {sent:.1?}, {in_ss} in ss, {listed} listed; {before} KiB before, at most {most}"
        );
        ensure!(most < before + 128 * 1024, "{before} KiB before, {most} KiB at most");
        Ok(())
    })();
    let stop = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    rustix::process::kill_process(stop, Signal::INT)?;
    let status = life.wait()?;
    let ended = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    outcome?;
    ensure!(status.success(), "{status}");
    // Those that came and went between two looks are not told.
    ensure!(ended > GREAT / 2 && ended <= GREAT, "{ended} of {GREAT} told to have timed out");
    Ok(())
}
