//! Pages as they are read.

use std::net::SocketAddr;

use tracer_common::TcpState;

use super::evidence::{About, Evidence, Jvm, Leak, Told};
use super::page::{Case, Found, Looked, page};
use crate::engine::rules::{Code, Finding, Forecast, Opened, Process, RuleId, Severity, What};
use crate::event::Comm;
use crate::java::histogram::Class;
use crate::java::threads::Thread;
use crate::time::MonoNs;

const SECOND: u64 = 1_000_000_000;
const NOW: MonoNs = MonoNs(10_000 * SECOND);

fn leak() -> Finding {
    let remote: SocketAddr = ([10, 0, 0, 5], 443).into();
    Finding {
workers: Vec::new(),
        id: "close_wait java 10.0.0.5:443".into(),
        rule: RuleId::CloseWait,
        code: Code::CloseWait,
        severity: Severity::Leak,
        state: Some(TcpState::CloseWait),
        count: 9,
        in_state: 9,
        oldest_ns: Some(840 * SECOND),
        growth_per_min: Some(3.0),
        closed_share: Some(0.0),
        late_closed_share: Some(0.0),
        netns: Some(1),
        cgroup: 0,
        process: Some(Process { pid: Some(31467), comm: Comm::new(b"java") }),
        local_port: None,
        remote: Some(remote),
        opener: Some("com.acme.Crawler.fetch".into()),
        opened: Opened {
            by: vec![("com.acme.Crawler.fetch".into(), 5)],
            before: 4,
            unknown: 0,
        },
        conns: Vec::new(),
        verdict: "java[31467] leaks CLOSE_WAIT to 10.0.0.5:443: 9 sockets, oldest 14m, +3/min, none closed".into(),
        advice: "The peer has closed; close() is missing here. Close the response on every path.".into(),
        idle_timeout_ns: None,
        forecast: Some(Forecast {
            what: What::Fds,
            limit: 1024,
            in_use: 120,
            share: Some(9),
            per_second: Some(0.05),
            left_ns: Some(18_000 * SECOND),
        }),
    }
}

fn evidence() -> Evidence {
    let thread = Thread {
        name: "crawler-3".into(),
        nid: Some(0x4d1d),
        state: "TIMED_WAITING (sleeping)".into(),
        frames: vec![
            "java.lang.Thread.sleep(Native Method)".into(),
            "com.acme.Crawler.crawl(Crawler.java:61)".into(),
            "com.acme.Crawler.run(Crawler.java:12)".into(),
        ],
    };
    Evidence {
        about: About {
            schema: 1,
            version: "0.1.0".into(),
            host: "web-3".into(),
            kernel: "6.1.0".into(),
            filters: vec!["--comm java".into()],
            watched_ns: 60 * SECOND,
            ..About::default()
        },
        leaks: vec![
            Leak {
                count: 5,
                side: Some("connect".into()),
                pid: Some(31467),
                thread: Some("crawler-3".into()),
                nid: Some(0x4d1d),
                opener: Some("com.acme.Crawler.fetch:34".into()),
                remote: Some("10.0.0.5:443".into()),
                opened: Some(5),
                ..Leak::default()
            },
            Leak { count: 4, pid: Some(31467), ..Leak::default() },
            Leak { count: 2, pid: Some(857), ..Leak::default() },
        ],
        jvms: vec![Told {
            jvm: Jvm { pid: 31467, comm: "java".into(), ..Jvm::default() },
            dumps: vec![vec![thread.clone()], vec![thread]],
            classes: vec![Class { name: "java.net.Socket".into(), instances: 14, bytes: 560 }],
        }],
    }
}

fn written(found: &[Found], looked: &Looked, evidence: &Evidence, width: usize) -> String {
    let mut clock =
        |at: MonoNs| format!("03:{:02}:{:02}", at.0 / SECOND / 60 % 60, at.0 / SECOND % 60);
    page(&mut Case { found, looked, evidence, now: NOW, clock: &mut clock, width })
}

fn looked() -> Looked {
    Looked {
        sockets: 1234,
        connections: 805,
        events: 8605,
        lost: 0,
        ended: "2026-11-27 03:12:04".into(),
    }
}

#[test]
fn a_leak_of_a_jvm() {
    let found = [Found { finding: leak(), since: NOW.before(50 * SECOND), over: None }];
    insta::assert_snapshot!(written(&found, &looked(), &evidence(), 80));
}

#[test]
fn nothing_is_wrong() {
    let mut evidence = evidence();
    evidence.leaks.clear();
    evidence.jvms.clear();
    insta::assert_snapshot!(written(&[], &looked(), &evidence, 80));
}

#[test]
fn what_was_lost_and_refused_is_said() {
    let gone = Finding {
        process: None,
        opener: None,
        severity: Severity::Stuck,
        verdict: "10.78.0.1 does not answer: 3 sockets in LAST_ACK on :8089, oldest 30s".into(),
        forecast: None,
        ..leak()
    };
    let found = [Found { finding: gone, since: NOW, over: Some(NOW.before(SECOND)) }];
    let mut evidence = evidence();
    evidence.jvms[0].dumps.clear();
    evidence.jvms[0].jvm.refused = Some("it has not answered within 5 s\u{1b}[2J".into());
    let looked = Looked { lost: 12, ..looked() };
    insta::assert_snapshot!(written(&found, &looked, &evidence, 80));
}

#[test]
fn every_width_is_kept() {
    let found = [Found { finding: leak(), since: NOW, over: None }];
    for width in [60, 80, 100, 200] {
        let page = written(&found, &looked(), &evidence(), width);
        let widest = page.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest <= width, "{widest} > {width}:\n{page}");
    }
}
