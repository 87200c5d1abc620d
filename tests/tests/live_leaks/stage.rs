//! A namespace, servers to leak connections to, and what `leaks` says.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::pace::patience;
use tests::tcptrail::{Event, Run, Tcptrail};
use tests::traffic::listen;

/// Longer than anything of these tests takes, JVMs on a busy machine included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server that answers with `answer` and closes. Returns its port.
pub(crate) fn closing_server(netns: &Netns, answer: &'static [u8]) -> Result<u16> {
    let listener: TcpListener = listen(netns, "127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer);
            });
        }
    });
    Ok(port)
}

/// `leaks` on a namespace, every second, for sockets older than a second.
pub(crate) fn leaks(netns: &Netns, more: &[&str]) -> Result<Tcptrail> {
    let args = [&["leaks", "--netns", netns.name(), "--older", "1s", "--watch=1s"], more].concat();
    Tcptrail::start(&args)
}

/// Waits for the first report in which the process has a group of just so many sockets.
pub(crate) fn wait_for_leak(tcptrail: &mut Tcptrail, pid: u32, count: u64) -> Result<Event> {
    let what = format!("leak of {count} sockets by {pid}");
    tcptrail.wait_for_within(&what, PATIENCE, |event| {
        event.kind() == "leak"
            && event.number("pid") == Some(u64::from(pid))
            && event.number("count") == Some(count)
            // A JVM may be asked only once in a while.
            && (!event.0["frames"].is_null() || !event.0["note"].is_null())
    })
}

/// The frames, innermost first.
pub(crate) fn frames(leak: &Event) -> Vec<String> {
    let list = leak.0["frames"].as_array();
    list.into_iter().flatten().filter_map(|frame| Some(frame.as_str()?.to_owned())).collect()
}

/// Fails unless these frames are there, in this order.
pub(crate) fn check_frames(leak: &Event, expected: &[&str]) -> Result<()> {
    let frames = frames(leak);
    let mut rest = frames.iter();
    for name in expected {
        let is_it = |frame: &&String| {
            *frame == name || frame.rsplit_once(':').is_some_and(|(method, _)| method == *name)
        };
        ensure!(rest.any(|frame| is_it(&frame)), "no {name} at its place in {frames:#?}");
    }
    Ok(())
}

/// Fails if any report has sockets of the process that the peer has closed, or that stay. On a busy machine
/// a request may take longer than the second that `leaks` waits here.
pub(crate) fn check_silent(run: &Run, pid: u32) -> Result<()> {
    let long = patience(Duration::from_secs(8)).as_nanos();
    let accused = run.of_kind("leak").filter(|leak| leak.number("pid") == Some(u64::from(pid)));
    let mut stays = accused.filter(|leak| {
        !leak.0["states"]["CLOSE_WAIT"].is_null()
            || leak.number("oldest_ns").is_some_and(|age| u128::from(age) > long)
    });
    let about = stays.next();
    ensure!(about.is_none(), "an innocent is accused: {about:?}");
    Ok(())
}

/// What a JVM says of its threads, by its own tool: the `nid` of a thread.
pub(crate) fn nid_of(pid: u32, thread: &str) -> Result<u64> {
    let dump =
        std::process::Command::new("jcmd").args([&pid.to_string(), "Thread.print"]).output()?;
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    let line = dump.lines().find(|line| line.starts_with(&format!("\"{thread}\"")));
    let line = line.with_context(|| format!("no thread {thread} in {dump}"))?;
    let nid = line.split("nid=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let nid = nid.with_context(|| format!("no nid in {line}"))?;
    Ok(match nid.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16)?,
        None => nid.parse()?,
    })
}
