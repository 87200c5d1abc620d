//! `doctor`: everything tcptrail needs from this kernel, each tried for real.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tracer_common::globals::Filter;

use crate::engine::conn::PollKind;
use crate::engine::decode;
use crate::event::What;
use crate::kernel::cgroups::{self, Mounts};
use crate::kernel::layout::Resolved;
use crate::kernel::loader::{self, Options};
use crate::kernel::poller::{self, Answer, Poller, Request};
use crate::kernel::ring::Reader;
use crate::kernel::{netns, preflight, stacks};
use crate::output::json::Object;
use crate::privileges::{self, Circumstances, Need};
use crate::text::{self, Paint, Row, Terminal};

/// One thing that was tried.
struct Check {
    name: String,
    /// Works, or what is lost without it.
    outcome: Result<String, String>,
    /// Without it nothing works.
    required: bool,
}

/// Tries everything and prints a line each. Exit code 0 when tracing works.
#[must_use]
pub fn run(json: bool) -> u8 {
    let terminal = Terminal::of_stdout(std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()));
    let (out, works) = report(json, terminal);
    // A reader that has gone has seen enough.
    let _ = std::io::stdout().write_all(&out);
    u8::from(!works)
}

/// Tries everything; the lines as they are in a file.
#[must_use]
pub fn text() -> String {
    let (out, _) = report(false, Terminal { width: None, color: false });
    String::from_utf8_lossy(&out).into_owned()
}

/// Tries everything; the lines for a terminal or as JSON, and whether tracing works.
fn report(json: bool, terminal: Terminal) -> (Vec<u8>, bool) {
    let mut checks = Vec::new();
    examine(&mut checks);
    let works = checks.iter().all(|check| check.outcome.is_ok() || !check.required);
    let mut out = Vec::new();
    for check in &checks {
        if json { as_json(check, &mut out) } else { as_text(check, terminal, &mut out) }
    }
    if !json {
        let complete = checks.iter().all(|check| check.outcome.is_ok());
        let verdict = match (works, complete) {
            (true, true) => "Everything works.",
            (true, false) => "Tracing works; what is missing is named above.",
            (false, _) => "Tracing does not work here; the first line marked NO says why.",
        };
        out.extend_from_slice(verdict.as_bytes());
        out.push(b'\n');
    }
    (out, works)
}

fn as_json(check: &Check, out: &mut Vec<u8>) {
    let mut object = Object::event(out, "check");
    object.string("name", check.name.as_bytes()).boolean("ok", check.outcome.is_ok());
    let (Ok(detail) | Err(detail)) = &check.outcome;
    object.string("detail", detail.as_bytes()).boolean("required", check.required).end();
}

fn as_text(check: &Check, terminal: Terminal, out: &mut Vec<u8>) {
    let (mark, paint): (&[u8], _) = match (&check.outcome, check.required) {
        (Ok(_), _) => (b"ok", Paint::Good),
        (Err(_), true) => (b"NO", Paint::Bad),
        (Err(_), false) => (b"--", Paint::Warn),
    };
    let (Ok(detail) | Err(detail)) = &check.outcome;
    let mut safe = Vec::new();
    text::name(detail.as_bytes(), &mut safe);
    let mut row = Row::new(out, terminal, 5);
    row.cell(2, paint, mark).cell(31, Paint::Plain, check.name.as_bytes());
    for word in safe.split(|&byte| byte == b' ') {
        row.cell(0, Paint::Plain, word);
    }
    row.end();
}

fn examine(checks: &mut Vec<Check>) {
    let (release, machine) = preflight::kernel_names();
    push(checks, "kernel", true, Ok(format!("{release} {machine}")));

    let capabilities = preflight::Capabilities::of_this_process();
    let permitted = capabilities.bpf && capabilities.perfmon;
    push(checks, "privileges", true, match (permitted, capabilities.sys_admin) {
        (true, true) => Ok("CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN".into()),
        (true, false) => Ok("CAP_BPF, CAP_PERFMON; without CAP_SYS_ADMIN only sockets of this network namespace are listed".into()),
        (false, _) => Err("no CAP_BPF and CAP_PERFMON: run as root (sudo tcptrail doctor)".into()),
    });

    let resolved = match preflight::resolve() {
        Ok(resolved) => {
            push(checks, "BTF", true, Ok(preflight::VMLINUX_BTF.into()));
            for missing in &resolved.missing {
                push(
                    checks,
                    &missing.field,
                    false,
                    Err(format!("not in this kernel: {}", missing.cost)),
                );
            }
            for (name, cost) in resolved.lacks() {
                push(checks, name, false, Err(format!("not in this kernel: {cost}")));
            }
            resolved
        }
        Err(error) => {
            push(checks, "BTF", true, Err(error.to_string()));
            return;
        }
    };
    if permitted {
        try_programs(checks, &resolved);
    }
    if resolved.layout.cgroup != 0 {
        push(checks, "cgroups", false, cgroup_names(&cgroups::mounts()));
    }
    let namespaces = netns::all().len();
    push(checks, "network namespaces", false, Ok(format!("{namespaces} found")));
}

