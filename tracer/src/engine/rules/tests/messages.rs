//! Every verdict and every advice in one file that a person can read through: `snapshots/..messages.snap`. They are
//! as `stuck` shows them on 80 columns.

use std::fmt::Write;
use std::net::SocketAddr;

use super::idle::ages;
use super::*;
use crate::engine::rules::accept_queue::Queues;
use crate::engine::rules::collected::Collected;
use crate::engine::rules::explain::pages;
use crate::engine::rules::fingerprint::End;
use crate::engine::rules::group::{Cause, Group, Member};
use crate::engine::rules::growth::Series;
use crate::engine::rules::scene::{InUse, Listener, Route};
use crate::engine::rules::time_wait_overflow::Overflows;
use crate::engine::rules::{fds_workers, ports};

/// Lines of advice on a terminal of 80 columns; what names libraries by their options may have one more.
const LINES: usize = 3;

/// All of them under way.
struct Book {
    text: String,
    seen: Vec<Code>,
    long: Vec<String>,
    /// The machine they are about.
    sim: Sim,
}

/// What a case is about, beside its group.
#[derive(Default)]
struct Case {
    leaks: bool,
    growth: Option<f64>,
    told: bool,
}

const LEAK: Case = Case { leaks: true, growth: Some(60.0), told: true };
const STILL: Case = Case { leaks: false, growth: None, told: true };
/// Two that grow: too few for a leak.
const EARLY: Case = Case { leaks: false, growth: Some(60.0), told: true };

impl Book {
    fn new() -> Book {
        let mut sim = Sim::new();
        sim.fds(20_000, 512);
        sim.quiet(70);
        Book { text: String::new(), seen: Vec::new(), long: Vec::new(), sim }
    }

    fn add(&mut self, what: &str, finding: &Finding) {
        let code = finding.code;
        self.seen.push(code);
        let _ =
            writeln!(self.text, "--- {code} {} ({}): {what}", code.name(), finding.severity.name());
        wrap(&finding.verdict, 0, 2, &mut self.text);
        let lines = wrap(&finding.advice_and_more(), 4, 4, &mut self.text);
        self.text.push('\n');
        if lines > LINES {
            self.long.push(format!("{code} {what}: {lines} lines"));
        }
    }

    /// What a rule says of this group.
    fn group(&mut self, what: &str, case: &Case, group: &Group) {
        let mut around = Surroundings::default();
        around.take_in(&Facts { at: 1, ..self.sim.facts.clone() });
        let about = About {
            table: &self.sim.table,
            around: &around,
            now: self.sim.now,
            growth: case.growth,
            leaks: case.leaks,
            told: case.told,
        };
        let rule = rule(group.key.rule).expect("a rule of sockets");
        let said = rule.format(group, &about).unwrap_or_else(|| panic!("{what}: nothing is said"));
        let forecast = said.forecast.unwrap_or(Forecast {
            what: What::GiveUp,
            limit: 0,
            in_use: 0,
            share: None,
            per_second: None,
            left_ns: None,
        });
        let advice = rule.advice(group, &about);
        let finding =
            Finding::runs_out(String::new(), group.key.rule, said.verdict, advice, forecast);
        let code = rule.code(group, &about);
        self.add(what, &Finding { severity: said.severity, code, ..finding });
    }

    fn all(&mut self, what: &str, findings: &[Finding]) {
        assert!(!findings.is_empty(), "{what}: nothing was found");
        for finding in findings {
            self.add(what, finding);
        }
    }

    fn found(&mut self, what: &str, sim: &Sim, rule: RuleId) {
        let findings: Vec<Finding> = sim.of(rule).into_iter().cloned().collect();
        self.all(what, &findings);
    }
}

/// Words in lines of 80 columns; how many lines.
fn wrap(text: &str, first: usize, rest: usize, out: &mut String) -> usize {
    let (mut column, mut lines) = (first, 1);
    let _ = write!(out, "{:first$}", "");
    for (index, word) in text.split(' ').enumerate() {
        let gap = usize::from(index != 0);
        if column + gap + word.chars().count() > 80 {
            let _ = write!(out, "\n{:rest$}{word}", "");
            (column, lines) = (rest + word.chars().count(), lines + 1);
        } else {
            let _ = write!(out, "{}{word}", " ".repeat(gap));
            column += gap + word.chars().count();
        }
    }
    out.push('\n');
    lines
}

