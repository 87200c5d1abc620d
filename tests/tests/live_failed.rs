//! Connects that fail, against what the program that tried them got and measured, and what the kernel counted.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::netns::{Netns, Pair};
use tests::pace::slack;
use tests::ready;
use tests::tcptrail::{Event, Run, Tcptrail, run};
use tests::traffic::{Both, listen, read_end};
use tests::witness::counters;

const MS: u64 = 1_000_000;

/// Tries all of `[[host, port, timeout], ...]` at the same time; prints what each got, and after how long the socket
/// was closed: `[[port, errno, nanoseconds], ...]`.
const CONNECTS: &str = r#"
import errno, json, socket, sys, threading, time

def connect(host, port, timeout):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(timeout)
        begun = time.monotonic_ns()
        try:
            s.connect((host, port))
            got = "connected"
        except socket.timeout as e:
            got = "timeout" if e.errno is None else errno.errorcode[e.errno]
        except OSError as e:
            got = errno.errorcode[e.errno]
    result.append([port, got, time.monotonic_ns() - begun])

result = []
threads = [threading.Thread(target=connect, args=one) for one in json.loads(sys.argv[1])]
for one in threads: one.start()
for one in threads: one.join()
print(json.dumps(result))
"#;

/// What came of one connect.
struct Got {
    port: u64,
    errno: String,
    ns: u64,
}

fn try_all(netns: &Netns, all: &Value) -> Result<Vec<Got>> {
    let mut python = Command::new("python3");
    python.args(["-c", CONNECTS, &all.to_string()]);
    let output = netns.output(python)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let got: Vec<(u64, String, u64)> = serde_json::from_slice(&output.stdout)?;
    Ok(got.into_iter().map(|(port, errno, ns)| Got { port, errno, ns }).collect())
}

/// Port, timeout of the program, what it got, and what `life` is to say: `failed`, `how`, `errno`, SYNs sent again
/// (where that is certain), and for how long at least, milliseconds.
type Case = (u64, Option<f64>, &'static str, [&'static str; 3], Option<u64>, u64);

const CASES: &[Case] = &[
    // Nobody listens.
    (5000, None, "ECONNREFUSED", ["refused", "refused", "ECONNREFUSED"], None, 0),
    // The SYN is dropped.
    (5001, None, "ETIMEDOUT", ["timeout", "timeout", "ETIMEDOUT"], Some(1), 2_900),
    (5002, Some(0.5), "timeout", ["given_up", "aborted", "null"], Some(0), 490),
    (5003, Some(1.7), "timeout", ["given_up", "aborted", "null"], Some(1), 1_690),
    // ICMP answers. While connect() is at work the kernel keeps it until the SYN is sent again, a second later.
    (5004, None, "EHOSTUNREACH", ["unreachable", "unreachable", "EHOSTUNREACH"], None, 0),
    (5005, None, "ECONNREFUSED", ["refused", "refused", "ECONNREFUSED"], None, 0),
    (5006, None, "ENOPROTOOPT", ["unreachable", "unreachable", "ENOPROTOOPT"], None, 0),
    (5007, None, "EACCES", ["unreachable", "unreachable", "EACCES"], None, 0),
];

/// Of IPv6.
const PROHIBITED: u64 = 5007;

fn check_case(case: &Case, got: &Got, close: &Event) -> Result<()> {
    let &(port, _, errno, [failed, how, told_errno], again, least_ms) = case;
    ensure!(got.errno == errno, "{port}: the program got {}", got.errno);
    let words = [
        ("failed", failed),
        ("how", how),
        ("errno", told_errno),
        ("role", "client"),
        ("handshake_ns", "null"),
        ("comm", "python3"),
    ];
    for (key, expected) in words {
        let told = if close.0[key].is_null() { "null" } else { close.text(key) };
        ensure!(told == expected, "{port}: {key} is not {expected}: {close:?}");
    }
    if let Some(again) = again {
        ensure!(close.number("syn_retransmits") == Some(again), "{port}, not {again}: {close:?}");
    }
    // The program began before and ended after.
    let waited = close.number("total_ns").context("total_ns")?;
    let (least, most) = (least_ms * MS, got.ns);
    ensure!(waited >= least && waited <= most, "{port}: {waited}, not {least}..{most}");
    // On a busy machine it is told late.
    ensure!(most - waited < 2_000 * MS + slack(), "{port}: {waited} of {most}");
    Ok(())
}

