//! Makes the page's data of the figures of a run.

use jiff::tz::TimeZone;
use tracer_common::TcpState;

use super::data::{About, Data, Drop, Found, Lengths, One, Row, Series};
use super::findings::Story;
use super::fold::Fold;
use super::lives::{InState, Life, Lives, MOST as MOST_LIVES};
use super::stacks::{MOST as MOST_STACKS, Stacks};
use super::tables::{Row as Counted, Table as Rows, Who};
use super::timeline::{Interval, Timeline};
use crate::event::{LossCause, drop_in_words};
use crate::names::Names;
use crate::output::Run;
use crate::output::lines::{drops, ends};
use crate::text;
use crate::time::{Anchor, MonoNs};

/// Rows of a table that the page has.
const MOST_ROWS: usize = 500;
/// Upper bounds of the bars of a histogram, microseconds.
const BOUNDS_US: [u64; 24] = [
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    600_000_000,
    3_600_000_000,
];
/// States from the beginning of a life to its end, and what a chart piles up from below.
const STATES: [TcpState; 11] = [
    TcpState::Listen,
    TcpState::Established,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::TimeWait,
    TcpState::LastAck,
    TcpState::CloseWait,
    TcpState::NewSynRecv,
];

/// Who reads the page, and what it is made of.
pub(super) struct Reader<'a> {
    pub(super) zone: &'a TimeZone,
    pub(super) source: &'a str,
}

/// Gathers it.
pub(super) fn collect(fold: &mut Fold, run: &Run<'_>, reader: &Reader<'_>, stacks: Stacks) -> Data {
    let mut cut = Vec::new();
    let clock = Clock { anchor: run.engine.origin().anchor(), zone: reader.zone };
    let findings = findings(fold, run, &clock, &mut cut);
    let descriptors: Vec<_> =
        run.engine.watch().into_iter().flat_map(|it| it.descriptors()).collect();
    let fds_of = |who: &Who| {
        let pid = who.as_ref()?.1?;
        descriptors.iter().find(|(one, ..)| *one == pid).map(|&(_, fds, limit)| (fds, limit))
    };
    let (tables, names) = (&fold.tables, run.engine.names());
    let processes = rows(&tables.processes, "process", &mut cut, |who| (name_of(who), fds_of(who)));
    let listeners =
        rows(&tables.listeners, "listening port", &mut cut, |port| (format!(":{port}"), None));
    let remotes = rows(&tables.remotes, "remote end", &mut cut, |end| {
        (ends::named(names, end.addr, end.link), None)
    });
    let drops = drops(fold, run, &mut cut);
    let stacks = most_stacks(stacks, &mut cut);
    lives_cut(&fold.lives, run, &mut cut);
    Data {
        about: about(fold, run, reader, &clock),
        timeline: series(&fold.timeline, &clock),
        findings,
        stacks,
        processes,
        listeners,
        remotes,
        drops,
        again: fold.again.words(),
        shown: None,
        handshakes: ones(&fold.lives.handshakes(), names, &clock),
        closings: ones(&fold.lives.closings(), names, &clock),
        bounds_us: &BOUNDS_US,
        in_states: fold.lives.in_states.iter().map(lengths).collect(),
        cut,
    }
}

/// Wall times.
struct Clock<'a> {
    anchor: Anchor,
    zone: &'a TimeZone,
}

impl Clock<'_> {
    fn ms(&self, at: MonoNs) -> i64 {
        self.anchor.wall_ns(at).div_euclid(1_000_000)
    }

    fn zoned(&self, at: MonoNs) -> jiff::Zoned {
        let at = jiff::Timestamp::from_nanosecond(i128::from(self.anchor.wall_ns(at)));
        at.unwrap_or_default().to_zoned(self.zone.clone())
    }

    fn text(&self, at: MonoNs) -> String {
        self.zoned(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }
}

