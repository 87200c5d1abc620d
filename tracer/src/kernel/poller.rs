//! Walks the iterators on a thread of its own: entering a namespace changes the thread, and a long
//! walk must not keep the ring from being read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc;
use std::thread;

use aya::programs::{Iter, ProgramError};
use aya::{Btf, Ebpf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracer_common::globals::Filter;
use tracer_common::names;
use tracer_common::wire::{HolderRow, SocketRow};

use super::descriptors;
use super::facts::Reader;
use super::interfaces::Interfaces;
use super::layout::Resolved;
use super::loader::{self, LoadError, load_object};
use super::netns;
use super::netns::Way;
use super::places::{Places, is_in};
use super::questions;
use super::refusal::in_words;
use crate::engine::conn::{Poll, PollKind, Question};
use crate::engine::rules::Needs;
use crate::privileges::{self, Circumstances};
use crate::time::{MonoNs, jiffy_ns};

/// What the poller is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Walk `iter/tcp`.
    Sockets {
        /// What to look at.
        kind: PollKind,
        /// The network namespaces to walk, where not every one: each costs a walk over the whole of
        /// the kernel's hash table.
        only: Option<Vec<u32>>,
    },
    /// Ask for single sockets.
    Questions(Vec<Question>),
    /// Walk `iter/task_file`.
    Holders,
    /// Read what processes and network namespaces are like.
    Facts(Needs),
    /// Read the names of the interfaces of these network namespaces.
    Interfaces(Vec<u32>),
}

/// What it answers.
#[derive(Debug)]
pub enum Answer {
    /// Rows of `iter/tcp`, wire bytes of `SocketRow`, in the order they were made.
    Sockets {
        /// The walk.
        poll: Poll,
        /// Its rows.
        rows: Vec<u8>,
        /// Rows beyond [`Options::most_rows`], which nobody has looked at.
        cut: u64,
        /// Names of interfaces that are new, as `names::encode` makes them.
        names: Vec<u8>,
        /// CPU time it took, nanoseconds.
        took_ns: u64,
    },
    /// What became of single sockets: rows as of a walk.
    Answers {
        /// The rows, in the order they were made.
        rows: Vec<u8>,
        /// CPU time it took, nanoseconds.
        took_ns: u64,
    },
    /// Rows of `iter/task_file`, wire bytes of `HolderRow`.
    Holders {
        /// The rows.
        rows: Vec<u8>,
        /// As for sockets.
        cut: u64,
        /// CPU time it took, nanoseconds.
        took_ns: u64,
    },
    /// What was read around, as `rules::Facts::encode` makes it.
    Facts {
        /// The bytes.
        bytes: Vec<u8>,
        /// CPU time it took, nanoseconds.
        took_ns: u64,
    },
    /// Names of interfaces that are new, as `names::encode` makes them.
    Interfaces(Vec<u8>),
    /// It could not be done.
    Failed(Request, io::Error),
}

/// How to walk.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which sockets are wanted.
    pub filter: Filter,
    /// Privileges to keep.
    pub circumstances: Circumstances,
    /// Enter this namespace for good and walk no other.
    pub stay_in: Option<u32>,
    /// Count descriptors that are no TCP sockets, too.
    pub descriptors: bool,
    /// Most rows of one walk: whoever opens sockets must not decide how much memory we use.
    pub most_rows: usize,
    /// Whether short walks are to show half-closed sockets too.
    pub half_closed: bool,
}

/// The thread's handle. Dropping it ends the thread after its present walk.
pub struct Poller {
    requests: mpsc::Sender<Request>,
    answers: UnboundedReceiver<Answer>,
    /// Whether `iter/tcp` and `iter/task_file` work, or the kernel's words.
    pub sockets: Result<(), String>,
    /// As `sockets`, for `iter/task_file`.
    pub holders: Result<(), String>,
    /// Whether single sockets can be asked for.
    pub questions: Result<(), String>,
    /// Descriptors are to be walked before sockets: they lead to namespaces that nothing else does. Not where
    /// sockets have no cookies: there their rows have to be known first.
    pub holders_first: bool,
}

/// What is not seen without `iter/tcp`.
pub const WITHOUT_SOCKETS: &str =
    "sockets older than tcptrail, TIME_WAIT and half-open connections are not seen";
/// What is known less well where single sockets cannot be asked for.
pub const WITHOUT_QUESTIONS: &str =
    "where there are many TIME_WAIT sockets, times of FIN_WAIT2 are known to some seconds only";
/// What is not known without `iter/task_file`.
pub const WITHOUT_HOLDERS: &str = "owners are known only where a connect, listen or close was seen";

