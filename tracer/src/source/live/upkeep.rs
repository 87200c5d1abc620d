//! What is done from time to time: walks, names, losses, the recording's flush.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::conn::PollKind;
use crate::engine::rules::Watch;
use crate::event::{Loss, LossCause};
use crate::input::Input;
use crate::kernel::cgroups;
use crate::kernel::poller::{Answer, Request};
use crate::names;
use crate::source::live::Live;
use crate::source::live::intake::Rows;
use crate::time::MonoNs;

/// Loss counters are read this often.
pub(super) const LOSS_EVERY: Duration = Duration::from_millis(250);
/// Mini-sockets, the recording's flush and the table's own figures.
pub(super) const SLOW_EVERY: Duration = Duration::from_secs(1);
/// Walks after a loss, and for a list that is watched.
const URGENT_EVERY: Duration = Duration::from_millis(300);
/// Descriptors are walked no more often than this.
pub(super) const HOLDERS_EVERY: Duration = Duration::from_secs(5);
/// New cgroups are looked for this often while connections come and go.
pub(super) const NAMES_EVERY: Duration = Duration::from_secs(10);
/// A walk may take this part of the time until the next. There are two kinds, and their rows cost something
/// here, too: below 1 % of a core in all.
const WALK_SHARE: u64 = 200;
/// As `WALK_SHARE`, after a loss and for a list that is watched: 10 %. Whoever makes losses must not
/// make us walk all the time.
const URGENT_SHARE: u64 = 10;

