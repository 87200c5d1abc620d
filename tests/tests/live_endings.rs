//! How connections begin and end otherwise: refused, reset, half-closed, many at once; what they
//! carried and whose they were.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::{Netns, Pair};
use tests::pace::{is_slow, slack};
use tests::ready;
use tests::tcptrail::{Event, Run, Tcptrail, shown};
use tests::traffic::{
    Both, Ends, accept, close, connect, finish_sending, listen, read_end, read_reset, reset,
    transfer,
};
use tests::witness::{Moment, eventually, has_cookies, now_ns, ss};

/// Starts `tail` and `life` on a namespace, makes the traffic, and stops both.
fn watch<R>(netns: &Netns, traffic: impl FnOnce() -> Result<R>) -> Result<(Run, Run, R)> {
    let args = ["--netns", netns.name()];
    let tail = Tcptrail::start(&args)?;
    let life = Tcptrail::start(&[&["life"], &args[..]].concat())?;
    let made = traffic()?;
    let (tail, life) = (tail.stop()?, life.stop()?);
    tail.check_whole()?;
    life.check_whole()?;
    Ok((tail, life, made))
}

fn check_text(event: &Event, key: &str, expected: &str) -> Result<()> {
    ensure!(event.text(key) == expected, "{key} is not {expected}: {event:?}");
    Ok(())
}

/// What `life` says of an end: these words, in its one line.
fn check_life(run: &Run, end: (SocketAddr, SocketAddr), expected: &[(&str, &str)]) -> Result<()> {
    let side = run.side(end.0, end.1);
    let event = side.only("close")?;
    expected.iter().try_for_each(|(key, value)| check_text(event, key, value))
}

fn client(ends: Ends) -> (SocketAddr, SocketAddr) {
    (ends.client, ends.server)
}

fn server(ends: Ends) -> (SocketAddr, SocketAddr) {
    (ends.server, ends.client)
}

#[test]
fn connection_refused() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
        let netns = Netns::new()?;
        // Nobody listens any more.
        let nobody = listen(&netns, &format!("{host}:0"))?.local_addr()?;
        let (tail, life, ()) = watch(&netns, || {
            let error = connect(&netns, nobody).err().context("somebody listens")?;
            ensure!(format!("{error:#}").contains("refused"), "{error:#}");
            Ok(())
        })?;
        let steps: Vec<_> = tail.of_kind("transition").map(Event::step).collect();
        ensure!(steps == ["CLOSE>SYN_SENT", "SYN_SENT>CLOSE"], "{host}: {steps:?}");
        for event in tail.of_kind("transition") {
            check_text(event, "remote", &shown(nobody))?;
        }
        let closes: Vec<_> = life.of_kind("close").collect();
        ensure!(closes.len() == 1, "{host}: {closes:?}");
        for (key, value) in [
            ("how", "refused"),
            ("errno", "ECONNREFUSED"),
            ("ended_in", "CLOSE"),
            ("role", "client"),
            ("first_close", "remote"),
            ("remote", &shown(nobody)),
        ] {
            check_text(closes[0], key, value)?;
        }
    }
    Ok(())
}

#[test]
fn reset_by_linger_seen_from_both_ends() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    for (host, by_client) in
        [("127.0.0.1", true), ("127.0.0.1", false), ("[::1]", true), ("[::1]", false)]
    {
        let netns = Netns::new()?;
        let (tail, life, ends) = watch(&netns, || {
            let listener = listen(&netns, &format!("{host}:0"))?;
            let both = Both::new(&netns, &listener, listener.local_addr()?)?;
            let (by, other) =
                if by_client { (both.client, both.server) } else { (both.server, both.client) };
            reset(by)?;
            read_reset(&other)?;
            Ok(both.ends)
        })?;
        let (by, other) =
            if by_client { (client(ends), server(ends)) } else { (server(ends), client(ends)) };
        for (end, direction, how, first) in
            [(by, "sent", "rst_sent", "local"), (other, "received", "rst_received", "remote")]
        {
            let side = tail.side(end.0, end.1);
            let steps = side.steps();
            ensure!(
                steps.len() == 3 && steps[2] == "ESTABLISHED>CLOSE",
                "{host}, by client {by_client}: {steps:?}"
            );
            let words = [
                ("how", how),
                ("ended_in", "CLOSE"),
                ("family", family(host)),
                ("first_close", first),
            ];
            check_life(&life, end, &words)?;
            if direction == "received" {
                check_text(side.only("reset")?, "direction", direction)?;
                check_life(&life, end, &[("errno", "ECONNRESET")])?;
            }
        }
    }
    Ok(())
}

