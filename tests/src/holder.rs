//! A process that holds connections which its peers have closed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::netns::Netns;

/// A server in a process of its own that accepts and never closes; it answers `?` on stdin with what it holds.
pub struct Holder {
    child: Child,
    stdin: ChildStdin,
    answers: BufReader<std::process::ChildStdout>,
}

const HOLDER: &str = "
import resource, socket, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
listener = socket.socket()
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen(2048)
held = []
def accept():
    while True:
        held.append(listener.accept()[0])
threading.Thread(target=accept, daemon=True).start()
print('ready', flush=True)
for line in sys.stdin:
    print(len(held), flush=True)
";

impl Holder {
    /// Starts it in a namespace; it listens when this returns.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(netns: &Netns, addr: SocketAddr) -> Result<Holder> {
        let mut python = Command::new("python3");
        python.args(["-c", HOLDER, &addr.ip().to_string(), &addr.port().to_string()]);
        let mut child = netns.spawn(python.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let stdin = child.stdin.take().context("a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut holder = Holder { child, stdin, answers };
        ensure!(holder.line()? == "ready", "it does not listen");
        Ok(holder)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// How many connections it holds; that it answers shows that it lives.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn held(&mut self) -> Result<usize> {
        self.stdin.write_all(b"?\n")?;
        Ok(self.line()?.parse()?)
    }

    /// Its descriptors, as the kernel has them.
    ///
    /// # Errors
    /// When it has gone.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
