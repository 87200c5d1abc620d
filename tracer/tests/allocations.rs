//! Nothing is allocated per event: buffers and tables grow to the size of the load and stay.
//!
//! One test in a process of its own: the counter is global.
#![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use jiff::tz::TimeZone;
use tracer::engine::Engine;
use tracer::filter::{Filter, Ports};
use tracer::input::{ITER_TCP, Input, Origin};
use tracer::output::lines::{Life, Pen, Setting, Tail};
use tracer::output::record::Recorder;
use tracer::output::session::Session;
use tracer::output::{Needs, Output};
use tracer::text::Terminal;
use tracer_common::TcpState;
use tracer_common::names::SEND_RESET;
use tracer_common::wire::{AF_INET, AF_INET6, Record, RecordKind, flags};
use zerocopy::{FromZeros, IntoBytes};

/// The system's allocator, counting what it is asked for.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const MS: u64 = 1_000_000;
const START: u64 = 1_000_000 * MS;

fn session(outputs: Vec<Box<dyn Output>>) -> Session {
    let origin = Origin {
        version: String::new(),
        kernel: String::new(),
        machine: String::new(),
        // Walks tell of mini-sockets, and RSTs that we send are traced.
        hooks: vec![ITER_TCP.to_owned(), SEND_RESET.to_owned()],
        filters: Vec::new(),
        wall_at_zero: 0,
        start_ns: START,
        jiffy_ns: 4 * MS,
        jiffies: None,
        reset_reasons: vec![String::new(), "no_socket".to_owned()],
        drop_reasons: Vec::new(),
        only_netns: None,
        only_cgroup: false,
        segment: None,
    };
    Session::begin(Engine::new(origin, 100_000), outputs).expect("nothing to fail")
}

fn setting(json: bool, width: Option<usize>, filter: Filter) -> Setting {
    Setting { pen: Pen::new(json, Terminal { width, color: true }, TimeZone::UTC), filter }
}

fn tail(json: bool, width: Option<usize>) -> Box<dyn Output> {
    Box::new(Tail::new(setting(json, width, Filter::default())))
}

fn life(json: bool, width: Option<usize>) -> Box<dyn Output> {
    Box::new(Life::new(setting(json, width, Filter::default()), false, false))
}

/// What only passes by port, so that clients' first lines wait until theirs is known.
fn one_port() -> Box<dyn Output> {
    let filter = Filter { ports: vec![Ports { first: 443, last: 443 }], ..Filter::default() };
    Box::new(Tail::new(setting(true, None, filter)))
}

/// Frames of the recording are full several times in each batch.
fn record(dir: &Path) -> Box<dyn Output> {
    Box::new(Recorder::create(&dir.join("recording"), Filter::default()).expect("a file"))
}

/// Counts, and writes nothing.
struct Nothing;

impl Output for Nothing {
    fn needs(&self) -> Needs {
        Needs { changes: true, ..Needs::default() }
    }
}

/// Records of one connection, written over for each; the clock stays within one second, whose text
/// is made once.
struct Source {
    record: Record,
}

impl Source {
    fn new() -> Source {
        let mut record = Record::new_zeroed();
        record.mono_ns = START;
        record.netns = 1;
        record.comm[..4].copy_from_slice(b"java");
        record.thread[..4].copy_from_slice(b"http");
        (record.pid, record.tid) = (4_000_000, 4_000_001);
        (record.bytes_sent, record.bytes_received, record.srtt_us) = (123_456, 1_234_567, 321);
        Source { record }
    }

    /// The `id`th connection; every second is IPv6, every second a server's.
    fn socket(&mut self, id: u64) {
        let low = u16::try_from(id % 50_000).unwrap_or(0);
        let record = &mut self.record;
        record.id = id;
        record.family = if id & 1 == 0 { AF_INET } else { AF_INET6 };
        record.local_addr = [0x20; 16];
        record.remote_addr = [0x30; 16];
        (record.local_port, record.remote_port) =
            if id & 2 == 0 { (10_000 + low, 443) } else { (443, 10_000 + low) };
        record.error = 0;
    }