fn family(host: &str) -> &'static str {
    if host == "[::1]" { "ipv6" } else { "ipv4" }
}

#[test]
fn closing_with_unread_data_resets() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let (_, life, ends) = watch(&netns, || {
        let listener = listen(&netns, "127.0.0.1:0")?;
        let both = Both::new(&netns, &listener, listener.local_addr()?)?;
        std::io::Write::write_all(&mut &both.client, b"never read")?;
        both.server.peek(&mut [0])?;
        drop(both.server);
        read_reset(&both.client)?;
        Ok(both.ends)
    })?;
    check_life(&life, server(ends), &[("how", "rst_sent")])?;
    check_life(&life, client(ends), &[("how", "rst_received")])
}

#[test]
fn half_close_shows_who_waits_for_whom() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let (tail, life, (ends, half, whole)) = watch(&netns, || {
        let listener = listen(&netns, "127.0.0.1:0")?;
        let both = Both::new(&netns, &listener, listener.local_addr()?)?;
        let half = finish_sending(&both.client)?;
        read_end(&both.server)?;
        // The other direction still works, as long as it likes.
        transfer(&both.server, &both.client, 100_000)?;
        let states: HashMap<_, _> =
            ss(&netns)?.into_iter().map(|socket| (socket.local, socket.state)).collect();
        let (c, s) = (shown(both.ends.client), shown(both.ends.server));
        ensure!(states.get(&c).is_some_and(|state| state == "FIN_WAIT2"), "{states:?}");
        ensure!(states.contains_key(&s), "{states:?}");
        thread::sleep(Duration::from_millis(100));
        let whole = close(both.server);
        read_end(&both.client)?;
        drop(both.client);
        Ok((both.ends, half, whole))
    })?;
    tail.side(ends.client, ends.server).check_steps(&[
        "CLOSE>SYN_SENT",
        "SYN_SENT>ESTABLISHED",
        "ESTABLISHED>FIN_WAIT1",
        "FIN_WAIT1>FIN_WAIT2",
        "FIN_WAIT2>TIME_WAIT",
    ])?;
    let side = tail.side(ends.server, ends.client);
    side.check_steps(&[
        "LISTEN>SYN_RECV",
        "SYN_RECV>ESTABLISHED",
        "ESTABLISHED>CLOSE_WAIT",
        "CLOSE_WAIT>LAST_ACK",
        "LAST_ACK>CLOSE",
    ])?;
    let waited = side.leaving("CLOSE_WAIT")?.number("in_old_ns").context("no time")?;
    check_between("CLOSE_WAIT", waited, half.until(whole))?;
    check_life(&life, client(ends), &[("first_close", "local"), ("ended_in", "TIME_WAIT")])?;
    check_life(&life, server(ends), &[("first_close", "remote"), ("ended_in", "CLOSE")])
}

fn check_between(what: &str, told: u64, (least, most): (u64, u64)) -> Result<()> {
    let tolerance = 20_000_000 + slack();
    ensure!(
        told + tolerance >= least && told <= most + tolerance,
        "{what}: {told} ns, not {least} to {most}"
    );
    Ok(())
}

