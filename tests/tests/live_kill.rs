//! `kill`: what it ends, what it leaves alone, and how it refuses; `ss` and the processes are the witnesses.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};
use tests::holder::Holder;
use tests::netns::{Netns, Pair};
use tests::ready;
use tests::tcptrail::{Run, Tcptrail, binary, command, run};
use tests::traffic::{Both, connect, listen, read_end};
use tests::witness::{eventually, has_cookies, in_state, ss};

fn words(run: &Run) -> String {
    format!("{:?}\n{}\n{}", run.code(), String::from_utf8_lossy(&run.raw), run.stderr)
}

#[test]
fn a_thousand_close_wait_of_a_process_in_another_namespace_are_ended() -> Result<()> {
    const COUNT: usize = 1000;
    if !ready(&["ss", "python3"]) || !has_cookies() {
        return Ok(());
    }
    let pair = Pair::new()?;
    let addr: SocketAddr = format!("{}:8089", Pair::RIGHT).parse()?;
    let mut holder = Holder::start(&pair.right, addr)?;
    for _ in 0..COUNT {
        drop(connect(&pair.left, addr)?);
    }
    eventually("all in CLOSE_WAIT", Duration::from_secs(20), || {
        Ok((in_state(&pair.right, "CLOSE_WAIT")? == COUNT && holder.held()? == COUNT).then_some(()))
    })?;
    let descriptors = holder.descriptors()?;
    let pid = holder.pid().to_string();
    let args = ["kill", "--pid", &pid, "--state", "CLOSE_WAIT", "--yes", "--json"];

    // More than were thought of: nothing is ended.
    let refused = run(&args)?;
    ensure!(refused.code() == Some(1), "{}", words(&refused));
    ensure!(refused.stderr.contains("more than --max 100"), "{}", refused.stderr);
    ensure!(in_state(&pair.right, "CLOSE_WAIT")? == COUNT, "some were ended");

    let killed = run(&[args.as_slice(), &["--max", "1000"]].concat())?;
    ensure!(killed.code() == Some(0), "{}", killed.stderr);
    ensure!(killed.stderr.contains("1000 sockets: 1000 ended"), "{}", killed.stderr);
    let ended = killed.of_kind("killed").filter(|event| event.text("outcome") == "ended");
    ensure!(ended.count() == COUNT, "{}", killed.stderr);
    ensure!(in_state(&pair.right, "CLOSE_WAIT")? == 0, "{:?}", ss(&pair.right)?);
    // The process lives, has what it had, and its listener accepts.
    ensure!(holder.held()? == COUNT);
    ensure!(holder.descriptors()? == descriptors, "{descriptors} before");
    let _client = connect(&pair.left, addr)?;
    eventually("one more", Duration::from_secs(5), || {
        Ok((holder.held()? == COUNT + 1).then_some(()))
    })?;
    Ok(())
}

/// tcptrail as `nobody` with these capabilities and no other.
fn as_stranger(dir: &std::path::Path, capabilities: &str, args: &[&str]) -> Result<Command> {
    let program = dir.join("tcptrail");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    fs::copy(binary(), &program).context("copy the binary")?;
    let template = command(args);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    let all = format!("-all{capabilities}");
    command.args([format!("--inh-caps={all}"), format!("--ambient-caps={all}")]);
    command.arg(format!("--bounding-set={all}")).arg(program).args(template.get_args());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

#[test]
fn without_the_privilege_it_refuses_clearly() -> Result<()> {
    if !ready(&["ss", "setpriv", "python3"]) || !has_cookies() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let netns = Netns::new()?;
    let addr: SocketAddr = "127.0.0.1:8089".parse()?;
    let mut holder = Holder::start(&netns, addr)?;
    drop(connect(&netns, addr)?);
    eventually("CLOSE_WAIT", Duration::from_secs(10), || {
        Ok((in_state(&netns, "CLOSE_WAIT")? == 1).then_some(()))
    })?;
    let pid = holder.pid().to_string();
    // Enough to trace, enough to enter namespaces, nothing: ending takes another.
    for capabilities in [",+bpf,+perfmon", ",+bpf,+perfmon,+sys_admin,+sys_ptrace", ""] {
        let args = ["kill", "--pid", &pid, "--state", "CLOSE_WAIT", "--yes"];
        let run = Tcptrail::spawn(as_stranger(dir.path(), capabilities, &args)?)?.wait()?;
        ensure!(run.code() == Some(1), "{capabilities}: {}", words(&run));
        ensure!(run.raw.is_empty(), "{capabilities}: {}", words(&run));
        let clear = "no socket can be ended here: not permitted: it takes CAP_NET_ADMIN";
        ensure!(run.stderr.contains(clear), "{capabilities}: {}", run.stderr);
    }
    ensure!(in_state(&netns, "CLOSE_WAIT")? == 1 && holder.held()? == 1);
    Ok(())
}

/// A listener that shares its port with others.
fn reuseport(netns: &Netns, addr: SocketAddr) -> Result<Socket> {
    netns.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        socket.listen(8)?;
        Ok(socket)
    })
}

