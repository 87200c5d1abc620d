//! Java servers: accepted sockets, by who read from them last.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::java::{Program, line_of};
use tests::netns::Netns;
use tests::pace::is_slow;
use tests::ready;
use tests::tcptrail::Tcptrail;
use tests::traffic::connect;

use crate::stage::{PATIENCE, check_frames, check_silent, leaks, wait_for_leak};

const COUNT: u64 = 6;

#[test]
fn a_server_that_never_closes_is_named_by_its_handler() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut tcptrail = leaks(&netns, &[])?;
    let mut forgets = Program::java(&netns, &[], "Server", &["8201", "forget"])?;
    let mut closes = Program::java(&netns, &[], "Server", &["8202", "close"])?;
    for (program, port) in [(&mut forgets, 8201u16), (&mut closes, 8202)] {
        program.wait_for("ready")?;
        for _ in 0..COUNT {
            let stream = connect(&netns, ([127, 0, 0, 1], port).into())?;
            std::io::Write::write_all(&mut &stream, b"?")?;
            if is_slow() {
                // A reader that is preempted while its stack is taken, on an emulated processor for many ticks,
                // has the kernel skip the programs for the others.
                thread::sleep(Duration::from_millis(500));
            }
        }
    }
    let leak = wait_for_leak(&mut tcptrail, forgets.pid(), COUNT)?;
    check_frames(&leak, &["java.net.Socket$SocketInputStream.read", "com.acme.Server.handle"])?;
    assert_eq!(leak.text("side"), "last_read");
    // What its thread does next is seen where the end of every system call is; then it names the same method.
    let handler = leak.text("handler");
    ensure!(handler.is_empty() || handler.starts_with("com.acme.Server.handle:"), "{leak:?}");
    assert_eq!(leak.text("thread"), "handler");
    assert_eq!(leak.number("local_port"), Some(8201));
    assert_eq!(leak.0["states"], serde_json::json!({ "CLOSE_WAIT": COUNT }));
    let run = tcptrail.stop()?;
    check_silent(&run, closes.pid())?;
    run.check_whole()
}

/// From whom nothing was read, the acceptor is all that is known.
#[test]
fn one_that_nobody_read_from_is_named_by_its_acceptor() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut tcptrail = leaks(&netns, &[])?;
    let mut server = Program::java(&netns, &[], "Server", &["8203", "forget"])?;
    server.wait_for("ready")?;
    let _silent = connect(&netns, ([127, 0, 0, 1], 8203).into())?;
    let leak = wait_for_leak(&mut tcptrail, server.pid(), 1)?;
    assert_eq!(leak.text("side"), "accept");
    check_frames(&leak, &["java.net.ServerSocket.accept", "com.acme.Server.main"])?;
    assert_eq!(leak.0["states"], serde_json::json!({ "ESTABLISHED": 1 }));
    tcptrail.stop()?.check_whole()
}

/// Tomcat reads a request before the servlet runs; what the thread does next names the servlet.
#[test]
fn the_handler_is_named_by_what_its_thread_does_next() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut tcptrail = leaks(&netns, &[])?;
    let mut backend = Program::java(&netns, &[], "Pages", &["8205"])?;
    let mut tomcat = Program::java(&netns, &[], "PageServlet", &["8204", "8205", "fixed"])?;
    backend.wait_for("ready")?;
    tomcat.wait_for("ready")?;
    let mut clients = Vec::new();
    for _ in 0..COUNT {
        let mut client = connect(&netns, ([127, 0, 0, 1], 8204).into())?;
        client.write_all(b"GET /pages/x HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut answer = [0; 4096];
        let length = client.read(&mut answer)?;
        ensure!(answer[..length].starts_with(b"HTTP/1.1 200"), "{:?}", &answer[..length]);
        clients.push(client);
    }
    let leak = tcptrail.wait_for_within("a leak with its handler", PATIENCE, |event| {
        event.kind() == "leak"
            && event.number("pid") == Some(u64::from(tomcat.pid()))
            && event.number("local_port") == Some(8204)
            && event.number("count") == Some(COUNT)
            && !event.0["handler"].is_null()
    })?;
    // It asks the backend, and reads what that answers.
    let lines = [line_of("PageServlet", "client.execute(")?, line_of("PageServlet", ".writeTo(")?];
    let handler = lines.map(|line| format!("com.acme.PageServlet.doGet:{line}"));
    ensure!(handler.iter().any(|handler| handler == leak.text("handler")), "{leak:?}");
    ensure!(leak.number("handler_seen") > Some(COUNT / 2), "{leak:?}");
    assert_eq!(leak.text("side"), "last_read");
    check_frames(&leak, &["org.apache.tomcat.util.net.NioChannel.read"])?;
    tcptrail.stop()?.check_whole()
}

/// Clients that order something and give up.
fn order(netns: &Netns, port: u16, count: u64) -> Result<()> {
    for _ in 0..count {
        let mut client = connect(netns, ([127, 0, 0, 1], port).into())?;
        client.write_all(b"GET /orders HTTP/1.1\r\nHost: a\r\n\r\n")?;
        // Each is a request of its own to whoever handles it.
        thread::sleep(Duration::from_millis(150));
    }
    Ok(())
}

