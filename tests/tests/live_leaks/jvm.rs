//! Java clients: interpreted, compiled, without frame pointers, in a container, not to be asked.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::java::{Program, classes, java, line_of};
use tests::netns::Netns;
use tests::pace::is_slow;
use tests::tcptrail::Tcptrail;

use crate::stage::{
    PATIENCE, check_frames, check_silent, closing_server, leaks, nid_of, wait_for_leak,
};

const COUNT: u64 = 8;
const FRAME_POINTERS: &str = "-XX:+PreserveFramePointer";
const WAY: [&str; 5] = [
    "sun.nio.ch.Net.connect0",
    "java.net.Socket.<init>",
    "com.acme.Crawler.fetch",
    "com.acme.Crawler.crawl",
    "java.lang.Thread.run",
];

fn crawler(netns: &Netns, options: &[&str], port: u16, close: bool) -> Result<Program> {
    let (port, count) = (port.to_string(), COUNT.to_string());
    let mut args = vec![port.as_str(), count.as_str(), "20"];
    args.extend(close.then_some("close"));
    Program::java(netns, options, "Crawler", &args)
}

#[test]
fn the_method_that_leaks_is_named_interpreted_or_compiled() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?;
    let mut tcptrail = leaks(&netns, &[])?;
    let mut interpreted = crawler(&netns, &["-Xint"], port, false)?;
    let mut compiled =
        crawler(&netns, &["-Xcomp", "-XX:TieredStopAtLevel=1", FRAME_POINTERS], port, false)?;
    let mut closing = crawler(&netns, &[], port, true)?;

    interpreted.wait_for("done")?;
    let leak = wait_for_leak(&mut tcptrail, interpreted.pid(), COUNT)?;
    check_frames(&leak, &WAY)?;
    let line = line_of("Crawler", "new Socket(")?;
    assert_eq!(leak.text("opener"), format!("com.acme.Crawler.fetch:{line}"));
    assert_eq!(leak.text("side"), "connect");
    assert_eq!(leak.text("thread"), "crawler-1");
    assert_eq!(leak.text("remote"), format!("127.0.0.1:{port}"));
    assert_eq!(leak.number("opened"), Some(COUNT));
    assert_eq!(leak.0["states"], serde_json::json!({ "CLOSE_WAIT": COUNT }));
    // Its thread has ended; the JVM's own tool knows only those that live.
    assert!(leak.0["note"].is_null(), "{leak:?}");

    compiled.wait_for("done")?;
    let leak = wait_for_leak(&mut tcptrail, compiled.pid(), COUNT)?;
    check_frames(&leak, &WAY)?;
    assert_eq!(leak.text("opener"), format!("com.acme.Crawler.fetch:{line}"));
    let map = format!("/tmp/perf-{}.map", compiled.pid());
    assert!(!Path::new(&map).exists(), "{map} was left behind");
    ensure!(compiled.runs()? && compiled.said_since().is_empty(), "the JVM was disturbed");

    closing.wait_for("done")?;
    let run = tcptrail.stop()?;
    check_silent(&run, closing.pid())?;
    run.check_whole()
}

/// Names of Java methods are read from the JVM's memory; of a JVM that has ended nothing is kept.
#[test]
fn of_a_jvm_that_has_ended_nothing_is_kept() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?;
    let mut tcptrail = leaks(&netns, &[])?;
    let watched = tcptrail.pid();
    let mut program = crawler(&netns, &["-Xint"], port, false)?;
    let memory = format!("/proc/{}/mem", program.pid());
    let is_open = || -> Result<bool> {
        let mut all = fs::read_dir(format!("/proc/{watched}/fd"))?.flatten();
        Ok(all.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&memory))))
    };
    program.wait_for("done")?;
    wait_for_leak(&mut tcptrail, program.pid(), COUNT)?;
    ensure!(is_open()?, "its memory is read in another way now: mend this test");
    drop(program);
    let deadline = Instant::now() + PATIENCE;
    while is_open()? {
        ensure!(Instant::now() < deadline, "{memory} is still open");
        thread::sleep(Duration::from_millis(100));
    }
    tcptrail.stop()?.check_whole()
}