#[test]
fn life_tells_bytes_times_and_who_closed() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    // Bytes to the server, bytes to the client, whether the client closes first.
    for (up, down, client_first) in
        [(0, 0, true), (1, 0, true), (70_000, 1, false), (123, 3_000_000, true), (5, 9, false)]
    {
        let netns = Netns::new()?;
        let (_, life, (ends, born, done)) = watch(&netns, || {
            let listener = listen(&netns, "127.0.0.1:0")?;
            let (born, both) =
                Moment::try_of(|| Both::new(&netns, &listener, listener.local_addr()?))?;
            transfer(&both.client, &both.server, up)?;
            transfer(&both.server, &both.client, down)?;
            thread::sleep(Duration::from_millis(50));
            let (first, second) =
                if client_first { (both.client, both.server) } else { (both.server, both.client) };
            drop(first);
            read_end(&second)?;
            Ok((both.ends, born, close(second)))
        })?;
        for (end, role, sent, received, closed_here) in [
            (client(ends), "client", up, down, client_first),
            (server(ends), "server", down, up, !client_first),
        ] {
            let first = if closed_here { "local" } else { "remote" };
            let ended = if closed_here { "TIME_WAIT" } else { "CLOSE" };
            check_life(
                &life,
                end,
                &[("how", "fin"), ("role", role), ("first_close", first), ("ended_in", ended)],
            )?;
            let side = life.side(end.0, end.1);
            let event = side.only("close")?;
            for (key, bytes) in [("bytes_sent", sent), ("bytes_received", received)] {
                ensure!(
                    event.number(key) == Some(bytes as u64),
                    "{role}: {key} is not {bytes}: {event:?}"
                );
            }
            // A slow machine acknowledges so late that something is sent again.
            let none = event.number("retransmits") == Some(0);
            ensure!(none || is_slow(), "retransmits: {event:?}");
            ensure!(event.truth("exact") == Some(true), "not exact: {event:?}");
            let total = event.number("total_ns").context("no total_ns")?;
            check_between("total", total, born.until(done))?;
            let states = event.0["states"].as_object().context("no states")?;
            let sum: u64 = states.values().filter_map(serde_json::Value::as_u64).sum();
            ensure!(sum.abs_diff(total) < 1_000_000, "{sum} in states of {total}: {event:?}");
            let handshake = event.number("handshake_ns").context("no handshake_ns")?;
            ensure!(handshake <= born.to - born.from, "handshake {handshake}: {event:?}");
        }
    }
    Ok(())
}

#[test]
fn a_listener_opens_and_closes() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    for host in ["127.0.0.1", "[::]"] {
        let (tail, life, (addr, cookie, opened, closed)) = watch(&netns, || {
            let (opened, listener) = Moment::try_of(|| listen(&netns, &format!("{host}:0")))?;
            let addr = listener.local_addr()?;
            let cookie = ss(&netns)?
                .iter()
                .find(|socket| socket.state == "LISTEN")
                .context("ss has no listener")?
                .cookie;
            thread::sleep(Duration::from_millis(50));
            let closed = Moment::of(|| drop(listener));
            Ok((addr, cookie, opened, closed))
        })?;
        let steps: Vec<_> = tail.of_kind("transition").map(Event::step).collect();
        ensure!(steps == ["CLOSE>LISTEN", "LISTEN>CLOSE"], "{host}: {steps:?}");
        for event in tail.of_kind("transition") {
            check_text(event, "role", "listener")?;
            ensure!(event.has_cookie(cookie), "not {cookie}: {event:?}");
            check_text(event, "local", &shown(addr))?;
            ensure!(event.number("pid") == Some(u64::from(std::process::id())), "{event:?}");
        }
        let last = tail.of_kind("transition").last().context("no transition")?;
        let listened = last.number("in_old_ns").context("no time in LISTEN")?;
        check_between("LISTEN", listened, opened.until(closed))?;
        let closes: Vec<_> = life.of_kind("close").collect();
        ensure!(closes.is_empty(), "a listener is no connection: {closes:?}");
    }
    Ok(())
}