/// An asynchronous servlet has done its part before anybody gives up, and does not connect or read. It is named by
/// another system call: it wakes a worker.
#[test]
fn an_asynchronous_servlet_is_named_though_it_has_returned() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut tcptrail = leaks(&netns, &[])?;
    let mut loses = Program::java(&netns, &[], "OrderServlet", &["8211", "lose"])?;
    let mut completes = Program::java(&netns, &[], "OrderServlet", &["8212", "complete"])?;
    for (program, port) in [(&mut loses, 8211), (&mut completes, 8212)] {
        program.wait_for("ready")?;
        order(&netns, port, 2 * COUNT)?;
    }
    let leak = tcptrail.wait_for_within("a leak with its handler", PATIENCE, |event| {
        event.kind() == "leak"
            && event.number("pid") == Some(u64::from(loses.pid()))
            && event.number("count") == Some(2 * COUNT)
            && !event.0["handler"].is_null()
            && event.number("handler_seen") > Some(COUNT)
    })?;
    println!("{} of {}", leak.0["handler_seen"], leak.0["count"]);
    // Where it wakes a worker; or where the JVM had to do something else for it.
    let lines = line_of("OrderServlet", "request.startAsync()")?
        ..=line_of("OrderServlet", "workers.execute(")?;
    let line = leak.text("handler").strip_prefix("com.acme.OrderServlet.doGet:");
    let line: Option<usize> = line.and_then(|line| line.parse().ok());
    ensure!(line.is_some_and(|line| lines.contains(&line)), "{leak:?}");
    assert_eq!(leak.0["states"], serde_json::json!({ "CLOSE_WAIT": 2 * COUNT }));
    let run = tcptrail.stop()?;
    check_silent(&run, completes.pid())?;
    run.check_whole()
}

/// A handler that does nothing the kernel sees is not known, and no other is named for it.
#[test]
fn a_handler_that_does_nothing_is_said_not_to_be_known() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    // Interpreted: a compiler that is asked for help is something that is seen.
    let mut quiet = Program::java(&netns, &["-Xint"], "OrderServlet", &["8213", "quiet"])?;
    quiet.wait_for("ready")?;
    // What is loaded for the first requests is read from files.
    order(&netns, 8213, COUNT)?;
    let args = ["leaks", "--netns", netns.name(), "--older", "1s", "--watch=2s"];
    let mut text = Tcptrail::start_text(&args)?;
    let mut json = leaks(&netns, &[])?;
    order(&netns, 8213, COUNT)?;
    let leak = json.wait_for_within("a leak", PATIENCE, |event| {
        event.kind() == "leak"
            && event.text("side") == "last_read"
            && event.number("count") == Some(COUNT)
            && !event.0["frames"].is_null()
    })?;
    ensure!(leak.0["handler"].is_null(), "{leak:?}");
    ensure!(leak.text("thread").starts_with("http-nio-8213-"), "{leak:?}");
    let said = text.wait_line("the method is unknown", |line| {
        line.contains("is unknown: it was not on the stack")
    })?;
    for words in ["grep -A 40 '\"http-nio-8213-", "startAsync"] {
        ensure!(said.contains(words), "no {words:?} in {said:?}");
    }
    drop(text);
    json.stop()?.check_whole()
}

/// Names of the programs that take stacks and that a process has attached, as the kernel has them.
fn stack_programs(pid: u32) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let found = text.lines().filter_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(found.filter_map(|id| id.trim().parse::<u64>().ok()));
    }
    let output = Command::new("bpftool").args(["prog", "show", "-j"]).output()?;
    let all: Value = serde_json::from_slice(&output.stdout).context("bpftool's JSON")?;
    let all = all.as_array().context("a list")?;
    let ours =
        all.iter().filter(|program| program["id"].as_u64().is_some_and(|id| ids.contains(&id)));
    let names = ours.filter_map(|program| Some(program["name"].as_str()?.to_owned()));
    Ok(names.filter(|name| name.starts_with("stack_")).collect())
}

/// Handlers are looked for by `leaks`; `stuck` takes stacks at connect() alone, and none with `--no-openers`.
#[test]
fn stuck_looks_for_no_handlers() -> Result<()> {
    if !ready(&["bpftool"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let programs = |args: &[&str]| -> Result<BTreeSet<String>> {
        let tcptrail = Tcptrail::start(&[args, &["--netns", netns.name()]].concat())?;
        let programs = stack_programs(tcptrail.pid())?;
        tcptrail.stop()?;
        Ok(programs)
    };
    let leaks = programs(&["leaks", "--watch=1s"])?;
    let later = |name: &String| !name.starts_with("stack_connect");
    ensure!(leaks.contains("stack_read") && leaks.iter().filter(|name| later(name)).count() > 1);
    let stuck = programs(&["stuck"])?;
    ensure!(stuck.contains("stack_connect") && !stuck.iter().any(later), "{stuck:?}");
    let none = programs(&["stuck", "--no-openers"])?;
    ensure!(none.is_empty(), "{none:?}");
    Ok(())
}