#[test]
fn what_is_not_named_is_left_alone_and_each_kind_can_be_ended() -> Result<()> {
    if !ready(&["ss", "nft"]) || !has_cookies() {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    // Closed here first, then there: TIME_WAIT. Closed here only: FIN_WAIT2 of the kernel, CLOSE_WAIT.
    let whole = Both::new(&netns, &listener, addr)?;
    drop(whole.client);
    read_end(&whole.server)?;
    drop(whole.server);
    let half = Both::new(&netns, &listener, addr)?;
    drop(half.client);
    read_end(&half.server)?;
    let open = Both::new(&netns, &listener, addr)?;
    let kill = |args: &[&str]| {
        let all = [&["kill", "--netns", netns.name()], args].concat();
        run(&all)
    };
    let states = || -> Result<Vec<String>> {
        let mut states: Vec<String> = ss(&netns)?.into_iter().map(|it| it.state).collect();
        states.sort();
        Ok(states)
    };
    let all = ["CLOSE_WAIT", "ESTABLISHED", "ESTABLISHED", "FIN_WAIT2", "LISTEN", "TIME_WAIT"];
    eventually("all states", Duration::from_secs(10), || Ok((states()? == all).then_some(())))?;

    // Nobody can be asked; no filter; only shown.
    for (args, code, words) in [
        (vec![], 2, "stdin is no terminal: add --yes"),
        (vec!["--dry-run"], 0, "would end 4 sockets"),
        (vec!["--yes", "--rport", "9"], 0, "no socket matches"),
    ] {
        let run = kill(&args)?;
        ensure!(run.code() == Some(code) && run.stderr.contains(words), "{args:?} {run:?}");
    }
    let bare = run(&["kill", "--yes"])?;
    ensure!(bare.code() == Some(2) && bare.stderr.contains("kill needs a filter"), "{bare:?}");
    ensure!(states()? == all, "{:?}", states()?);

    let half_closed = kill(&["--yes", "--state", "CLOSE_WAIT,FIN_WAIT2"])?;
    ensure!(half_closed.code() == Some(0), "{}", words(&half_closed));
    ensure!(states()? == ["ESTABLISHED", "ESTABLISHED", "LISTEN", "TIME_WAIT"], "{:?}", states()?);
    let rest = kill(&["--yes"])?;
    ensure!(rest.code() == Some(0), "{}", words(&rest));
    ensure!(rest.stderr.contains("1 listening (--state LISTEN names them)"), "{}", rest.stderr);
    ensure!(rest.stderr.contains("1 in TIME_WAIT"), "{}", rest.stderr);
    ensure!(states()? == ["LISTEN", "TIME_WAIT"], "{:?}", states()?);
    let named = kill(&["--yes", "--state", "LISTEN,TIME_WAIT"])?;
    ensure!(named.code() == Some(0), "{}", words(&named));
    ensure!(states()?.is_empty(), "{:?}", states()?);
    // The descriptors are the test's still.
    drop((half.server, open, listener));

    // Which of several listeners a lookup finds is the kernel's choice: each is ended all the same.
    let shared: SocketAddr = "127.0.0.1:8090".parse()?;
    let listeners = (0..4).map(|_| reuseport(&netns, shared)).collect::<Result<Vec<_>>>()?;
    ensure!(states()? == ["LISTEN"; 4], "{:?}", states()?);
    let group = kill(&["--yes", "--state", "LISTEN"])?;
    ensure!(group.code() == Some(0), "{}", words(&group));
    ensure!(states()?.is_empty(), "{:?}", states()?);
    drop(listeners);

    // A half-open connection: the third ACK never comes.
    let listener = listen(&netns, "127.0.0.1:8091")?;
    netns.lose_first(1000, "tcp dport 8091 tcp flags & (syn | ack) == ack")?;
    let _client = connect(&netns, listener.local_addr()?)?;
    eventually("SYN_RECV", Duration::from_secs(10), || {
        Ok(states()?.iter().any(|state| state == "SYN_RECV").then_some(()))
    })?;
    let request = kill(&["--yes", "--state", "SYN_RECV"])?;
    ensure!(request.code() == Some(0), "{}", words(&request));
    ensure!(request.stderr.contains("1 socket: 1 ended"), "{}", request.stderr);
    ensure!(!states()?.iter().any(|state| state == "SYN_RECV"), "{:?}", states()?);
    Ok(())
}
