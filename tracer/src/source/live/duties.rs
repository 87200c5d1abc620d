//! What a live run does from time to time beside taking events, and which walk is due: data and decisions,
//! without a clock.

use crate::time::MonoNs;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Descriptors are walked for the rules this long after they might be, though nothing has happened.
const UNTOLD_NS: u64 = 5 * SECOND;

/// While nothing happens and nothing is half-closed, a walk for the rules waits so much longer: on an idle machine it is most
/// of what tcptrail costs.
const CALM_NS: u64 = 8 * SECOND;

/// One thing to do from time to time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Duty {
    /// Hand over what was written for stdout.
    Push,
    /// Read the kernel's counters of lost events.
    Losses,
    /// Ask the kernel how often it skipped a program, though no event came.
    Skipped,
    /// A tick for the engine, the outputs' flush, and whatever else is done once a second.
    Second,
    /// Let outputs that record write what has come.
    Flush,
    /// Look up names of new cgroups.
    Names,
    /// Ask for names of remote addresses, and where connections really go.
    Remotes,
    /// Ask for single sockets, of which only a look tells what becomes of them.
    Questions,
    /// Walk mini-sockets and requests: where there are too many to ask for each, or that is not possible.
    Walk,
    /// Walk them though those can be asked for of which nothing tells: for what contradicts.
    Minis,
    /// Walk everything after a loss, or for a list that is watched.
    UrgentWalk,
    /// Walk mini-sockets, queues and sockets without an answer, for the rules.
    Troubled,
    /// Walk everything, for the rules: unread bytes, idleness.
    Everything,
    /// Walk descriptors.
    Holders,
    /// Read descriptors in use and sysctls, for the rules.
    Facts,
}

/// When a duty is first due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum First {
    AtOnce,
    AfterInterval,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    duty: Duty,
    /// Least time from one to the next, nanoseconds.
    every_ns: u64,
    /// Least time as a multiple of what the last one took: 200 for 0.5 % of a processor. 0: it takes nothing.
    times_its_cost: u64,
    first: First,
}

const fn row(duty: Duty, every_ns: u64, times_its_cost: u64, first: First) -> Row {
    Row { duty, every_ns, times_its_cost, first }
}

/// Everything that is due now and then. Walks of sockets and of descriptors are two kinds, and their rows
/// cost something here, too: below 1 % of a processor in all. After a loss it is 10 %, not more: whoever
/// makes losses must not make us walk all the time.
const TABLE: [Row; 15] = [
    // Half a look at the ring, so that each look may.
    row(Duty::Push, 25 * MS, 0, First::AtOnce),
    row(Duty::Losses, 250 * MS, 0, First::AfterInterval),
    // A file for each program: after events, once a second.
    row(Duty::Skipped, 10 * SECOND, 0, First::AfterInterval),
    row(Duty::Second, SECOND, 0, First::AfterInterval),
    // With a look at the ring and a late timer, what has come is on disk within a second.
    row(Duty::Flush, 700 * MS, 0, First::AfterInterval),
    row(Duty::Names, 10 * SECOND, 0, First::AfterInterval),
    // It goes over all sockets, and what it is for is no state that passes: a tenth of a percent.
    row(Duty::Remotes, SECOND, 1_000, First::AtOnce),
    row(Duty::Questions, SECOND, 200, First::AtOnce),
    row(Duty::Walk, SECOND, 200, First::AtOnce),
    // Its rows cost as much again where they are taken in: half a percent in all.
    row(Duty::Minis, 5 * SECOND, 400, First::AfterInterval),
    row(Duty::UrgentWalk, 300 * MS, 10, First::AtOnce),
    row(Duty::Troubled, 2 * SECOND, 0, First::AfterInterval),
    row(Duty::Everything, 30 * SECOND, 0, First::AfterInterval),
    // As with those of mini-sockets.
    row(Duty::Holders, 5 * SECOND, 400, First::AfterInterval),
    row(Duty::Facts, 2 * SECOND, 200, First::AtOnce),
];

/// When each duty is due next.
#[derive(Debug)]
pub(super) struct Duties {
    next: [MonoNs; TABLE.len()],
    /// See [`Duties::everything_within`].
    everything_ns: u64,
    /// Names are looked up at least as often as this, nanoseconds.
    names_ns: u64,
}

