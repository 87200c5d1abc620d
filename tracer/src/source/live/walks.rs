//! Walks: asking for them, and what they bring.

use std::time::Duration;

use crate::engine::conn::PollKind;
use crate::engine::rules::Watch;
use crate::event::{Loss, LossCause};
use crate::input::Input;
use crate::kernel::poller::{Answer, Poller, Request};
use crate::output::session::Session;
use crate::source::live::duties::{Duties, Duty, Situation, Walk};
use crate::source::live::intake::Intake;
use crate::time::MonoNs;

/// A pause between walks of mini-sockets that is longer than this is said.
const LONG_PAUSE_NS: u64 = 2_000_000_000;

/// Most sockets asked for one by one, some microseconds each.
const MOST_QUESTIONS: usize = 1_000;

/// Draws that wait for a walk over everything.
#[derive(Debug)]
struct List {
    again: Option<Duration>,
    /// Not the first: when it is to be drawn.
    next: Option<MonoNs>,
    /// The walk it is to show has been asked for.
    asked: bool,
}

/// The walks of a run.
pub(super) struct Walks {
    poller: Poller,
    /// The one network namespace, where the run is about one.
    netns: Option<u32>,
    /// The rules look; else only what they need is read.
    looks: bool,
    /// More is said on stderr.
    verbose: bool,
    /// Asked for and not answered.
    under_way: usize,
    /// Everything that was there at the start is in the table.
    settled: bool,
    /// Still to be made after a loss: what is gone is known after missing it twice.
    repairs: u8,
    list: Option<List>,
    events_at_last_holders: u64,
    events_at_last_walk: u64,
    /// What a run of the rules needs to end has been read.
    facts_read: bool,
    /// There are too many sockets to ask for each: walks tell of them.
    crowded: bool,
    /// That walks are far apart has been said.
    stretched: bool,
    /// That there are more descriptors than are looked at has been said.
    descriptors_cut: bool,
}

/// What walks are about.
pub(super) struct Options {
    /// The one network namespace, where the run is about one.
    pub(super) netns: Option<u32>,
    /// The rules look.
    pub(super) looks: bool,
    /// Draws that wait for a walk, and the time between them: see [`crate::output::Needs::walked_draws`].
    pub(super) draws: Option<Option<Duration>>,
    /// More is said on stderr.
    pub(super) verbose: bool,
}

impl Walks {
    pub(super) fn new(poller: Poller, options: Options) -> Walks {
        Walks {
            poller,
            netns: options.netns,
            looks: options.looks,
            verbose: options.verbose,
            under_way: 0,
            settled: false,
            repairs: 0,
            list: options.draws.map(|again| List { again, next: None, asked: true }),
            events_at_last_holders: 0,
            events_at_last_walk: 0,
            facts_read: false,
            crowded: false,
            stretched: false,
            descriptors_cut: false,
        }
    }