fn java() -> Process {
    Process { pid: Some(JAVA), comm: Comm::new(b"java") }
}

fn server() -> SocketAddr {
    "10.0.0.9:5432".parse().expect("an address")
}

/// Nine sockets, the oldest of them this long in their state.
fn group(book: &Book, rule: RuleId, cause: Cause, side: Side, oldest_s: u64) -> Group {
    let key = Key { rule, cause, netns: NETNS, process: Some(java()), side, workers: None };
    let mut group = Group::new(key);
    for index in 0..9u16 {
        let port = 40_000 + index;
        group.members.push(Member {
            id: SockId(500 + u64::from(index)),
            tuple: match side {
                Side::Local(local) => Sim::tuple(0, local, 9, port),
                Side::Remote(remote) => Sim::tuple(0, port, 9, remote.port()),
                Side::Remotes => Sim::tuple(0, port, 20 + index as u8, 443),
            },
            since: book.sim.now.before((oldest_s - u64::from(index)) * SECOND),
            at_latest: false,
            fd: Some(41 + u32::from(index)),
        });
    }
    group.survival.present = 9;
    group.survival.old = 9;
    group
}

const HERE: Side = Side::Local(8089);

fn there() -> Side {
    Side::Remote(server())
}

fn close_wait(book: &mut Book) {
    let of = |book: &Book, side| group(book, RuleId::CloseWait, Cause::Plain, side, 842);
    let mut one = of(book, HERE);
    one.end_not_read = 9;
    book.group("a leak of a server", &LEAK, &one);
    one = of(book, there());
    one.end_read = 9;
    one.opened.by = vec![("com.acme.Crawler.fetch".into(), 7)];
    one.opened.before = 2;
    book.group("a leak of a client", &LEAK, &one);
    one = of(book, HERE);
    one.unread = 512;
    book.group("held by a server", &STILL, &one);
    book.group("held by a server, and more come", &EARLY, &one);
    one = of(book, there());
    book.group("held by a client", &STILL, &one);
    for (index, member) in one.members.iter_mut().enumerate() {
        member.since = book.sim.now.before(842 * SECOND - index as u64 * 200 * MS);
    }
    book.group("held by a client, from one moment", &STILL, &one);
    one.members.truncate(1);
    one.ends = vec![End { at: book.sim.now, idle_ns: 30 * SECOND, farewell: false }];
    book.group("one that is held", &STILL, &one);
    one = of(book, Side::Remotes);
    one.workers = vec![101, 102, 103];
    book.group("a leak of workers, to many addresses", &LEAK, &one);
    one = group(book, RuleId::CloseWait, Cause::Inherited, HERE, 842);
    one.opened_by = Some(Process { pid: Some(1), comm: Comm::new(b"sh") });
    book.group("inherited", &STILL, &one);
    let mut ended = of(book, there());
    for (index, member) in ended.members.iter_mut().enumerate() {
        member.since = book.sim.now.before(35 * SECOND - index as u64 * MS);
    }
    ended.quiet = vec![20 * SECOND; 9];
    ended.unread = 580;
    book.group("all ended at one moment", &STILL, &ended);
    ended.unread = 0;
    ended.ends = (0..9)
        .map(|index| End { at: book.sim.now, idle_ns: (6_400 + 70 * index) * MS, farewell: false })
        .collect();
    book.group("all ended at one moment, idle for as long", &STILL, &ended);
    let mut idle = of(book, there());
    idle.ends = (0..9)
        .map(|index| End {
            at: book.sim.now.before(index * 3 * SECOND),
            idle_ns: 30 * SECOND,
            farewell: false,
        })
        .collect();
    book.group("the server's keep-alive", &STILL, &idle);
    book.group("a leak, and the server's keep-alive", &LEAK, &idle);
}

