//! Recordings replayed through the engine and a view, compared with what a person has looked at.
//!
//! Two fixtures: `synthetic`, made by `synthetic()` below so that every kind of line is in it, and
//! `loopback`, a capture of real traffic (see `make_loopback`). Snapshots are beside this file.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use tracer::engine::Engine;
use tracer::engine::conn::{Poll, PollKind};
use tracer::event::{Loss, LossCause};
use tracer::filter::Filter;
use tracer::input::{Input, Origin};
use tracer::names;
use tracer::output::Output;
use tracer::output::lines::{Life, List, Pen, Setting, Tail};
use tracer::output::record::Writer;
use tracer::output::session::Session;
use tracer::source::recording::{Ended, Item, Reader};
use tracer::text::Terminal;
use tracer::time::MonoNs;
use tracer_common::TcpState;
use tracer_common::wire::{
    AF_INET, AF_INET6, HolderRow, Record, RecordKind, SocketRow, again, flags,
};
use zerocopy::{FromZeros, IntoBytes};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings").join(name)
}

/// What a view makes of a recording, as `tcptrail replay` would print it.
fn replay(recording: &[u8], view: Box<dyn Output>) -> String {
    let (origin, mut reader) = Reader::open(recording).expect("a recording");
    let engine = Engine::new(origin, 1000);
    let mut session = Session::begin(engine, vec![view]).expect("nothing to fail");
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
    String::from_utf8(std::mem::take(session.out())).expect("UTF-8")
}

/// A view by its name in snapshots.
fn view(name: &str, json: bool, width: Option<usize>) -> Box<dyn Output> {
    let terminal = Terminal { width, color: false };
    view_with(name, Pen::new(json, terminal, TimeZone::UTC))
}

fn view_with(name: &str, pen: Pen) -> Box<dyn Output> {
    let setting = Setting { pen, filter: Filter::default() };
    match name {
        "tail" => Box::new(Tail::new(setting)),
        "life" => Box::new(Life::new(setting, false, false)),
        "list" => Box::new(List::new(setting, None, false)),
        other => panic!("no view {other}"),
    }
}

fn check(name: &str) {
    let recording = std::fs::read(fixture(&format!("{name}.tcpt"))).expect("the fixture");
    for which in ["tail", "life", "list"] {
        for (suffix, width) in [("pipe", None), ("80", Some(80)), ("200", Some(200))] {
            let text = replay(&recording, view(which, false, width));
            for line in text.lines() {
                assert!(!line.ends_with(' '), "{name} {which} {suffix}: {line:?}");
                assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
            }
            insta::assert_snapshot!(format!("{name}_{which}_{suffix}"), text);
        }
        let json = replay(&recording, view(which, true, None));
        for line in json.lines() {
            let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(object["schema"], 1);
            assert!(object["event"].is_string());
        }
        insta::assert_snapshot!(format!("{name}_{which}_json"), json);
    }
}

#[test]
fn every_kind_of_line() {
    check("synthetic");
}

#[test]
fn real_traffic_on_loopback() {
    check("loopback");
}

/// `-H`: the same lines without that of the columns' names, however often it comes.
#[test]
fn without_a_header_the_lines_are_the_same() {
    let recording = std::fs::read(fixture("synthetic.tcpt")).expect("the fixture");
    for (which, first) in [("tail", "TIME "), ("life", "ENDED "), ("list", "STATE ")] {
        for width in [None, Some(200)] {
            let terminal = Terminal { width, color: false };
            let pen = Pen { header: false, ..Pen::new(false, terminal, TimeZone::UTC) };
            let bare = replay(&recording, view_with(which, pen));
            let whole = replay(&recording, view(which, false, width));
            assert!(whole.lines().any(|line| line.starts_with(first)), "{which}: {whole}");
            let kept: Vec<&str> = whole.lines().filter(|line| !line.starts_with(first)).collect();
            assert_eq!(bare.lines().collect::<Vec<_>>(), kept, "{which}");
        }
    }
}

