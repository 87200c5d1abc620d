//! Methods that a JVM's compilers put into their callers, against the JVM's own thread dump of the thread in the
//! same place: it waits in connect() for an answer that does not come, on every JDK that is here.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::java::{Program, java_of, line_of};
use tests::jdks::{self, Jdk};
use tests::netns::Netns;
use tests::tcptrail::{Event, Tcptrail};

use crate::stage::{PATIENCE, check_frames, closing_server, frames, leaks};

/// Nobody answers there.
const DROPPED: &str = "8299";
const THREAD: &str = "orders-1";

/// A namespace with a server that answers, and a port where nobody does.
fn stage() -> Result<(Netns, u16)> {
    let netns = Netns::new()?;
    netns.nft(&format!(
        "table ip t {{\n chain c {{\n  type filter hook input priority 0;\n  tcp dport {DROPPED} drop\n }}\n}}\n"
    ))?;
    let port = closing_server(&netns, b"")?;
    Ok((netns, port))
}

/// Starts `Orders`, which connects `count` times to `port` before.
fn orders(
    netns: &Netns,
    jdk: &Jdk,
    options: &[&str],
    [count, port]: [u32; 2],
    more: &[&str],
) -> Result<Program> {
    let (count, port) = (count.to_string(), port.to_string());
    let args = [&[count.as_str(), &port, DROPPED], more].concat();
    let mut program = Program::start(netns, java_of(&jdk.tool("java"), options, "Orders", &args)?)?;
    program.wait_for("warm")?;
    Ok(program)
}

/// The connect that waits.
fn waiting(tcptrail: &mut Tcptrail, pid: u32) -> Result<Event> {
    tcptrail.wait_for_within("the connect that waits", PATIENCE, |event| {
        event.kind() == "leak"
            && event.number("pid") == Some(u64::from(pid))
            && !event.0["states"]["SYN_SENT"].is_null()
            && !event.0["frames"].is_null()
    })
}