fn other_states(book: &mut Book) {
    let give_up = |book: &Book, group: &mut Group, times| {
        group.most_unanswered = times;
        group.last_give_up = Some(book.sim.now.after(120 * SECOND));
    };
    let of = |book: &Book, rule, cause, side| group(book, rule, cause, side, 42);
    let mut one = of(book, RuleId::SynSent, Cause::Plain, there());
    give_up(book, &mut one, 5);
    book.group("no answer", &STILL, &one);
    one = of(book, RuleId::SynRecv, Cause::Plain, HERE);
    for index in 0..32 {
        let member = Member { tuple: Sim::tuple(0, 8089, index, 9_999), ..one.members[0] };
        one.members.push(member);
    }
    book.group("half-open", &STILL, &one);
    one.key.cause = Cause::Deferred;
    book.group("nothing sent yet", &STILL, &one);
    one = of(book, RuleId::Unaccepted, Cause::Plain, HERE);
    one.given_up = 2;
    book.group("nobody accepts", &STILL, &one);
    one = of(book, RuleId::Established, Cause::Retransmitting, there());
    one.unsent = 4_000;
    give_up(book, &mut one, 7);
    book.group("no acknowledgement", &STILL, &one);
    one.key.cause = Cause::ZeroWindow;
    book.group("the peer does not read", &STILL, &one);
    for (rule, orphans) in [
        (RuleId::FinWait1, 9),
        (RuleId::Closing, 9),
        (RuleId::LastAck, 9),
        (RuleId::LastAck, 0),
        (RuleId::FinWait2, 9),
        (RuleId::FinWait2, 0),
    ] {
        let mut gone = of(book, rule, Cause::Plain, HERE);
        gone.orphans = orphans;
        give_up(book, &mut gone, 7);
        book.group(if orphans == 0 { "still held" } else { "orphaned" }, &STILL, &gone);
    }
    one = of(book, RuleId::FinWait2, Cause::Plain, HERE);
    one.orphans = 9;
    for member in &mut one.members {
        member.tuple.remote_addr[12..].copy_from_slice(&[127, 0, 0, 1]);
    }
    book.group("orphaned, the peer on this machine", &STILL, &one);
    one = of(book, RuleId::FinWait1, Cause::ZeroWindow, HERE);
    one.orphans = 9;
    book.group("the peer does not read", &STILL, &one);
    for (what, side) in [("a client", there()), ("a server's client", HERE)] {
        let mut still = of(book, RuleId::EstablishedIdle, Cause::Plain, side);
        still.stillness.asked = if side == HERE { 9 } else { 0 };
        book.group(&format!("a leak of {what}"), &LEAK, &still);
    }
}

fn what_runs_out(book: &mut Book) {
    let listener = Listener {
        id: SockId(1),
        netns: NETNS,
        port: 8089,
        process: Some(java()),
        waiting: 129,
        backlog: 128,
    };
    let (mut queues, mut found) = (Queues::default(), Vec::new());
    for now in [book.sim.now, book.sim.now.after(6 * SECOND)] {
        found.clear();
        queues.check(&[listener], &Surroundings::default(), 5 * SECOND, now, &mut found);
    }
    book.all("full", &found);
    for (what, limit, step) in [("soon", 400, 5), ("now", 60, 1)] {
        let mut sim = Sim::new();
        sim.pass(60, |sim, second| {
            let one = sim.half_closed();
            sim.own(one.0);
            sim.hold();
            sim.fds(limit, (20 + second * step).min(limit));
        });
        book.found(what, &sim, RuleId::Fds);
        if what == "now" {
            let finding = sim.only(RuleId::Fds);
            let workers = [101, 102, 103].map(|pid| {
                (
                    9,
                    Finding {
                        process: Some(Process { pid: Some(pid), ..java() }),
                        ..finding.clone()
                    },
                )
            });
            book.all("workers of a service", &fds_workers::merged(workers.to_vec()));
        }
    }
    let route = |port| Route {
        netns: NETNS,
        local: "10.0.0.1".parse().expect("an address"),
        remote: SocketAddr::new(server().ip(), port),
    };
    let facts = book.sim.facts.netns[0];
    for (what, port, used, time_wait) in [
        ("most in TIME_WAIT", 5432, 28_222, 28_000),
        ("most open", 5432, 26_000, 10),
        ("bound before they connect", 0, 28_222, 10),
    ] {
        let in_use = InUse { ports: used, time_wait, reusable: 0, process: Some(java()) };
        let found = ports::check(&route(port), &in_use, &Series::default(), &facts, SECOND);
        book.all(what, &found.into_iter().collect::<Vec<_>>());
    }
    let mut overflows = Overflows::default();
    for (second, count) in [(1, 900), (11, 937)] {
        let netns = NetnsFacts {
            inode: 7,
            time_wait_overflows: Some(count),
            max_tw_buckets: Some(5000),
            ..NetnsFacts::default()
        };
        overflows.take_in(&Facts { at: second * SECOND, netns: vec![netns], ..Facts::default() });
    }
    book.all("while it happens", &overflows.findings(60 * SECOND, MonoNs(12 * SECOND)));
}

