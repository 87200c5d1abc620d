//! Recordings of real and made traffic, recorded again in segments.

use std::collections::BTreeMap;
use std::fs;

use super::*;
use crate::engine::conn::{Connection, Table};
use crate::engine::rules::Watch;
use crate::engine::{Rules, Sink, decode};
use crate::event::{Shape, SockId};
use crate::names;
use crate::output::session::Session;
use crate::record_format::segments;
use crate::source::recording::{Item, Reader};
use tracer_common::TcpState;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/recordings/");

struct Nobody;

impl Sink for Nobody {
    fn update(&mut self, _: &Engine, _: &Update<'_>) {}
}

fn engine(origin: Origin) -> Engine {
    let options = rules::Options { jiffy_ns: origin.jiffy_ns, ..Default::default() };
    let rules = Rules { watch: Watch::new(options), scope: Filter::default(), looks: true };
    Engine::new(origin, 100_000).with_rules(Some(rules))
}

/// What a row can say of a connection and when it entered its state, by its identity and whether it is a mini-socket.
fn told(table: &Table) -> BTreeMap<(SockId, bool), (String, MonoNs)> {
    let line = |conn: &Connection| {
        let queues =
            if conn.shape == Shape::Full { (conn.recv_queue, conn.send_queue) } else { (0, 0) };
        let entered = if conn.shape == Shape::Mini { MonoNs(0) } else { conn.entered };
        let pids: Vec<u32> = table.holders_of(conn.id).iter().map(|holder| holder.pid).collect();
        let line = format!(
            "{:?} {:?} {:?} {queues:?} {} {} {pids:?} {}",
            conn.state, conn.shape, conn.tuple, conn.netns, conn.orphan, conn.cgroup
        );
        (line, entered)
    };
    let there = table.iter().filter(|conn| conn.state != TcpState::Close);
    there.map(|conn| ((conn.id, conn.shape == Shape::Mini), line(conn))).collect()
}

/// The table that is made of a snapshot of this one.
fn again(whole: &Engine, now: MonoNs) -> Engine {
    let mut one = engine(Origin { start_ns: now.0, ..whole.origin().clone() });
    let pushed: Result<(), ()> = snapshot::write(whole, &[], now, |input| {
        one.feed(input, &mut Nobody);
        Ok(())
    });
    pushed.unwrap();
    one
}

#[test]
fn a_table_comes_back_from_what_a_segment_begins_with() {
    let mut compared = 0;
    for name in ["synthetic.tcpt", "loopback.tcpt"] {
        let recording = fs::read(format!("{FIXTURES}{name}")).unwrap();
        let (origin, mut reader) = Reader::open(recording.as_slice()).unwrap();
        let mut whole = engine(origin);
        while let Some(Item::Input(input)) = reader.next().unwrap() {
            whole.feed(&input, &mut Nobody);
            // At any moment, not only where a segment would begin.
            let (Input::PollEnd { now, .. } | Input::Tick(now)) = input else { continue };
            let one = again(&whole, now);
            let jiffy_ns = whole.origin().jiffy_ns;
            let (expect, found) = (told(whole.table()), told(one.table()));
            let ids = |all: &BTreeMap<_, _>| all.keys().copied().collect::<Vec<_>>();
            assert_eq!(ids(&found), ids(&expect), "{name} at {now:?}");
            for ((line, entered), (found, at)) in expect.values().zip(found.values()) {
                assert_eq!(found, line, "{name} at {now:?}");
                // Timers have no more than jiffies, and both ends of one connection share their ages.
                assert!(at.0.abs_diff(entered.0) <= jiffy_ns, "{line}: {at:?}, not {entered:?}");
            }
            compared += expect.len();
            for cgroup in whole.names().cgroups() {
                assert_eq!(one.names().place(cgroup), whole.names().place(cgroup));
            }
        }
    }
    assert!(compared > 20, "{compared}: the recordings have next to nothing");
}

fn recorder(path: &Path, keep: u64) -> FlightRecorder {
    let options = Options {
        path: path.to_owned(),
        keep: Duration::from_secs(keep),
        keep_size: 1 << 20,
        pin: Duration::ZERO,
        filter: Filter::default(),
        filter_args: vec!["--port".into(), "80".into()],
        thresholds: vec!["CLOSE_WAIT=1s".into()],
    };
    FlightRecorder::new(options, Arc::default()).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| segments::begin(name).is_some());
    names.sort();
    names
}

#[test]
fn each_segment_says_which_it_is_and_is_a_recording_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let recording = fs::read(format!("{FIXTURES}loopback.tcpt")).unwrap();
    let (origin, mut reader) = Reader::open(recording.as_slice()).unwrap();
    let start = origin.start();
    // Its clock is of another day: nothing is to be too old.
    let recorder = recorder(dir.path(), 10_000_000);
    let mut session = Session::begin(engine(origin), vec![Box::new(recorder)]).unwrap();
    while let Some(Item::Input(input)) = reader.next().unwrap() {
        session.feed(&input);
    }
    // Quarters of an hour.
    for quarter in 1..=3 {
        session.feed(&Input::Tick(start.after(quarter * LENGTH.1)));
        session.flush();
    }
    session.end(start.after(4 * LENGTH.1));
    assert_eq!(session.take_failures(), Vec::<String>::new());
    let names = names(dir.path());
    assert_eq!(names.len(), 5, "{names:?}");
    for (number, name) in (0..).zip(&names) {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        let (origin, mut reader) = Reader::open(bytes.as_slice()).unwrap();
        assert_eq!(segments::begin(name), Some(origin.anchor().wall_ns(origin.start())));
        let segment = origin.segment.clone().unwrap();
        assert_eq!((segment.number, segment.continues), (number, number != 0));
        assert_eq!((segment.run_ns, segment.thresholds.len()), (start.0, 1));
        let mut ended = false;
        while let Some(item) = reader.next().unwrap() {
            ended = matches!(item, Item::Ended(_));
        }
        assert!(ended, "{name}");
    }
}

/// Rules that do not look, as of who records: an hour of connections is no memory.
#[test]
fn rules_that_do_not_look_remember_no_socket() {
    let recording = fs::read(format!("{FIXTURES}loopback.tcpt")).unwrap();
    let (origin, mut reader) = Reader::open(recording.as_slice()).unwrap();
    let watch = Watch::new(rules::Options::default());
    let rules = Rules { watch, scope: Filter::default(), looks: false };
    let mut engine = engine(origin).with_rules(Some(rules));
    let mut names = Vec::new();
    while let Some(Item::Input(input)) = reader.next().unwrap() {
        engine.feed(&input, &mut Nobody);
        if let Input::Record(bytes) = input
            && let Ok(event) = decode::event(bytes)
        {
            names::encode(names::Entry::Opener(event.id.0), b"Main.run", &mut names);
            engine.feed(&Input::Names(&names), &mut Nobody);
            names.clear();
        }
    }
    assert_eq!(engine.watch().map(|watch| watch.openers.iter().count()), Some(0));
}