impl Live<'_> {
    pub(super) fn answered(&mut self, answer: Answer) {
        self.walking = self.walking.saturating_sub(1);
        let now = Instant::now();
        match answer {
            Answer::Sockets { poll, rows, cut, took_ns } => {
                let pause =
                    Duration::from_nanos(took_ns.saturating_mul(WALK_SHARE)).max(SLOW_EVERY);
                self.next_walk = now + pause;
                let urgent = Duration::from_nanos(took_ns.saturating_mul(URGENT_SHARE));
                self.next_urgent_walk = now + urgent.max(URGENT_EVERY);
                if cut != 0 {
                    // Not to be looked for again: there is no more room than there was.
                    let (from, to) = (poll.began, MonoNs::now());
                    self.feed(&Input::Lost(Loss { count: cut, cause: LossCause::Table, from, to }));
                }
                if poll.kind == PollKind::Minis && pause > 2 * SLOW_EVERY && !self.stretched {
                    self.stretched = true;
                    eprintln!(
                        "tcptrail: a look at the mini-sockets takes {} ms here: FIN_WAIT2 and TIME_WAIT are now known to {} s",
                        took_ns / 1_000_000,
                        pause.as_secs() + 1
                    );
                }
                self.rows = Some(Rows { bytes: rows, next: 0, poll });
            }
            Answer::Holders { rows, cut, took_ns } => {
                if cut != 0 && !std::mem::replace(&mut self.descriptors_cut, true) {
                    eprintln!(
                        "tcptrail: {cut} descriptors of sockets are too many: who holds some sockets is not known; raise --max-connections"
                    );
                }
                let pause = Duration::from_nanos(took_ns.saturating_mul(WALK_SHARE));
                self.next_holders = now + pause.max(HOLDERS_EVERY);
                self.feed(&Input::Holders(&rows));
            }
            Answer::Facts { bytes, took_ns } => {
                let pause = Duration::from_nanos(took_ns.saturating_mul(WALK_SHARE));
                self.rounds.read(now, pause);
                self.feed(&Input::Facts(&bytes));
            }
            Answer::Failed(request, error) => {
                if self.config.verbose >= 1 {
                    eprintln!("tcptrail: {request:?} could not be walked: {error}");
                }
                self.next_walk = now + SLOW_EVERY;
                self.next_urgent_walk = now + SLOW_EVERY;
                self.next_holders = now + HOLDERS_EVERY;
            }
        }
        if self.walking == 0 && !self.settled {
            self.take_records();
            self.settled = true;
        }
    }

    pub(super) fn walk_everything(&mut self) {
        let only = self.config.filter.netns.map(|netns| vec![netns]);
        self.walk(Request::Sockets { kind: PollKind::All, only });
        self.walk(Request::Holders);
        if self.walking == 0 {
            self.settled = true;
        }
    }

    /// Where there is nothing that only a look tells of, there is no need to look.
    pub(super) fn walk_minis(&mut self) {
        let only = Some(self.netns_to_walk());
        self.walk(Request::Sockets { kind: PollKind::Minis, only });
    }

    pub(super) fn walk(&mut self, request: Request) {
        let works = match request {
            Request::Sockets { .. } => self.poller.sockets.is_ok(),
            Request::Holders => self.poller.holders.is_ok(),
            Request::Facts(_) => true,
        };
        if !works {
            return;
        }
        if let Request::Sockets { .. } = request {
            self.feed(&Input::PollBegin);
        } else if request == Request::Holders {
            self.events_at_last_holders = self.session.totals().events;
        }
        self.walking += 1;
        self.poller.request(request);
    }

    pub(super) fn housekeeping(&mut self, now: Instant) {
        if now >= self.next_loss {
            self.next_loss = now + LOSS_EVERY;
            let slow = now >= self.next_slow;
            self.read_losses(slow);
            if now >= self.next_names && self.session.totals().events != self.events_at_last_names {
                self.next_names = now + NAMES_EVERY;
                self.events_at_last_names = self.session.totals().events;
                self.name_things();
            }
            if slow {
                self.next_slow = now + SLOW_EVERY;
                self.feed(&Input::Tick(MonoNs::now()));
                self.tend_stacks();
                self.session.flush();
            }
            self.output.push(self.session.out());
        }
        if self.walking != 0 || self.rows.is_some() || !self.settled {
            return;
        }
        let list_due = !self.list_walked && self.next_list.is_some_and(|next| next <= now);
        if (self.repair > 0 || list_due) && now >= self.next_urgent_walk {
            self.repair = self.repair.saturating_sub(1);
            self.list_walked = true;
            self.walk_everything();
        } else if now >= self.next_walk && self.wants_everything(now) {
            self.walk_everything();
        } else if now >= self.next_walk
            && (self.session.engine.table().wants_poll() || self.wants_the_troubled(now))
        {
            self.walk_minis();
        } else if now >= self.next_holders
            && (self.session.totals().events != self.events_at_last_holders
                || self.session.engine.watch().is_some_and(Watch::suspects))
        {
            self.walk(Request::Holders);
        } else {
            self.read_facts(now);
        }
    }

    /// Looks up the paths of cgroups, and for a list the executables of those who hold sockets.
    pub(super) fn name_things(&mut self) {
        let mut bytes = Vec::new();
        for (id, path) in cgroups::all() {
            names::encode(
                names::Entry::Cgroup(id),
                path.as_os_str().as_encoded_bytes(),
                &mut bytes,
            );
        }
        if self.needs.executables {
            let mut pids: Vec<u32> = self
                .session
                .engine
                .table()
                .iter()
                .filter_map(|conn| conn.owner.as_ref()?.pid())
                .collect();
            pids.sort_unstable();
            pids.dedup();
            for pid in pids {
                if let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) {
                    let path = path.as_os_str().as_encoded_bytes();
                    names::encode(names::Entry::Executable(pid), path, &mut bytes);
                }
            }
        }
        self.feed(&Input::Names(&bytes));
    }

    pub(super) fn read_losses(&mut self, recursion_too: bool) {
        let to = MonoNs::now();
        let from = std::mem::replace(&mut self.losses_read, to);
        let dropped = self.programs.dropped().unwrap_or_else(|error| {
            self.cannot_count(&error);
            self.dropped
        });
        let count = dropped - std::mem::replace(&mut self.dropped, dropped).min(dropped);
        if count != 0 {
            self.lost(Loss { count, cause: LossCause::Ring, from, to });
        }
        if recursion_too {
            let missed = self.programs.recursion_losses().unwrap_or_else(|error| {
                self.cannot_count(&error);
                self.missed
            });
            let missed = missed.max(self.missed);
            let count = missed - std::mem::replace(&mut self.missed, missed);
            if count != 0 {
                self.lost(Loss { count, cause: LossCause::Recursion, from, to });
            }
        }
    }

    /// Said once: a loss that nobody counts must not pass for none.
    fn cannot_count(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.uncounted, true) {
            eprintln!("tcptrail: losses cannot be counted here, there may be some: {error}");
        }
    }

    pub(super) fn lost(&mut self, loss: Loss) {
        // Once what was received is shown and the walk has repaired the table, it is right again.
        self.repair = 2;
        self.feed(&Input::Lost(loss));
    }
}
