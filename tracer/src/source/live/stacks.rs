//! Stacks beside the events: their ring, what the kernel is to be told, names, and the report of `leaks`.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Config, Show};
use crate::engine::book::Book;
use crate::event::SockId;
use crate::frame::opener;
use crate::input::Input;
use crate::kernel::layout::Resolved;
use crate::kernel::loader::LoadError;
use crate::kernel::ring::Reader;
use crate::kernel::stacks::{self, StackPrograms};
use crate::names;
use crate::output::lines::leaks::survivors;
use crate::session::Session;
use crate::source::live::Live;
use crate::symbolize::worker::{Done, Worker};
use crate::text::{self, Terminal};
use crate::time::MonoNs;

/// Records taken in a row.
const BATCH: usize = 16_384;
/// A socket that has been open for this long has its stack named: code may be gone later.
const NAMED_AFTER: Duration = Duration::from_secs(1);
/// Stacks whose names are asked for in a second.
const MOST_ASKED: usize = 200;
/// At the end names are waited for this long: as long as a JVM may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// At the start JVMs are waited for this long.
const GREETING: Duration = Duration::from_millis(300);
/// A report on a terminal is made again after this time.
const REDRAW_EVERY: Duration = Duration::from_secs(5);
/// Processes that are told to the kernel.
const MOST_PROCESSES: usize = 8_000;

/// What a run with stacks has more.
pub(super) struct Stacks {
    pub(super) programs: StackPrograms,
    ring: Reader,
    pub(super) book: Book,
    worker: Worker,
    /// Processes that were looked at.
    looked_at: HashSet<u32>,
    /// Sockets whose openers the rules know.
    told: HashSet<SockId>,
    /// The next report, where there is one before the end.
    next_report: Option<Instant>,
}

impl Stacks {
    /// Loads the programs, where this run wants stacks.
    pub(super) fn start(
        config: &Config,
        resolved: &Resolved,
        btf: &aya::Btf,
    ) -> Result<Option<Stacks>, LoadError> {
        let wants = match config.show {
            Show::Leaks { attach, watch, report } => Wants {
                attach,
                accepted: true,
                every: watch.or(draws(config, report.folded).then_some(REDRAW_EVERY)),
            },
            // Nobody is to be disturbed, nor every read and system call to pay. And who accepts, or reads, does so
            // for all: of a server's sockets some would have a name, and some not, and be told apart by it.
            Show::Stuck { once: false } if config.openers => {
                Wants { attach: false, accepted: false, every: None }
            }
            _ => return Ok(None),
        };
        let loaded = stacks::load(resolved, &config.filter, wants.accepted, btf);
        let (programs, ring) = match loaded {
            Ok(loaded) => loaded,
            // What is stuck is known without it.
            Err(error) if !wants.accepted => {
                if config.verbose >= 1 {
                    eprintln!("tcptrail: openers are not known: {error}");
                }
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let attach = wants.attach;
        let worker = Worker::start(attach).map_err(|error| LoadError::Refused {
            program: "leaks",
            reason: format!("its thread cannot be started: {error}"),
        })?;
        let mut stacks = Stacks {
            programs,
            ring,
            book: Book::default(),
            worker,
            looked_at: HashSet::new(),
            told: HashSet::new(),
            next_report: wants.every.map(|every| Instant::now() + every),
        };
        for pid in &config.filter.pids {
            if !std::fs::exists(format!("/proc/{pid}")).unwrap_or(true) {
                eprintln!("tcptrail: there is no process {pid} now; it is waited for");
            }
        }
        for pid in jvms(config) {
            stacks.look_at(pid, false);
        }
        // JVMs that are there are known before their next connection, as a rule.
        while let Some(done) = stacks.worker.answer_within(GREETING) {
            stacks.done(done);
        }
        Ok(Some(stacks))
    }

    fn look_at(&mut self, pid: u32, broken: bool) {
        if self.looked_at.len() < MOST_PROCESSES && self.looked_at.insert(pid) {
            self.worker.look_at(pid, broken);
        }
    }

    /// Takes stacks out of their ring. Called before the events are taken: a socket whose stack is known
    /// is then in the table soon after.
    pub(super) fn take(&mut self) {
        let mut unknown = Vec::new();
        for _ in 0..BATCH {
            let book = &mut self.book;
            if !self.ring.next(|record| unknown.extend(book.take_in(record))) {
                break;
            }
        }
        for (pid, broken) in unknown {
            self.look_at(pid, broken);
        }
        while let Some(done) = self.worker.answer() {
            self.done(done);
        }
    }

    /// Finds the sockets of stacks that the kernel named by address. Called after the events were taken.
    pub(super) fn settle<W: io::Write>(&mut self, session: &Session<W>) {
        self.book.settle(MonoNs::now(), |address| session.living(address));
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Interpreter(pid, range) => self.programs.set_interpreter(pid, range),
            // It may be a JVM that is starting, or another program by then: with its next stack.
            Done::Unknown(pid) => {
                self.looked_at.remove(&pid);
            }
            Done::Stack(id, named) => self.book.name(id, named),
        }
    }

    /// Processes that have ended give their room to others.
    fn forget_processes(&mut self) {
        let programs = &mut self.programs;
        let before = self.looked_at.len();
        self.looked_at.retain(|pid| {
            let lives = std::fs::exists(format!("/proc/{pid}")).unwrap_or(true);
            if !lives {
                programs.forget(*pid);
            }
            lives
        });
        if self.looked_at.len() != before {
            self.worker.processes_ended();
        }
    }

    /// Stacks that found the ring full, or no place behind it.
    pub(super) fn lost(&self) -> u64 {
        self.programs.dropped().unwrap_or(0) + self.book.malformed + self.book.unsettled
    }

    /// At most so many more were not taken.
    fn skipped(&self) -> u64 {
        self.programs.skipped().unwrap_or(0)
    }
}

/// What a run wants of stacks.
struct Wants {
    /// JVMs may be asked.
    attach: bool,
    /// Also of sockets that were accepted, whatever it takes.
    accepted: bool,
    /// Reports before the end.
    every: Option<Duration>,
}

/// Reports are drawn over one another.
fn draws(config: &Config, folded: bool) -> bool {
    !config.json && !folded && Terminal::of_stdout(false).width.is_some()
}

/// Processes that may be JVMs, or were asked for.
fn jvms(config: &Config) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|pid| {
        let java = std::fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "java"));
        java || config.filter.pids.contains(pid)
    })
    .take(MOST_PROCESSES)
    .collect()
}

