//! Ends sockets by SOCK_DESTROY, on a thread of its own: entering a namespace changes the thread, and it
//! keeps privileges that others give up.
//!
//! What the kernel does is `tcp_abort`: a full socket goes to CLOSE with ECONNABORTED for the process that
//! has it, and a RST for the peer in ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2 and CLOSE_WAIT
//! (`tcp_need_reset`); a listener also resets what waits to be accepted; a request socket is dropped and a
//! mini-socket let go, without a word to the peer. No process is touched: descriptors stay open.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use foldhash::fast::FixedState;
use rustix::io::Errno;
use rustix::net::sockopt::socket_cookie;
use tracer_common::TcpState;

use super::netns::{self, Way};
use super::netns_socket::Lead;
use super::places::OWN;
use super::preflight;
use super::sock_diag::{Address, Found, SockDiag};
use crate::destroy::{Destroyer, Outcome, Outcomes, Reason, Target};
use crate::event::{Family, SockId};
use crate::privileges;

/// Remote ports that are tried to reach one of several listeners that share a port: which of them a lookup
/// finds turns on it (`inet_lookup_reuseport`).
const GUESSES: u16 = 1024;

/// Starts the thread, once it is known that sockets can be ended here. To be called before privileges are given
/// up.
///
/// # Errors
/// Why no socket can be ended here.
pub fn start() -> Result<Destroyer, Reason> {
    probe()?;
    let (requests, incoming) = channel();
    let (outgoing, answers) = channel();
    let worker = move || {
        privileges::keep_only(&privileges::destroyer());
        run(&incoming, &outgoing);
    };
    let started = thread::Builder::new().name("tcptrail-end".to_owned()).spawn(worker);
    started.map_err(|error| Reason::Refused(format!("its thread cannot be started: {error}")))?;
    Ok(Destroyer::new(requests, answers))
}

fn run(requests: &Receiver<Vec<Target>>, answers: &Sender<Outcomes>) {
    while let Ok(targets) = requests.recv() {
        if answers.send(end(targets)).is_err() {
            return;
        }
    }
}

