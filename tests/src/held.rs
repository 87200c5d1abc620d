//! Very many open sockets, more than one process may have.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::netns::Netns;

/// Sockets that other processes hold open; let go when dropped.
#[derive(Debug)]
pub struct Held(Child);

impl Held {
    /// Opens so many in a namespace, both ends counted, by `load hold`.
    ///
    /// # Errors
    /// When `load` cannot be started, or cannot open that many.
    pub fn open(load: &Path, netns: &Netns, sockets: u64) -> Result<Held> {
        let mut command = Command::new(load);
        command.args(["hold", &sockets.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = netns.spawn(&mut command)?;
        let stdout = child.stdout.take().context("a pipe")?;
        let held = Held(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.contains("sockets"), "the sockets could not be opened");
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
