//! Loads the programs, attaches them and lets them work.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tracer_common::globals::Filter;

use crate::doctor::check::Checks;
use crate::engine::conn::PollKind;
use crate::engine::decode;
use crate::event::What;
use crate::kernel::layout::Resolved;
use crate::kernel::loader::{self, Hook, KernelBtf, Options};
use crate::kernel::poller::{self, Answer, Poller, Request};
use crate::kernel::ring::Reader;
use crate::kernel::stacks;
use crate::privileges::{self, Circumstances, Need};

/// Tries all programs, and what is left of privileges once they are attached.
pub(super) fn try_programs(checks: &mut Checks<'_>, resolved: &Resolved) {
    let btf = match loader::kernel_btf() {
        Ok(btf) => btf,
        Err(error) => return checks.push("kernel BTF", true, Err(error.to_string())),
    };
    let wants_capability = try_events(checks, resolved, &btf);
    let circumstances = Circumstances {
        bpf_wants_capability: wants_capability,
        one_namespace: false,
        other_user: privileges::is_other_user(),
        lists_descriptors: false,
    };
    try_stacks(checks, resolved, &btf);
    let options = poller::Options {
        filter: Filter::default(),
        circumstances,
        stay_in: None,
        descriptors: true,
        most_rows: 1_000_000,
        half_closed: true,
    };
    match Poller::start(resolved, &btf, options) {
        Ok(mut poller) => try_iterators(checks, &mut poller),
        Err(error) => checks.push("iterators", false, Err(error.to_string())),
    }
    try_privileges(checks, circumstances);
}

/// The programs that tell of events. Says whether reading them wants a capability.
fn try_events(checks: &mut Checks<'_>, resolved: &Resolved, btf: &KernelBtf) -> bool {
    let options = Options {
        filter: Filter::default(),
        ring_bytes: 1 << 20,
        debug: false,
        drops: true,
        half_closed: false,
        descriptors: true,
    };
    match loader::load(resolved, &options, btf) {
        Ok((programs, ring)) => {
            let wants_capability = programs.want_capability().unwrap_or(true);
            for hook in &programs.hooks {
                checks.push(&format!("tp_btf/{}", hook.name), hook.required, attached(hook));
            }
            checks.push("an event arrives", true, see_an_event(ring));
            wants_capability
        }
        Err(error) => {
            checks.push("eBPF programs", true, Err(error.to_string()));
            false
        }
    }
}

/// The programs that take stacks.
fn try_stacks(checks: &mut Checks<'_>, resolved: &Resolved, btf: &KernelBtf) {
    match stacks::load(resolved, &crate::filter::Filter::default(), true, btf) {
        Ok((programs, _)) => {
            for hook in &programs.hooks {
                checks.push(&format!("stacks: {}", hook.name), false, attached(hook));
            }
        }
        Err(error) => checks.push("stacks", false, Err(format!("{error}: leaks does not work"))),
    }
}

fn attached(hook: &Hook) -> Result<String, String> {
    match &hook.outcome {
        Ok(()) => Ok("attached".to_owned()),
        Err(reason) => Err(format!("{reason}: {}", hook.cost)),
    }
}

/// What each thread of a run keeps.
fn try_privileges(checks: &mut Checks<'_>, circumstances: Circumstances) {
    for (name, needs) in [
        ("privileges of a run", privileges::main_thread(false, circumstances)),
        ("privileges of list", privileges::main_thread(true, circumstances)),
        ("privileges of leaks", privileges::names(true)),
        ("privileges of walks", privileges::poller(circumstances)),
        (
            "privileges of walks --netns",
            privileges::poller(Circumstances { one_namespace: true, ..circumstances }),
        ),
    ] {
        checks.push(name, false, give_up(&needs));
    }
}

/// Gives up on a thread of its own what a run gives up, and says what is left.
fn give_up(needs: &[Need]) -> Result<String, String> {
    let held = std::thread::scope(|scope| scope.spawn(|| privileges::keep(needs)).join())
        .unwrap_or_else(|_| Err(std::io::Error::other("its thread ended")))
        .map_err(|error| format!("privileges cannot be given up: {error}"))?;
    let kept: Vec<String> = needs
        .iter()
        .filter(|need| held.contains(need.capability))
        .map(|need| format!("{}: {}", privileges::in_words(need.capability), need.reason))
        .collect();
    Ok(if kept.is_empty() { privileges::in_words(held) } else { kept.join("; ") })
}

/// An event of our own is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to itself on loopback and waits for its own transition.
fn see_an_event(mut ring: Reader) -> Result<String, String> {
    let fail = |error: std::io::Error| format!("no connection on loopback to try with: {error}");
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(fail)?;
    let addr = listener.local_addr().map_err(fail)?;
    // On a machine that is fully busy the event of one may come late, or find no room.
    let (mut clients, mut next) = (Vec::new(), Instant::now());
    let end = next + PATIENCE;
    while Instant::now() < end {
        if Instant::now() >= next {
            clients.push(TcpStream::connect(addr).map_err(fail)?);
            next += Duration::from_secs(1);
        }
        let mut ours = false;
        while ring.next(|record| {
            ours |= decode::event(record).is_ok_and(|event| {
                matches!(event.what, What::Transition { .. })
                    && event.tuple.remote_port == addr.port()
            });
        }) {}
        if ours {
            return Ok("a connection made on loopback was seen".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("a connection made on loopback was not seen within {} seconds", PATIENCE.as_secs()))
}

fn try_iterators(checks: &mut Checks<'_>, poller: &mut Poller) {
    for (name, request, outcome, cost) in [
        (
            "iter/tcp",
            Request::Sockets { kind: PollKind::All, only: None },
            poller.sockets.clone(),
            poller::WITHOUT_SOCKETS,
        ),
        ("iter/task_file", Request::Holders, poller.holders.clone(), poller::WITHOUT_HOLDERS),
    ] {
        let outcome = outcome.and_then(|()| {
            poller.request(request);
            match poller.answer_blocking() {
                Some(Answer::Sockets { rows, took_ns, .. }) => Ok(format!(
                    "{} sockets in {} us",
                    rows.len() / size_of::<tracer_common::wire::SocketRow>(),
                    took_ns / 1000
                )),
                Some(Answer::Holders { rows, took_ns, .. }) => Ok(format!(
                    "{} descriptors in {} us",
                    rows.len() / size_of::<tracer_common::wire::HolderRow>(),
                    took_ns / 1000
                )),
                Some(Answer::Facts { .. } | Answer::Interfaces(_) | Answer::Answers { .. }) => {
                    Err("it answered something else".to_owned())
                }
                Some(Answer::Failed(_, error)) => Err(error.to_string()),
                None => Err("its thread ended".to_owned()),
            }
        });
        checks.push(name, false, outcome.map_err(|reason| format!("{reason}: {cost}")));
    }
    let asked = poller.questions.clone().map(|()| "single sockets can be asked for".to_owned());
    let cost = poller::WITHOUT_QUESTIONS;
    checks.push("sock_diag", false, asked.map_err(|reason| format!("{reason}: {cost}")));
}