    /// Waits for an answer.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        self.poller.answer().await
    }

    /// Whether a walk is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way != 0
    }

    /// Whether everything that was there at the start is in the table.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// It is, or will not be.
    pub(super) fn settle(&mut self) {
        self.settled = true;
    }

    /// Whether events are to wait: what was there before comes first.
    pub(super) fn events_wait(&self, intake: &Intake) -> bool {
        !self.settled && self.is_under_way() && !intake.has_rows()
    }

    /// Whether walks are under way, or are to be made soon.
    pub(super) fn are_busy(&self) -> bool {
        self.is_under_way() || self.repairs > 0
    }

    /// Whether what the rules need has been read at least once.
    pub(super) fn facts_were_read(&self) -> bool {
        self.facts_read
    }

    /// Events were lost: once what was received is shown and two walks have repaired the table, it is right
    /// again.
    pub(super) fn repair(&mut self) {
        self.repairs = 2;
    }

    /// Makes the walk that is due, if one is.
    pub(super) fn make(
        &mut self,
        duties: &mut Duties,
        session: &mut Session,
        intake: &Intake,
        now: MonoNs,
    ) {
        let watch = session.engine.watch();
        let list_waits = |list: &List| !list.asked && list.next.is_some_and(|next| next <= now);
        let situation = Situation {
            busy: self.is_under_way() || intake.has_rows() || !self.settled,
            repairs: self.repairs > 0,
            list_waits: self.list.as_ref().is_some_and(list_waits),
            rules: watch.is_some(),
            questions: self.asks() && session.engine.table().has_questions(),
            minis: self.walks_for_minis() && session.engine.table().wants_poll(),
            waits: session.engine.table().wants_poll(),
            changed: session.totals().events != self.events_at_last_holders,
            suspects: watch.is_some_and(Watch::suspects),
            calm: watch.is_some_and(Watch::calm)
                && session.totals().events == self.events_at_last_walk,
        };
        let unnamed = session.engine.take_unnamed_interfaces();
        if !unnamed.is_empty() {
            self.ask(Request::Interfaces(unnamed), session);
        }
        while let Some(walk) = duties.walk(now, &situation) {
            self.start(walk, session, now);
            if self.is_under_way() {
                break;
            }
            // There was nothing to ask, and no answer will come: the next has its turn.
            for &duty in walk.duties() {
                duties.done(duty, now, 0);
            }
        }
    }

    fn start(&mut self, walk: Walk, session: &mut Session, now: MonoNs) {
        match walk {
            Walk::Urgent => {
                self.repairs = self.repairs.saturating_sub(1);
                if let Some(list) = &mut self.list {
                    list.asked = true;
                }
                self.everything(session);
            }
            Walk::Everything => self.everything(session),
            Walk::Minis => self.minis(session),
            Walk::Questions => drop(self.ask_questions(session, now)),
            Walk::Holders => self.ask(Request::Holders, session),
            Walk::Facts => self.facts(session, now),
        }
    }

    /// Walks all sockets and descriptors.
    pub(super) fn everything(&mut self, session: &mut Session) {
        let only = self.netns.map(|netns| vec![netns]);
        let sockets = Request::Sockets { kind: PollKind::All, only };
        let both = if self.poller.holders_first {
            [Request::Holders, sockets]
        } else {
            [sockets, Request::Holders]
        };
        for request in both {
            self.ask(request, session);
        }
        if !self.is_under_way() {
            self.settled = true;
        }
    }

    /// Whether single sockets can be asked for.
    fn asks(&self) -> bool {
        self.poller.questions.is_ok() && self.poller.sockets.is_ok()
    }

    /// Whether walks alone tell what becomes of sockets that no event tells of.
    fn walks_for_minis(&self) -> bool {
        self.crowded || !self.asks()
    }

    /// Asks for the sockets that only a look tells of; of too many, walks tell. Returns whether anything was asked.
    fn ask_questions(&mut self, session: &mut Session, now: MonoNs) -> bool {
        let (questions, all) = session.engine.table().questions(now, MOST_QUESTIONS);
        self.crowded = !all;
        let any = !questions.is_empty();
        if any {
            self.ask(Request::Questions(questions), session);
        }
        any
    }

    /// One more look at what only looks tell of.
    pub(super) fn last_look(&mut self, session: &mut Session) {
        let asked = self.asks() && self.ask_questions(session, MonoNs::now());
        if !asked && self.walks_for_minis() {
            self.minis(session);
        }
    }

    /// Walks what only a walk tells of, in the namespaces that have it; for the rules, in all that have
    /// sockets.
    fn minis(&mut self, session: &mut Session) {
        let mut netns = session.engine.table().poll_netns();
        if let Some(watch) = session.engine.watch() {
            netns.extend(&watch.needs().netns);
            netns.sort_unstable();
            netns.dedup();
        }
        self.ask(Request::Sockets { kind: PollKind::Minis, only: Some(netns) }, session);
    }

    /// Reads what the rules need. Looks find out by the way what that is; before the first, and without
    /// any, it is asked.
    fn facts(&mut self, session: &mut Session, now: MonoNs) {
        let needs = if self.looks && self.facts_read {
            session.engine.watch().map(|watch| watch.needs().clone())
        } else {
            session.engine.survey(now).cloned()
        };
        if let Some(needs) = needs {
            self.ask(Request::Facts(needs), session);
        }
    }

    fn ask(&mut self, request: Request, session: &mut Session) {
        match request {
            Request::Sockets { .. } if self.poller.sockets.is_err() => return,
            Request::Holders if self.poller.holders.is_err() => return,
            Request::Sockets { .. } => {
                self.events_at_last_walk = session.totals().events;
                session.feed(&Input::PollBegin);
            }
            Request::Holders => self.events_at_last_holders = session.totals().events,
            Request::Facts(_) | Request::Interfaces(_) | Request::Questions(_) => {}
        }
        self.under_way += 1;
        self.poller.request(request);
    }

    /// Takes in what a walk brought. Returns whether that was the last of those at the start.
    pub(super) fn answered(
        &mut self,
        answer: Answer,
        duties: &mut Duties,
        session: &mut Session,
        intake: &mut Intake,
    ) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        let now = MonoNs::now();
        match answer {
            Answer::Sockets { poll, rows, cut, names, took_ns } => {
                if !names.is_empty() {
                    session.feed(&Input::Names(&names));
                }
                let pause_ns = duties.done(Duty::Walk, now, took_ns);
                duties.done(Duty::UrgentWalk, now, took_ns);
                duties.done(Duty::Minis, now, took_ns);
                if cut != 0 {
                    // Not to be looked for again: there is no more room than there was.
                    let cause = LossCause::Table;
                    let loss = Loss { count: cut, cause, from: poll.began, to: now };
                    session.feed(&Input::Lost(loss));
                }
                let kind = poll.kind;
                intake.add_rows(rows, Some(poll));
                if kind == PollKind::Minis && self.walks_for_minis() {
                    self.tell_stretched(took_ns, pause_ns);
                }
            }
            Answer::Answers { rows, took_ns } => {
                duties.done(Duty::Questions, now, took_ns);
                intake.add_rows(rows, None);
            }
            Answer::Holders { rows, cut, took_ns } => {
                if cut != 0 && !std::mem::replace(&mut self.descriptors_cut, true) {
                    eprintln!(
                        "tcptrail: there was no room for {cut} file descriptors of sockets, so the owners of some sockets are unknown; raise \
                         --max-connections"
                    );
                }
                duties.done(Duty::Holders, now, took_ns);
                intake.meanwhile(session, |session| session.feed(&Input::Holders(&rows)));
            }
            Answer::Facts { bytes, took_ns } => {
                duties.done(Duty::Facts, now, took_ns);
                self.facts_read = true;
                session.feed(&Input::Facts(&bytes));
            }
            Answer::Interfaces(names) => session.feed(&Input::Names(&names)),
            Answer::Failed(request, error) => {
                if self.verbose {
                    eprintln!("tcptrail: a walk failed ({request:?}): {error}");
                }
                duties.walk_failed(now);
            }
        }
        !self.is_under_way() && !self.settled
    }

    fn tell_stretched(&mut self, took_ns: u64, pause_ns: u64) {
        if pause_ns > LONG_PAUSE_NS && !std::mem::replace(&mut self.stretched, true) {
            eprintln!(
                "tcptrail: reading the TIME_WAIT sockets takes {} ms on this machine, so tcptrail reads them less often: the times of \
                 FIN_WAIT2 and TIME_WAIT are now exact to {} s only",
                took_ns / 1_000_000,
                pause_ns / 1_000_000_000 + 1
            );
        }
    }

    /// Whether the walk that a draw waits for is in the table, and it is time to draw. If so, the next draw
    /// waits.
    pub(super) fn take_draw(&mut self, intake: &Intake, now: MonoNs) -> bool {
        let walked = self.settled && !self.is_under_way() && !intake.has_rows();
        let Some(list) = &mut self.list else { return false };
        let due = walked && list.asked && list.next.is_none_or(|next| next <= now);
        if due {
            list.asked = false;
            list.next = list
                .again
                .map(|again| now.after(u64::try_from(again.as_nanos()).unwrap_or(u64::MAX)));
        }
        due
    }
}
