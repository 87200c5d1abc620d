//! Tells systemd that the service is ready, alive, or about to end (`sd_notify(3)`): a datagram each.

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::time::MonoNs;

/// Whoever started us and wants to know; nobody, when it is no service of systemd's.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that we are alive: half of what it waits.
    every_ns: Option<u64>,
    next: MonoNs,
}

impl Notifier {
    /// As the environment says.
    pub(super) fn of_environment() -> Notifier {
        let var = |name: &str| env::var(name).ok();
        Notifier::new(var("NOTIFY_SOCKET"), var("WATCHDOG_USEC"), var("WATCHDOG_PID"))
    }

    fn new(socket: Option<String>, usec: Option<String>, pid: Option<String>) -> Notifier {
        let ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let usec: Option<u64> = usec.filter(|_| ours).and_then(|usec| usec.parse().ok());
        Notifier {
            socket: socket.and_then(|name| connect(&name)),
            every_ns: usec.map(|usec| usec.saturating_mul(500)),
            next: MonoNs(0),
        }
    }

    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Events are taken in.
    pub(super) fn alive(&mut self, now: MonoNs) {
        if let Some(every_ns) = self.every_ns.filter(|_| now >= self.next) {
            self.next = now.after(every_ns);
            self.send("WATCHDOG=1");
        }
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            // Whoever does not read misses it; nobody waits for them.
            let _ = socket.send(message.as_bytes());
        }
    }
}

/// A path, or a name that begins with @ in the abstract namespace.
fn connect(name: &str) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    let address = match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name).ok()?,
        None => SocketAddr::from_pathname(name).ok()?,
    };
    socket.connect_addr(&address).ok()?;
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).expect("a socket");
        let mut all = Vec::new();
        let mut buffer = [0; 200];
        while let Ok(length) = socket.recv(&mut buffer) {
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all
    }

    #[test]
    fn systemd_hears_what_happens() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).expect("room");
        let path = path.to_str().expect("UTF-8").to_owned();
        let mut notifier = Notifier::new(Some(path), Some("10000000".into()), None);
        notifier.ready("fine");
        for second in 1..=11 {
            notifier.alive(MonoNs(second * 1_000_000_000));
        }
        notifier.stopping();
        let expect =
            ["READY=1\nSTATUS=fine", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"];
        assert_eq!(heard(&systemd), expect);
    }

    #[test]
    fn abstract_names_are_found_and_nobody_is_no_fault() {
        let name = format!("tcptrail-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let systemd = UnixDatagram::bind_addr(&address).expect("a name of our own");
        let other = Some("1".to_owned());
        let mut notifier = Notifier::new(Some(format!("@{name}")), Some("1000".into()), other);
        notifier.alive(MonoNs(1));
        notifier.stopping();
        // The watchdog is another process's.
        assert_eq!(heard(&systemd), ["STOPPING=1"]);
        Notifier::new(None, None, None).ready("x");
        Notifier::new(Some("/nowhere/x".into()), None, None).ready("x");
    }
}
