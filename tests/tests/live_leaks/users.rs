//! Who used a socket last, where that is other code than opened it.

use anyhow::{Result, ensure};
use tests::java::{Program, line_of};
use tests::netns::Netns;
use tests::tcptrail::Tcptrail;

use crate::stage::{PATIENCE, check_frames, check_silent, leaks, wait_for_leak};

/// A server that keeps connections open.
fn pages(netns: &Netns, port: &str) -> Result<Program> {
    let mut server = Program::java(netns, &[], "Pages", &[port])?;
    server.wait_for("ready")?;
    Ok(server)
}

/// What `warm` opened and gave back, `report` has borrowed and keeps: all of it is told as report's.
#[test]
fn who_borrowed_it_from_the_pool_is_named_beside_who_opened_it() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    const ROUNDS: u64 = 8;
    let netns = Netns::new()?;
    let _server = pages(&netns, "8301")?;
    let mut tcptrail = leaks(&netns, &[])?;
    let mut program = Program::java(&netns, &[], "Two", &["8301", &ROUNDS.to_string(), "keep"])?;
    program.wait_for("done")?;
    let leak = wait_for_leak(&mut tcptrail, program.pid(), 5 * ROUNDS)?;
    let warm = line_of("Two", "uri + \"warm\"")?;
    let report = line_of("Two", "uri + \"report\"")?;
    assert_eq!(leak.text("opener"), format!("com.acme.Two.warm:{warm}"));
    assert_eq!(leak.text("user"), format!("com.acme.Two.report:{report}"));
    assert_eq!(leak.text("side"), "connect");
    // As the kernel has it: of the first thread that is the process's name.
    assert_eq!(leak.text("user_thread"), "java");
    check_frames(&leak, &["com.acme.Two.warm", "com.acme.Two.main"])?;
    tcptrail.stop()?.check_whole()
}

/// Whoever opens and uses is named once.
#[test]
fn who_opens_and_uses_is_named_once() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = crate::stage::closing_server(&netns, b"hello")?;
    let mut tcptrail = leaks(&netns, &[])?;
    let mut program = Program::java(&netns, &[], "Crawler", &[&port.to_string(), "6", "20"])?;
    program.wait_for("done")?;
    let leak = wait_for_leak(&mut tcptrail, program.pid(), 6)?;
    assert_eq!(leak.text("opener").split(':').next(), Some("com.acme.Crawler.fetch"));
    assert!(leak.0["user"].is_null(), "{leak:?}");
    assert_eq!(leak.number("collected"), Some(0));
    tcptrail.stop()?.check_whole()
}

/// A client that connects on a thread of its own: nothing of the application is on that stack, and none is
/// invented.
#[test]
fn a_library_that_connects_on_its_own_thread_is_told_as_that() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _server = pages(&netns, "8302")?;
    let mut tcptrail = leaks(&netns, &[])?;
    let mut program = Program::java(&netns, &[], "Async", &["8302", "4"])?;
    program.wait_for("done")?;
    let pid = u64::from(program.pid());
    let leak = tcptrail.wait_for_within("a leak", PATIENCE, |event| {
        event.kind() == "leak" && event.number("pid") == Some(pid) && !event.0["frames"].is_null()
    })?;
    ensure!(leak.0["opener"].is_null(), "{leak:?}");
    assert!(leak.text("thread").starts_with("HttpClient-"), "{leak:?}");
    assert_eq!(leak.text("remote"), "127.0.0.1:8302");
    tcptrail.stop()?.check_whole()
}

/// Netty connects and reads on its event loop. A channel for each request that nobody closes leaks; no method of the
/// application is on any of its stacks, and none is invented: the thread and the remote are what is known.
#[test]
fn netty_channels_that_nobody_closes_leak() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _server = pages(&netns, "8303")?;
    let mut leaks = leaks(&netns, &[])?;
    let threshold = ["--threshold", "ESTABLISHED_IDLE=3s"];
    let mut stuck =
        Tcptrail::start(&[&["stuck", "--netns", netns.name()], &threshold[..]].concat())?;
    let start = |how| Program::java(&netns, &[], "NettyClient", &["8303", "32", how]);
    let args = ["leaks", "--netns", netns.name(), "--older", "1s", "--watch=1s"];
    let mut text = Tcptrail::start_text(&args)?;
    let (keeps, mut closes) = (start("keep")?, start("close")?);
    let pid = u64::from(keeps.pid());
    let begins = format!(
        "sockets of java[{pid}] to 127.0.0.1:8303 opened by thread nioEventLoopGro (io.netty."
    );
    let said = text.wait_line("its title", |line| line.contains(&begins))?;
    println!("{said}");
    ensure!(said.contains(", with no method of the application on the stack"), "{said}");
    drop(text);
    let told = stuck.wait_for_within("a leak", PATIENCE, |event| {
        event.kind() == "stuck"
            && event.number("pid") == Some(pid)
            && event.text("severity") == "leak"
    })?;
    println!("{}", told.text("verdict"));
    assert_eq!(told.text("rule"), "established_idle");
    assert_eq!(told.text("remote"), "127.0.0.1:8303");
    let leak = leaks.wait_for_within("its sockets", PATIENCE, |event| {
        event.kind() == "leak" && event.number("pid") == Some(pid) && !event.0["frames"].is_null()
    })?;
    ensure!(leak.text("opener").starts_with("io.netty."), "{leak:?}");
    ensure!(leak.0["user"].is_null(), "a library is no user: {leak:?}");
    ensure!(leak.text("thread").starts_with("nioEventLoopGro"), "{leak:?}");
    assert_eq!(leak.text("remote"), "127.0.0.1:8303");
    closes.wait_for("done")?;
    check_silent(&leaks.stop()?, closes.pid())?;
    let run = stuck.stop()?;
    let accused =
        run.of_kind("stuck").find(|event| event.number("pid") == Some(u64::from(closes.pid())));
    ensure!(accused.is_none(), "{accused:?}");
    run.check_whole()
}
