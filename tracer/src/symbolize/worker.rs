//! The thread that names stacks: asking a JVM and reading symbols takes time that the ring does not have.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tracer_common::stack::CodeRange;

use crate::answer::{ENDED, NO_JVM, Question};
use crate::engine::book::{Raw, StackId};
use crate::frame::Named;
use crate::java::attach::told;
use crate::native::process::Process;
use crate::privileges;
use crate::symbolize::kept::Kept;
use crate::symbolize::symbolizer::Symbolizer;

/// What it is asked.
enum Job {
    Interpreter(u32, bool),
    Stack(StackId, Arc<Raw>),
    Ask(u32, Question),
    /// Processes have ended; not answered.
    Ended,
}

/// What it answers.
#[derive(Debug)]
pub enum Done {
    /// Where a process has its interpreter; of an empty range it has none.
    Interpreter(u32, CodeRange),
    /// It could not be told.
    Unknown(u32),
    /// A stack has names.
    Stack(StackId, Named),
    /// A JVM has answered a question, or a sentence says why not.
    Told(u32, Question, Result<Vec<u8>, String>),
}

/// The thread's handle. Dropping it ends the thread after its present job.
pub struct Worker {
    jobs: Sender<Job>,
    answers: Receiver<Done>,
    /// Jobs without an answer.
    waiting: usize,
}

impl Worker {
    /// Starts it; `attach` allows it to ask JVMs, `give_back` gives memory that was freed back to the system.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(attach: bool, give_back: fn()) -> io::Result<Worker> {
        let (jobs, incoming) = channel();
        let (outgoing, answers) = channel();
        thread::Builder::new().name("tcptrail-names".to_owned()).spawn(move || {
            privileges::keep_only(&privileges::names(attach));
            answer_all(&incoming, &outgoing, &mut Symbolizer::new(attach), give_back);
        })?;
        Ok(Worker { jobs, answers, waiting: 0 })
    }

    /// Asks what code a process has; `broken`: its frame pointers lead nowhere.
    pub fn look_at(&mut self, pid: u32, broken: bool) {
        self.ask(Job::Interpreter(pid, broken));
    }

    /// Asks for the names of a stack.
    pub fn name(&mut self, id: StackId, raw: Arc<Raw>) {
        self.ask(Job::Stack(id, raw));
    }

    /// Asks a JVM.
    pub fn question(&mut self, pid: u32, question: Question) {
        self.ask(Job::Ask(pid, question));
    }

    /// Has what is kept of processes that have ended forgotten.
    pub fn processes_ended(&mut self) {
        // A thread that is gone keeps nothing.
        let _ = self.jobs.send(Job::Ended);
    }

    fn ask(&mut self, job: Job) {
        if self.jobs.send(job).is_ok() {
            self.waiting += 1;
        }
    }

    /// The next answer that is there.
    pub fn answer(&mut self) -> Option<Done> {
        let answer = self.answers.try_recv().ok()?;
        self.waiting -= 1;
        Some(answer)
    }

    /// The next answer, waited for; `None` when nothing is asked any more, or not in time.
    pub fn answer_within(&mut self, patience: Duration) -> Option<Done> {
        if self.waiting == 0 {
            return None;
        }
        let answer = self.answers.recv_timeout(patience).ok()?;
        self.waiting -= 1;
        Some(answer)
    }
}

/// Answers until the run ends, and now and then lets go of what was read of files.
fn answer_all(
    incoming: &Receiver<Job>,
    outgoing: &Sender<Done>,
    symbolizer: &mut Symbolizer,
    give_back: fn(),
) {
    let mut kept = Kept::default();
    loop {
        let rest_in = kept.until().map(|until| until.saturating_duration_since(Instant::now()));
        if rest_in == Some(Duration::ZERO) {
            symbolizer.rest();
            give_back();
            kept = Kept::default();
            continue;
        }
        let answer = match incoming.recv_timeout(rest_in.unwrap_or(Duration::MAX)) {
            Ok(Job::Interpreter(pid, broken)) => match symbolizer.interpreter(pid, broken) {
                Ok(range) => Done::Interpreter(pid, range),
                Err(_) => Done::Unknown(pid),
            },
            Ok(Job::Stack(id, raw)) => {
                let before = (cpu_time(), own_memory());
                let named = symbolizer.name(&raw);
                let grown = own_memory().saturating_sub(before.1);
                kept.add(Instant::now(), cpu_time().saturating_sub(before.0), grown);
                Done::Stack(id, named)
            }
            Ok(Job::Ask(pid, question)) => Done::Told(pid, question, ask(pid, question)),
            Ok(Job::Ended) => {
                symbolizer.forget_ended();
                continue;
            }
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if outgoing.send(answer).is_err() {
            return;
        }
    }
}

/// Of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Memory of this process that no file has, bytes; 0 where that cannot be told.
fn own_memory() -> u64 {
    let pages = |text: String| {
        let mut words = text.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
        let (resident, of_files) = (words.next()?.ok()?, words.next()?.ok()?);
        Some(resident.saturating_sub(of_files))
    };
    let told = std::fs::read_to_string("/proc/self/statm").ok().and_then(pages);
    told.unwrap_or(0) * rustix::param::page_size() as u64
}

fn ask(pid: u32, question: Question) -> Result<Vec<u8>, String> {
    let process = Process::look(pid).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ENDED.to_owned(),
        _ => format!("it cannot be looked at: {error}"),
    })?;
    if process.hotspot().is_none() {
        return Err(NO_JVM.into());
    }
    told(&process, question)
}