/// The fixture is what `synthetic` makes; `TCPTRAIL_WRITE_FIXTURES=1` writes it anew.
#[test]
fn the_synthetic_fixture_is_up_to_date() {
    let made = synthetic();
    let path = fixture("synthetic.tcpt");
    if std::env::var_os("TCPTRAIL_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let committed = std::fs::read(&path).expect("the fixture");
    // The items, not the bytes: a compressor may learn to pack better.
    assert_eq!(items(&committed), items(&made));
}

fn items(recording: &[u8]) -> Vec<String> {
    let (origin, mut reader) = Reader::open(recording).expect("a recording");
    let mut items = vec![format!("{origin:?}")];
    while let Some(item) = reader.next().expect("whole") {
        items.push(format!("{item:?}"));
    }
    items
}

const MS: u64 = 1_000_000;
const START: u64 = 5_000_000 * MS;
const HOST: u32 = 4_026_531_840;
const POD: u32 = 4_026_532_200;

/// A recording under way; times are milliseconds from its start.
struct Tape {
    writer: Writer<Vec<u8>>,
    events: u64,
}

impl Tape {
    fn push(&mut self, input: &Input<'_>) {
        self.writer.push(input).expect("memory");
    }

    fn event(&mut self, record: Record) {
        self.events += 1;
        self.push(&Input::Record(record.as_bytes()));
    }

    fn poll(&mut self, kind: PollKind, ms: f64, rows: &[SocketRow]) {
        self.push(&Input::PollBegin);
        for row in rows {
            self.push(&Input::Record(row.as_bytes()));
        }
        let poll = Poll { began: at(ms), netns: vec![HOST, POD], kind };
        self.push(&Input::PollEnd { poll, now: at(ms + 2.0) });
    }
}

/// To the nanosecond for all that is below, which says things like 0.35.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small, positive")]
fn at(ms: f64) -> MonoNs {
    MonoNs(START + (ms * 1e6).round() as u64)
}

/// One socket of the tape.
#[derive(Clone, Copy)]
struct Sock {
    record: Record,
}

fn v4(id: u64, local: [u8; 4], local_port: u16, remote: [u8; 4], remote_port: u16) -> Sock {
    let mut record = Record::new_zeroed();
    record.family = AF_INET;
    record.local_addr[..4].copy_from_slice(&local);
    record.remote_addr[..4].copy_from_slice(&remote);
    (record.id, record.netns) = (id, HOST);
    (record.local_port, record.remote_port) = (local_port, remote_port);
    record.flags = flags::HAS_SOCKET;
    Sock { record }
}

fn v6(id: u64, local: &str, local_port: u16, remote: &str, remote_port: u16) -> Sock {
    let octets = |addr: &str| addr.parse::<std::net::Ipv6Addr>().expect("IPv6").octets();
    let mut sock = v4(id, [0; 4], local_port, [0; 4], remote_port);
    sock.record.family = AF_INET6;
    sock.record.local_addr = octets(local);
    sock.record.remote_addr = octets(remote);
    sock
}

impl Sock {
    fn netns(mut self, netns: u32) -> Sock {
        self.record.netns = netns;
        self
    }

    fn flags(mut self, bits: u16) -> Sock {
        self.record.flags |= bits;
        self
    }

    /// Nobody has accepted it.
    fn in_queue(mut self) -> Sock {
        self.record.flags &= !flags::HAS_SOCKET;
        self
    }

    fn cgroup(mut self, id: u64) -> Sock {
        self.record.cgroup = id;
        self
    }

    fn no_port(mut self) -> Sock {
        self.record.local_port = 0;
        self
    }

    fn by(mut self, pid: u32, comm: &[u8], thread: &[u8]) -> Sock {
        self.record.flags |= flags::OWNER;
        (self.record.pid, self.record.tid) = (pid, pid + u32::from(comm != thread));
        self.record.comm[..comm.len()].copy_from_slice(comm);
        self.record.thread[..thread.len()].copy_from_slice(thread);
        self
    }

    fn counters(mut self, sent: u64, received: u64, retransmits: u32, srtt_us: u32) -> Sock {
        self.record.flags |= flags::COUNTERS;
        (self.record.bytes_sent, self.record.bytes_received) = (sent, received);
        (self.record.retransmits, self.record.srtt_us) = (retransmits, srtt_us);
        self
    }

    fn errno(mut self, errno: u16) -> Sock {
        self.record.error = errno;
        self
    }

    fn kind(mut self, kind: RecordKind, ms: f64, state: TcpState) -> Record {
        self.record.mono_ns = at(ms).0;
        self.record.kind = kind as u8;
        self.record.old_state = state.number();
        self.record.new_state = state.number();
        self.record
    }

    fn to(self, ms: f64, old: TcpState, new: TcpState) -> Record {
        let mut record = self.kind(RecordKind::Transition, ms, new);
        record.old_state = old.number();
        record
    }

    /// The last segment was sent again, the `so_far`th that was.
    fn again(self, ms: f64, state: TcpState, length: u32, so_far: u32) -> Record {
        let mut sock = self.flags(flags::LAST_SEGMENT).counters(0, 0, so_far, 0);
        sock.record.detail = length;
        // Data by other ACKs, all else by a timeout of 200 ms.
        let why = if state == TcpState::Established { again::FAST } else { again::TIMEOUT };
        sock.record.detail_more = u32::from(why) | 1 << 16;
        sock.record.tid = jiffies(200);
        sock.kind(RecordKind::Retransmit, ms, state)
    }

    fn synack(mut self, ms: f64, times: u32) -> Record {
        self.record.flags = flags::REQUEST;
        // The kernel counts after it has told.
        self.record.retransmits = times - 1;
        self.kind(RecordKind::RetransmitSynack, ms, TcpState::SynRecv)
    }

    fn reset(mut self, ms: f64, state: TcpState, sent: bool, reason: u32) -> Record {
        self.record.detail = reason;
        let kind = if sent { RecordKind::ResetSent } else { RecordKind::ResetReceived };
        self.kind(kind, ms, state)
    }

    fn row(self, ms: f64, state: TcpState, change: impl FnOnce(&mut SocketRow)) -> SocketRow {
        let mut row = SocketRow::new_zeroed();
        row.record = self.kind(RecordKind::Socket, ms, state);
        change(&mut row);
        row
    }

    fn mini(self, ms: f64, state: TcpState, left_ms: u32) -> SocketRow {
        self.row(ms, state, |row| (row.record.flags, row.timer) = (flags::MINI, jiffies(left_ms)))
    }

    fn holder(self, pid: u32, comm: &[u8], fd: u32) -> HolderRow {
        let mut row = HolderRow::new_zeroed();
        (row.id, row.pid, row.fd, row.netns) = (self.record.id, pid, fd, self.record.netns);
        row.comm[..comm.len()].copy_from_slice(comm);
        row.start_ns = 4_000_000 * MS;
        row.mono_ns = START;
        row
    }
}

fn jiffies(ms: u32) -> u32 {
    ms / 4
}

/// Something of everything that can be on a line.
#[expect(clippy::too_many_lines, reason = "a list")]
fn synthetic() -> Vec<u8> {
    use TcpState::*;
    let reasons = ["", "no_socket", "tcp_abort_on_data", "tcp_abort_on_close"];
    let hooks = ["inet_sock_set_state", "tcp_send_reset", "iter/tcp"];
    let origin = Origin {
        version: "0.1.0".into(),
        kernel: "6.18.0".into(),
        machine: "x86_64".into(),
        hooks: hooks.map(String::from).to_vec(),
        filters: vec!["--port 1-65535".into()],
        // 2026-11-20T11:00:00Z at the start.
        wall_at_zero: 1_795_172_400_000_000_000 - START.cast_signed(),
        start_ns: START,
        jiffy_ns: 4 * MS,
        jiffies: None,
        reset_reasons: reasons.map(String::from).to_vec(),
        drop_reasons: Vec::new(),
        only_netns: None,
        only_cgroup: false,
        segment: None,
    };
    let mut tape = Tape { writer: Writer::new(Vec::new(), &origin).expect("memory"), events: 0 };

    // What was there before: Java behind port 8089 in a container, nginx with two workers.
    let java = (31_467, b"java".as_slice(), b"http-nio-8089-e".as_slice());
    let listener = v6(1, "::", 8089, "::", 0).netns(POD).cgroup(77);
    let nginx = v4(2, [0, 0, 0, 0], 443, [0; 4], 0);
    let ours = "::ffff:10.1.2.3";
    let leaked = v6(3, ours, 8089, "::ffff:10.1.9.77", 50_111).netns(POD).cgroup(77);
    let dead = v6(4, ours, 8089, "::ffff:10.1.9.78", 50_112).netns(POD);
    let queued = v6(5, ours, 8089, "::ffff:10.1.9.79", 50_113).netns(POD).in_queue();
    let old_time_wait = v4(6, [192, 0, 2, 10], 41_000, [198, 51, 100, 7], 5432);
    let old_fin_wait2 = v4(7, [192, 0, 2, 10], 41_001, [198, 51, 100, 7], 5432);
    let old_syn = v4(8, [192, 0, 2, 10], 41_002, [203, 0, 113, 200], 443);
    let half_open = v4(9, [192, 0, 2, 10], 443, [203, 0, 113, 255], 65_535);
    tape.poll(
        PollKind::All,
        1.0,
        &[
            listener.row(1.1, Listen, |row| (row.recv_queue, row.send_queue) = (1, 100)),
            nginx.row(1.2, Listen, |row| row.send_queue = 511),
            leaked.counters(2_345_678, 812, 3, 840).flags(flags::DONE).row(1.3, CloseWait, |row| {
                row.since_ack = jiffies(14 * 60_000);
                row.recv_queue = 1;
            }),
            dead.flags(flags::DEAD | flags::DONE).row(1.4, LastAck, |row| row.send_queue = 1),
            queued.row(1.5, Established, |row| {
                row.recv_queue = 517;
                row.since_ack = jiffies(30_000);
            }),
            old_time_wait.mini(1.6, TimeWait, 20_000),
            old_fin_wait2.mini(1.7, FinWait2, 30_000),
            old_syn.row(1.8, SynSent, |row| row.unanswered = 4),
            half_open.row(1.9, SynRecv, |row| {
                row.record.flags = flags::REQUEST;
                (row.record.retransmits, row.timer) = (1, jiffies(1_500));
            }),
        ],
    );
    let mut holders = Vec::new();
    for row in [
        listener.holder(java.0, java.1, 54),
        leaked.holder(java.0, java.1, 1_017),
        nginx.holder(800, b"nginx", 6),
        nginx.holder(801, b"nginx", 6),
        old_syn.holder(900, b"\x1b[31mevil\n", 3),
    ] {
        holders.extend_from_slice(row.as_bytes());
    }
    tape.push(&Input::Holders(&holders));
    let mut known = Vec::new();
    let container = format!("/system.slice/docker-{}.scope", "0123456789abcdef".repeat(4));
    names::encode(names::Entry::Cgroup(77), container.as_bytes(), &mut known);
    names::encode(names::Entry::Executable(java.0), b"/opt/java/bin/java", &mut known);
    tape.push(&Input::Names(&known));

    // A client of ours that closes first, the peer a moment later: TIME_WAIT.
    let shut = flags::DEAD | flags::RCV_SHUTDOWN | flags::SEND_SHUTDOWN;
    let done = flags::DONE | shut;
    let curl = v4(20, [192, 0, 2, 10], 42_020, [198, 51, 100, 7], 443);
    tape.event(curl.no_port().by(1000, b"curl", b"curl").to(100.0, Close, SynSent));
    tape.event(curl.counters(0, 0, 0, 23_456).to(123.456, SynSent, Established));
    tape.event(curl.by(1000, b"curl", b"curl").to(323.5, Established, FinWait1));
    tape.event(curl.flags(flags::DEAD).to(347.0, FinWait1, FinWait2));
    tape.event(curl.flags(done).counters(517, 1_234_569, 0, 24_000).to(347.05, FinWait2, Close));

    // A server's connection with the longest of addresses; the peer closes first.
    let long = "2001:db8:1111:2222:3333:4444:5555:6666";
    let server = v6(21, long, 8089, "2001:db8:9999:8888:7777:6666:5555:4444", 65_535).netns(POD);
    tape.event(server.in_queue().to(400.0, Listen, SynRecv));
    tape.event(server.in_queue().counters(0, 0, 0, 1_530).to(400.02, SynRecv, Established));
    tape.event(server.flags(flags::DONE).to(1_400.0, Established, CloseWait));
    let closes = server.flags(flags::DONE).by(java.0, java.1, java.2);
    tape.event(closes.to(9_400.0, CloseWait, LastAck));
    tape.event(server.again(9_700.0, LastAck, 1, 1));
    tape.event(server.flags(done).counters(5_000, 101, 1, 1_530).to(9_701.5, LastAck, Close));

    // SYN again and again in vain, then a refused one and one without a way.
    let silent = v4(22, [192, 0, 2, 10], 42_022, [203, 0, 113, 9], 81);
    tape.event(silent.no_port().by(1001, b"wget", b"wget").to(10_000.0, Close, SynSent));
    tape.event(silent.again(11_000.0, SynSent, 1, 1));
    tape.event(silent.again(13_000.0, SynSent, 1, 2));
    tape.event(silent.counters(0, 0, 2, 0).errno(110).to(17_000.0, SynSent, Close));
    let refused = v6(23, "::1", 42_023, "::1", 82);
    tape.event(refused.no_port().by(1002, b"wget", b"wget").to(17_100.0, Close, SynSent));
    tape.event(refused.reset(17_100.04, SynSent, false, 0));
    tape.event(refused.counters(0, 0, 0, 0).errno(111).to(17_100.05, SynSent, Close));
    let lonely = v4(24, [192, 0, 2, 10], 42_024, [203, 0, 113, 10], 83);
    tape.event(lonely.no_port().by(1003, b"caf\xc3\xa9 \\x", b"t").to(17_200.0, Close, SynSent));
    tape.event(lonely.counters(0, 0, 0, 0).errno(113).to(20_200.0, SynSent, Close));

    // A SYN-ACK sent again, then the third ACK; data again; then the peer's RST.
    let slow = v4(25, [192, 0, 2, 10], 443, [203, 0, 113, 77], 50_025);
    tape.event(slow.synack(21_000.0, 1));
    tape.event(slow.synack(23_000.0, 2));
    tape.event(slow.in_queue().to(23_100.0, Listen, SynRecv));
    tape.event(slow.in_queue().counters(0, 0, 2, 100_000).to(23_100.03, SynRecv, Established));
    tape.event(slow.again(24_000.0, Established, 1_448, 3));
    tape.event(slow.reset(25_000.0, Established, false, 0));
    tape.event(slow.counters(1_448, 99, 3, 100_000).errno(104).to(25_000.01, Established, Close));

    // Closed with unread data: our RST is told after the CLOSE, with its reason.
    let unread = v4(26, [192, 0, 2, 10], 443, [203, 0, 113, 78], 50_026);
    tape.event(unread.in_queue().to(26_000.0, Listen, SynRecv));
    tape.event(unread.in_queue().counters(0, 0, 0, 90_000).to(26_000.02, SynRecv, Established));
    let closes = unread.flags(shut).counters(10, 20, 0, 90_000).by(801, b"nginx", b"nginx");
    tape.event(closes.to(26_500.0, Established, Close));
    tape.event(unread.flags(shut).reset(26_500.01, Close, true, 3));

    // Both ends here: simultaneous close. Then a FIN_WAIT2 that waits for a peer that leaks.
    let here = v4(27, [127, 0, 0, 1], 42_027, [127, 0, 0, 1], 9000);
    let there = v4(28, [127, 0, 0, 1], 9000, [127, 0, 0, 1], 42_027);
    tape.event(here.no_port().by(1010, b"php", b"php").to(27_000.0, Close, SynSent));
    tape.event(there.in_queue().to(27_000.03, Listen, SynRecv));
    tape.event(here.counters(0, 0, 0, 40).to(27_000.05, SynSent, Established));
    tape.event(there.in_queue().counters(0, 0, 0, 45).to(27_000.06, SynRecv, Established));
    tape.event(here.by(1010, b"php", b"php").to(28_000.0, Established, FinWait1));
    tape.event(there.by(1011, b"php-fpm", b"php-fpm").to(28_000.01, Established, FinWait1));
    tape.event(here.flags(done).to(28_000.02, FinWait1, Closing));
    tape.event(there.flags(done).to(28_000.03, FinWait1, Closing));
    tape.event(here.flags(done).counters(1, 2, 0, 40).to(28_000.04, Closing, Close));
    tape.event(there.flags(done).counters(2, 1, 0, 45).to(28_000.05, Closing, Close));
    let waits = v4(29, [192, 0, 2, 10], 42_029, [198, 51, 100, 7], 5432);
    tape.event(waits.no_port().by(1012, b"psql", b"psql").to(29_000.0, Close, SynSent));
    tape.event(waits.counters(0, 0, 0, 500).to(29_000.5, SynSent, Established));
    tape.event(waits.by(1012, b"psql", b"psql").to(30_000.0, Established, FinWait1));
    tape.event(waits.flags(flags::DEAD).to(30_000.6, FinWait1, FinWait2));
    tape.event(waits.flags(shut).counters(70, 80, 0, 500).to(30_000.61, FinWait2, Close));

    // Losses; the walks after them contradict once, and what they miss twice is gone.
    for (count, cause) in [(1, LossCause::Ring), (1_001, LossCause::Recursion)] {
        tape.push(&Input::Lost(Loss { count, cause, from: at(30_900.0), to: at(31_000.0) }));
    }
    tape.push(&Input::Record(&[1, 2, 3]));
    tape.push(&Input::Tick(at(31_500.0)));
    let lost = v4(30, [192, 0, 2, 10], 42_030, [198, 51, 100, 7], 5432);
    tape.event(lost.no_port().by(1013, b"psql", b"psql").to(31_600.0, Close, SynSent));
    tape.event(lost.counters(0, 0, 0, 500).to(31_600.5, SynSent, Established));
    let there_still = |ms: f64, left: u32| {
        [
            listener.row(ms, Listen, |row| (row.recv_queue, row.send_queue) = (1, 100)),
            nginx.row(ms, Listen, |row| row.send_queue = 511),
            leaked.flags(flags::DONE).row(ms, CloseWait, |row| row.recv_queue = 1),
            dead.flags(flags::DEAD | flags::DONE).row(ms, LastAck, |row| row.send_queue = 1),
            queued.row(ms, Established, |row| row.recv_queue = 517),
            curl.mini(ms, TimeWait, left),
            waits.mini(ms, FinWait2, left + 29_652),
            lost.row(ms, CloseWait, |row| row.since_ack = jiffies(4_000)),
        ]
    };
    tape.poll(PollKind::All, 41_000.0, &there_still(41_000.1, 19_348));
    tape.poll(PollKind::All, 42_000.0, &there_still(42_000.1, 18_348));
    tape.push(&Input::Tick(at(43_000.0)));
    let ended = Ended { events: tape.events, connections: 14, at: at(50_000.0) };
    tape.writer.finish(ended).expect("memory")
}

/// How `loopback.tcpt` was made: `unshare -n` with loopback up, in it `loopback.py` (beside the
/// recording) and `tcptrail record`; then this, which keeps that namespace only, and no names of
/// the machine.
#[test]
#[ignore = "makes a fixture out of the capture that CAPTURE names, of the namespace NETNS"]
fn make_loopback() {
    let var = |name| std::env::var(name).expect("CAPTURE and NETNS are set");
    let netns: u32 = var("NETNS").parse().expect("an inode number");
    let capture = std::fs::read(var("CAPTURE")).expect("the capture");
    let (mut origin, mut reader) = Reader::open(&capture[..]).expect("a recording");
    origin.kernel = "6.18.0".into();
    origin.filters.clear();
    let mut writer = Writer::new(Vec::new(), &origin).expect("memory");
    let wanted = |bytes: &[u8], at: usize| bytes[at..at + 4] == netns.to_ne_bytes();
    while let Some(item) = reader.next().expect("whole") {
        let input = match item {
            Item::Input(Input::Record(bytes)) if !wanted(bytes, 16) => continue,
            Item::Input(Input::Names(_)) => continue,
            Item::Input(Input::Holders(rows)) => {
                let rows: Vec<u8> =
                    rows.chunks(56).filter(|row| wanted(row, 40)).flatten().copied().collect();
                writer.push(&Input::Holders(&rows)).expect("memory");
                continue;
            }
            Item::Input(input) => input,
            Item::Ended(ended) => {
                let bytes = writer.finish(ended).expect("memory");
                std::fs::write(fixture("loopback.tcpt"), bytes).expect("written");
                return;
            }
        };
        writer.push(&input).expect("memory");
    }
    panic!("the capture has no end");
}
