//! Programs in C and Python.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::java::{
    Program, WITH_FRAME_POINTERS as WITH, WITHOUT_FRAME_POINTERS as WITHOUT, native, native_ready,
};
use tests::netns::Netns;
use tests::pace::patience;
use tests::tcptrail::{Tcptrail, command};

use crate::stage::{PATIENCE, check_frames, check_silent, closing_server, leaks, wait_for_leak};

const COUNT: u64 = 5;

fn crawler(netns: &Netns, flags: &[&str], port: u16, close: bool) -> Result<Program> {
    let mut command = Command::new(native("crawler", flags)?);
    command.args([port.to_string(), COUNT.to_string()]).args(close.then_some("close"));
    Program::start(netns, command)
}

#[test]
fn a_c_function_is_named_with_its_line() -> Result<()> {
    if !native_ready() {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?;
    // Before it was a crawler it had its parent's longer name, of which kernels before 5.17 leave the end.
    let mut tcptrail = leaks(&netns, &["--comm", "crawler"])?;
    let leaking = crawler(&netns, WITH, port, false)?;
    let blind = crawler(&netns, WITHOUT, port, false)?;
    let mut closing = crawler(&netns, WITH, port, true)?;
    let leak = wait_for_leak(&mut tcptrail, leaking.pid(), COUNT)?;
    check_frames(&leak, &["fetch", "crawl", "main"])?;
    assert!(leak.text("opener").starts_with("fetch"), "{leak:?}");
    assert_eq!(leak.text("side"), "connect");
    // One that has no frame pointers: who called connect() is known all the same, by its unwind tables.
    let leak = wait_for_leak(&mut tcptrail, blind.pid(), COUNT)?;
    check_frames(&leak, &["fetch", "crawl", "main"])?;
    closing.wait_for("done")?;
    let run = tcptrail.stop()?;
    check_silent(&run, closing.pid())?;
    run.check_whole()
}

#[test]
fn folded_stacks_are_as_flame_graph_tools_read_them() -> Result<()> {
    if !native_ready() {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?;
    let args = ["leaks", "--netns", netns.name(), "--older", "100ms", "--folded"];
    let tcptrail = Tcptrail::spawn(command(&args))?;
    wait_until_it_runs(tcptrail.pid())?;
    let mut program = crawler(&netns, WITH, port, false)?;
    program.wait_for("done")?;
    std::thread::sleep(patience(Duration::from_millis(1_500)));
    let run = tcptrail.stop()?;
    run.check_good_end()?;
    let text = String::from_utf8(run.raw)?;
    let line = text.lines().find(|line| line.contains(";fetch")).with_context(|| text.clone())?;
    let (stack, count) = line.rsplit_once(' ').context("a count")?;
    assert_eq!(count.parse::<u64>()?, COUNT, "{line}");
    assert!(stack.starts_with("crawler;crawler;"), "{line}");
    assert!(stack.contains("main;crawl;fetch;"), "{line}");
    assert!(text.lines().all(|line| !line.is_empty() && !line.starts_with('{')), "{text}");
    Ok(())
}

/// Nothing on stdout tells that it has begun; that it has no way to new privileges any more does, which it
/// gives up when everything is attached.
fn wait_until_it_runs(pid: u32) -> Result<()> {
    let deadline = Instant::now() + patience(PATIENCE);
    while !fs::read_to_string(format!("/proc/{pid}/status"))?.contains("NoNewPrivs:\t1") {
        ensure!(Instant::now() < deadline, "it does not begin");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn an_interpreters_own_frames_are_not_taken_for_the_scripts() -> Result<()> {
    if !tests::ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?;
    let mut tcptrail = leaks(&netns, &[])?;
    let script = format!(
        "import socket,time\nkept=[]\nfor at in range({COUNT}):\n s=socket.create_connection(('127.0.0.1',{port}))\n \
         s.send(b'?')\n kept.append(s)\nprint('done',flush=True)\ntime.sleep(600)\n"
    );
    let mut python = Command::new("python3");
    python.args(["-c", &script]);
    let mut python = Program::start(&netns, python)?;
    python.wait_for("done")?;
    let leak = wait_for_leak(&mut tcptrail, python.pid(), COUNT)?;
    assert!(leak.text("note").contains("py-spy"), "{leak:?}");
    assert!(leak.0["opener"].is_null(), "{leak:?}");
    tcptrail.stop()?.check_whole()
}