#[test]
fn without_frame_pointers_callers_are_known_all_the_same() -> Result<()> {
    if !tests::java::ready(&["jcmd"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?;
    let mut tcptrail = leaks(&netns, &[])?;
    // Makes more connections than anybody waits for: the thread stays.
    let port = port.to_string();
    let tiers = [vec!["-XX:TieredStopAtLevel=1"], vec!["-XX:-TieredCompilation"]];
    // All of the JDK would take an emulated processor minutes.
    let compiled = ["-XX:CompileCommand=quiet", "-XX:CompileCommand=compileonly,com.acme.*::*"];
    for tier in tiers {
        let mut options = [&["-Xcomp", "-XX:-PreserveFramePointer"], &tier[..]].concat();
        options.extend(compiled.iter().filter(|_| is_slow()));
        let mut program = Program::java(&netns, &options, "Crawler", &[&port, "2000", "200"])?;
        let pid = program.pid();
        let leak = tcptrail.wait_for_within("leak", crate::stage::PATIENCE, |event| {
            event.kind() == "leak"
                && event.number("pid") == Some(u64::from(pid))
                && event.number("count") > Some(3)
                && !event.0["frames"].is_null()
        })?;
        // Without tiers the compiler may put fetch into crawl, and its frame is not there.
        check_frames(
            &leak,
            &["sun.nio.ch.Net.connect0", "com.acme.Crawler.crawl", "java.lang.Thread.run"],
        )?;
        assert!(leak.text("opener").starts_with("com.acme.Crawler."), "{leak:?}");
        assert_eq!(leak.text("thread"), "crawler-1");
        assert_eq!(leak.number("nid"), Some(nid_of(pid, "crawler-1")?));
        ensure!(program.runs()?, "it ended: {:?}", program.said_since());
    }
    tcptrail.stop()?.check_whole()
}

#[test]
fn a_jvm_that_must_not_be_asked_is_not() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?;
    let compiled = ["-Xcomp", "-XX:TieredStopAtLevel=1", FRAME_POINTERS];
    let mut asking = leaks(&netns, &[])?;
    let mut not_asking = leaks(&netns, &["--no-attach"])?;
    let refusing = "-XX:+DisableAttachMechanism";
    let mut program = crawler(&netns, &[&compiled[..], &[refusing]].concat(), port, false)?;
    program.wait_for("done")?;
    for (tcptrail, why) in
        [(&mut asking, "DisableAttachMechanism"), (&mut not_asking, "--no-attach")]
    {
        let leak = wait_for_leak(tcptrail, program.pid(), COUNT)?;
        check_frames(&leak, &WAY)?;
        assert!(leak.0["note"].is_null(), "{why}: {leak:?}");
    }
    // A thread dump is what SIGQUIT makes where nobody attaches.
    ensure!(program.runs()? && program.said_since().is_empty(), "it was disturbed");
    assert!(!Path::new(&format!("/tmp/.java_pid{}", program.pid())).exists());
    asking.stop()?.check_whole()?;
    not_asking.stop()?.check_whole()
}

/// SIGQUIT would end it; but it has its socket from the start.
#[test]
fn a_jvm_that_handles_no_signals_is_asked_without_one() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?;
    let mut tcptrail = leaks(&netns, &[])?;
    let options = ["-Xcomp", "-XX:TieredStopAtLevel=1", FRAME_POINTERS, "-Xrs"];
    let mut program = crawler(&netns, &options, port, false)?;
    program.wait_for("done")?;
    let leak = wait_for_leak(&mut tcptrail, program.pid(), COUNT)?;
    check_frames(&leak, &WAY)?;
    ensure!(program.runs()?, "it ended");
    tcptrail.stop()?.check_whole()
}

/// Another user, with process ids and a /tmp of its own, as in a container.
#[test]
fn a_jvm_in_a_container_is_asked_with_its_users_rights() -> Result<()> {
    if !tests::java::ready(&["unshare", "setpriv"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?;
    let mut tcptrail = leaks(&netns, &[])?;
    let (port, count) = (port.to_string(), COUNT.to_string());
    let options = ["-Xcomp", "-XX:TieredStopAtLevel=1", FRAME_POINTERS];
    let inside = java(&options, "Crawler", &[&port, &count, "20"])?;
    // The classes may be below /tmp, and that user's way there barred.
    let classes = classes();
    let words: Vec<String> = std::iter::once(inside.get_program())
        .chain(inside.get_args())
        .map(|word| word.to_string_lossy().replace(&classes, "/mnt"))
        .collect();
    let script = "mount --bind \"$0\" /mnt && mount -t tmpfs -o mode=1777 tmp /tmp && cd / && exec setpriv --reuid=65534 --regid=65534 \
                  --clear-groups \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            script,
            &classes,
        ])
        .args(&words);
    let mut program = Program::start(&netns, unshare)?;
    program.wait_for("done")?;
    let pid = child_of(program.pid())?;
    let leak = wait_for_leak(&mut tcptrail, pid, COUNT)?;
    check_frames(&leak, &WAY)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    assert!(status.contains("NSpid:") && status.contains("65534"), "{status}");
    let tmp: Vec<String> = fs::read_dir(format!("/proc/{pid}/root/tmp"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    // The JVM's own socket stays, as after any such tool.
    let left: Vec<&String> = tmp
        .iter()
        .filter(|name| name.starts_with(".attach") || name.starts_with("perf-"))
        .collect();
    assert!(left.is_empty(), "{tmp:?}");
    tcptrail.stop()?.check_whole()
}

fn child_of(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path)?;
    let child = children.split_whitespace().next().context("it has no child")?;
    Ok(child.parse()?)
}

/// Its own end, and a socket in its place that is not its own.
#[test]
fn a_jvm_that_ends_or_is_not_itself_is_a_sentence() -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns, b"hello")?;
    let mut tcptrail = leaks(&netns, &[])?;
    let options = ["-Xcomp", "-XX:TieredStopAtLevel=1", FRAME_POINTERS];
    let mut program = crawler(&netns, &options, port, false)?;
    let planted = format!("/tmp/.java_pid{}", program.pid());
    std::os::unix::fs::symlink("/tmp/elsewhere", &planted)?;
    program.wait_for("done")?;
    let leak = wait_for_leak(&mut tcptrail, program.pid(), COUNT)?;
    // What is not its own socket is not used; its own tables have the names all the same.
    check_frames(&leak, &WAY)?;
    drop(program);
    Tcptrail::stop(tcptrail)?.check_whole()
}
