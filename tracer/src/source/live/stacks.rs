//! Stacks beside the events: their ring, what the kernel is to be told, and names.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use tracer_common::stack::StackHead;

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::book::{Book, StackId};
use crate::engine::conn::Table;
use crate::engine::open::survives;
use crate::event::SockId;
use crate::filter::Filter;
use crate::frame::opener;
use crate::input::Input;
use crate::kernel::layout::Resolved;
use crate::kernel::loader::{KernelBtf, LoadError};
use crate::kernel::memory;
use crate::kernel::ring::Reader;
use crate::kernel::stacks::{self, StackPrograms};
use crate::names;
use crate::output::StacksNeed;
use crate::output::session::Session;
use crate::source::live::dumps::Dumps;
use crate::symbolize::worker::{Done, Worker};
use crate::text;
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
/// When so many stacks were let go of, their memory goes back to the system, no more often than this.
const MANY_FREED: usize = 256;
const GIVEN_BACK_EVERY: Duration = Duration::from_secs(60);
/// Processes that are told to the kernel.
const MOST_PROCESSES: usize = 8_000;

/// What a run with stacks has more.
pub(super) struct Stacks {
    pub(super) programs: StackPrograms,
    ring: Reader,
    worker: Worker,
    /// Processes that were looked at.
    looked_at: HashSet<u32>,
    /// Sockets whose openers the rules know.
    told: HashSet<SockId>,
    /// JVMs that are asked for thread dumps; where a run wants that.
    dumps: Option<Dumps>,
    /// Stacks that were let go of since memory was given back, and when that was.
    freed: usize,
    given_back: Instant,
}

