//! Figures of `stats`, against those that an independent script makes of `life --json` of the same recording.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::{Run, Tcptrail, run};
use tests::traffic::{Both, connect, listen, read_end, reset, transfer};

const SCRIPT: &str = include_str!("../fixtures/stats.py");

fn script(life: &Run, keys: &str) -> Result<Vec<Value>> {
    let mut python = Command::new("python3")
        .args(["-c", SCRIPT, keys])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    python.stdin.take().context("a pipe")?.write_all(&life.raw)?;
    let output = python.wait_with_output()?;
    ensure!(output.status.success(), "the script failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Fails unless one object of `stats` has what the script has.
fn check_same(told: &Value, expected: &Value) -> Result<()> {
    let number = |of: &Value, key: &str| of[key].as_u64();
    for key in ["count", "left_out", "min", "max", "mean"] {
        ensure!(number(told, key) == number(expected, key), "{key}: {told} {expected}");
    }
    let precision = told["precision"].as_f64().context("precision")?;
    for key in ["p50", "p90", "p99", "p99_9"] {
        let (Some(is), Some(should)) = (number(told, key), number(expected, key)) else {
            ensure!(number(told, key) == number(expected, key), "{key}: {told} {expected}");
            continue;
        };
        // By nearest rank, and as much larger as is said.
        let most = should as f64 * (1.0 + precision) + 1.0;
        ensure!(is >= should && is as f64 <= most, "{key}: {is} {should}: {told}");
    }
    let buckets = told["buckets"].as_array().context("buckets")?;
    let all: u64 = buckets.iter().filter_map(|bucket| bucket["count"].as_u64()).sum();
    ensure!(Some(all) == number(told, "count"), "{told}");
    Ok(())
}

/// The figures of a recording are those of the script, whatever they are grouped by. Returns how many were compared.
fn check(file: &str) -> Result<usize> {
    let life = run(&["replay", file, "life", "--json"])?;
    let with_time_wait = run(&["replay", file, "life", "--with-time-wait", "--json"])?;
    let mut compared = 0;
    for keys in ["", "process", "remote,listener", "how,failed"] {
        let mut args = vec!["replay", file, "stats", "--json"];
        if !keys.is_empty() {
            args.extend(["--by", keys]);
        }
        let stats = run(&args)?;
        ensure!(stats.raw == run(&args)?.raw, "twice the same recording, and not the same");
        let (all, ended) = (script(&life, keys)?, script(&with_time_wait, keys)?);
        let of = |groups: &[Value], group: &Value, measure: &str| -> Option<Value> {
            let found = groups.iter().find(|one| one["group"] == *group)?;
            Some(found["measures"].get(measure)?.clone())
        };
        for told in stats.of_kind("stats") {
            let measure = told.text("measure");
            let source = if measure == "TIME_WAIT" { &ended } else { &all };
            let expected = of(source, &told.0["group"], measure)
                .with_context(|| format!("{keys}: the script has no {measure}: {told:?}"))?;
            check_same(&told.0, &expected).with_context(|| format!("{keys} {measure}"))?;
            compared += 1;
        }
        // And nothing is missing.
        let count = |groups: &[Value], wanted: fn(&str) -> bool| {
            let measures = groups.iter().filter_map(|group| group["measures"].as_object());
            let names = measures.flat_map(Map::keys);
            names.filter(|name| wanted(name)).count()
        };
        let expected =
            count(&all, |name| name != "TIME_WAIT") + count(&ended, |name| name == "TIME_WAIT");
        ensure!(stats.of_kind("stats").count() == expected, "{keys}: {expected} in the script");
    }
    Ok(compared)
}

#[test]
fn figures_are_those_of_an_independent_script() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("stats.tcpt");
    let file = file.to_str().context("UTF-8")?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let other = listen(&netns, "[::1]:0")?;
    // Older than the recording: of its states and life nothing is known.
    let before = Both::new(&netns, &listener, addr)?;
    let live = Tcptrail::start(&["stats", "--netns", netns.name(), "--record", file])?;
    for index in 0..60 {
        let both = Both::new(&netns, &listener, addr)?;
        transfer(&both.client, &both.server, 1 + index * 100)?;
        if index % 10 == 0 {
            thread::sleep(Duration::from_millis(20));
        }
        let (first, last) =
            if index % 3 == 0 { (both.client, both.server) } else { (both.server, both.client) };
        drop(first);
        read_end(&last)?;
        drop(last);
    }
    for _ in 0..5 {
        let both = Both::new(&netns, &other, other.local_addr()?)?;
        reset(both.client)?;
        drop(both.server);
    }
    // Nobody listens there.
    ensure!(connect(&netns, "127.0.0.1:9".parse()?).is_err());
    drop(before.client);
    read_end(&before.server)?;
    drop(before.server);
    let _open = Both::new(&netns, &listener, addr)?;
    thread::sleep(Duration::from_millis(1500));
    let live = live.stop()?;
    ensure!(live.code() == Some(0), "{live:?}");

    let compared = check(file)?;
    ensure!(compared > 60, "{compared} figures");
    // What was shown live is what the replay shows, but for the time.
    let replayed = run(&["replay", file, "stats", "--json"])?;
    let figures = |run: &Run| -> Vec<Value> {
        let told = run.of_kind("stats").map(|event| event.0.clone());
        told.map(|mut value| {
            value.as_object_mut().map(|object| (object.remove("time"), object.remove("mono_ns")));
            value
        })
        .collect()
    };
    ensure!(figures(&live) == figures(&replayed), "{:?}\n{:?}", figures(&live), figures(&replayed));
    let life = replayed.of_kind("stats").find(|event| event.text("measure") == "life");
    let life = life.context("life")?;
    // 66 connections with two ends each and one refused; both ends of the oldest are left out.
    ensure!(life.number("connections") == Some(2 * 66 + 1), "{life:?}");
    ensure!(life.number("left_out") == Some(2), "{life:?}");
    Ok(())
}

#[test]
fn figures_of_recordings_of_before_are_right_too() -> Result<()> {
    if !ready(&["python3"]) {
        return Ok(());
    }
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings");
    for name in ["loopback.tcpt", "synthetic.tcpt"] {
        let path = fixtures.join(name);
        ensure!(check(path.to_str().context("UTF-8")?)? > 20, "{name}");
    }
    Ok(())
}