fn closes(run: &Run) -> Vec<&Event> {
    run.of_kind("close").collect()
}

fn of_port<'a>(events: &[&'a Event], port: u64) -> Result<&'a Event> {
    let end = format!(":{port}");
    let mut found = events.iter().filter(|event| event.text("remote").ends_with(&end));
    let event = found.next().with_context(|| format!("nothing of {port}: {events:?}"))?;
    ensure!(found.next().is_none(), "{port} twice: {events:?}");
    Ok(event)
}

/// Two namespaces: in the right one connects are tried, the left one answers them in so many ways.
fn stage() -> Result<Pair> {
    let pair = Pair::new()?;
    pair.right.sysctl("ipv4/tcp_syn_retries", "1")?;
    // Since 6.5 the first four go out a second apart beyond that number. Before, there is no such setting.
    let _ = pair.right.sysctl("ipv4/tcp_syn_linear_timeouts", "0");
    pair.right.ip(&["route", "add", "blackhole", "203.0.113.9"])?;
    pair.left.nft(
        "table inet answers {
            chain arriving {
                type filter hook input priority 0; policy accept;
                tcp dport 5001-5003 drop
                tcp dport 5004 reject with icmp type host-unreachable
                tcp dport 5005 reject with icmp type port-unreachable
                tcp dport 5006 reject with icmp type prot-unreachable
                tcp dport 5007 reject with icmpv6 type admin-prohibited
            }
        }",
    )?;
    Ok(pair)
}

/// All cases, and one that ends before there is anything to be seen; `AttemptFails` and `TCPSynRetrans` of it.
fn fail(pair: &Pair) -> Result<(Vec<Got>, [u64; 2])> {
    let before = counters(&pair.right)?;
    let host = |port| if port == PROHIBITED { Pair::LEFT6 } else { Pair::LEFT };
    let mut all: Vec<Value> =
        CASES.iter().map(|case| serde_json::json!([host(case.0), case.0, case.1])).collect();
    all.push(serde_json::json!(["203.0.113.9", 5999, null]));
    let got = try_all(&pair.right, &Value::Array(all))?;
    let after = counters(&pair.right)?;
    let since = |name: &str| -> Result<u64> {
        Ok(after.get(name).context("a counter")? - before.get(name).context("a counter")?)
    };
    Ok((got, [since("AttemptFails")?, since("TCPSynRetrans")?]))
}

#[test]
fn connects_fail_as_the_program_was_told() -> Result<()> {
    if !ready(&["python3", "nft"]) {
        return Ok(());
    }
    let pair = stage()?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("all.tcpt");
    let file = file.to_str().context("UTF-8")?;
    let netns = ["--netns", pair.right.name()];
    let mut all = Tcptrail::start_all(&[
        [&["life", "--failed", "--record", file][..], &netns].concat(),
        [&["tail", "--failed"][..], &netns].concat(),
    ])?;
    // One that does not fail.
    let listener = listen(&pair.left, &format!("{}:0", Pair::LEFT))?;
    let fine = Both::new(&pair.right, &listener, listener.local_addr()?)?;
    drop(fine.server);
    read_end(&fine.client)?;
    drop(fine.client);
    let (got, [attempts, syns]) = fail(&pair)?;
    // The last to end, whichever it is.
    for case in CASES {
        let end = format!(":{}", case.0);
        all[0].wait_for("close", |event| {
            event.kind() == "close" && event.text("remote").ends_with(&end)
        })?;
    }
    let runs = Tcptrail::stop_all(all)?;
    let (life, tail) = (&runs[0], &runs[1]);
    life.check_whole()?;
    tail.check_whole()?;
    let told = closes(life);
    ensure!(told.len() == CASES.len(), "{told:?}");
    let ends: Vec<&Event> = tail.of_kind("transition").collect();
    ensure!(ends.len() == CASES.len(), "{ends:?}");
    for case in CASES {
        let got = got.iter().find(|got| got.port == case.0).context("tried")?;
        check_case(case, got, of_port(&told, case.0)?)?;
        let end = of_port(&ends, case.0)?;
        ensure!(end.is_step("SYN_SENT>CLOSE") && end.text("failed") == case.3[0], "{end:?}");
    }
    // A route that refuses does so before there is a connection.
    let blackhole = got.iter().find(|got| got.port == 5999).context("tried")?;
    ensure!(blackhole.errno == "EINVAL", "the program got {}", blackhole.errno);
    // The kernel counts what ends by itself, not what the program gives up.
    let by_itself = told.iter().filter(|close| close.text("failed") != "given_up").count();
    ensure!(attempts == by_itself as u64, "AttemptFails: {attempts}, told {by_itself}");
    let again: u64 = told.iter().filter_map(|close| close.number("syn_retransmits")).sum();
    ensure!(syns == again, "TCPSynRetrans: {syns}, told {again}");
    check_replay(file)
}