/// What the next walk turns on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Situation {
    /// A walk is under way, or its rows are not all taken in.
    pub(super) busy: bool,
    /// Walks that are still to be made after a loss.
    pub(super) repairs: bool,
    /// A list waits for a walk.
    pub(super) list_waits: bool,
    /// The rules take part.
    pub(super) rules: bool,
    /// There are sockets to ask for.
    pub(super) questions: bool,
    /// There are sockets that only a walk tells of.
    pub(super) minis: bool,
    /// There are sockets that a walk could tell of: some that events or timers tell of.
    pub(super) waits: bool,
    /// Something has happened since descriptors were walked.
    pub(super) changed: bool,
    /// Something is stuck: who has it is worth another look.
    pub(super) suspects: bool,
    /// Nothing has happened since the last walk for the rules, and nothing is half-closed.
    pub(super) calm: bool,
}

/// A walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Walk {
    /// All sockets, then all descriptors, out of turn.
    Urgent,
    /// All sockets, then all descriptors.
    Everything,
    /// Mini-sockets, requests, and for the rules what is in trouble.
    Minis,
    /// Single sockets.
    Questions,
    /// Descriptors.
    Holders,
    /// What processes and network namespaces are like.
    Facts,
}

impl Walk {
    /// The duties that are done with it.
    pub(super) fn duties(self) -> &'static [Duty] {
        match self {
            Walk::Urgent => &[Duty::UrgentWalk, Duty::Walk],
            Walk::Everything | Walk::Minis => &[Duty::Walk],
            Walk::Questions => &[Duty::Questions],
            Walk::Holders => &[Duty::Holders],
            Walk::Facts => &[Duty::Facts],
        }
    }
}

impl Duties {
    /// From this time on.
    pub(super) fn from(now: MonoNs) -> Duties {
        Duties {
            next: TABLE.map(|row| match row.first {
                First::AtOnce => now,
                First::AfterInterval => now.after(row.every_ns),
            }),
            everything_ns: u64::MAX,
            names_ns: u64::MAX,
        }
    }

    /// Whoever asks for lower thresholds wants to know sooner who is idle: everything is walked as often as this,
    /// where that is oftener, but no oftener than every two seconds.
    pub(super) fn everything_within(mut self, now: MonoNs, ns: u64) -> Duties {
        self.everything_ns = ns.max(2 * SECOND);
        self.done(Duty::Everything, now, 0);
        self
    }

    /// Names of new cgroups are looked up once a second: they decide what is wanted.
    pub(super) fn names_soon(mut self, now: MonoNs) -> Duties {
        self.names_ns = SECOND;
        self.done(Duty::Names, now, 0);
        self
    }

    /// Whether it is time.
    pub(super) fn is_due(&self, duty: Duty, now: MonoNs) -> bool {
        self.next(duty) <= now
    }

    /// When it is time.
    pub(super) fn next(&self, duty: Duty) -> MonoNs {
        TABLE
            .iter()
            .position(|row| row.duty == duty)
            .and_then(|index| self.next.get(index).copied())
            .unwrap_or_default()
    }

    /// It was done; it took this long. Returns how long it waits now, nanoseconds.
    pub(super) fn done(&mut self, duty: Duty, now: MonoNs, took_ns: u64) -> u64 {
        let mut pause = 0;
        for (row, next) in TABLE.iter().zip(&mut self.next) {
            if row.duty == duty {
                let every_ns = match duty {
                    Duty::Everything => row.every_ns.min(self.everything_ns),
                    Duty::Names => row.every_ns.min(self.names_ns),
                    _ => row.every_ns,
                };
                pause = every_ns.max(took_ns.saturating_mul(row.times_its_cost));
                *next = now.after(pause);
            }
        }
        pause
    }

    /// Whether it is time; if so, it counts as done.
    pub(super) fn take(&mut self, duty: Duty, now: MonoNs) -> bool {
        let due = self.is_due(duty, now);
        if due {
            self.done(duty, now, 0);
        }
        due
    }

