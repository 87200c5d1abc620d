//! What must not bring it down, nor leave anything behind: kill -9 at any moment, other instances, a
//! table that is full, a clock that is set.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime, clock_settime};
use serde_json::Value;
use tests::netns::Netns;
use tests::pace::patience;
use tests::ready;
use tests::tcptrail::{Tcptrail, command, shown};
use tests::traffic::{Both, churn, listen};
use tests::witness::eventually;

/// Numbers of what a process has in the kernel, by kind, from its descriptors.
fn held_by(pid: u32) -> Result<BTreeSet<(&'static str, u64)>> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        // A link has the number of its program too.
        for line in text.lines() {
            for (kind, key) in [("prog", "prog_id:"), ("map", "map_id:"), ("link", "link_id:")] {
                let number = line.strip_prefix(key).and_then(|id| id.trim().parse().ok());
                all.extend(number.map(|number| (kind, number)));
            }
        }
    }
    Ok(all)
}

/// Numbers of everything in the kernel, as bpftool has it.
fn in_kernel() -> Result<BTreeSet<(&'static str, u64)>> {
    let mut all = BTreeSet::new();
    for kind in ["prog", "map", "link"] {
        let output = Command::new("bpftool").args([kind, "show", "-j"]).output()?;
        let list: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stdout).into_owned())?;
        let list = list.as_array().context("a list")?;
        all.extend(list.iter().filter_map(|one| Some((kind, one["id"].as_u64()?))));
    }
    Ok(all)
}