impl Live<'_> {
    /// Every second: asks for names of what stays open, and forgets what is gone.
    pub(super) fn tend_stacks(&mut self) {
        self.ask_for_names(NAMED_AFTER, MOST_ASKED);
        self.tell_openers();
        let Some(stacks) = &mut self.stacks else { return };
        let table = &self.session.table;
        stacks.book.forget(MonoNs::now(), |id| table.has(id));
        stacks.told.retain(|&id| table.has(id));
        stacks.forget_processes();
    }

    fn ask_for_names(&mut self, after: Duration, most: usize) {
        let Some(stacks) = &mut self.stacks else { return };
        let (table, filter) = (&self.session.table, &self.config.filter);
        let mut wanted = Vec::new();
        for conn in survivors(table, filter, after, MonoNs::now()) {
            let stack = stacks.book.seen(conn.id).and_then(|seen| seen.opener()?.stack);
            if let Some(id) = stack.filter(|&id| stacks.book.is_nameless(id)) {
                wanted.push(id);
                if wanted.len() >= most {
                    break;
                }
            }
        }
        for id in wanted {
            if let Some(raw) = stacks.book.ask(id) {
                stacks.worker.name(id, raw);
            }
        }
    }

    /// The rules group by opener: they are told who opened what, as soon as it has a name.
    fn tell_openers(&mut self) {
        let Some(stacks) = self.stacks.as_mut().filter(|_| self.session.rules().is_some()) else {
            return;
        };
        let mut bytes = Vec::new();
        for (id, seen) in stacks.book.sockets() {
            let Some(sighting) = seen.opened.filter(|_| !stacks.told.contains(&id)) else {
                continue;
            };
            let Some(frames) = stacks.book.frames(&sighting) else { continue };
            stacks.told.insert(id);
            if let Some(frame) = opener(frames) {
                let mut name = Vec::new();
                text::name(frame.name.as_bytes(), &mut name);
                names::encode(names::Entry::Opener(id.0), &name, &mut bytes);
            }
        }
        if !bytes.is_empty() {
            self.feed(&Input::Names(&bytes));
        }
    }

    /// A report, where one is due before the end.
    pub(super) fn report_when_due(&mut self, now: Instant) {
        let Show::Leaks { watch, report, .. } = self.config.show else { return };
        let Some(stacks) = &mut self.stacks else { return };
        if stacks.next_report.is_none_or(|at| now < at) || !self.settled {
            return;
        }
        stacks.next_report = Some(now + watch.unwrap_or(REDRAW_EVERY));
        if draws(self.config, report.folded) {
            self.session.out.extend_from_slice(b"\x1b[H\x1b[2J");
        }
        self.report_leaks();
    }

    fn report_leaks(&mut self) {
        let Show::Leaks { report, .. } = self.config.show else { return };
        let Some(stacks) = &self.stacks else { return };
        self.listed = self.session.leaks(&stacks.book, &report, MonoNs::now());
        self.output.push(&mut self.session.out);
    }

    /// The last report: with the names of everything in it, as far as they come in time.
    pub(super) fn end_stacks(&mut self) {
        let Show::Leaks { report, .. } = self.config.show else { return };
        if let Some(stacks) = &mut self.stacks {
            stacks.take();
            stacks.settle(&self.session);
        }
        self.ask_for_names(report.older, usize::MAX);
        let began = Instant::now();
        if let Some(stacks) = &mut self.stacks {
            while let Some(left) = PATIENCE.checked_sub(began.elapsed()) {
                let Some(done) = stacks.worker.answer_within(left) else { break };
                stacks.done(done);
            }
        }
        self.report_leaks();
        let lost = self.stacks.as_ref().map_or(0, Stacks::lost);
        if lost > 0 {
            eprintln!(
                "tcptrail: {lost} stacks were lost on their way out of the kernel: their openers are not known"
            );
        }
        let skipped = self.stacks.as_ref().map_or(0, Stacks::skipped);
        if skipped > 0 {
            eprintln!(
                "tcptrail: of up to {skipped} sockets the opener was not seen: the kernel does not run a program twice at a time on a processor"
            );
        }
    }
}

/// Why a run with stacks sees less than it could, where somebody asks.
pub(super) fn report_hooks(stacks: &Stacks) {
    for hook in &stacks.programs.hooks {
        if let Err(reason) = &hook.outcome {
            eprintln!("tcptrail: without {}: {} ({reason})", hook.name, hook.cost);
        }
    }
}