fn about(fold: &Fold, run: &Run<'_>, reader: &Reader<'_>, clock: &Clock<'_>) -> About {
    let origin = run.engine.origin();
    let by_cause = LossCause::ALL.iter().zip(run.totals.lost);
    About {
        source: safe(reader.source.as_bytes()),
        version: safe(origin.version.as_bytes()),
        kernel: safe(origin.kernel.as_bytes()),
        filters: origin.filters.iter().map(|filter| safe(filter.as_bytes())).collect(),
        from: clock.ms(origin.start()),
        to: clock.ms(run.now),
        from_text: clock.text(origin.start()),
        to_text: clock.text(run.now),
        zone_minutes: clock.zoned(run.now).offset().seconds() / 60,
        events: run.totals.events,
        connections: run.totals.connections,
        sockets: fold.tables.there(None),
        listening: fold.tables.there(Some(TcpState::Listen)),
        time_wait: fold.tables.there(Some(TcpState::TimeWait)),
        lost: run.totals.all_lost(),
        lost_by: by_cause
            .filter(|(_, count)| *count != 0)
            .map(|(cause, count)| (cause.name(), count))
            .collect(),
    }
}

fn series(timeline: &Timeline, clock: &Clock<'_>) -> Series {
    let all = &timeline.intervals;
    let each = |of: fn(&Interval) -> u64| all.iter().map(of).collect();
    let in_state = |state: TcpState| {
        let at = usize::from(state.number());
        move |interval: &Interval| interval.sockets.as_ref().map(|by_state| by_state[at])
    };
    let states =
        STATES.iter().map(|&state| (state.name(), all.iter().map(in_state(state)).collect()));
    let ever =
        |(_, counts): &(_, Vec<Option<u32>>)| counts.iter().flatten().any(|&count| count != 0);
    Series {
        start: clock.ms(timeline.start),
        width: timeline.width_ns / 1_000_000,
        intervals: all.len(),
        states: states.filter(ever).collect(),
        opened: each(|interval| interval.opened),
        failed: each(|interval| interval.failed),
        closed: each(|interval| interval.closed),
        retransmits: each(|interval| interval.retransmits),
        resets: each(|interval| interval.resets),
        dropped: if all.iter().any(|interval| interval.dropped != 0) {
            each(|interval| interval.dropped)
        } else {
            Vec::new()
        },
        lost: each(|interval| interval.lost),
        fds: all
            .iter()
            .map(|interval| interval.fds.as_ref().map(|fds| (fds.fds, fds.limit, fds.pid)))
            .collect(),
    }
}

fn drops(fold: &Fold, run: &Run<'_>, cut: &mut Vec<String>) -> Vec<Drop> {
    if fold.drops.untold() != 0 {
        cut.push(format!(
            "{} more dropped segments are not shown one by one: there were too many for one reason in a second.",
            fold.drops.untold()
        ));
    }
    let drop = |(reason, place, count)| {
        let why = drop_in_words(run.engine.origin().drop_reason(reason), place);
        Drop {
            count,
            why: safe(why.as_bytes()),
            reason: safe(drops::name(run.engine, reason).as_bytes()),
            hook: place.name(),
        }
    };
    fold.drops.by_reason().into_iter().map(drop).collect()
}

fn findings(
    fold: &mut Fold,
    run: &Run<'_>,
    clock: &Clock<'_>,
    cut: &mut Vec<String>,
) -> Vec<Found> {
    let found = |story: &Story| {
        let finding = &story.finding;
        Found {
            id: finding.id.clone(),
            rule: finding.rule.name(),
            severity: finding.severity.name(),
            verdict: finding.verdict.clone(),
            advice: finding.advice_and_more(),
            since: clock.ms(story.since),
            until: story.until.map(|at| clock.ms(at)),
            since_text: clock.text(story.since),
            until_text: story.until.map(|at| clock.text(at)),
            count: finding.count,
            points: story.points.iter().map(|&(at, count)| (clock.ms(at), count)).collect(),
            opened_by: finding
                .opened
                .by
                .iter()
                .map(|(opener, count)| (safe(opener.as_bytes()), *count))
                .collect(),
        }
    };
    let found = fold.stories.at_end(run.engine, run.now).into_iter().map(found).collect();
    if fold.stories.left_out != 0 {
        cut.push(format!("{} changes of further findings are not shown.", fold.stories.left_out));
    }
    found
}

