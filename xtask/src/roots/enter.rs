//! Running commands in a root.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command::target;

const ENTER: &str = include_str!("enter.sh");
const TRAFFIC: &str = include_str!("traffic.py");

/// What a command said.
pub(super) struct Said {
    /// Its stdout.
    pub(super) text: String,
    pub(super) errors: String,
    pub(super) code: Option<i32>,
    /// When its first line was there.
    pub(super) first_line: Option<Duration>,
    /// Connections that there were meanwhile.
    pub(super) made: u64,
}

impl Said {
    /// Both, for a sentence about what went wrong.
    pub(super) fn all(&self) -> String {
        format!("exit code {:?}\n{}\n{}", self.code, self.text.trim_end(), self.errors.trim_end())
    }
}

/// Runs a command in a root, with traffic or without.
pub(super) fn run(root: &Path, traffic: bool, command: &[&str]) -> Result<Said> {
    let began = Instant::now();
    let dir = target().join("roots");
    let (enter, program) = (dir.join("enter.sh"), dir.join("traffic.py"));
    fs::write(&enter, ENTER)?;
    fs::write(&program, TRAFFIC)?;
    let said_by: PathBuf = dir.join("traffic.py.said");
    let _ = fs::remove_file(&said_by);
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "--net", "--propagation", "private", "--", "sh"])
        .arg(&enter)
        .arg(root)
        .args(command)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if traffic {
        unshare.env("TRAFFIC", &program);
    }
    let mut child = unshare.spawn().context("could not start unshare")?;
    let mut stderr = child.stderr.take().context("its stderr")?;
    let errors = std::thread::spawn(move || {
        let mut errors = String::new();
        let _ = stderr.read_to_string(&mut errors);
        errors
    });
    let (mut text, mut first_line) = (String::new(), None);
    let mut stdout = BufReader::new(child.stdout.take().context("its stdout")?);
    loop {
        let mut line = Vec::new();
        if stdout.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        first_line.get_or_insert_with(|| began.elapsed());
        text.push_str(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().context("could not wait for it")?;
    let errors = errors.join().unwrap_or_default();
    let made = fs::read_to_string(&said_by).unwrap_or_default().trim().parse().unwrap_or(0);
    Ok(Said { text, errors, code: status.code(), first_line, made })
}
