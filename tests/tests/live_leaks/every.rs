//! Every kind of leak at once, a test for each JDK: each is called a leak by `stuck`, and `leaks` names the method and
//! line that did it, whether that method was compiled into its callers or not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use socket2::SockRef;
use tests::java::{Program, java_of, line_of};
use tests::jdks;
use tests::netns::Netns;
use tests::tcptrail::{Event, Tcptrail};
use tests::traffic::{connect, listen};

use crate::stage::{PATIENCE, closing_server, leaks};

/// How often each leaks, four times a second.
const COUNT: &str = "40";
/// The ports where Tomcat takes orders, of the JVM that inlines and of the one that interprets.
const ORDERS: [u16; 2] = [8300, 8301];

/// Of the fixture alone: to compile all of Tomcat would take its time. 300 calls before the first leak are enough.
const INLINED: (&str, [&str; 3]) = (
    "300",
    [
        "-XX:CompileCommand=quiet",
        "-XX:CompileCommand=inline,com.acme.EveryLeak::*",
        "-XX:CompileCommand=option,com.acme.EveryLeak::*,double,CompileThresholdScaling,0.01",
    ],
);
const INTERPRETED: (&str, [&str; 3]) = (
    "0",
    ["-XX:CompileCommand=quiet", "-XX:CompileCommand=exclude,com.acme.*::*", "-XX:+UseSerialGC"],
);

/// Serves what is accepted, each on a thread.
fn server(netns: &Netns, serve: fn(TcpStream)) -> Result<u16> {
    let listener: TcpListener = listen(netns, "127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(std::io::Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    Ok(port)
}

fn keep(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 64]);
}

fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// HTTP, and the connection stays.
fn pages(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|count| count == 1) {
        request.push(byte[0]);
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
        }
    }
}

/// Clients that order something and give up.
fn give_up(netns: &Netns) -> Result<()> {
    for _ in 0..32 {
        for port in ORDERS {
            let mut client = connect(netns, ([127, 0, 0, 1], port).into())?;
            client.write_all(b"GET /orders HTTP/1.1\r\nHost: a\r\n\r\n")?;
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(200));
                drop(client);
            });
        }
        thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// What must be said of one leak.