#[test]
fn a_thousand_parallel_connections() -> Result<()> {
    const COUNT: usize = 1000;
    if !ready(&["ss"]) {
        return Ok(());
    }
    raise_descriptor_limit()?;
    let netns = Netns::new()?;
    let (tail, life, (addr, cookies)) = watch(&netns, || {
        netns.run(|| {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let addr = listener.local_addr()?;
            let mut both = Vec::new();
            for _ in 0..COUNT {
                let stream = TcpStream::connect(addr)?;
                both.push((stream, accept(&listener)?));
            }
            let cookies: HashSet<String> = ss(&netns)?
                .into_iter()
                .filter(|socket| socket.state == "ESTABLISHED")
                .map(|socket| socket.cookie.to_string())
                .collect();
            ensure!(cookies.len() == 2 * COUNT, "ss sees {} sockets", cookies.len());
            let (clients, servers): (Vec<_>, Vec<_>) = both.into_iter().unzip();
            drop(clients);
            servers.iter().try_for_each(read_end)?;
            drop(servers);
            Ok((addr, cookies))
        })
    })?;
    let at_server = shown(addr);
    let mut steps: HashMap<&str, Vec<String>> = HashMap::new();
    for event in tail.of_kind("transition") {
        if event.text("role") != "listener" {
            steps.entry(event.text("conn")).or_default().push(event.step());
        }
    }
    let traced: HashSet<String> = steps.keys().map(|conn| (*conn).to_owned()).collect();
    let same = if has_cookies() { traced == cookies } else { traced.len() == cookies.len() };
    ensure!(same, "{} connections, not those that ss saw", traced.len());
    for (conn, steps) in &steps {
        ensure!(steps.len() == 5, "{conn}: {steps:?}; {}", tail.stderr);
        let expected =
            if steps[0] == "CLOSE>SYN_SENT" { "FIN_WAIT2>TIME_WAIT" } else { "LAST_ACK>CLOSE" };
        ensure!(steps[4] == expected, "{conn}: {steps:?}");
    }
    let lines: Vec<_> = life.of_kind("close").collect();
    ensure!(lines.len() == 2 * COUNT, "{} lines, not {}", lines.len(), 2 * COUNT);
    let of_server = lines.iter().filter(|line| line.text("local") == at_server).count();
    ensure!(of_server == COUNT, "{of_server} lines of the server, not {COUNT}");
    Ok(())
}

fn raise_descriptor_limit() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(())
}

#[test]
fn both_ends_across_a_veth() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    for host in [Pair::RIGHT.to_owned(), format!("[{}]", Pair::RIGHT6)] {
        let pair = Pair::new()?;
        let left = Tcptrail::start(&["--netns", pair.left.name()])?;
        let right = Tcptrail::start(&["life", "--netns", pair.right.name()])?;
        let listener = listen(&pair.right, &format!("{host}:0"))?;
        let both = Both::new(&pair.left, &listener, listener.local_addr()?)?;
        transfer(&both.client, &both.server, 20_000)?;
        drop(both.client);
        read_end(&both.server)?;
        drop(both.server);
        let (left, right) = (left.stop()?, right.stop()?);
        left.check_whole()?;
        right.check_whole()?;
        left.side(both.ends.client, both.ends.server).check_steps(&[
            "CLOSE>SYN_SENT",
            "SYN_SENT>ESTABLISHED",
            "ESTABLISHED>FIN_WAIT1",
            "FIN_WAIT1>FIN_WAIT2",
            "FIN_WAIT2>TIME_WAIT",
        ])?;
        for event in left.of_kind("transition") {
            ensure!(event.number("netns") == Some(u64::from(pair.left.inode())), "{event:?}");
        }
        let side = right.side(both.ends.server, both.ends.client);
        let event = side.only("close")?;
        ensure!(event.number("bytes_received") == Some(20_000), "{event:?}");
        check_text(event, "first_close", "remote")?;
        ensure!(right.of_kind("close").count() == 1, "lines of another namespace");
    }
    Ok(())
}

