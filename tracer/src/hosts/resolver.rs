//! Reverse DNS, by the system's resolver (getnameinfo(3)), on threads of its own: an answer may take many seconds.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::{io, thread};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::asked::Asked;
use crate::names::{self, Entry, HostSource, bytes_of};
use crate::privileges;
use crate::time::MonoNs;

/// One that waits for a dead server does not keep the others from asking.
const THREADS: usize = 4;
/// Questions that wait: the others are asked later.
const WAITING: usize = 64;
/// RFC 1035, 2.3.4.
const LONGEST: usize = 253;

/// Asks for names of addresses. Dropping it lets the threads end once they have an answer.
#[derive(Debug)]
pub struct Resolver {
    requests: mpsc::SyncSender<IpAddr>,
    answers: UnboundedReceiver<(IpAddr, Option<String>)>,
    asked: Asked,
    under_way: usize,
}

impl Resolver {
    /// Starts the threads, which keep no privileges.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start() -> io::Result<Resolver> {
        let (requests, incoming) = mpsc::sync_channel(WAITING);
        let (outgoing, answers) = unbounded_channel();
        let incoming = Arc::new(Mutex::new(incoming));
        for _ in 0..THREADS {
            let (incoming, outgoing) = (Arc::clone(&incoming), outgoing.clone());
            thread::Builder::new().name("tcptrail-dns".to_owned()).spawn(move || {
                privileges::keep_only(privileges::resolver());
                run(&incoming, &outgoing);
            })?;
        }
        Ok(Resolver { requests, answers, asked: Asked::default(), under_way: 0 })
    }

    /// Asks for an address, unless its name is known, or too many are on their way. Never waits.
    pub fn want(&mut self, addr: IpAddr, now: MonoNs) {
        let bytes = bytes_of(addr);
        if self.under_way < WAITING && self.asked.take(bytes, now) {
            match self.requests.try_send(addr) {
                Ok(()) => self.under_way += 1,
                Err(_) => self.asked.put_back(&bytes),
            }
        }
    }

    /// Whether answers are to come.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.under_way > 0
    }

    /// Waits for an answer; then takes all there are, as [`Input::Names`](crate::input::Input::Names) has them.
    pub async fn answer(&mut self) -> Option<Vec<u8>> {
        let mut next = self.answers.recv().await;
        let now = MonoNs::now();
        let mut bytes = Vec::new();
        while let Some((addr, name)) = next {
            self.under_way = self.under_way.saturating_sub(1);
            self.asked.answered(bytes_of(addr), name.is_some(), now);
            // Without one it has none any more.
            let name = name.as_deref().unwrap_or_default().as_bytes();
            names::encode(Entry::Host(bytes_of(addr), HostSource::Dns), name, &mut bytes);
            next = self.answers.try_recv().ok();
        }
        for addr in self.asked.forget_old(now) {
            names::encode(Entry::Host(addr, HostSource::Dns), b"", &mut bytes);
        }
        Some(bytes)
    }

    /// Addresses that were not asked for, because there were too many.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.asked.refused
    }
}

fn run(
    requests: &Mutex<mpsc::Receiver<IpAddr>>,
    answers: &UnboundedSender<(IpAddr, Option<String>)>,
) {
    loop {
        let next = match requests.lock() {
            Ok(requests) => requests.recv(),
            Err(_) => return,
        };
        let Ok(addr) = next else { return };
        if answers.send((addr, name_of(addr))).is_err() {
            return;
        }
    }
}

/// Whoever has the address chooses its name: one that is too long, or looks like an address, is none.
fn name_of(addr: IpAddr) -> Option<String> {
    let name = dns_lookup::lookup_addr(&addr).ok()?;
    let name = name.strip_suffix('.').unwrap_or(&name);
    let fits = !name.is_empty() && name.len() <= LONGEST && name.parse::<IpAddr>().is_err();
    fits.then(|| name.to_owned())
}