struct Expected {
    /// What is looked for, in `leaks`' lines of the process.
    what: &'static str,
    is: Box<dyn Fn(&Event) -> bool>,
    /// A field of that line, and how it begins.
    named: (&'static str, String),
    /// `stuck`'s rule and the place: a remote address or a local port.
    rule: &'static str,
    place: String,
    /// Who `stuck` says opened them; empty where it takes no stacks (accepted connections).
    opener: &'static str,
}

fn at(method: &str, text: &str) -> Result<String> {
    Ok(format!("com.acme.EveryLeak.{method}:{}", line_of("EveryLeak", text)?))
}

/// The six leaks, of servers at these ports, in the order of `EveryLeak`'s arguments.
fn expected(ports: [u16; 5], orders: u16) -> Result<Vec<Expected>> {
    let [closes, keeps, resets, collects, asks] = ports.map(|port| format!("127.0.0.1:{port}"));
    let in_state =
        |state: &'static str| Box::new(move |event: &Event| !event.0["states"][state].is_null());
    let to = |remote: &str| {
        let remote = remote.to_owned();
        Box::new(move |event: &Event| event.text("remote") == remote)
    };
    let report = at("report", "uri + \"report\"")?;
    let pooled = to(&asks);
    let used = move |event: &Event| pooled(event) && event.text("user") == report;
    let served = move |event: &Event| event.number("local_port") == Some(u64::from(orders));
    Ok(vec![
        Expected {
            what: "closed by the server",
            is: in_state("CLOSE_WAIT"),
            named: ("opener", at("fetchPrice", "new Socket(\"127.0.0.1\", port);")?),
            rule: "close_wait",
            place: closes,
            opener: "com.acme.EveryLeak.fetchPrice",
        },
        Expected {
            what: "kept by the server",
            is: to(&keeps),
            named: ("opener", at("subscribe", "port + 0")?),
            rule: "established_idle",
            place: keeps,
            opener: "com.acme.EveryLeak.subscribe",
        },
        Expected {
            what: "reset by the server",
            is: in_state("CLOSE"),
            named: ("opener", at("poll", "port | 0")?),
            rule: "closed",
            place: resets,
            opener: "com.acme.EveryLeak.poll",
        },
        Expected {
            what: "closed by the garbage collector",
            is: Box::new(|event: &Event| event.number("collected") > Some(3)),
            named: ("opener", at("ask", "port ^ 0")?),
            rule: "collected",
            place: collects,
            opener: "com.acme.EveryLeak.ask",
        },
        Expected {
            what: "borrowed from a pool",
            is: Box::new(used),
            named: ("opener", at("warm", "uri + \"warm\"")?),
            rule: "established_idle",
            place: asks,
            opener: "com.acme.EveryLeak.warm",
        },
        Expected {
            what: "accepted",
            is: Box::new(served),
            named: ("handler", "com.acme.OrderServlet.doGet:".to_owned()),
            rule: "close_wait",
            place: format!(":{orders}"),
            opener: "",
        },
    ])
}

fn is_at(event: &Event, place: &str) -> bool {
    event.text("remote") == place
        || event.number("local_port").is_some_and(|port| format!(":{port}") == place)
}

/// The last lines of those that `wanted` takes.
fn said(tcptrail: &Tcptrail, wanted: impl Fn(&Event) -> bool) -> Vec<String> {
    let lines = tcptrail.events().iter().rev().filter(|event| wanted(event));
    lines.take(8).map(|event| event.0.to_string()).collect()
}

/// Fails with what was said instead.
fn check_leak(
    (leaks, stuck): (&mut Tcptrail, &mut Tcptrail),
    pid: u32,
    expect: &Expected,
) -> Result<()> {
    let of = |event: &Event, kind: &str| {
        event.kind() == kind && event.number("pid") == Some(u64::from(pid))
    };
    let (key, name) = (expect.named.0, expect.named.1.as_str());
    let found = leaks.wait_for_within(expect.what, PATIENCE, |event| {
        of(event, "leak") && (expect.is)(event) && event.text(key).starts_with(name)
    });
    let Ok(found) = found else {
        bail!("leaks: {} {key} {name}: {:#?}", expect.what, said(leaks, |event| of(event, "leak")));
    };
    let told = stuck.wait_for_within(expect.rule, PATIENCE, |event| {
        of(event, "stuck")
            && is_at(event, &expect.place)
            && event.text("rule") == expect.rule
            && event.text("severity") == "leak"
            && (expect.opener.is_empty() || event.text("opener") == expect.opener)
    });
    let Ok(told) = told else {
        let said = said(stuck, |event| of(event, "stuck") && is_at(event, &expect.place));
        bail!("stuck: {} {} {}: {said:#?}", expect.rule, expect.place, expect.opener);
    };
    println!("  leaks: {}: {} {}", expect.what, found.text(key), found.text("user"));
    println!("  stuck: {}", told.text("verdict"));
    Ok(())
}

fn check_every(release: u32) -> Result<()> {
    if !tests::java::ready(&[]) {
        return Ok(());
    }
    let Some(jdk) = jdks::all().into_iter().find(|jdk| jdk.release == release) else {
        return Ok(());
    };
    let netns = Netns::new()?;
    let ports = [
        closing_server(&netns, b"!")?,
        server(&netns, keep)?,
        server(&netns, reset)?,
        closing_server(&netns, b"!")?,
        server(&netns, pages)?,
    ];
    let mut leaks = leaks(&netns, &["--comm", "java"])?;
    let thresholds =
        ["CLOSE_WAIT", "CLOSED", "COLLECTED", "ESTABLISHED_IDLE"].map(|rule| format!("{rule}=3s"));
    let mut args = vec!["stuck", "--netns", netns.name(), "--comm", "java"];
    args.extend(thresholds.iter().flat_map(|one| ["--threshold", one]));
    let mut stuck = Tcptrail::start(&args)?;
    let mut running = Vec::new();
    for (orders, (warm_up, options)) in ORDERS.into_iter().zip([INLINED, INTERPRETED]) {
        let words: Vec<String> = ports.iter().chain([&orders]).map(u16::to_string).collect();
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        args.extend([COUNT, warm_up]);
        let command = java_of(&jdk.tool("java"), &options, "EveryLeak", &args)?;
        running.push((orders, Program::start(&netns, command)?));
    }
    for (_, program) in &mut running {
        program.wait_for("ready")?;
    }
    give_up(&netns)?;
    for ((orders, program), how) in running.iter().zip(["inlined", "interpreted"]) {
        println!("JDK {release}, {how}:");
        for expect in expected(ports, *orders)? {
            check_leak((&mut leaks, &mut stuck), program.pid(), &expect)?;
        }
    }
    leaks.stop()?.check_whole()?;
    stuck.stop()?.check_whole()
}

#[test]
fn every_leak_is_named_on_jdk_11() -> Result<()> {
    check_every(11)
}

#[test]
fn every_leak_is_named_on_jdk_17() -> Result<()> {
    check_every(17)
}

#[test]
fn every_leak_is_named_on_jdk_21() -> Result<()> {
    check_every(21)
}

#[test]
fn every_leak_is_named_on_jdk_25() -> Result<()> {
    check_every(25)
}