/// The recording has what `--failed` left out, and can be asked in other ways.
fn check_replay(file: &str) -> Result<()> {
    let life = |filters: &[&str]| -> Result<usize> {
        let all = run(&[&["replay", file, "life", "--json"], filters].concat())?;
        Ok(closes(&all).len())
    };
    for (filters, expect) in [
        (&[][..], CASES.len() + 1),
        (&["--failed"], CASES.len()),
        (&["--how", "refused"], 2),
        (&["--how", "refused,timeout"], 3),
        (&["--how", "aborted", "--failed"], 2),
        (&["--how", "unreachable", "--failed", "-6"], 1),
        (&["--failed", "--min-duration", "2900ms"], 1),
        (&["--failed", "--rport", "5002", "--comm", "python3"], 1),
        (&["--failed", "--role", "server"], 0),
    ] {
        let count = life(filters)?;
        ensure!(count == expect, "{filters:?}: {count}, not {expect}");
    }
    let by = ["--by", "remote,how,failed", "--json"];
    let stats = run(&[&["replay", file, "stats"], &by[..]].concat())?;
    for case in CASES {
        let end = format!(":{}", case.0);
        let waited = stats
            .of_kind("stats")
            .find(|line| {
                let remote = line.0["group"]["remote"].as_str();
                line.text("measure") == "waited" && remote.is_some_and(|it| it.ends_with(&end))
            })
            .with_context(|| format!("no `waited` of {end}"))?;
        let group = &waited.0["group"];
        ensure!(group["failed"] == case.3[0] && group["how"] == case.3[1], "{waited:?}");
        ensure!(waited.number("failed") == Some(1), "{waited:?}");
        ensure!(waited.number("min") >= Some(case.5 * MS), "{waited:?}");
    }
    Ok(())
}

/// EADDRNOTAVAIL: a connection that never sent a SYN.
#[test]
fn a_connect_without_a_free_port_says_so() -> Result<()> {
    if !ready(&["python3"]) || !Path::new("/proc/sys/net/ipv4/ip_local_port_range").exists() {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let to = listener.local_addr()?;
    netns.sysctl("ipv4/ip_local_port_range", "61000 61000")?;
    let both = Both::new(&netns, &listener, to)?;
    let mut life = Tcptrail::start(&["life", "--failed", "--netns", netns.name()])?;
    let got = try_all(&netns, &serde_json::json!([["127.0.0.1", to.port(), null]]))?;
    ensure!(got[0].errno == "EADDRNOTAVAIL", "the program got {}", got[0].errno);
    let close = life.wait_for("close", |event| event.kind() == "close")?;
    ensure!(close.text("failed") == "no_port" && close.text("how") == "aborted", "{close:?}");
    ensure!(close.0["local"].is_null(), "{close:?}");
    let run = life.stop()?;
    run.check_whole()?;
    ensure!(closes(&run).len() == 1, "{:?}", closes(&run));
    drop(both);
    Ok(())
}
