//! `kill`: which sockets are to be ended, shown before anybody is asked; and what became of each. Asking and ending is
//! `source::kill`'s.

mod told;

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::Sender;

use tracer_common::TcpState;

use crate::destroy::Target;
use crate::engine::conn::{Connection, Role};
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::names::Kept;
use crate::output::lines::list::{json, rows, text};
use crate::output::lines::{Setting, ends};
use crate::output::{Draws, Needs, Output, Run, Totals, Until};
use crate::time::MonoNs;

pub use told::{outcomes, summary};

/// A socket that is to be ended, and what it is called.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The socket.
    pub target: Target,
    /// Its ends, as shown.
    pub ends: [Vec<u8>; 2],
    /// Whose it is, as shown.
    pub owner: Vec<u8>,
    /// Where that runs.
    pub place: Kept,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// What is to be ended, in the order it was shown.
    pub chosen: Vec<Chosen>,
    /// Listeners that the filter lets through and that it does not name.
    pub listeners: usize,
    /// As those, connections in TIME_WAIT.
    pub time_waits: usize,
}

impl Choice {
    /// Who has the sockets, the most first: `java[31467] 9, kernel 3`.
    #[must_use]
    pub fn owners(&self) -> String {
        let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
        for chosen in &self.chosen {
            *counts.entry(&chosen.owner).or_default() += 1;
        }
        let mut counts: Vec<(&[u8], usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let word =
            |(owner, count): &(&[u8], usize)| format!("{} {count}", String::from_utf8_lossy(owner));
        let mut words: Vec<String> = counts.iter().take(8).map(word).collect();
        if let Some(more) = counts.len().checked_sub(8).filter(|&more| more != 0) {
            words.push(format!("{more} others"));
        }
        words.join(", ")
    }

    /// What the filter lets through and is left alone, in a sentence.
    #[must_use]
    pub fn left_alone(&self) -> Option<String> {
        let count = |count: usize, what: &str, name: &str| {
            (count != 0).then(|| format!("{count} {what} (--state {name} names them)"))
        };
        let listeners = count(self.listeners, "listening", "LISTEN");
        let time_waits = count(self.time_waits, "in TIME_WAIT", "TIME_WAIT");
        let words: Vec<String> = listeners.into_iter().chain(time_waits).collect();
        (!words.is_empty()).then(|| format!("left alone: {}", words.join(", ")))
    }
}

/// The view.
#[derive(Debug)]
pub struct Kill {
    setting: Setting,
    /// Most rows that are shown.
    most: usize,
    choice: Sender<Choice>,
}

impl Kill {
    /// Shows what is chosen, `most` of it, and sends it.
    #[must_use]
    pub fn new(setting: Setting, most: usize, choice: Sender<Choice>) -> Kill {
        Kill { setting, most, choice }
    }
}

impl Output for Kill {
    fn needs(&self) -> Needs {
        let draws = Draws::Walked { again: None };
        Needs { draws, until: Until::Drawn, ..Needs::default() }
    }

    fn filter(&self) -> Filter {
        self.setting.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.begin(engine, out);
        Ok(())
    }

    fn update(&mut self, _engine: &Engine, update: &Update<'_>, out: &mut Vec<u8>) {
        if let Update::Lost(loss) = update {
            self.setting.pen.loss(loss, out);
        }
    }

    fn draw(&mut self, engine: &Engine, now: MonoNs, _last: bool, out: &mut Vec<u8>) {
        let Setting { pen, filter } = &mut self.setting;
        let mut conns = rows::chosen(engine, filter, now);
        let mut choice = Choice::default();
        conns.retain(|conn| may_end(filter, conn, &mut choice));
        let shown = conns.get(..self.most).unwrap_or(&conns);
        if pen.json {
            for conn in shown {
                json::object(pen, engine, conn, now, out);
            }
        } else if !shown.is_empty() {
            let columns = text::Columns::new(pen.terminal, engine, shown, std::iter::empty(), now);
            text::header(pen.terminal, &columns, out);
            for conn in shown {
                text::line(pen, engine, conn, &columns, out);
            }
        }
        choice.chosen = conns.iter().map(|conn| chosen(engine, conn)).collect();
        // Whoever asked waits for it.
        let _ = self.choice.send(choice);
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.end(run, out);
        Ok(())
    }

    /// It is `source::kill` that has the last word.
    fn summary(&self, _totals: &Totals, _duration_ns: u64) -> Option<String> {
        Some(String::new())
    }
}

/// A listener is ended only when it is named, for nothing would connect any more; so is TIME_WAIT, which keeps
/// segments of the old connection from a new one (RFC 9293, 3.6.1), and nobody waits for.
fn may_end(filter: &Filter, conn: &Connection, choice: &mut Choice) -> bool {
    let named = |state| filter.states.contains(&state);
    if conn.role == Role::Listener {
        let may = named(TcpState::Listen) || filter.role == Some(Role::Listener);
        choice.listeners += usize::from(!may);
        return may;
    }
    if conn.state == TcpState::TimeWait {
        let may = named(TcpState::TimeWait);
        choice.time_waits += usize::from(!may);
        return may;
    }
    true
}

fn chosen(engine: &Engine, conn: &Connection) -> Chosen {
    let (mut local, mut remote) = (Vec::new(), Vec::new());
    ends::local(engine.names(), conn, &mut local);
    ends::remote(engine.names(), conn, &mut remote);
    Chosen {
        target: Target::of(engine.table(), conn),
        ends: [local, remote],
        owner: rows::process(engine.table(), conn),
        place: Kept::from(&engine.names().place(conn.cgroup)),
    }
}