#[test]
fn owners_are_those_that_ss_names() -> Result<()> {
    if !ready(&["bash", "ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let tcptrail = Tcptrail::start(&["--netns", netns.name()])?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; read -u 3 x", addr.port());
    let mut bash = netns.spawn(Command::new("bash").args(["-c", &script]).stdin(Stdio::null()))?;
    let server = accept(&listener)?;
    let ends = Ends { client: server.peer_addr()?, server: addr };
    let sockets = ss(&netns)?;
    drop(server);
    bash.wait()?;
    let run = tcptrail.stop()?;
    run.check_whole()?;
    for (end, pid) in [(client(ends), bash.id()), (self::server(ends), std::process::id())] {
        let socket = sockets
            .iter()
            .find(|socket| socket.local == shown(end.0) && socket.remote == shown(end.1))
            .context("ss does not have it")?;
        ensure!(socket.users.iter().any(|user| user.0 == pid), "{socket:?}");
        for event in run.side(end.0, end.1).events {
            ensure!(event.number("pid") == Some(u64::from(pid)), "not {pid}: {event:?}");
            ensure!(event.has_cookie(socket.cookie), "not {socket:?}: {event:?}");
        }
    }
    Ok(())
}

/// The last descriptor of a socket waits in a Unix socket that nobody has any more: a kernel thread closes both (`unix_gc`),
/// as it does for a ring of io_uring.
#[test]
fn a_kernel_thread_that_closes_a_socket_is_not_its_owner() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let tcptrail = Tcptrail::start(&["--netns", netns.name()])?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let script = format!(
        "import socket
c = socket.create_connection(('127.0.0.1', {}))
a, b = socket.socketpair(socket.AF_UNIX)
socket.send_fds(a, [b'x'], [b.fileno(), c.fileno()])
for it in (c, a, b, *socket.socketpair(socket.AF_UNIX)):
    it.close()
input()
",
        addr.port()
    );
    let mut command = Command::new("python3");
    command.args(["-c", &script]).stdin(Stdio::piped());
    let mut python = netns.spawn(&mut command)?;
    let server = accept(&listener)?;
    let ends = Ends { client: server.peer_addr()?, server: addr };
    // The process lives on: it is not its end that closes the socket.
    read_end(&server)?;
    ensure!(python.try_wait()?.is_none(), "Python has ended");
    drop(server);
    drop(python.stdin.take());
    python.wait()?;
    let run = tcptrail.stop()?;
    run.check_whole()?;
    let (local, remote) = client(ends);
    let side = run.side(local, remote);
    ensure!(side.steps().iter().any(|step| step == "ESTABLISHED>FIN_WAIT1"), "{:?}", side.steps());
    for event in side.events {
        ensure!(event.number("pid") == Some(u64::from(python.id())), "another owner: {event:?}");
    }
    Ok(())
}