    fn feed(&mut self, session: &mut Session, kind: RecordKind, old: u8, new: u8) {
        let record = &mut self.record;
        record.mono_ns += 100;
        record.kind = kind as u8;
        (record.old_state, record.new_state) = (old, new);
        let owner = matches!(new, 2 | 4 | 9) || new == 10;
        record.flags = flags::COUNTERS | flags::HAS_SOCKET | if owner { flags::OWNER } else { 0 };
        session.feed(&Input::Record(self.record.as_bytes()));
    }

    fn to(&mut self, session: &mut Session, old: TcpState, new: TcpState) {
        self.feed(session, RecordKind::Transition, old.number(), new.number());
    }

    /// A life from its first event to its last, by one of the ways there are.
    fn life(&mut self, session: &mut Session, id: u64) {
        use TcpState::{
            Close, CloseWait, Established, FinWait1, LastAck, Listen, SynRecv, SynSent,
        };
        self.socket(id);
        if id & 2 == 0 {
            self.to(session, Close, SynSent);
            self.again(session, SynSent);
            self.to(session, SynSent, Established);
        } else {
            self.to(session, Listen, SynRecv);
            self.to(session, SynRecv, Established);
        }
        self.again(session, Established);
        match id % 3 {
            0 => {
                self.to(session, Established, CloseWait);
                self.to(session, CloseWait, LastAck);
                self.to(session, LastAck, Close);
            }
            1 => {
                self.reset(session, RecordKind::ResetReceived, Established);
                self.record.error = 104;
                self.to(session, Established, Close);
            }
            _ => {
                self.to(session, Established, FinWait1);
                self.record.error = 110;
                self.to(session, FinWait1, Close);
            }
        }
    }

    /// Closed with unread data: the RST is told after the CLOSE.
    fn cut_off(&mut self, session: &mut Session, id: u64) {
        self.socket(id);
        self.to(session, TcpState::Close, TcpState::SynSent);
        self.to(session, TcpState::SynSent, TcpState::Established);
        self.to(session, TcpState::Established, TcpState::Close);
        self.record.detail = 1;
        self.reset(session, RecordKind::ResetSent, TcpState::Close);
        self.record.detail = 0;
    }

    fn again(&mut self, session: &mut Session, state: TcpState) {
        self.feed(session, RecordKind::Retransmit, state.number(), state.number());
    }

    fn reset(&mut self, session: &mut Session, kind: RecordKind, state: TcpState) {
        self.feed(session, kind, state.number(), state.number());
    }
}

/// Allocations per thousand lives, after as many to warm up.
fn count(outputs: Vec<Box<dyn Output>>) -> u64 {
    const BATCH: u64 = 1_000;
    let mut session = session(outputs);
    let mut source = Source::new();
    // Some that stay, and change while others come and go.
    for id in 1..=100 {
        source.socket(id);
        source.to(&mut session, TcpState::Close, TcpState::SynSent);
        source.to(&mut session, TcpState::SynSent, TcpState::Established);
    }
    let mut allocations = 0;
    for batch in 1..=3 {
        session.out().clear();
        let before = ALLOCATIONS.load(Relaxed);
        for id in batch * BATCH..(batch + 1) * BATCH {
            source.life(&mut session, id);
            source.cut_off(&mut session, id);
            source.socket(1 + id % 100);
            source.again(&mut session, TcpState::Established);
        }
        allocations = ALLOCATIONS.load(Relaxed) - before;
        assert!(matches!(session.totals().events, 1_000..));
    }
    assert_eq!(session.engine.table().len(), 100);
    allocations
}

#[test]
fn nothing_is_allocated_per_event() {
    let dir = tempfile::tempdir().expect("a directory");
    let ways = [
        ("nothing", vec![Box::new(Nothing) as Box<dyn Output>]),
        ("tail", vec![tail(false, None)]),
        ("tail in 80 columns", vec![tail(false, Some(80))]),
        ("tail as JSON", vec![tail(true, None)]),
        ("life", vec![life(false, None)]),
        ("life in 80 columns", vec![life(false, Some(80))]),
        ("life as JSON", vec![life(true, None)]),
        ("tail of one port", vec![one_port()]),
        ("record", vec![record(dir.path())]),
        ("several", vec![tail(true, None), life(false, None), one_port(), Box::new(Nothing)]),
    ];
    let counts = ways.map(|(name, outputs)| (name, count(outputs)));
    assert!(counts.iter().all(|(_, count)| *count == 0), "per 2,000 lives: {counts:?}");
}