    /// The walk that is due, if one is: the most urgent first.
    pub(super) fn walk(&mut self, now: MonoNs, situation: &Situation) -> Option<Walk> {
        let Situation { rules, .. } = *situation;
        if situation.busy {
            return None;
        }
        if (situation.repairs || situation.list_waits) && self.is_due(Duty::UrgentWalk, now) {
            return Some(Walk::Urgent);
        }
        if situation.questions && self.is_due(Duty::Questions, now) {
            return Some(Walk::Questions);
        }
        if self.is_due(Duty::Walk, now) {
            let asked = rules || self.everything_ns != u64::MAX;
            if asked && self.take(Duty::Everything, now) {
                self.done(Duty::Troubled, now, 0);
                return Some(Walk::Everything);
            }
            let contradicts = situation.waits && self.is_due(Duty::Minis, now);
            let wait = if situation.calm { CALM_NS } else { 0 };
            let troubled = self.next(Duty::Troubled).after(wait) <= now;
            if situation.minis || contradicts || rules && troubled {
                self.done(Duty::Troubled, now, 0);
                return Some(Walk::Minis);
            }
        }
        // No event tells of sockets that are never connected, of files and of pipes.
        let long_ago = rules && self.next(Duty::Holders).after(UNTOLD_NS) <= now;
        let worth_it = situation.changed || situation.suspects || long_ago;
        if self.is_due(Duty::Holders, now) && worth_it {
            return Some(Walk::Holders);
        }
        (rules && self.is_due(Duty::Facts, now)).then_some(Walk::Facts)
    }

    /// A walk could not be made: no kind is tried again for a while.
    pub(super) fn walk_failed(&mut self, now: MonoNs) {
        self.done(Duty::Questions, now, 0);
        self.done(Duty::Walk, now, 0);
        self.done(Duty::Holders, now, 0);
        for (row, next) in TABLE.iter().zip(&mut self.next) {
            if row.duty == Duty::UrgentWalk {
                *next = now.after(SECOND);
            }
        }
    }

    /// When an idle run is to wake up: once a second. A walk that is due up to `slack` later is waited for,
    /// so that both are done in one go; else the walk would be made every other second.
    pub(super) fn wake_up(&self, looks: [Option<Duty>; 2], slack_ns: u64) -> MonoNs {
        // What is due once a second is done where losses are read.
        let second = self.next(Duty::Second).max(self.next(Duty::Losses));
        let soon = looks.into_iter().flatten().map(|look| self.next(look));
        let soon = soon.filter(|&look| look < second.after(slack_ns));
        soon.fold(second, MonoNs::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: MonoNs = MonoNs(7 * SECOND);

    fn at(ms: u64) -> MonoNs {
        START.after(ms * MS)
    }

    #[test]
    fn each_duty_is_in_the_table_once() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(TABLE[index + 1..].iter().all(|other| other.duty != row.duty), "{row:?}");
        }
        let duties = Duties::from(START);
        let check = |duty, ms| assert_eq!(duties.next(duty), at(ms), "{duty:?}");
        check(Duty::Push, 0);
        check(Duty::Losses, 250);
        check(Duty::Skipped, 10_000);
        check(Duty::Second, 1_000);
        check(Duty::Flush, 700);
        check(Duty::Names, 10_000);
        check(Duty::Remotes, 0);
        check(Duty::Questions, 0);
        check(Duty::Walk, 0);
        check(Duty::Minis, 5_000);
        check(Duty::UrgentWalk, 0);
        check(Duty::Troubled, 2_000);
        check(Duty::Everything, 30_000);
        check(Duty::Holders, 5_000);
        check(Duty::Facts, 0);
    }

    #[test]
    fn what_costs_much_waits_longer() {
        let mut duties = Duties::from(START);
        let mut check = |duty, took_ms, pause_ms| {
            assert_eq!(duties.done(duty, START, took_ms * MS), pause_ms * MS, "{duty:?}");
            assert_eq!(duties.next(duty), at(pause_ms), "{duty:?}");
        };
        check(Duty::Walk, 1, 1_000);
        check(Duty::Walk, 20, 4_000);
        check(Duty::Questions, 3, 1_000);
        check(Duty::Questions, 8, 1_600);
        check(Duty::Minis, 2, 5_000);
        check(Duty::Minis, 100, 40_000);
        check(Duty::UrgentWalk, 20, 300);
        check(Duty::UrgentWalk, 200, 2_000);
        check(Duty::Holders, 10, 5_000);
        check(Duty::Holders, 50, 20_000);
        check(Duty::Facts, 15, 3_000);
        // What costs nothing keeps its pace, whatever is said of it.
        check(Duty::Losses, 1_000, 250);
    }

