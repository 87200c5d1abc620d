//! What the live tests are made of: namespaces of their own, traffic, witnesses, and tcptrail.
//!
//! A test compares what tcptrail says with what the test itself did, with `ss`, or with the kernel's
//! own counters, never with tcptrail's output. Every test has network namespaces of its own and
//! looks only at those, so tests may run side by side.

pub mod browser;
pub mod disk;
pub mod hand;
pub mod held;
pub mod holder;
pub mod java;
pub mod jdks;
pub mod monitoring;
pub mod netns;
pub mod pace;
pub mod reported;
pub mod rotel;
pub mod servers;
pub mod tcptrail;
pub mod tmux;
pub mod trace;
pub mod traffic;
pub mod watch;
pub mod web;
pub mod witness;

use std::env;
use std::path::Path;

/// Whether a live test can run here: as root, with these programs on PATH. Says why not.
#[must_use]
pub fn ready(tools: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return false;
    }
    for tool in ["ip"].iter().chain(tools) {
        if !on_path(tool) {
            println!("skipped: needs {tool}");
            return false;
        }
    }
    true
}

fn on_path(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|dir: std::path::PathBuf| is_file(&dir.join(tool)))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file())
}

/// Major and minor number of the running kernel.
#[must_use]
pub fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