/// Sockets have a cgroup of version 2, by its number; names come from where that is mounted.
fn cgroup_names(mounts: &Mounts) -> Result<String, String> {
    let Some(root) = &mounts.root else {
        return Err(
            "no cgroup version 2 hierarchy is mounted: cgroups and containers have no names, --cgroup does not work"
                .into(),
        );
    };
    let root = root.display();
    if mounts.version_1 {
        return Ok(format!(
            "version 2 at {root}; containers with cgroups of version 1 only are not named"
        ));
    }
    Ok(format!("version 2 at {root}"))
}

fn push(checks: &mut Vec<Check>, name: &str, required: bool, outcome: Result<String, String>) {
    checks.push(Check { name: name.to_owned(), outcome, required });
}

fn try_programs(checks: &mut Vec<Check>, resolved: &Resolved) {
    let btf = match loader::kernel_btf() {
        Ok(btf) => btf,
        Err(error) => return push(checks, "kernel BTF", true, Err(error.to_string())),
    };
    let options = Options {
        filter: Filter::default(),
        ring_bytes: 1 << 20,
        debug: false,
        half_closed: false,
        descriptors: true,
    };
    let mut circumstances = Circumstances {
        bpf_wants_capability: false,
        one_namespace: false,
        lists_descriptors: false,
    };
    match loader::load(resolved, &options, &btf) {
        Ok((programs, ring)) => {
            circumstances.bpf_wants_capability = programs.want_capability().unwrap_or(true);
            for hook in &programs.hooks {
                let outcome = match &hook.outcome {
                    Ok(()) => Ok("attached".to_owned()),
                    Err(reason) => Err(format!("{reason}: {}", hook.cost)),
                };
                push(checks, &format!("tp_btf/{}", hook.name), hook.required, outcome);
            }
            push(checks, "an event arrives", true, see_an_event(ring));
        }
        Err(error) => push(checks, "eBPF programs", true, Err(error.to_string())),
    }
    match stacks::load(resolved, &crate::filter::Filter::default(), true, &btf) {
        Ok((programs, _)) => {
            for hook in &programs.hooks {
                let outcome = match &hook.outcome {
                    Ok(()) => Ok("attached".to_owned()),
                    Err(reason) => Err(format!("{reason}: {}", hook.cost)),
                };
                push(checks, &format!("stacks: {}", hook.name), false, outcome);
            }
        }
        Err(error) => push(checks, "stacks", false, Err(format!("{error}: leaks does not work"))),
    }
    match Poller::start(
        resolved,
        &btf,
        poller::Options {
            filter: Filter::default(),
            circumstances,
            stay_in: None,
            descriptors: true,
            most_rows: 1_000_000,
            half_closed: true,
        },
    ) {
        Ok(mut poller) => try_iterators(checks, &mut poller),
        Err(error) => push(checks, "iterators", false, Err(error.to_string())),
    }
    for (name, needs) in [
        ("kept by tail, life, stuck, record", privileges::main_thread(false, circumstances)),
        ("kept by list", privileges::main_thread(true, circumstances)),
        ("kept by leaks, to name stacks", privileges::names(true)),
        ("kept by walks", privileges::poller(circumstances)),
        (
            "kept by walks with --netns",
            privileges::poller(Circumstances { one_namespace: true, ..circumstances }),
        ),
    ] {
        push(checks, name, false, give_up(&needs));
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

/// Connects to itself on loopback and waits for its own transition.
fn see_an_event(mut ring: Reader) -> Result<String, String> {
    let fail = |error: std::io::Error| format!("no connection on loopback to try with: {error}");
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(fail)?;
    let addr = listener.local_addr().map_err(fail)?;
    let began = Instant::now();
    let _client = TcpStream::connect(addr).map_err(fail)?;
    while began.elapsed() < Duration::from_secs(1) {
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
    Err("a connection made on loopback was not seen within a second".to_owned())
}

fn try_iterators(checks: &mut Vec<Check>, poller: &mut Poller) {
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
                Some(Answer::Facts { .. }) => Err("it answered something else".to_owned()),
                Some(Answer::Failed(_, error)) => Err(error.to_string()),
                None => Err("its thread ended".to_owned()),
            }
        });
        push(checks, name, false, outcome.map_err(|reason| format!("{reason}: {cost}")));
    }
}
