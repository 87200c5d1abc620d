//! Figures of recordings, as Prometheus would read them.

use std::sync::Arc;

use super::answer::answer;
use super::shared::Shared;
use super::snapshot::Snapshot;
use super::*;
use crate::config::{Extra, Listen};
use crate::engine::rules::{Code, Finding, Process, RuleId, Severity, Watch};
use crate::engine::{Rules, Sink};
use crate::event::Comm;
use crate::input::{Input, Origin};
use crate::output::lines::Known;
use crate::source::recording::{Item, Reader};

/// A run of this kernel, of no hooks.
pub(super) fn origin() -> Origin {
    Origin {
        version: "1.2.3".into(),
        kernel: "6.1.0".into(),
        machine: "x86_64".into(),
        hooks: Vec::new(),
        filters: Vec::new(),
        wall_at_zero: 0,
        start_ns: 0,
        jiffy_ns: 4_000_000,
        jiffies: None,
        reset_reasons: Vec::new(),
        drop_reasons: Vec::new(),
        only_netns: None,
        only_cgroup: false,
        segment: None,
    }
}

/// Figures of nothing.
pub(super) fn snapshot() -> Snapshot {
    Snapshot::empty(MonoNs(5_000_000_000))
}

struct Fed(Serve);

impl Sink for Fed {
    fn update(&mut self, engine: &Engine, update: &Update<'_>) {
        self.0.update(engine, update, &mut Vec::new());
    }
}

/// A whole recording; `labels` as asked for.
pub(super) fn served(name: &str, labels: Vec<Extra>) -> (Serve, Arc<Shared>, Engine) {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recordings/");
    let recording = std::fs::read(format!("{fixtures}{name}")).expect("the fixture");
    let (origin, mut reader) = Reader::open(recording.as_slice()).expect("a recording");
    let jiffy_ns = origin.jiffy_ns;
    let rules = Rules {
        watch: Watch::new(crate::engine::rules::Options { jiffy_ns, ..Default::default() }),
        scope: Filter::default(),
        looks: true,
    };
    let mut engine = Engine::new(origin, 100_000).with_rules(Some(rules));
    let listen = vec![Listen::Tcp("127.0.0.1:0".parse().expect("an address"))];
    let options = ServeOptions { listen, labels, ..ServeOptions::default() };
    let mut serve = Fed(Serve::new(options, Filter::default(), None).expect("a port is free"));
    serve.0.namespaces = Namespaces::new(None);
    serve.0.begin(&engine, &mut Vec::new()).expect("a thread");
    while let Some(item) = reader.next().expect("whole") {
        match item {
            Item::Input(input) => engine.feed(&input, &mut serve),
            Item::Ended(ended) => {
                engine.feed(&Input::Tick(ended.at), &mut serve);
                // Whoever replays waits for no walk.
                serve.0.walked = true;
                engine.look_now(ended.at, &mut serve);
            }
        }
    }
    let (_, shared) = serve.0.running.as_ref().expect("it runs");
    let shared = Arc::clone(shared);
    (serve.0, shared, engine)
}

fn ask(shared: &Arc<Shared>, path: &str, accept: &str) -> String {
    let answer = answer(shared, "GET", path, accept);
    assert_eq!(answer.status, 200, "{path}");
    String::from_utf8(answer.body).expect("UTF-8")
}

/// Without what this process costs, and without buckets.
fn steady(metrics: &str) -> String {
    let changes = ["tcptrail_cpu_seconds_total ", "tcptrail_resident_bytes ", "_bucket{"];
    let steady = |line: &&str| !changes.iter().any(|part| line.contains(part));
    metrics.lines().filter(steady).collect::<Vec<_>>().join("\n")
}

#[test]
fn metrics_of_a_recording() {
    let (mut serve, shared, _) = served("synthetic.tcpt", Vec::new());
    insta::assert_snapshot!("classic", steady(&ask(&shared, "/metrics", "")));
    let open = ask(&shared, "/metrics", "application/openmetrics-text");
    assert!(open.ends_with("# EOF\n"), "{open}");
    // The same samples; only what is said about them differs.
    let samples = |text: &str| {
        let lines = steady(text);
        lines.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(&open), samples(&ask(&shared, "/metrics", "")));
    serve.running.take().expect("it runs").0.end();
}

