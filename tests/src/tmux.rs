//! A terminal of tmux: what runs in it is typed to, and its screen is read.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::pace::patience;

/// How long a screen is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal, with a shell in it; gone when dropped.
pub struct Terminal {
    /// A server of its own, so that no other test's is met.
    socket: String,
}

impl Terminal {
    /// So many columns and lines, with a shell that has these variables.
    ///
    /// # Errors
    /// When tmux cannot be started.
    pub fn start(columns: u16, lines: u16, variables: &[(&str, &str)]) -> Result<Terminal> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let terminal = Terminal { socket: format!("tcptrail-{}-{number}", std::process::id()) };
        let size = [columns.to_string(), lines.to_string()];
        let mut shell = "exec env -u NO_COLOR TERM=xterm-256color PS1='$ '".to_owned();
        for (name, value) in variables {
            shell.push_str(&format!(" {name}={value}"));
        }
        shell.push_str(" sh");
        let args =
            ["-f", "/dev/null", "new-session", "-d", "-s", "t", "-x", &size[0], "-y", &size[1]];
        terminal.tmux(&[&args[..], &[&shell]].concat())?;
        Ok(terminal)
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        let output = Command::new("tmux").arg("-L").arg(&self.socket).args(args).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {args:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Types a text as it is.
    ///
    /// # Errors
    /// When tmux does not take it.
    pub fn type_in(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-t", "t", "-l", text]).map(drop)
    }

    /// Presses a key by tmux's name of it: `Enter`, `Escape`, `C-c`.
    ///
    /// # Errors
    /// When tmux does not know it.
    pub fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", "-t", "t", key]).map(drop)
    }

    /// Types a command and Enter.
    ///
    /// # Errors
    /// As [`Terminal::type_in`].
    pub fn run(&self, command: &str) -> Result<()> {
        self.type_in(command)?;
        self.press("Enter")
    }

    /// The screen as it is now.
    ///
    /// # Errors
    /// When tmux has gone.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-t", "t"])
    }

    /// One of tmux's variables.
    ///
    /// # Errors
    /// When tmux has gone.
    pub fn variable(&self, name: &str) -> Result<String> {
        let format = format!("#{{{name}}}");
        Ok(self.tmux(&["display-message", "-p", "-t", "t", &format])?.trim().to_owned())
    }

    /// The process that the terminal runs: its shell.
    ///
    /// # Errors
    /// When tmux has gone.
    pub fn shell(&self) -> Result<u32> {
        self.variable("pane_pid")?.parse().context("a pid")
    }

    /// Another size.
    ///
    /// # Errors
    /// When tmux has gone.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let size = [columns.to_string(), lines.to_string()];
        self.tmux(&["resize-window", "-t", "t", "-x", &size[0], "-y", &size[1]]).map(drop)
    }

    /// Waits until the screen is as `wanted`; returns it.
    ///
    /// # Errors
    /// When it does not become so in time, with the last screen.
    pub fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + patience(PATIENCE);
        loop {
            let screen = self.screen()?;
            if wanted(&screen) {
                return Ok(screen);
            }
            if Instant::now() >= deadline {
                bail!("no {what} on the screen:\n{screen}");
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a text is on the screen.
    ///
    /// # Errors
    /// As [`Terminal::wait`].
    pub fn wait_for(&self, text: &str) -> Result<String> {
        self.wait(text, |screen| screen.contains(text))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}
