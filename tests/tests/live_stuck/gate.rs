//! `--fail-on`: for tests and pipelines of others.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::run;
use tests::traffic::{Both, finish_sending, listen};

use crate::stage::start;

#[test]
fn a_condition_that_holds_ends_the_run() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let holds = start(&netns, &["--fail-on", "CLOSE_WAIT>2 for 2s"])?;
    let more = start(&netns, &["--fail-on", "CLOSE_WAIT>3 for 2s"])?;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let both = Both::new(&netns, &listener, addr)?;
        finish_sending(&both.client)?;
        kept.push(both);
    }
    let ended = holds.wait()?;
    ensure!(ended.code() == Some(3), "exit {:?}: {}", ended.status, ended.stderr);
    ensure!(
        ended.stderr.contains("--fail-on 'CLOSE_WAIT>2 for 2s': it is 3, and it held for"),
        "{}",
        ended.stderr
    );
    let end = ended.of_kind("end").count();
    ensure!(end == 1, "{end} end lines");
    std::thread::sleep(Duration::from_secs(1));
    let ended = more.stop()?;
    ensure!(ended.code() == Some(0), "exit {:?}: {}", ended.status, ended.stderr);
    // Once, at once.
    let once = run(&["stuck", "--once", "--netns", netns.name(), "--fail-on", "CLOSE_WAIT>=3"])?;
    ensure!(once.code() == Some(3), "exit {:?}: {}", once.status, once.stderr);
    let once = run(&["stuck", "--once", "--netns", netns.name(), "--fail-on", "CLOSE_WAIT>=4"])?;
    ensure!(once.code() == Some(0), "exit {:?}: {}", once.status, once.stderr);
    // They are too young to be told, which is said.
    let once = run(&["stuck", "--once", "--netns", netns.name()])?;
    let text = String::from_utf8_lossy(&once.raw).into_owned();
    ensure!(once.code() == Some(0), "exit {:?}: {text}", once.status);
    ensure!(text.contains("3 sockets are in CLOSE_WAIT, the longest for at least "), "{text}");
    ensure!(text.contains("tcptrail calls that stuck after 1m00s"), "{text}");
    Ok(())
}

#[test]
fn what_is_no_condition_is_said_with_the_grammar() -> Result<()> {
    let check = |args: &[&str], words: &[&str]| -> Result<()> {
        let run = run(args)?;
        ensure!(run.code() == Some(2), "{args:?}: exit {:?}: {}", run.status, run.stderr);
        for word in words {
            ensure!(run.stderr.contains(word), "{args:?}: no {word:?}: {}", run.stderr);
        }
        Ok(())
    };
    let grammar = "WHAT>NUMBER [for TIME]";
    check(&["stuck", "--fail-on", "CLOSE_WAIT"], &["there is no > in it", grammar])?;
    check(&["stuck", "--fail-on", "NOISE>1"], &["NOISE is nothing that is counted", grammar])?;
    check(&["stuck", "--fail-on", "CLOSE_WAIT>1 for ever"], &["ever is no time", grammar])?;
    check(&["stuck", "--once", "--fail-on", "CLOSE_WAIT>1 for 5s"], &["--once", "--duration"])?;
    check(&["stuck", "--threshold", "FOO=1s"], &["unknown name FOO", "CLOSE_WAIT"])?;
    check(&["stuck", "--threshold", "CLOSE_WAIT=soon"], &["soon is no time"])?;
    check(&["replay", "none", "tail", "--once"], &["go with `replay FILE stuck`"])
}