impl Poller {
    /// Loads the iterators and starts the thread, which keeps no more privileges than it needs.
    ///
    /// # Errors
    /// When the object cannot be loaded at all; a refused iterator is in `sockets` or `holders`.
    pub fn start(resolved: &Resolved, btf: &Btf, how: Options) -> Result<Poller, LoadError> {
        // Maps of its own, which the iterators do not use: a page for the ring will do.
        let ring_bytes = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
        let options = loader::Options {
            filter: how.filter,
            ring_bytes,
            debug: false,
            drops: false,
            half_closed: how.half_closed,
            descriptors: how.descriptors,
        };
        let mut ebpf = load_object(resolved, &options, btf)?;
        let sockets = load(&mut ebpf, names::ITER_TCP, "tcp", btf)
            .and_then(|()| load(&mut ebpf, names::ITER_MINIS, "tcp", btf));
        let holders = if resolved.sees_files() {
            load(&mut ebpf, names::ITER_FILES, "task_file", btf)
        } else {
            Err("this kernel has no bpf_sock_from_file, and the layout of its files is unknown"
                .to_owned())
        };
        let questions = if resolved.cookie_helper {
            questions::probe()
        } else {
            Err("this kernel's programs do not know sockets by their cookies".to_owned())
        };
        let (requests, incoming) = mpsc::channel();
        let (outgoing, answers) = unbounded_channel();
        thread::Builder::new()
            .name("tcptrail-poll".to_owned())
            .spawn(move || {
                if let Some(path) = how.stay_in.and_then(|inode| netns::all().remove(&inode)) {
                    // Not permitted to: then only our own can be walked, and that is said elsewhere.
                    let _ = netns::enter(&path);
                }
                privileges::keep_only(&privileges::poller(how.circumstances));
                run(&mut ebpf, &incoming, &outgoing, &how);
            })
            .map_err(|error| LoadError::Refused {
                program: names::ITER_TCP,
                reason: format!("its thread cannot be started: {error}"),
            })?;
        let holders_first = resolved.cookie_helper;
        Ok(Poller { requests, answers, sockets, holders, questions, holders_first })
    }

    /// Asks for a walk; answers come in the order of requests.
    pub fn request(&self, request: Request) {
        // The thread ends only when this handle is dropped.
        let _ = self.requests.send(request);
    }

    /// The next answer, outside a runtime.
    pub fn answer_blocking(&mut self) -> Option<Answer> {
        self.answers.blocking_recv()
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }
}

fn load(ebpf: &mut Ebpf, name: &str, target: &str, btf: &Btf) -> Result<(), String> {
    let program: &mut Iter = ebpf
        .program_mut(name)
        .ok_or("not in the eBPF object")?
        .try_into()
        .map_err(|error: ProgramError| in_words(&error))?;
    program.load(target, btf).map_err(|error| in_words(&error))
}

fn run(
    ebpf: &mut Ebpf,
    requests: &mpsc::Receiver<Request>,
    answers: &UnboundedSender<Answer>,
    how: &Options,
) {
    let mut places = Places::new(how.stay_in);
    let mut reader = Reader::default();
    let mut interfaces = Interfaces::default();
    while let Ok(request) = requests.recv() {
        let began = cpu_time_ns();
        let answer = match &request {
            Request::Sockets { kind, only } => {
                let namespaces = places.find(only.as_deref());
                walk_sockets(ebpf, *kind, &namespaces, how.most_rows, &mut interfaces).map(
                    |Walked { poll, rows, cut, names }| {
                        let took_ns = cpu_time_ns().saturating_sub(began);
                        Answer::Sockets { poll, rows, cut, names, took_ns }
                    },
                )
            }
            Request::Questions(asked) => {
                let mut netns: Vec<u32> = asked.iter().map(|question| question.netns).collect();
                netns.sort_unstable();
                netns.dedup();
                let namespaces = places.find(Some(&netns));
                let rows = questions::ask(asked, &namespaces, jiffy_ns()).map_err(io::Error::from);
                rows.map(|rows| Answer::Answers {
                    rows,
                    took_ns: cpu_time_ns().saturating_sub(began),
                })
            }
            Request::Interfaces(netns) => {
                let mut names = Vec::new();
                for (inode, way) in places.find(Some(netns)) {
                    if is_in(inode, &way) {
                        interfaces.learn(inode, &[], true, &mut names);
                    }
                }
                Ok(Answer::Interfaces(names))
            }
            Request::Facts(needs) => {
                let namespaces = places.find(Some(&needs.netns));
                let bytes = reader.read(needs, &namespaces).encode();
                Ok(Answer::Facts { bytes, took_ns: cpu_time_ns().saturating_sub(began) })
            }
            Request::Holders => walk_files(ebpf, how.most_rows).map(|(rows, cut)| {
                places.follow(&rows);
                if how.descriptors {
                    reader.descriptors = descriptors::take(ebpf);
                }
                let took_ns = cpu_time_ns().saturating_sub(began);
                Answer::Holders { rows, cut, took_ns }
            }),
        };
        if answers.send(answer.unwrap_or_else(|error| Answer::Failed(request, error))).is_err() {
            return;
        }
    }
}

