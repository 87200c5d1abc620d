//! Java servers: accepted sockets, by who read from them last.

use std::thread;
use std::time::Duration;

use std::io::{Read, Write};

use anyhow::{Result, ensure};
use tests::java::{Program, line_of};
use tests::netns::Netns;
use tests::pace::is_slow;
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
    ensure!(leak.0["handler"].is_null(), "it did nothing else: {leak:?}");
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