    /// Runs for `seconds`, and says how often each walk was made, when each takes `took`.
    fn walks(situation: Situation, seconds: u64, took_ms: u64) -> Vec<(Walk, u64)> {
        let mut duties = Duties::from(START);
        let mut made: Vec<(Walk, u64)> = Vec::new();
        for ms in (0..seconds * 1_000).step_by(50) {
            let Some(walk) = duties.walk(at(ms), &situation) else { continue };
            match made.iter_mut().find(|(other, _)| *other == walk) {
                Some((_, count)) => *count += 1,
                None => made.push((walk, 1)),
            }
            match walk {
                Walk::Facts => drop(duties.done(Duty::Facts, at(ms), took_ms * MS)),
                Walk::Holders => drop(duties.done(Duty::Holders, at(ms), took_ms * MS)),
                Walk::Questions => drop(duties.done(Duty::Questions, at(ms), MS)),
                Walk::Urgent | Walk::Everything | Walk::Minis => {
                    duties.done(Duty::Walk, at(ms), took_ms * MS);
                    duties.done(Duty::UrgentWalk, at(ms), took_ms * MS);
                    duties.done(Duty::Minis, at(ms), took_ms * MS);
                }
            }
        }
        made
    }

    #[test]
    fn walks_are_made_as_often_as_there_is_a_reason() {
        let none = Situation::default();
        let check = |situation, expect: &[(Walk, u64)]| {
            assert_eq!(walks(situation, 60, 1), expect, "{situation:?}");
        };
        check(none, &[]);
        check(Situation { busy: true, minis: true, repairs: true, rules: true, ..none }, &[]);
        check(Situation { minis: true, ..none }, &[(Walk::Minis, 60)]);
        check(Situation { minis: true, waits: true, ..none }, &[(Walk::Minis, 60)]);
        check(Situation { waits: true, ..none }, &[(Walk::Minis, 11)]);
        let asks = Situation { questions: true, waits: true, ..none };
        check(asks, &[(Walk::Questions, 60), (Walk::Minis, 11)]);
        check(Situation { list_waits: true, ..none }, &[(Walk::Urgent, 200)]);
        check(Situation { changed: true, ..none }, &[(Walk::Holders, 11)]);
        let rules = Situation { rules: true, ..none };
        // Descriptors too: no event tells of those that are no connections.
        let expect =
            [(Walk::Facts, 30), (Walk::Minis, 28), (Walk::Holders, 5), (Walk::Everything, 1)];
        check(rules, &expect);
        let expect =
            [(Walk::Facts, 30), (Walk::Minis, 4), (Walk::Holders, 5), (Walk::Everything, 1)];
        check(Situation { calm: true, ..rules }, &expect);
    }

    #[test]
    fn walks_that_cost_much_take_no_more_than_their_share() {
        let none = Situation::default();
        let share = |situation| {
            let seconds = 3_600;
            let made: u64 = walks(situation, seconds, 400).iter().map(|(_, count)| count).sum();
            // Milliseconds in a second, that is, tenths of a percent.
            made * 400 / seconds
        };
        assert!(share(Situation { minis: true, ..none }) <= 5);
        // What is asked for is asked for all the same.
        assert!(share(Situation { waits: true, ..none }) <= 3);
        let asks = Situation { questions: true, waits: true, ..none };
        let made = walks(asks, 3_600, 400);
        assert_eq!(made, [(Walk::Questions, 3_600), (Walk::Minis, 23)]);
        assert!(share(Situation { minis: true, changed: true, ..none }) <= 10);
        assert!(share(Situation { repairs: true, ..none }) <= 100);
    }

    #[test]
    fn an_idle_run_wakes_once_a_second_for_both() {
        let mut duties = Duties::from(START);
        duties.done(Duty::Second, START, 0);
        duties.done(Duty::Losses, at(700), 0);
        let check = |duties: &Duties, looks: [Option<Duty>; 2], ms| {
            assert_eq!(duties.wake_up(looks, 50 * MS), at(ms), "{looks:?}");
        };
        duties.done(Duty::Walk, at(20), 0);
        duties.done(Duty::Questions, at(30), 0);
        check(&duties, [Some(Duty::Walk), None], 1_020);
        check(&duties, [Some(Duty::Walk), Some(Duty::Questions)], 1_030);
        check(&duties, [None, None], 1_000);
        // A walk that is due much later is not waited for.
        duties.done(Duty::Walk, at(500), 0);
        check(&duties, [Some(Duty::Walk), None], 1_000);
        // What is due once a second is not done before losses are read.
        duties.done(Duty::Losses, at(900), 0);
        check(&duties, [None, None], 1_150);
    }

    #[test]
    fn after_a_failure_nothing_is_tried_for_a_while() {
        let mut duties = Duties::from(START);
        duties.walk_failed(START);
        let wants = Situation { minis: true, repairs: true, ..Situation::default() };
        assert_eq!(duties.walk(at(999), &wants), None);
        assert_eq!(duties.walk(at(1_000), &wants), Some(Walk::Urgent));
    }
}
