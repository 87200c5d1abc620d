//! An output is a type of its own, and several run at once over one engine.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use jiff::tz::TimeZone;
use serde_json::Value;
use tracer::engine::conn::Kind;
use tracer::engine::{Engine, Update};
use tracer::filter::{Filter, Ports};
use tracer::input::Input;
use tracer::names::{Entry, HostSource, bytes_of, encode};
use tracer::output::lines::{Pen, Setting, Tail};
use tracer::output::session::Session;
use tracer::output::{Needs, Output, Run, Totals};
use tracer::source::recording::{Item, Reader};
use tracer::text::Terminal;

/// Counts changes: this is all there is to an output.
struct Counter {
    filter: Filter,
    transitions: u64,
    seen: Rc<RefCell<(u64, Totals)>>,
}

impl Output for Counter {
    fn needs(&self) -> Needs {
        Needs { changes: true, ..Needs::default() }
    }

    fn filter(&self) -> Filter {
        self.filter.clone()
    }

    fn update(&mut self, _engine: &Engine, update: &Update<'_>, _out: &mut Vec<u8>) {
        if let Update::Change { change, .. } = update {
            self.transitions += u64::from(matches!(change.kind, Kind::Transition { .. }));
        }
    }

    fn end(&mut self, run: &Run<'_>, _out: &mut Vec<u8>) -> std::io::Result<()> {
        *self.seen.borrow_mut() = (self.transitions, *run.totals);
        Ok(())
    }
}

fn port(port: u16) -> Filter {
    Filter { ports: vec![Ports { first: port, last: port }], ..Filter::default() }
}

/// What each of these filters lets through of `synthetic.tcpt`, in one run.
fn count(filters: &[Filter]) -> Vec<(u64, Totals)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recordings/synthetic.tcpt");
    let recording = std::fs::read(path).expect("the fixture");
    let (origin, mut reader) = Reader::open(recording.as_slice()).expect("a recording");
    let seen: Vec<Rc<RefCell<(u64, Totals)>>> = filters.iter().map(|_| Rc::default()).collect();
    let outputs = filters.iter().zip(&seen).map(|(filter, seen)| {
        let counter = Counter { filter: filter.clone(), transitions: 0, seen: Rc::clone(seen) };
        Box::new(counter) as Box<dyn Output>
    });
    let mut session =
        Session::begin(Engine::new(origin, 1000), outputs.collect()).expect("nothing to fail");
    while let Some(item) = reader.next().expect("whole") {
        match item {
            Item::Input(input) => session.feed(&input),
            Item::Ended(ended) => session.end(ended.at),
        }
    }
    seen.iter().map(|seen| *seen.borrow()).collect()
}

#[test]
fn several_outputs_each_see_what_they_would_see_alone() {
    let filters = [Filter::default(), port(443), port(9999), port(5432), port(443)];
    let together = count(&filters);
    let alone: Vec<_> =
        filters.iter().flat_map(|filter| count(std::slice::from_ref(filter))).collect();
    assert_eq!(together, alone);
    // The filters tell apart, and a client's first line comes once its port is known.
    let transitions: Vec<u64> = together.iter().map(|(transitions, _)| *transitions).collect();
    assert!(transitions[0] > transitions[1] && transitions[1] > 0, "{transitions:?}");
    assert_eq!(transitions[2], 0);
    assert_eq!(transitions[1], transitions[4]);
}

/// Fails after its first input.
struct Failing {
    inputs: u64,
}

impl Output for Failing {
    fn needs(&self) -> Needs {
        Needs { inputs: true, ..Needs::default() }
    }

    fn input(&mut self, _input: &Input<'_>) -> std::io::Result<()> {
        self.inputs += 1;
        assert!(self.inputs <= 2, "an output that failed is told nothing more");
        if self.inputs == 2 { Err(std::io::Error::other("its disk is full")) } else { Ok(()) }
    }
}

#[test]
fn an_output_that_fails_is_dropped_and_the_others_go_on() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recordings/synthetic.tcpt");
    let recording = std::fs::read(path).expect("the fixture");
    let (origin, mut reader) = Reader::open(recording.as_slice()).expect("a recording");
    let seen = Rc::default();
    let counter = Counter { filter: Filter::default(), transitions: 0, seen: Rc::clone(&seen) };
    let outputs: Vec<Box<dyn Output>> = vec![Box::new(counter), Box::new(Failing { inputs: 0 })];
    let mut session = Session::begin(Engine::new(origin, 1000), outputs).expect("nothing to fail");
    let mut failures = Vec::new();
    while let Some(item) = reader.next().expect("whole") {
        match item {
            Item::Input(input) => session.feed(&input),
            Item::Ended(ended) => session.end(ended.at),
        }
        failures.extend(session.take_failures());
    }
    assert_eq!(failures, ["its disk is full"]);
    assert!(!session.all_failed());
    assert_eq!(*seen.borrow(), count(&[Filter::default()])[0]);
}

#[test]
fn names_that_are_learned_show_in_the_next_lines_of_a_connection() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recordings/synthetic.tcpt");
    let recording = std::fs::read(path).expect("the fixture");
    let (origin, mut reader) = Reader::open(recording.as_slice()).expect("a recording");
    let terminal = Terminal { width: None, color: false };
    let setting =
        Setting { pen: Pen::new(true, terminal, TimeZone::UTC), filter: Filter::default() };
    let outputs: Vec<Box<dyn Output>> = vec![Box::new(Tail::new(setting))];
    let mut session = Session::begin(Engine::new(origin, 1000), outputs).expect("nothing to fail");
    // Before each record all addresses that were seen are called something else.
    let (mut remotes, mut lines, mut changed) = (Vec::new(), HashMap::new(), 0);
    for round in 0.. {
        let name = format!("name-{round}");
        let mut names = Vec::new();
        for &remote in &remotes {
            encode(Entry::Host(bytes_of(remote), HostSource::Hosts), name.as_bytes(), &mut names);
        }
        session.feed(&Input::Names(&names));
        match reader.next().expect("whole") {
            Some(Item::Input(input)) => session.feed(&input),
            _ => break,
        }
        for line in std::mem::take(session.out()).split(|&byte| byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Value>(line) else { continue };
            let Some(remote) = line["remote"].as_str() else { continue };
            let remote = remote.parse::<SocketAddr>().expect("an end").ip();
            if remotes.contains(&remote) {
                assert_eq!(line["remote_name"], *name, "{line}");
                let before = lines.insert(line["conn"].to_string(), name.clone());
                changed += usize::from(before.is_some_and(|before| before != name));
            } else {
                assert!(line["remote_name"].is_null(), "{line}");
                remotes.push(remote);
            }
        }
    }
    assert!(changed > 5, "{changed}");
}