/// CPU time of this thread: what a walk costs the machine, whoever else is running.
fn cpu_time_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// What a walk over sockets brought.
struct Walked {
    poll: Poll,
    rows: Vec<u8>,
    cut: u64,
    names: Vec<u8>,
}

fn walk_sockets(
    ebpf: &mut Ebpf,
    kind: PollKind,
    namespaces: &BTreeMap<u32, Way>,
    most: usize,
    interfaces: &mut Interfaces,
) -> io::Result<Walked> {
    let name = match kind {
        PollKind::All => names::ITER_TCP,
        PollKind::Minis => names::ITER_MINIS,
    };
    let began = MonoNs::now();
    let mut rows = Vec::new();
    let mut walked = Vec::new();
    let mut names = Vec::new();
    let mut cut = 0;
    for (&inode, way) in namespaces {
        // What was not walked is not in the list, and nothing is concluded about it.
        if !is_in(inode, way) {
            continue;
        }
        let before = rows.len();
        let over = read_rows(open(ebpf, name)?, size_of::<SocketRow>(), most, &mut rows)?;
        if over == 0 {
            walked.push(inode);
        }
        cut += over;
        let fresh = rows.get(before..).unwrap_or_default();
        interfaces.learn(inode, fresh, kind == PollKind::All, &mut names);
    }
    if kind == PollKind::All {
        interfaces.keep(&walked);
    }
    Ok(Walked { poll: Poll { began, netns: walked, kind }, rows, cut, names })
}

fn walk_files(ebpf: &mut Ebpf, most: usize) -> io::Result<(Vec<u8>, u64)> {
    let mut rows = Vec::new();
    let file = open(ebpf, names::ITER_FILES)?;
    let cut = read_rows(file, size_of::<HolderRow>(), most, &mut rows)?;
    Ok((rows, cut))
}

/// Whether the kernel tells how many descriptors a process has, or they have to be listed.
#[must_use]
pub fn descriptors_are_counted() -> bool {
    super::facts::are_counted()
}

/// What the kernel gives with one call at most (`bpf_seq_read`: eight pages).
const AT_A_TIME: usize = 32 << 10;

/// Reads rows until there are `most`, and counts the rest.
fn read_rows(mut from: impl Read, row: usize, most: usize, rows: &mut Vec<u8>) -> io::Result<u64> {
    let room = most.saturating_mul(row).saturating_sub(rows.len());
    // Left to itself it begins with 32 bytes, and the kernel looks for its place again with each call.
    rows.reserve(room.min(AT_A_TIME));
    if from.by_ref().take(room as u64).read_to_end(rows)? < room {
        return Ok(0);
    }
    let mut scratch = vec![0; 64 << 10];
    let mut over = 0;
    loop {
        match from.read(&mut scratch) {
            Ok(0) => return Ok(over / row as u64),
            Ok(more) => over += more as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A walk takes the namespace of the thread that opens it (`bpf_iter_init_seq_net`).
fn open(ebpf: &mut Ebpf, name: &str) -> io::Result<File> {
    let program: &mut Iter = ebpf
        .program_mut(name)
        .ok_or_else(|| io::Error::other("not in the eBPF object"))?
        .try_into()
        .map_err(io::Error::other)?;
    let link = program.attach().map_err(io::Error::other)?;
    let link = program.take_link(link).map_err(io::Error::other)?;
    link.into_file().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_limit_are_counted_and_not_kept() {
        let check = |there: usize, before: usize, most: usize, kept: usize, cut: u64| {
            let mut rows = vec![0; before * 56];
            let over = read_rows(vec![1; there * 56].as_slice(), 56, most, &mut rows);
            assert_eq!((rows.len() / 56, over.expect("a slice is read")), (kept, cut));
        };
        check(10, 0, 20, 10, 0);
        check(20, 0, 20, 20, 0);
        check(21, 0, 20, 20, 1);
        check(5000, 15, 20, 20, 4995);
        check(3, 20, 20, 20, 3);
        check(0, 20, 20, 20, 0);
    }
}