/// Sockets that have ended, and whose descriptors are there still.
fn closed(book: &mut Book, what: &str, apart_s: u64, connects: bool) {
    let mut sim = Sim::new();
    sim.table.remember_leftovers();
    for id in 900..906 {
        if connects {
            sim.open(id, false);
            sim.rst(id, false, TcpState::Established, ages(40, 40, 40), 0);
        }
        sim.quiet(apart_s);
        sim.own(id);
        let row = sim.holders.last_mut().expect("one");
        row.state = TcpState::Close as u8;
        row.fd = u32::try_from(id - 900).expect("small") + 9;
    }
    let now = sim.now.0;
    sim.holders.iter_mut().for_each(|row| row.mono_ns = now);
    sim.hold();
    sim.quiet(70);
    book.found(what, &sim, RuleId::Closed);
}

fn idle_and_reset(book: &mut Book) {
    closed(book, "reset, one after the other", 5, true);
    closed(book, "reset at one moment", 0, true);
    closed(book, "never connected", 0, false);
    let mut collected = Collected::default();
    let mut sim = Sim::new();
    for id in 900..904 {
        sim.open(id, false);
        let conn = sim.table.find_open(SockId(id)).expect("open");
        collected.closed(conn, sim.now, Some(&"com.acme.Forgets.ask".into()), 32_768);
    }
    let mut found = Vec::new();
    collected.findings(60 * SECOND, &Openers::default(), sim.now.after(SECOND), &mut found);
    book.all("of a JVM", &found);
    let idle = super::idle::noted();
    book.found("silent for a long time", &idle, RuleId::Idle);
    for server in [false, true] {
        let gone = [60_000, 60_020, 60_004, 60_010].map(|ms| ages(ms, ms, ms));
        let resets = super::idle::resets(server, &gone);
        book.found("by a timer", &resets, RuleId::IdleReset);
    }
    book.found("when they are used again", &super::idle::used_again(20), RuleId::IdleReset);
    book.found("of a pool", &super::idle::stale(), RuleId::StaleReuse);
    let tests = super::idle::tested(&[60, 60, 60, 60], 116);
    book.found("perhaps a pool's tests", &tests, RuleId::StaleReuse);
}

/// What tcptrail tells of itself.
fn itself(book: &mut Book) {
    let why = "/var/lib/tcptrail/recorder: the disk is full";
    let paused = crate::engine::rules::recorder::paused(72 * SECOND, why);
    book.all("a full disk", &[paused]);
}

#[test]
fn every_message_is_read_in_one_file() {
    let mut book = Book::new();
    close_wait(&mut book);
    other_states(&mut book);
    what_runs_out(&mut book);
    idle_and_reset(&mut book);
    itself(&mut book);
    let missing: Vec<Code> =
        pages().map(|page| page.code).filter(|code| !book.seen.contains(code)).collect();
    assert!(missing.is_empty(), "no message of {missing:?}");
    insta::assert_snapshot!(book.text);
    // Names of libraries' options, by program.
    book.long.retain(|line| !line.starts_with("TT403"));
    assert!(book.long.is_empty(), "advice of more than {LINES} lines: {:#?}", book.long);
}