/// What the JVM itself says of the thread, once it is there.
fn dumped(jdk: &Jdk, pid: u32) -> Result<Vec<String>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let frames = jdks::dumped(jdk, pid, THREAD)?;
        if frames
            .first()
            .is_some_and(|frame| frame.ends_with("connect0") || frame.ends_with("socketConnect"))
        {
            return Ok(frames);
        }
        ensure!(Instant::now() < deadline, "it does not connect: {frames:#?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Fails unless the stack has the frames of the dump, all of them with their lines, in order, and between them
/// nothing but what dumps leave out: what the JVM generated for lambdas.
fn check_same(jdk: &Jdk, leak: &Event, dump: &[String]) -> Result<()> {
    let all = frames(leak);
    let release = jdk.release;
    let first = dump.first().context("an empty dump")?;
    let begin = all.iter().position(|frame| frame == first);
    let begin = begin.with_context(|| format!("JDK {release}: no {first} in {all:#?}"))?;
    let mut expected = dump.iter().peekable();
    for frame in &all[begin..] {
        if expected.peek() == Some(&frame) {
            expected.next();
            continue;
        }
        let is_generated =
            frame.contains("$$Lambda") || frame.contains("LambdaForm") || !frame.contains('.');
        ensure!(
            is_generated || expected.peek().is_none(),
            "JDK {release}: {frame} instead of {:?} in {all:#?}; the JVM says {dump:#?}",
            expected.peek()
        );
    }
    ensure!(
        expected.peek().is_none(),
        "JDK {release}: {:?} is not in {all:#?}; the JVM says {dump:#?}",
        expected.peek()
    );
    Ok(())
}

fn check(options: &[&str], count: u32) -> Result<()> {
    if !tests::java::ready(&["nft"]) {
        return Ok(());
    }
    let (netns, port) = stage()?;
    let mut tcptrail = leaks(&netns, &["--comm", "java"])?;
    let line = line_of("Orders", "socket.connect(")?;
    let start =
        |jdk: Jdk| Ok((jdk.clone(), orders(&netns, &jdk, options, [count, port.into()], &[])?));
    let running: Vec<(Jdk, Program)> = jdks::all().into_iter().map(start).collect::<Result<_>>()?;
    for (jdk, program) in running {
        let dump = dumped(&jdk, program.pid())?;
        let leak = waiting(&mut tcptrail, program.pid())?;
        check_same(&jdk, &leak, &dump)?;
        assert_eq!(leak.text("opener"), format!("com.acme.Orders.dial:{line}"), "{}", jdk.release);
        assert!(leak.0["note"].is_null(), "JDK {}: {leak:?}", jdk.release);
        println!("JDK {}: {} frames as in its thread dump", jdk.release, dump.len());
    }
    tcptrail.stop()?.check_whole()
}

/// Compiled before anybody waits for it, each method in its caller.
const INLINED: [&str; 4] = [
    "-Xbatch",
    "-XX:CompileThresholdScaling=0.01",
    "-XX:CompileCommand=quiet",
    "-XX:CompileCommand=inline,com.acme.Orders*::*",
];

#[test]
fn inlined_methods_are_as_in_a_thread_dump() -> Result<()> {
    check(&[&INLINED[..], &["-XX:-TieredCompilation"]].concat(), 200)
}

/// The first compiler inlines, too, and the JVM may have frame pointers.
#[test]
fn inlined_by_the_first_compiler_with_frame_pointers() -> Result<()> {
    check(&[&INLINED[..], &["-XX:TieredStopAtLevel=1", "-XX:+PreserveFramePointer"]].concat(), 200)
}

/// Two interpreted callers of the same compiled code are two stacks, though the interpreter is returned to at
/// the same address.
#[test]
fn interpreted_callers_of_compiled_code_are_told_apart() -> Result<()> {
    let interpreted = "-XX:CompileCommand=exclude,com.acme.Orders::work";
    check(&[&INLINED[..], &["-XX:-TieredCompilation", interpreted]].concat(), 200)
}

/// As services run: whatever was compiled by then.
#[test]
fn with_plain_flags_stacks_are_as_in_a_thread_dump() -> Result<()> {
    check(&[], 2_000)
}

/// A virtual thread is seen to its beginning. Once it has waited, its outer methods may still be in the Java heap:
/// then it is said that they are not known.
#[test]
fn virtual_threads_are_seen_as_far_as_they_are_on_a_stack() -> Result<()> {
    if !tests::java::ready(&["nft"]) {
        return Ok(());
    }
    let (netns, port) = stage()?;
    let mut tcptrail = leaks(&netns, &["--comm", "java"])?;
    let at = |method: &str, text: &str| -> Result<String> {
        Ok(format!("com.acme.Orders.{method}:{}", line_of("Orders", text)?))
    };
    let expected = [
        at("dial", "socket.connect(")?,
        at("open", "dial(socket, port);")?,
        at("price", "close(open(port));")?,
        at("inTime", "task.run();")?,
        at("handle", "inTime(() -> ")?,
        at("work", "handle(full);")?,
    ];
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    let mut running = Vec::new();
    for jdk in jdks::all().into_iter().filter(|jdk| jdk.release >= 21) {
        for (options, count) in [(&[][..], 0), (&INLINED, 100)] {
            let program = orders(&netns, &jdk, options, [count, port.into()], &["virtual"])?;
            running.push((
                format!("JDK {} {options:?}, {count} before", jdk.release),
                program,
                count,
            ));
        }
    }
    for (what, program, count) in &running {
        let leak = waiting(&mut tcptrail, program.pid())?;
        check_frames(&leak, &expected).with_context(|| what.clone())?;
        assert!(leak.text("thread").starts_with("ForkJoinPool"), "{what}: {leak:?}");
        let beginning = check_frames(&leak, &["java.lang.VirtualThread.run"]);
        let note = leak.0["note"].as_str().unwrap_or_default();
        ensure!(beginning.is_ok() != note.contains("virtual thread"), "{what}: {leak:?}");
        ensure!(beginning.is_ok() || *count > 0, "{what}: it has not waited, {leak:?}");
        println!("{what}: {} frames {note}", frames(&leak).len());
    }
    tcptrail.stop()?.check_whole()
}