/// Tries it on a connection of our own over loopback. A process that lacks the privilege, or a kernel that
/// cannot, is told by it before anything is chosen.
///
/// # Errors
/// Why no socket can be ended here.
pub fn probe() -> Result<(), Reason> {
    if preflight::resolve().is_ok_and(|kernel| !kernel.cookie_helper) {
        return Err(Reason::NoCookies);
    }
    let cannot = |error: io::Error| Reason::Refused(format!("nothing to try it with: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(cannot)?;
    let client = TcpStream::connect(listener.local_addr().map_err(cannot)?).map_err(cannot)?;
    let target = Target {
        id: SockId(socket_cookie(&client).map_err(|error| cannot(error.into()))?),
        netns: netns::inode(OWN.as_ref()).map_err(cannot)?,
        family: Family::V4,
        local: client.local_addr().map_err(cannot)?,
        remote: client.peer_addr().map_err(cannot)?,
        interface: 0,
        state: TcpState::Established,
        holder: None,
    };
    match SockDiag::open().map(|mut diag| end_one(&mut diag, &target)) {
        Err(error) => Err(reason(error, target.state)),
        Ok(Outcome::Ended) => Ok(()),
        Ok(Outcome::Remains(reason)) => Err(reason),
        // The lookup found none: a kernel without the handler for TCP says the same.
        Ok(Outcome::Gone) => Err(Reason::NoDiagnosis),
        Ok(Outcome::Changed(_)) => Err(Reason::Survived),
    }
}

/// Ends each, namespace by namespace.
fn end(targets: Vec<Target>) -> Outcomes {
    let mut by_netns: BTreeMap<u32, Vec<Target>> = BTreeMap::new();
    for target in targets {
        by_netns.entry(target.netns).or_default().push(target);
    }
    let known = netns::all();
    let mut outcomes = Vec::new();
    for (inode, targets) in by_netns {
        match enter(inode, &known, &targets).and_then(|()| Ok(SockDiag::open()?)) {
            Ok(mut diag) => end_here(&mut diag, targets, &mut outcomes),
            Err(error) => {
                let why = Reason::NoWayIn(error.to_string());
                let failed = targets.into_iter();
                outcomes.extend(failed.map(|target| (target, Outcome::Remains(why.clone()))));
            }
        }
    }
    outcomes
}

/// Enters a namespace: by a path to it, else by a socket of it that a process has.
fn enter(inode: u32, known: &BTreeMap<u32, PathBuf>, targets: &[Target]) -> io::Result<()> {
    let here = || netns::inode(OWN.as_ref()).is_ok_and(|here| here == inode);
    if here() {
        return Ok(());
    }
    let path = known.get(&inode).map(|path| Way::Path(path.clone()));
    let held = targets.iter().filter_map(|target| target.holder);
    let leads = held.map(|(pid, fd)| Way::Socket(Lead::new(pid, fd)));
    let mut last = io::Error::other("no process is in it, and it has no name");
    for way in path.into_iter().chain(leads) {
        match way.enter() {
            Ok(()) if here() => return Ok(()),
            // The file or descriptor leads somewhere else by now.
            Ok(()) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn end_here(diag: &mut SockDiag, targets: Vec<Target>, outcomes: &mut Outcomes) {
    let first = outcomes.len();
    outcomes.extend(targets.into_iter().map(|target| {
        let outcome = end_one(diag, &target);
        (target, outcome)
    }));
    // A lookup finds one socket of those with the same ends: the last word has a look at all there are.
    let there = diag.cookies();
    settle(outcomes.get_mut(first..).unwrap_or_default(), &there);
}

/// Sets right what lookups said by the cookies of all sockets that are there.
fn settle(outcomes: &mut [(Target, Outcome)], there: &Result<HashSet<u64, FixedState>, Errno>) {
    for (target, outcome) in outcomes.iter_mut().filter(|(_, outcome)| outcome.is_gone()) {
        let reason = match there {
            Ok(there) if !there.contains(&target.id.0) => continue,
            Ok(_) if *outcome == Outcome::Ended => Reason::Survived,
            Ok(_) => Reason::Hidden,
            Err(error) => {
                let error = io::Error::from(*error);
                Reason::Refused(format!("sockets cannot be listed: {error}"))
            }
        };
        *outcome = Outcome::Remains(reason);
    }
}

/// Looks for it, ends it if it is what was chosen, and looks again.
fn end_one(diag: &mut SockDiag, target: &Target) -> Outcome {
    let failed = |error: Errno| Outcome::Remains(reason(error, target.state));
    let (address, found) = match locate(diag, target) {
        Ok(located) => located,
        Err(error) => return failed(error),
    };
    match found {
        Found::Nothing => return Outcome::Gone,
        Found::State(Some(state)) if state != target.state => return Outcome::Changed(state),
        Found::State(_) => {}
    }
    let said = diag.destroy(&address);
    match diag.find(&address) {
        Ok(Found::Nothing) if said.is_ok() => Outcome::Ended,
        Ok(Found::Nothing) => Outcome::Gone,
        Ok(Found::State(_)) => Outcome::Remains(match said {
            Ok(()) => Reason::Survived,
            Err(error) => reason(error, target.state),
        }),
        Err(error) => failed(error),
    }
}

/// The address by which a lookup finds it, and what is found there.
fn locate(diag: &mut SockDiag, target: &Target) -> Result<(Address, Found), Errno> {
    let mut address = Address {
        local: target.local,
        remote: target.remote,
        interface: target.interface,
        cookie: target.id.0,
    };
    let mut found = diag.find(&address)?;
    if found == Found::Nothing && target.state == TcpState::Listen {
        for port in 1..=GUESSES {
            address.remote.set_port(port);
            found = diag.find(&address)?;
            if found != Found::Nothing {
                break;
            }
        }
    }
    Ok((address, found))
}

fn reason(error: Errno, state: TcpState) -> Reason {
    match error {
        Errno::PERM | Errno::ACCESS => Reason::NotPermitted,
        Errno::OPNOTSUPP if matches!(state, TcpState::TimeWait | TcpState::FinWait2) => {
            Reason::NoMiniSockets
        }
        Errno::OPNOTSUPP => Reason::NotInThisKernel,
        Errno::NOENT => Reason::NoDiagnosis,
        other => Reason::Refused(io::Error::from(other).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_look_at_all_sockets_has_the_last_word() {
        let target = |id| Target {
            id: SockId(id),
            netns: 1,
            family: Family::V4,
            local: "127.0.0.1:1".parse().expect("an address"),
            remote: "127.0.0.1:2".parse().expect("an address"),
            interface: 0,
            state: TcpState::Established,
            holder: None,
        };
        let look = Ok(HashSet::from_iter([2]));
        let check = |there: &Result<_, Errno>, id, said: Outcome, expect: Outcome| {
            let mut outcomes = [(target(id), said)];
            settle(&mut outcomes, there);
            assert_eq!(outcomes[0].1, expect, "{id}");
        };
        check(&look, 1, Outcome::Ended, Outcome::Ended);
        check(&look, 1, Outcome::Gone, Outcome::Gone);
        check(&look, 2, Outcome::Ended, Outcome::Remains(Reason::Survived));
        check(&look, 2, Outcome::Gone, Outcome::Remains(Reason::Hidden));
        let refused = Outcome::Remains(Reason::NotPermitted);
        let changed = Outcome::Changed(TcpState::LastAck);
        for outcome in [refused, changed] {
            check(&look, 2, outcome.clone(), outcome);
        }
        // Nobody looked: then nothing is known.
        let blind = Reason::Refused(
            "sockets cannot be listed: No buffer space available (os error 105)".into(),
        );
        check(&Err(Errno::NOBUFS), 1, Outcome::Gone, Outcome::Remains(blind));
    }

    #[test]
    fn reasons_are_the_kernels() {
        let check = |error, state, expect| assert_eq!(reason(error, state), expect);
        check(Errno::PERM, TcpState::CloseWait, Reason::NotPermitted);
        check(Errno::OPNOTSUPP, TcpState::CloseWait, Reason::NotInThisKernel);
        check(Errno::OPNOTSUPP, TcpState::TimeWait, Reason::NoMiniSockets);
    }

    /// Ends a connection of this test's own; where that is refused, the socket must live on.
    #[test]
    fn a_socket_is_ended_or_left_as_it_was() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("its own")).expect("loopback");
        let target = Target {
            id: SockId(socket_cookie(&client).expect("a cookie")),
            netns: netns::inode(OWN.as_ref()).expect("a namespace"),
            family: Family::V4,
            local: client.local_addr().expect("its own"),
            remote: client.peer_addr().expect("connected"),
            interface: 0,
            state: TcpState::CloseWait,
            holder: None,
        };
        let Ok(mut diag) = SockDiag::open() else { return println!("skipped: no netlink here") };
        // It is in another state than it was chosen in.
        match end_one(&mut diag, &target) {
            Outcome::Changed(TcpState::Established) => {}
            other => return println!("skipped: no tcp_diag here: {other:?}"),
        }
        let target = Target { state: TcpState::Established, ..target };
        match end_one(&mut diag, &target) {
            Outcome::Ended => {
                let error = client.read(&mut [0]).expect_err("it was aborted");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
                assert_eq!(end_one(&mut diag, &target), Outcome::Gone);
                assert_eq!(probe(), Ok(()));
            }
            Outcome::Remains(Reason::NotPermitted | Reason::NotInThisKernel) => {
                assert!(client.peer_addr().is_ok(), "it was not to be ended");
            }
            other => panic!("{other:?}"),
        }
    }
}
