//! `k`: which sockets are to be ended, the question about them, and what became of each. `kernel::destroy` ends them,
//! on a thread of its own: nothing here waits.

use std::sync::mpsc::TryRecvError;

use crate::destroy::{Destroyer, Outcome, Outcomes, Reason, Target};
use crate::engine::Engine;
use crate::engine::conn::{Connection, Role};
use crate::event::SockId;
use crate::output::kill::summary;
use crate::output::top::tabs::{self, Paint, Pane};

/// Sockets that are ended at once at most, as for `kill` unless `--max` says otherwise.
pub(super) const MOST: usize = 100;

/// Who ends sockets, or why nobody can. None for a recording.
pub type Hands = Option<Result<Destroyer, Reason>>;

/// A socket that somebody is asked about.
struct Chosen {
    target: Target,
    /// `10.0.0.1:80 -> 10.0.0.2:1024  java[7]`, as the question has it.
    name: String,
}

/// What became of sockets.
pub(super) struct Told {
    /// In a sentence.
    pub(super) sentence: String,
    /// Each one, where not all of them are gone.
    pub(super) pane: Option<Pane>,
}

/// All of it.
pub(super) struct Ending {
    hands: Hands,
    chosen: Vec<Chosen>,
    /// They were asked for, and no answer has come.
    under_way: bool,
}

impl Ending {
    pub(super) fn new(hands: Hands) -> Ending {
        Ending { hands, chosen: Vec::new(), under_way: false }
    }

    /// The question about these sockets.
    ///
    /// # Errors
    /// Why there is none to be asked, in a sentence.
    pub(super) fn ask(&mut self, engine: &Engine, ids: &[SockId]) -> Result<Pane, String> {
        match &self.hands {
            None => {
                return Err("these sockets are from a recording and cannot be ended".to_owned());
            }
            Some(Err(reason)) => return Err(format!("no socket can be ended here: {reason}")),
            Some(Ok(_)) if self.under_way => {
                return Err("the sockets before are still being ended: try again".to_owned());
            }
            Some(Ok(_)) => {}
        }
        if ids.is_empty() {
            return Err("choose a connection (tab 2), or mark several with m".to_owned());
        }
        if ids.len() > MOST {
            let count = ids.len();
            return Err(format!("{count} are marked, and at most {MOST} are ended at once"));
        }
        let conns = ids.iter().filter_map(|id| engine.table().find_any(*id));
        self.chosen = conns.map(|conn| Chosen::new(engine, conn)).collect();
        if self.chosen.is_empty() {
            return Err("it is gone already".to_owned());
        }
        Ok(self.question())
    }

    fn question(&self) -> Pane {
        let count = tabs::counted(self.chosen.len() as u64, "socket");
        let mut pane = Pane::new(format!("End {count}?"));
        pane.words(
            Paint::Warn,
            "y ends what is listed here; any other key ends nothing. The process gets ECONNABORTED and keeps its \
             descriptor; the peer gets a RST. No process is ended.",
        );
        if self.chosen.iter().any(|chosen| chosen.target.state == tracer_common::TcpState::Listen) {
            pane.words(
                Paint::Bad,
                "There is a listener among them: no client can connect to it any more.",
            );
        }
        for chosen in &self.chosen {
            pane.entry(11, chosen.target.state.name(), &chosen.name);
        }
        pane
    }

    /// Nothing is to be ended.
    pub(super) fn refuse(&mut self) {
        self.chosen.clear();
    }

    /// What was asked about is to be ended. Returns how many sockets that are.
    pub(super) fn begin(&mut self) -> usize {
        let Some(Ok(destroyer)) = &self.hands else { return 0 };
        destroyer.ask(self.chosen.iter().map(|chosen| chosen.target.clone()).collect());
        self.under_way = true;
        self.chosen.len()
    }

    /// What became of those that were asked for, once that is known.
    pub(super) fn told(&mut self) -> Option<Told> {
        let Some(Ok(destroyer)) = self.hands.as_ref().filter(|_| self.under_way) else {
            return None;
        };
        let told = match destroyer.try_answer() {
            Ok(became) => told(&self.chosen, &became),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Told {
                sentence: "the thread that ends sockets has ended: the state of these is unknown"
                    .to_owned(),
                pane: None,
            },
        };
        self.under_way = false;
        self.chosen.clear();
        Some(told)
    }
}

impl Chosen {
    fn new(engine: &Engine, conn: &Connection) -> Chosen {
        let (local, remote) = tabs::ends(engine, conn);
        let owner = tabs::owner(engine.table(), conn);
        let name = match conn.role {
            Role::Listener => format!("{local}  {owner}"),
            _ => format!("{local} -> {remote}  {owner}"),
        };
        Chosen { target: Target::of(engine.table(), conn), name }
    }
}

fn told(chosen: &[Chosen], became: &Outcomes) -> Told {
    let (sentence, all_gone) = summary(became);
    if all_gone {
        return Told { sentence, pane: None };
    }
    let mut pane = Pane::new("Not all of them are gone");
    pane.words(Paint::Bad, sentence.as_str());
    for chosen in chosen {
        let of = |(target, _): &&(Target, Outcome)| target.id == chosen.target.id;
        let Some((_, outcome)) = became.iter().find(of) else { continue };
        let why = match outcome {
            Outcome::Ended | Outcome::Gone => String::new(),
            Outcome::Changed(state) => {
                format!(": it is in {} now, and was left alone", state.name())
            }
            Outcome::Remains(reason) => format!(": {reason}"),
        };
        pane.entry(11, outcome.name(), &format!("{}{why}", chosen.name));
    }
    Told { sentence, pane: Some(pane) }
}