#[test]
fn names_of_strangers_never_reach_the_terminal_raw() -> Result<()> {
    if !ready(&["bash"]) {
        return Ok(());
    }
    // Colour, title, a C1 byte, a newline, a carriage return.
    for name in [r"\e[31mX", r"\e]0;pwn\a", r"a\x9b2Jb", r"a\nb", r"a\rb\tc", r"\xff\xfe"] {
        let netns = Netns::new()?;
        let args = ["--netns", netns.name()];
        let tail = Tcptrail::start_text(&args)?;
        let life = Tcptrail::start_text(&["life", args[0], args[1]])?;
        let json = Tcptrail::start(&args)?;
        let listener = listen(&netns, "127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let script = format!("printf '{name}' >/proc/self/comm; exec 3<>/dev/tcp/127.0.0.1/{port}");
        let status = netns.output({
            let mut bash = Command::new("bash");
            bash.args(["-c", &script]);
            bash
        })?;
        ensure!(status.status.success(), "bash: {}", String::from_utf8_lossy(&status.stderr));
        read_end(&accept(&listener)?)?;
        let (tail, life, json) = (tail.stop()?, life.stop()?, json.stop()?);
        for run in [&tail, &life, &json] {
            run.check_whole()?;
            let text =
                String::from_utf8(run.raw.clone()).with_context(|| format!("{name}: not UTF-8"))?;
            let bad = text.chars().find(|c| c.is_control() && *c != '\n');
            ensure!(bad.is_none(), "{name}: {bad:?} in {text:?}");
        }
        // A newline would make more lines than there are transitions.
        let lines = tail.raw.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let transitions = json.of_kind("transition").count();
        let count = lines.count() - 1;
        ensure!(count == transitions, "{name}: {count} lines of {transitions} transitions");
    }
    Ok(())
}

#[test]
fn what_was_there_before_has_lower_bounds() -> Result<()> {
    if !ready(&["ss"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let born = now_ns();
    let both = Both::new(&netns, &listener, listener.local_addr()?)?;
    let waiting = Both::new(&netns, &listener, listener.local_addr()?)?;
    finish_sending(&waiting.client)?;
    read_end(&waiting.server)?;
    let known = ss(&netns)?;
    let tcptrail = Tcptrail::start(&["--netns", netns.name()])?;
    let started = now_ns();
    // On an emulated processor the walk that finds the owners takes a second.
    thread::sleep(if is_slow() { Duration::from_secs(2) } else { Duration::from_millis(60) });
    drop(both.client);
    read_end(&both.server)?;
    drop(both.server);
    drop(waiting.server);
    read_end(&waiting.client)?;
    drop(waiting.client);
    let ended = now_ns();
    let run = tcptrail.stop()?;
    run.check_whole()?;
    for (end, state, steps) in [
        (
            client(both.ends),
            "ESTABLISHED",
            &["ESTABLISHED>FIN_WAIT1", "FIN_WAIT1>FIN_WAIT2", "FIN_WAIT2>TIME_WAIT"][..],
        ),
        (
            server(both.ends),
            "ESTABLISHED",
            &["ESTABLISHED>CLOSE_WAIT", "CLOSE_WAIT>LAST_ACK", "LAST_ACK>CLOSE"],
        ),
        (client(waiting.ends), "FIN_WAIT2", &["FIN_WAIT2>TIME_WAIT"]),
        (server(waiting.ends), "CLOSE_WAIT", &["CLOSE_WAIT>LAST_ACK", "LAST_ACK>CLOSE"]),
    ] {
        let side = run.side(end.0, end.1);
        side.check_steps(steps)?;
        let event = side.leaving(state)?;
        ensure!(event.truth("exact") == Some(false), "exact: {event:?}");
        let told = event.number("in_old_ns").context("no lower bound")?;
        ensure!(told != 0 && told <= ended - born, "{told} of at most {}: {event:?}", ended - born);
        ensure!(told + 20_000_000 >= 60_000_000, "{told}: less than since the start {started}");
        let socket = known
            .iter()
            .find(|socket| socket.local == shown(end.0) && socket.remote == shown(end.1))
            .context("ss does not have it")?;
        ensure!(event.has_cookie(socket.cookie), "not {socket:?}: {event:?}");
        ensure!(event.number("pid") == Some(u64::from(std::process::id())), "owner: {event:?}");
    }
    // `ss` may show the last of them for a moment.
    eventually("TIME_WAIT in ss", Duration::from_secs(2), || {
        let states = ss(&netns)?;
        Ok(states.iter().filter(|socket| socket.state == "TIME_WAIT").nth(1).map(drop))
    })
}