#[test]
fn every_metric_has_a_name_and_help_that_promtool_likes() {
    let (_serve, shared, _) = served("synthetic.tcpt", Vec::new());
    let text = ask(&shared, "/metrics", "");
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').expect("a help");
        assert!(name.starts_with("tcptrail_") && !help.ends_with('.'), "{line}");
        assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
        let counter = text.contains(&format!("# TYPE {name} counter"));
        assert_eq!(counter, name.ends_with("_total"), "{line}");
    }
    // Never an address, a port or a process, unless asked for.
    for label in ["pid=", "port=", "remote=", "127.0.0.1", "[::1]"] {
        assert!(!text.contains(label), "{label}: {text}");
    }
}

#[test]
fn sockets_and_ends_are_those_of_the_table() {
    let (serve, shared, engine) = served("synthetic.tcpt", Vec::new());
    let snapshot = shared.latest().expect("it is published");
    let there = engine.table().iter().filter(|conn| conn.state != TcpState::Close).count();
    assert_eq!(snapshot.gauges.open.values().sum::<u64>(), there as u64);
    let ends: u64 = snapshot
        .counts
        .values()
        .flat_map(|counts| {
            let failed = counts.failed.iter().map(|(_, count)| count);
            failed.chain(counts.closed.iter().map(|(_, count)| count)).collect::<Vec<_>>()
        })
        .sum();
    let lives: u64 = serve.times.life.values().map(|it| it.count() + it.left_out).sum();
    let failed: u64 =
        snapshot.counts.values().flat_map(|it| it.failed.iter().map(|(_, n)| n)).sum();
    assert_eq!(ends, lives + failed);
}

/// A finding, of what it takes to be told.
pub(super) fn finding(verdict: &str) -> Finding {
    Finding {
        id: "close_wait/7/1/:80".into(),
        rule: RuleId::CloseWait,
        code: Code::CloseWait,
        severity: Severity::Leak,
        state: Some(TcpState::CloseWait),
        count: 3,
        in_state: 3,
        oldest_ns: Some(7_000_000_000),
        growth_per_min: None,
        closed_share: None,
        late_closed_share: None,
        netns: Some(1),
        cgroup: 0,
        process: Some(Process { pid: Some(7), comm: Comm::new(b"java") }),
        workers: Vec::new(),
        local_port: Some(80),
        remote: None,
        opener: None,
        opened: Default::default(),
        conns: Vec::new(),
        verdict: verdict.into(),
        advice: "close() <them> & be good".into(),
        forecast: None,
        idle_timeout_ns: None,
    }
}

#[test]
fn findings_are_the_objects_of_stuck_and_a_page_without_scripts() {
    let shared = Arc::new(Shared::new(origin(), Vec::new()));
    let hostile = finding("java[7] leaks <script>alert(1)</script> \u{202e}x");
    let findings = [(hostile, 1_000_000_000), (finding("plain"), 2_000_000_000)]
        .map(|(finding, since)| (finding, MonoNs(since), Known::default()))
        .to_vec();
    shared.publish(Snapshot { findings, ..snapshot() });
    let text = ask(&shared, "/findings", "");
    let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told.as_array().map(Vec::len), Some(2), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
    for (key, value) in [
        ("schema", "1"),
        ("event", "\"stuck\""),
        ("pid", "7"),
        ("time", "\"1970-01-01T00:00:05.000000000Z\""),
    ] {
        assert_eq!(told[0][key].to_string(), value, "{key}");
    }
    let page = ask(&shared, "/", "");
    assert!(page.contains("2 findings") && page.contains("found 4s ago"), "{page}");
    assert!(page.contains("close() &lt;them&gt; &amp; be good"), "{page}");
    assert!(!page.contains("<script"), "{page}");
}

#[test]
fn nothing_is_told_before_it_is_known() {
    let shared = Arc::new(Shared::new(origin(), Vec::new()));
    for path in ["/metrics", "/findings", "/", "/readyz"] {
        assert_eq!(answer(&shared, "GET", path, "").status, 503, "{path}");
    }
    assert_eq!(answer(&shared, "GET", "/healthz", "").status, 200);
    shared.tick(MonoNs::now().before(60_000_000_000));
    let still = answer(&shared, "GET", "/healthz", "");
    let said = String::from_utf8_lossy(&still.body).into_owned();
    assert!(still.status == 503 && said.contains("1m00s"), "{said}");
}
