//! The page of a recording: what it says, that it is whole, and that nothing in it can run but its own scripts.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::page::POLICY;
use super::timeline::{Fullest, MOST, Timeline};
use super::{Aside, Options, Place, Report, Shown, Stacks};
use crate::engine::rules::Watch;
use crate::engine::{Engine, Rules, Update};
use crate::filter::{Filter, Ports};
use crate::output::session::Session;
use crate::output::{Needs, Output, Run};
use crate::source::recording::{Item, Reader};
use crate::time::MonoNs;

/// Keeps what a report writes to stdout.
struct Kept {
    report: Report,
    /// Makes the page in its place.
    aside: Option<Aside>,
    page: Rc<RefCell<Vec<u8>>>,
}

impl Output for Kept {
    fn needs(&self) -> Needs {
        self.report.needs()
    }

    fn begin(&mut self, engine: &Engine, out: &mut Vec<u8>) -> io::Result<()> {
        self.report.begin(engine, out)
    }

    fn update(&mut self, engine: &Engine, update: &Update<'_>, out: &mut Vec<u8>) {
        self.report.update(engine, update, out);
        if let Some(aside) = &mut self.aside {
            aside.update(engine, update);
        }
    }

    fn open_at_end(
        &mut self,
        engine: &Engine,
        open: &[&crate::engine::conn::Connection],
        now: MonoNs,
        out: &mut Vec<u8>,
    ) {
        self.report.open_at_end(engine, open, now, out);
    }

    fn end(&mut self, run: &Run<'_>, _out: &mut Vec<u8>) -> io::Result<()> {
        if let Some(aside) = &self.aside {
            // Twice: a draft leaves the figures as they are.
            for _ in 0..2 {
                let reader = (&TimeZone::UTC, HOSTILE, false);
                let page = aside.draft(run.engine, run.now, reader, shown())?.page()?;
                *self.page.borrow_mut() = page.into_bytes();
            }
            return Ok(());
        }
        self.report.end(run, &mut self.page.borrow_mut())
    }
}

const HOSTILE: &str = "</script><script>alert(1)</script>";

fn shown() -> Shown {
    let cells = [(HOSTILE.to_owned(), None), ("1,200".to_owned(), Some(1200.0))];
    Shown {
        title: HOSTILE.to_owned(),
        columns: vec![("PROCESS", false), ("SOCKETS", true)],
        rows: vec![cells.to_vec()],
        all: 7,
    }
}

fn page_of(name: &str, stacks: Stacks) -> String {
    page_by(name, stacks, false)
}

/// The page, made at the end or, `aside`, in the midst of a run.
fn page_by(name: &str, stacks: Stacks, aside: bool) -> String {
    page_with(name, stacks, aside, &Filter::default())
}

fn page_with(name: &str, stacks: Stacks, aside: bool, filter: &Filter) -> String {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recordings/");
    let recording = std::fs::read(format!("{fixtures}{name}")).expect("the fixture");
    let (origin, mut reader) = Reader::open(recording.as_slice()).expect("a recording");
    let options = Options {
        filter: filter.clone(),
        place: Place::Stdout,
        live: false,
        attach: false,
        stacks,
        zone: TimeZone::UTC,
        source: HOSTILE.to_owned(),
    };
    let page = Rc::default();
    let aside = aside.then(|| Aside::new(filter.clone(), origin.start()));
    let kept = Kept { report: Report::new(options), aside, page: Rc::clone(&page) };
    let rules = Rules {
        watch: Watch::new(crate::engine::rules::Options {
            jiffy_ns: origin.jiffy_ns,
            ..Default::default()
        }),
        scope: filter.clone(),
        looks: true,
    };
    let engine = Engine::new(origin, 1_000).with_rules(Some(rules));
    let mut session = Session::begin(engine, vec![Box::new(kept)]).expect("nothing to fail");
    while let Some(item) = reader.next().expect("whole") {
        match item {
            Item::Input(input) => session.feed(&input),
            Item::Ended(ended) => {
                session.draw_last(ended.at, true);
                session.end(ended.at);
            }
        }
    }
    assert_eq!(session.take_failures(), Vec::<String>::new());
    let bytes = page.borrow().clone();
    String::from_utf8(bytes).expect("UTF-8")
}