/// The rows with most to do, and the rest as one.
fn rows<K>(
    table: &Rows<K>,
    what: &str,
    cut: &mut Vec<String>,
    named: impl Fn(&K) -> (String, Option<(u64, u64)>),
) -> Vec<Row> {
    let named = table.rows.iter().map(|(key, counted)| (named(key), counted));
    let mut all: Vec<_> = named.collect();
    all.sort_by(|((one, _), less), ((other, _), more)| {
        more.weight().cmp(&less.weight()).then_with(|| one.cmp(other))
    });
    if all.len() > MOST_ROWS {
        cut.push(format!(
            "Of {} {what}s the {MOST_ROWS} with the most connections are shown.",
            all.len()
        ));
    }
    let mut shown: Vec<Row> = all
        .into_iter()
        .take(MOST_ROWS)
        .map(|((name, fds), counted)| row(name, fds, counted))
        .collect();
    if table.rest.weight() != 0 {
        cut.push(format!(
            "The table had no room for every {what}: the last row counts the others together."
        ));
        shown.push(row(format!("every other {what}"), None, &table.rest));
    }
    shown
}

fn row(name: String, fds: Option<(u64, u64)>, counted: &Counted) -> Row {
    let mut states: Vec<_> =
        counted.open.iter().map(|&(state, count)| (state.name(), count)).collect();
    states.sort_by_key(|&(state, count)| (std::cmp::Reverse(count), state));
    Row {
        name,
        opened: counted.opened,
        failed: counted.failed,
        closed: counted.closed,
        how: counted.how.clone(),
        retransmits: counted.retransmits,
        resets_sent: counted.resets_sent,
        resets_received: counted.resets_received,
        bytes_sent: counted.bytes_sent,
        bytes_received: counted.bytes_received,
        handshake_p50: counted.handshake.quantile_ms(0.5),
        handshake_p99: counted.handshake.quantile_ms(0.99),
        accept_p50: counted.accept.quantile_ms(0.5),
        accept_p99: counted.accept.quantile_ms(0.99),
        open: states.iter().map(|&(_, count)| count).sum(),
        states,
        queue: counted.queue,
        fds,
    }
}

fn most_stacks(stacks: Stacks, cut: &mut Vec<String>) -> Vec<(String, u64)> {
    let mut folded = stacks.folded;
    folded.sort_by(|(one, few), (other, many)| many.cmp(few).then_with(|| one.cmp(other)));
    if folded.len() > MOST_STACKS {
        let left: u64 = folded.iter().skip(MOST_STACKS).map(|(_, count)| count).sum();
        cut.push(format!(
            "Of {} stacks the {MOST_STACKS} with the most sockets are shown; {left} sockets have others.",
            folded.len()
        ));
        folded.truncate(MOST_STACKS);
    }
    folded
}

fn lives_cut(lives: &Lives, run: &Run<'_>, cut: &mut Vec<String>) {
    if run.totals.connections > MOST_LIVES as u64 {
        cut.push(format!(
            "Of {} connections the {MOST_LIVES} with the slowest handshakes and the {MOST_LIVES} that took \
             longest to close are shown one by one.",
            run.totals.connections
        ));
    }
    if lives.left_out != 0 {
        cut.push(format!(
            "{} finished connections are not in the times by state: their beginning was not seen, or a time is \
             known from a timer only.",
            lives.left_out
        ));
    }
}

fn ones(lives: &[(u64, &Life)], names: &Names, clock: &Clock<'_>) -> Vec<One> {
    let one = |&(ns, life): &(u64, &Life)| One {
        local: ends::named(names, life.tuple.local(), life.link),
        remote: ends::remote_named(names, life.tuple.remote(), life.link),
        role: life.role.name(),
        process: name_of(&life.who),
        start: clock.ms(life.born),
        length: ms(ns),
        handshake: life.handshake_ns.map(ms),
        states: life.states.iter().map(|&(state, ns)| (state.name(), ms(ns))).collect(),
        how: life.how,
        retransmits: life.retransmits,
        exact: life.exact,
    };
    lives.iter().map(one).collect()
}

fn lengths(one: &InState) -> Lengths {
    Lengths {
        state: one.state.name(),
        count: one.times.count(),
        p50: one.times.quantile_ms(0.5),
        p99: one.times.quantile_ms(0.99),
        max: one.times.quantile_ms(1.0),
        bars: one.times.between(&BOUNDS_US),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^52 ns are 52 days; what is lost beyond is microseconds"
)]
fn ms(ns: u64) -> f64 {
    // Three decimals: microseconds.
    (ns / 1_000) as f64 / 1_000.0
}

fn safe(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    text::name(bytes, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn name_of(who: &Who) -> String {
    let Some((comm, pid)) = who else { return "owner unknown".to_owned() };
    let mut out = Vec::new();
    text::process(comm, *pid, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
