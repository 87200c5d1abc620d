//! The JDKs that Java tests run with: the one on PATH, and those that `cargo xtask setup --tests` puts below
//! `target/jdks`, by the first number of their release.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Releases that set-up looks for beside the machine's own.
pub const RELEASES: [u32; 3] = [11, 21, 25];

/// A JDK.
#[derive(Clone, Debug)]
pub struct Jdk {
    /// First number of its release.
    pub release: u32,
    bin: PathBuf,
}

impl Jdk {
    /// A tool of it.
    #[must_use]
    pub fn tool(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// Those that are here; says which are not.
#[must_use]
pub fn all() -> Vec<Jdk> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/jdks"));
    let mut all: Vec<Jdk> = own().into_iter().collect();
    for release in RELEASES {
        let bin = root.join(release.to_string()).join("bin");
        if all.iter().any(|jdk| jdk.release == release) {
            continue;
        }
        if bin.join("java").is_file() {
            all.push(Jdk { release, bin });
        } else {
            println!("skipped: JDK {release} is not below target/jdks (cargo xtask setup --tests)");
        }
    }
    all.sort_by_key(|jdk| jdk.release);
    all
}

/// The machine's own.
fn own() -> Option<Jdk> {
    let java = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join("java"))
        .find(|java| java.is_file())?
        .canonicalize()
        .ok()?;
    let output = Command::new(&java).arg("-version").output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let release = said.split('"').nth(1)?.split('.').next()?.parse().ok()?;
    Some(Jdk { release, bin: java.parent()?.to_owned() })
}

/// What a JVM says of one of its threads by its own tool: class, method and line of each frame, innermost
/// first; of native methods no line. Without what the JVM generated for lambdas, which only some releases show.
///
/// # Errors
/// When it does not answer, or has no such thread.
pub fn dumped(jdk: &Jdk, pid: u32, thread: &str) -> Result<Vec<String>> {
    let output =
        Command::new(jdk.tool("jcmd")).args([&pid.to_string(), "Thread.print"]).output()?;
    let dump = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = dump.lines();
    lines
        .find(|line| line.starts_with(&format!("\"{thread}\"")))
        .with_context(|| format!("no thread {thread} in {dump}"))?;
    Ok(lines.take_while(|line| !line.is_empty()).filter_map(frame).collect())
}

/// `at java.net.Socket.connect(java.base@17.0.15/Socket.java:633)`.
fn frame(line: &str) -> Option<String> {
    let (name, place) = line.trim().strip_prefix("at ")?.strip_suffix(')')?.split_once('(')?;
    if is_generated(name) {
        return None;
    }
    Some(match place.rsplit_once(':').and_then(|(_, line)| line.parse::<u32>().ok()) {
        Some(line) => format!("{name}:{line}"),
        None => name.to_owned(),
    })
}

/// Whether a method is of a class that the JVM generated for a lambda.
#[must_use]
pub fn is_generated(name: &str) -> bool {
    name.contains("$$Lambda") || name.contains("LambdaForm")
}