impl Stacks {
    /// Loads the programs, where this run wants stacks.
    pub(super) fn start(
        config: &Config,
        wants: Option<StacksNeed>,
        resolved: &Resolved,
        btf: &KernelBtf,
    ) -> Result<Option<Stacks>, LoadError> {
        let Some(wants) = wants else { return Ok(None) };
        let loaded = stacks::load(resolved, &config.filter, wants.accepted, btf);
        let (programs, ring) = match loaded {
            Ok(loaded) => loaded,
            // What is stuck is known without it.
            Err(error) if !wants.accepted => {
                if config.verbose >= 1 {
                    eprintln!("tcptrail: the code that opens sockets is unknown: {error}");
                }
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let attach = wants.attach;
        let worker =
            Worker::start(attach, memory::give_back).map_err(|error| LoadError::Refused {
                program: "leaks",
                reason: format!("its thread cannot be started: {error}"),
            })?;
        let mut stacks = Stacks {
            programs,
            ring,
            worker,
            looked_at: HashSet::new(),
            told: HashSet::new(),
            dumps: (wants.dumps && wants.attach).then(Dumps::default),
            freed: 0,
            given_back: Instant::now(),
        };
        for pid in &config.filter.pids {
            if !std::fs::exists(format!("/proc/{pid}")).unwrap_or(true) {
                eprintln!("tcptrail: there is no process {pid} yet; waiting for it");
            }
        }
        for pid in jvms(config) {
            stacks.look_at(pid, false);
        }
        // JVMs that are there are known before their next connection, as a rule.
        while let Some(done) = stacks.worker.answer_within(GREETING) {
            // Nobody has a stack yet.
            stacks.done(done, &mut Book::default());
        }
        Ok(Some(stacks))
    }

    fn look_at(&mut self, pid: u32, broken: bool) {
        if self.looked_at.len() < MOST_PROCESSES && self.looked_at.insert(pid) {
            self.worker.look_at(pid, broken);
        }
    }

    /// Takes stacks out of their ring. Called before the events are taken: a socket whose stack is known
    /// is then in the table soon after. Returns whether some came whole, which fill the ring soon: as long as the code of
    /// a process is not known, each of its stacks may be new.
    pub(super) fn take(&mut self, book: &mut Book) -> bool {
        let mut came_whole = false;
        for _ in 0..BATCH {
            let (mut unknown, mut whole) = (None, false);
            let took = self.ring.next(|record| {
                whole = record.len() > size_of::<StackHead>();
                unknown = book.take_in(record);
            });
            if !took {
                break;
            }
            // At once, and what the worker finds out, too: until the kernel is told, more come than can be taken.
            if let Some((pid, broken)) = unknown {
                self.look_at(pid, broken);
            }
            if whole {
                came_whole = true;
                self.take_answers(book);
            }
        }
        self.take_answers(book);
        came_whole
    }

    fn take_answers(&mut self, book: &mut Book) {
        while let Some(done) = self.worker.answer() {
            self.done(done, book);
        }
    }

    fn done(&mut self, done: Done, book: &mut Book) {
        match done {
            Done::Interpreter(pid, range) => self.programs.set_interpreter(pid, range),
            // It may be a JVM that is starting, or another program by then: with its next stack.
            Done::Unknown(pid) => {
                self.looked_at.remove(&pid);
            }
            Done::Stack(id, named) => book.name(id, named),
            Done::Told(pid, question, answer) => {
                if let Some(dumps) = &mut self.dumps {
                    dumps.answered(pid, question, answer);
                }
            }
        }
    }

    /// Processes that have ended give their room to others.
    fn forget_processes(&mut self) {
        let programs = &mut self.programs;
        let before = self.looked_at.len();
        self.looked_at.retain(|&pid| {
            let lives = lives(pid);
            if !lives {
                programs.forget(pid);
            }
            lives
        });
        if self.looked_at.len() != before {
            self.worker.processes_ended();
        }
    }

    /// Stacks that found the ring full, or no place behind it.
    pub(super) fn lost(&self, book: &Book) -> u64 {
        self.programs.dropped().unwrap_or(0) + book.malformed + book.unsettled
    }

    /// At most so many more were not taken.
    fn skipped(&self) -> u64 {
        self.programs.skipped().unwrap_or(0)
    }
}

/// Whether there is a process with this id; so it is where that cannot be told.
fn lives(pid: u32) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap_or(true)
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

/// Sockets whose connection ended so long ago, and which were not closed.
fn leftovers(table: &Table, after: Duration, now: MonoNs) -> impl Iterator<Item = SockId> {
    let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
    table.leftovers().filter(move |(_, left)| now.since(left.at) >= after).map(|(id, _)| id)
}

impl Stacks {
    /// Every second: asks for names of what stays open, and forgets what is gone.
    pub(super) fn tend(&mut self, session: &mut Session, filter: &Filter) {
        self.ask_for_names(&mut session.engine, filter, NAMED_AFTER, MOST_ASKED);
        self.tell_openers(session);
        if let Some(dumps) = &mut self.dumps {
            dumps.ask(&mut self.worker, &session.engine, filter);
        }
        let forgotten = session.engine.forget_stacks(MonoNs::now(), lives);
        self.programs.forget_stacks(&forgotten);
        self.freed += forgotten.len();
        if self.freed >= MANY_FREED && self.given_back.elapsed() >= GIVEN_BACK_EVERY {
            (self.freed, self.given_back) = (0, Instant::now());
            memory::give_back();
        }
        let table = session.engine.table();
        self.told.retain(|&id| table.has(id) || table.leftover(id).is_some());
        self.forget_processes();
    }

    fn ask_for_names(
        &mut self,
        engine: &mut Engine,
        filter: &Filter,
        after: Duration,
        most: usize,
    ) {
        if !engine.book.any_nameless() {
            return;
        }
        let (mut wanted, mut later) = (Vec::new(), Vec::new());
        let (book, now) = (&engine.book, MonoNs::now());
        for (id, seen) in book.sockets() {
            let nameless = |&id: &StackId| book.is_nameless(id);
            let told = [seen.opener(), seen.user()];
            let told = told.into_iter().flatten().filter_map(|sighting| sighting.stack);
            let mut told = told.filter(nameless).peekable();
            let mut next = seen.handled.stacks().filter(nameless).peekable();
            if told.peek().is_none() && next.peek().is_none() {
                continue;
            }
            let conn = engine.table().find_open(id);
            if conn.is_some_and(|conn| survives(conn, filter, after, now)) {
                wanted.extend(told);
                later.extend(next);
            }
            if wanted.len() >= most {
                break;
            }
        }
        // What a thread did next is of use only once it is known who opened a socket. Not at the end of a run either
        // are all of those worth the wait.
        let room = most.min(MOST_ASKED).saturating_sub(wanted.len());
        wanted.extend(later.into_iter().take(room));
        for id in leftovers(engine.table(), after, MonoNs::now()).take(most) {
            let stack = engine.book.seen(id).and_then(|seen| seen.opener()?.stack);
            wanted.extend(stack.filter(|&id| engine.book.is_nameless(id)));
        }
        wanted.extend(engine.book.collected_nameless().take(most));
        for id in wanted {
            if let Some(raw) = engine.book.ask(id) {
                self.worker.name(id, raw);
            }
        }
    }

    /// The rules group by opener: they are told who opened what, as soon as it has a name.
    fn tell_openers(&mut self, session: &mut Session) {
        let engine = &session.engine;
        if engine.watch().is_none() {
            return;
        }
        let mut bytes = Vec::new();
        for (id, seen) in engine.book.sockets() {
            let Some(sighting) = seen.opened.filter(|_| !self.told.contains(&id)) else {
                continue;
            };
            // The book keeps a socket for some seconds after it is gone, and may have it before the table.
            let table = engine.table();
            if !table.has(id) && table.leftover(id).is_none() {
                continue;
            }
            let Some(frames) = engine.book.frames(&sighting) else { continue };
            self.told.insert(id);
            if let Some(frame) = opener(frames) {
                let mut name = Vec::new();
                text::name(frame.name.as_bytes(), &mut name);
                names::encode(names::Entry::Opener(id.0), &name, &mut bytes);
            }
        }
        if !bytes.is_empty() {
            session.feed(&Input::Names(&bytes));
        }
    }

    /// Before the last report: takes what is left, and waits for names, as far as they come in time.
    pub(super) fn name_the_rest(
        &mut self,
        session: &mut Session,
        filter: &Filter,
        older: Duration,
    ) {
        let engine = &mut session.engine;
        self.take(&mut engine.book);
        engine.settle_book(MonoNs::now());
        self.ask_for_names(engine, filter, older, usize::MAX);
        if let Some(dumps) = &mut self.dumps {
            dumps.ask_again(&mut self.worker, engine, filter);
        }
        let began = Instant::now();
        while let Some(left) = PATIENCE.checked_sub(began.elapsed()) {
            let Some(done) = self.worker.answer_within(left) else { break };
            self.done(done, &mut engine.book);
        }
        engine.answers = self.dumps.as_mut().map(Dumps::finish).unwrap_or_default();
    }

    /// Says of how many sockets the opener is not known.
    pub(super) fn tell_lost(&self, book: &Book) {
        let lost = self.lost(book);
        if lost > 0 {
            eprintln!(
                "tcptrail: {lost} stacks were lost between the kernel and tcptrail: the openers of those sockets are unknown"
            );
        }
        let skipped = self.skipped();
        if skipped > 0 {
            eprintln!(
                "tcptrail: the openers of up to {skipped} sockets are unknown: the kernel skipped the program, because it was already \
                 running on that processor"
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