/// Names in the BPF file system: pins.
fn pins() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// While it loads, while it attaches, in the middle of walks and events, and at its end.
#[test]
fn killed_at_any_moment_it_leaves_nothing() -> Result<()> {
    if !ready(&["bpftool"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let before = pins();
    let mut most = 0;
    for moment in 0..24_u64 {
        let view = ["tail", "life", "list", "tail"][usize::try_from(moment % 4)?];
        let mut command = command(&[view, "--json", "--netns", netns.name()]);
        if view == "list" {
            command.arg("--watch=100ms");
        }
        let mut tcptrail = Tcptrail::spawn(command)?;
        // From its first milliseconds to well after it has begun.
        let until = Instant::now() + patience(Duration::from_millis(moment * moment));
        while Instant::now() < until {
            churn(&netns, 3)?;
            thread::sleep(Duration::from_millis(1));
        }
        if moment == 22 {
            // However slow the machine is, one has everything.
            tcptrail.wait_for("start", |event| event.kind() == "start")?;
        }
        if moment % 8 == 7 {
            tcptrail.signal(Signal::INT)?;
        }
        // What it has is the same until it is dead.
        tcptrail.signal(Signal::STOP)?;
        let stopped = || -> Result<Option<()>> {
            let stat = fs::read_to_string(format!("/proc/{}/stat", tcptrail.pid()))?;
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
            Ok(matches!(state, Some(b'T' | b'Z')).then_some(()))
        };
        eventually("its stop", Duration::from_secs(5), stopped)?;
        let ours = held_by(tcptrail.pid()).unwrap_or_default();
        most = most.max(ours.len());
        tcptrail.signal(Signal::KILL)?;
        tcptrail.wait()?;
        eventually("the end of what it had", Duration::from_secs(10), || {
            Ok(ours.is_disjoint(&in_kernel()?).then_some(()))
        })
        .with_context(|| format!("killed after {} ms with {ours:?}", moment * moment))?;
    }
    // Some were killed when everything was there: programs, links, the ring and the globals.
    ensure!(most > 15, "never more than {most} objects");
    ensure!(pins() == before, "pins: {:?}", pins());
    Ok(())
}

/// One is killed in the middle of it; the other tells everything, once.
#[test]
fn one_that_dies_does_not_disturb_the_others() -> Result<()> {
    const CONNECTIONS: usize = 600;
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let args = ["--netns", netns.name()];
    let mut survivor = Tcptrail::start(&args)?;
    let mut victims =
        vec![Tcptrail::start(&args)?, Tcptrail::start(&[&["life"], &args[..]].concat())?];
    for third in 0..3 {
        churn(&netns, CONNECTIONS / 3)?;
        if third < 2 {
            let victim = victims.pop().context("two victims")?;
            victim.signal(Signal::KILL)?;
            victim.wait()?;
            // And a new one comes.
            Tcptrail::start(&args)?.stop()?.check_whole()?;
        }
    }
    let mut ends = 0;
    while ends < 3 {
        survivor.wait_for_next("the end of a listener", |event| event.is_step("LISTEN>CLOSE"))?;
        ends += 1;
    }
    let run = survivor.stop()?;
    run.check_whole()?;
    for step in ["CLOSE>SYN_SENT", "LISTEN>SYN_RECV", "FIN_WAIT2>TIME_WAIT", "LAST_ACK>CLOSE"] {
        let count = run.events.iter().filter(|event| event.is_step(step)).count();
        ensure!(count == CONNECTIONS, "{step}: {count} of {CONNECTIONS}");
    }
    Ok(())
}

/// What was there first stays known; what found no room is counted; when there is room again, all is
/// told again.
#[test]
fn a_full_table_counts_what_it_does_not_keep() -> Result<()> {
    const ROOM: usize = 41;
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let most = ROOM.to_string();
    let mut tail = Tcptrail::start(&["--netns", netns.name(), "--max-connections", &most])?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    // A listener and twenty connections of two ends: full.
    let mut kept = Vec::new();
    for _ in 0..(ROOM - 1) / 2 {
        kept.push(Both::new(&netns, &listener, addr)?);
    }
    let last = shown(kept.last().context("some")?.ends.server);
    tail.wait_for("the last that fits", |event| {
        event.is_step("SYN_RECV>ESTABLISHED") && event.text("local") == last
    })?;
    let mut beyond = Vec::new();
    for _ in 0..10 {
        beyond.push(Both::new(&netns, &listener, addr)?);
    }
    let lost = tail.wait_for("a loss", |event| event.kind() == "lost")?;
    ensure!(lost.text("where") == "table", "{lost:?}");
    let too_much: BTreeSet<String> = beyond.iter().map(|both| shown(both.ends.client)).collect();
    // Those that it has go on as ever, and leave their places to others.
    let first = kept.remove(0);
    let local = shown(first.ends.client);
    drop(first.server);
    drop(first.client);
    tail.wait_for("the end of the first", |event| {
        event.text("local") == local && event.text("new") == "CLOSE"
    })?;
    let new = Both::new(&netns, &listener, addr)?;
    let local = shown(new.ends.client);
    tail.wait_for("one that finds room again", |event| {
        event.text("local") == local && event.is_step("SYN_SENT>ESTABLISHED")
    })?;
    let run = tail.stop()?;
    run.check_good_end()?;
    let told: u64 = run.of_kind("lost").filter_map(|event| event.number("count")).sum();
    // Two transitions at each end of each.
    ensure!(told >= 40, "{told} of 40 transitions counted as lost");
    let shown_beyond =
        run.of_kind("transition").filter(|event| too_much.contains(event.text("local"))).count();
    ensure!(shown_beyond == 0, "{shown_beyond} transitions of what was refused");
    let end = run.of_kind("end").next().context("no end")?;
    ensure!(end.number("lost") == Some(told) && end.number("lost_table") == Some(told), "{end:?}");
    Ok(())
}

/// Wall time is read once: a clock that is set moves no line, and durations are not made of it. Only
/// where the machine is ours to spoil, as a guest of `cargo xtask kernels` is.
#[test]
fn a_clock_that_jumps_moves_no_line() -> Result<()> {
    const DAY: i64 = 86_400;
    if !ready(&[]) {
        return Ok(());
    }
    if std::env::var_os("TCPTRAIL_MAY_SET_CLOCK").is_none() {
        println!("skipped: sets the clock, and TCPTRAIL_MAY_SET_CLOCK does not allow it");
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut tail = Tcptrail::start(&["--netns", netns.name()])?;
    let set = |by: i64| -> Result<()> {
        let mut time = clock_gettime(ClockId::Realtime);
        time.tv_sec += by;
        clock_settime(ClockId::Realtime, time).context("set the clock")
    };
    churn(&netns, 5)?;
    for by in [DAY, -2 * DAY, DAY] {
        set(by)?;
        churn(&netns, 5)?;
    }
    for _ in 0..4 {
        tail.wait_for_next("the end of a listener", |event| event.is_step("LISTEN>CLOSE"))?;
    }
    let run = tail.stop()?;
    run.check_whole()?;
    let day_of = |event: &tests::tcptrail::Event| event.text("time").get(..10).map(str::to_owned);
    let days: BTreeSet<_> = run.of_kind("transition").filter_map(day_of).collect();
    ensure!(days.len() <= 2, "lines of {days:?}");
    let long = run.of_kind("transition").find(|event| {
        event.number("in_old_ns").is_some_and(|ns| ns > DAY.unsigned_abs() / 2 * 1_000_000_000)
    });
    ensure!(long.is_none(), "{long:?}");
    Ok(())
}

/// In a directory where everybody may write, as another user would prepare it.
#[test]
fn what_others_planted_is_not_written_to() -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    if !ready(&["mkfifo"]) {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777))?;
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious")?;
    let theirs = |path: &Path| chown(path, Some(65_534), Some(65_534));
    let link = dir.path().join("link");
    symlink(&victim, &link)?;
    let fifo = dir.path().join("fifo");
    ensure!(Command::new("mkfifo").arg(&fifo).status()?.success(), "mkfifo");
    theirs(&fifo)?;
    let file = dir.path().join("file");
    fs::write(&file, "theirs")?;
    theirs(&file)?;
    for path in [&link, &fifo, &file] {
        let path = path.to_str().context("UTF-8")?;
        for args in [&["record", path][..], &["tail", "--json", "--record", path]] {
            let run = tests::tcptrail::run(args)?;
            ensure!(run.code() == Some(1) && run.raw.is_empty(), "{args:?}: {:?}", run.status);
            ensure!(run.stderr.contains(path), "{args:?}: {}", run.stderr);
        }
    }
    ensure!(fs::read(&victim)? == b"precious" && fs::read(&file)? == b"theirs", "overwritten");
    // A new one is ours alone, whatever the umask.
    let new = dir.path().join("new");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" record \"$1\" --duration 300ms"]);
    command.arg(tests::tcptrail::binary()).arg(&new);
    ensure!(command.output()?.status.success(), "record");
    let mode = fs::metadata(&new)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    Ok(())
}
