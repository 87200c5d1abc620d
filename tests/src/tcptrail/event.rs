//! A line of `--json`.

use std::net::SocketAddr;

use serde_json::Value;

use crate::witness::has_cookies;

/// One line of `--json`.
#[derive(Clone, Debug)]
pub struct Event(pub Value);

impl Event {
    /// `event`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("event")
    }

    /// A string; empty for null or nothing.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// A number; none for null or nothing.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.0[key].as_u64()
    }

    /// A truth value; none for null or nothing.
    #[must_use]
    pub fn truth(&self, key: &str) -> Option<bool> {
        self.0[key].as_bool()
    }

    /// What tells its socket from others in one namespace: see
    /// [`Socket::key`](crate::witness::Socket::key).
    #[must_use]
    pub fn key(&self) -> String {
        if has_cookies() {
            return self.text("conn").to_owned();
        }
        format!("{}>{}", self.text("local"), self.text("remote"))
    }

    /// Whether `conn` is this cookie, as far as tcptrail is given cookies here.
    #[must_use]
    pub fn has_cookie(&self, cookie: u64) -> bool {
        let conn = self.text("conn");
        if has_cookies() { conn == cookie.to_string() } else { !conn.is_empty() }
    }

    /// `CLOSE>SYN_SENT`.
    #[must_use]
    pub fn step(&self) -> String {
        format!("{}>{}", self.text("old"), self.text("new"))
    }

    /// Whether it is this transition.
    #[must_use]
    pub fn is_step(&self, step: &str) -> bool {
        self.kind() == "transition" && self.step() == step
    }

    /// Whether `local` is this address.
    #[must_use]
    pub fn is_at(&self, local: SocketAddr) -> bool {
        self.text("local") == shown(local)
    }
}

/// An address as the JSON contract shows it: v4-mapped as IPv4.
#[must_use]
pub fn shown(addr: SocketAddr) -> String {
    SocketAddr::new(addr.ip().to_canonical(), addr.port()).to_string()
}
