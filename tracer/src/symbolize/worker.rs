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
use crate::symbolize::symbolizer::Symbolizer;

/// Without a stack for so long, what was read of files is let go of.
const REST: Duration = Duration::from_secs(10);

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

/// Answers until the run ends. What was read of files is let go of while no stack comes for a while: the symbols of one
/// library may take 50 MB.
fn answer_all(
    incoming: &Receiver<Job>,
    outgoing: &Sender<Done>,
    symbolizer: &mut Symbolizer,
    give_back: fn(),
) {
    let mut used: Option<Instant> = None;
    loop {
        let rest_in = used.map_or(Duration::MAX, |at| REST.saturating_sub(at.elapsed()));
        let answer = match incoming.recv_timeout(rest_in) {
            Ok(Job::Interpreter(pid, broken)) => match symbolizer.interpreter(pid, broken) {
                Ok(range) => Done::Interpreter(pid, range),
                Err(_) => Done::Unknown(pid),
            },
            Ok(Job::Stack(id, raw)) => {
                let named = symbolizer.name(&raw);
                used = Some(Instant::now());
                Done::Stack(id, named)
            }
            Ok(Job::Ask(pid, question)) => Done::Told(pid, question, ask(pid, question)),
            Ok(Job::Ended) => {
                symbolizer.forget_ended();
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {
                symbolizer.rest();
                give_back();
                used = None;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if outgoing.send(answer).is_err() {
            return;
        }
    }
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