/// The data of a page.
fn data_of(page: &str) -> serde_json::Value {
    let data = page.split("type=\"application/json\">").nth(1).expect("data");
    let data = data.split("</script>").next().expect("its end");
    serde_json::from_str(data).expect("JSON")
}

/// The texts of the elements of this name.
fn elements<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let parts = page.split(&begin).skip(1);
    parts.filter_map(|part| part.split(&end).next()).collect()
}

#[test]
fn the_policy_allows_what_is_in_the_page() {
    let page = page_of("synthetic.tcpt", Stacks::default());
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    let hashes = |name| elements(&page, name).into_iter().map(hash).collect::<Vec<_>>().join(" ");
    let expect = format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; style-src {}; script-src {}",
        hashes("style"),
        hashes("script")
    );
    assert_eq!(POLICY, expect, "styles or scripts have changed: put their new hashes into page.rs");
}

#[test]
fn a_strangers_words_stay_words() {
    let hostile = "java;</script><img src=x onerror=alert(2)> 3\n";
    let page = page_of("synthetic.tcpt", Stacks::parse(hostile.as_bytes()));
    assert!(!page.contains("<img") && !page.contains("<script>alert"), "markup from data");
    // Three scripts of ours, one of them data.
    assert_eq!(page.matches("<script").count(), 3);
    assert_eq!(page.matches("</script>").count(), 3);
    let data = data_of(&page);
    assert_eq!(data["stacks"][0][0], "java;</script><img src=x onerror=alert(2)>");
    assert_eq!(data["about"]["source"], "</script><script>alert(1)</script>");
}

#[test]
fn the_figures_of_a_recording() {
    let data = data_of(&page_of("synthetic.tcpt", Stacks::default()));
    let pretty = serde_json::to_string_pretty(&data).expect("JSON");
    insta::assert_snapshot!("synthetic", pretty);
}

#[test]
fn a_report_in_the_midst_of_a_run_says_the_same() {
    let page = page_by("synthetic.tcpt", Stacks::default(), true);
    assert_eq!(page.matches("<script").count(), 3, "markup from what was shown");
    let mut data = data_of(&page);
    let shown = data.as_object_mut().and_then(|data| data.remove("shown")).expect("a table");
    assert_eq!(shown["rows"][0][1], serde_json::json!(["1,200", 1200.0]));
    assert_eq!(data, data_of(&page_of("synthetic.tcpt", Stacks::default())));
}

#[test]
fn sockets_are_counted_alike_whether_one_by_one_or_not() {
    let all = Filter { local_ports: vec![Ports { first: 0, last: u16::MAX }], ..Filter::default() };
    let [one_by_one, at_once] = [all, Filter::default()].map(|filter| {
        let page = page_with("synthetic.tcpt", Stacks::default(), false, &filter);
        data_of(&page)["timeline"]["states"].clone()
    });
    assert!(one_by_one.to_string().contains("SYN_RECV"), "{one_by_one}");
    assert_eq!(one_by_one, at_once);
}

#[test]
fn a_long_run_gets_wider_intervals() {
    let check = |seconds: u64, width_s: u64| {
        let mut timeline = Timeline::new(MonoNs(5_000_000_000));
        for second in 0..seconds {
            timeline.at(MonoNs((5 + second) * 1_000_000_000)).opened += 1;
        }
        let opened: u64 = timeline.intervals.iter().map(|interval| interval.opened).sum();
        assert_eq!(opened, seconds, "{seconds} s");
        assert!(timeline.intervals.len() <= MOST, "{seconds} s");
        assert_eq!(timeline.width_ns, width_s * 1_000_000_000, "{seconds} s");
    };
    check(1, 1);
    check(600, 1);
    check(601, 2);
    check(10_000, 32);
    // A file can say anything.
    let mut timeline = Timeline::new(MonoNs(0));
    timeline.at(MonoNs(u64::MAX)).closed += 1;
    assert!(timeline.intervals.len() <= MOST);
}

#[test]
fn of_two_looks_the_fuller_one_stays() {
    let mut timeline = Timeline::new(MonoNs(0));
    let fds = |fds| Fullest { pid: 7, fds, limit: 100 };
    for used in [10, 90, 20] {
        timeline.fds(MonoNs(1), fds(used));
    }
    assert_eq!(timeline.intervals[0].fds, Some(fds(90)));
}
