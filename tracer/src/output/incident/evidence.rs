//! What the page tells that no recording holds: who watched what, stacks, thread dumps, class histograms.
//!
//! It is kept in a bundle as JSON and text, so that a replay reads it back.

use serde::{Deserialize, Serialize};

use super::bundle::{Bundle, BundleError};
use crate::java::histogram::{self, Class};
use crate::java::threads::{self, Thread};

/// The file of [`About`].
pub const ABOUT: &str = "about.json";
/// The recording.
pub const RECORDING: &str = "recording.tcpt";
/// The page.
pub const PAGE: &str = "incident.txt";
/// Who opened what, an object a line, as `leaks --json` prints them.
pub const LEAKS: &str = "leaks.ndjson";
/// Findings, an object a line, as `stuck --json` prints them.
pub const FINDINGS: &str = "findings.ndjson";
/// Sockets, an object a line, as `list --json` prints them.
pub const SOCKETS: &str = "sockets.ndjson";
/// Stacks of openers, as flame graph tools read them.
pub const FOLDED: &str = "stacks.folded";
/// What works on the machine, as `doctor` prints it.
pub const DOCTOR: &str = "doctor.txt";

/// The run that made a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Of these JSON files: 1.
    pub schema: u32,
    /// Of tcptrail.
    pub version: String,
    /// The machine's name.
    pub host: String,
    /// The kernel's release.
    pub kernel: String,
    /// The filters, in the words of the command line; empty for everything.
    pub filters: Vec<String>,
    /// The day it ended, where it ran: `2026-11-27`.
    pub date: String,
    /// Seconds that its clocks were ahead of UTC.
    pub utc_offset_s: i32,
    /// The filters as arguments for a replay, which cannot look up names of this machine.
    pub filter_args: Vec<String>,
    /// Thresholds that were given, in the words of the command line.
    pub thresholds: Vec<String>,
    /// For how long it watched, nanoseconds.
    pub watched_ns: u64,
    /// Stacks that were lost or not taken; their sockets have no opener.
    pub stacks_lost: u64,
    /// JVMs that were asked, in the order of their ids.
    pub jvms: Vec<Jvm>,
    /// What could not be looked at, in sentences.
    pub not_seen: Vec<String>,
}

/// What a JVM answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jvm {
    /// Its process.
    pub pid: u32,
    /// The name of its process.
    pub comm: String,
    /// Files with its thread dumps, in the order they were taken.
    pub dumps: Vec<String>,
    /// The file with its class histogram.
    pub classes: Option<String>,
    /// Why it did not answer.
    pub refused: Option<String>,
}

/// A line of `leaks --json`, as far as the page needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Leak {
    /// Sockets.
    pub count: u64,
    /// `connect`, `accept`, `last_read`; `None` where nobody was seen to open them.
    pub side: Option<String>,
    /// The process.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Option<String>,
    /// The thread's name, 15 bytes.
    pub thread: Option<String>,
    /// The thread's id as thread dumps have it.
    pub nid: Option<u32>,
    /// The innermost frame of the application.
    pub opener: Option<String>,
    /// Who used them last, where that is somebody else.
    pub user: Option<String>,
    /// Who handled the requests on them.
    pub handler: Option<String>,
    /// The remote end they share.
    pub remote: Option<String>,
    /// The local port they share.
    pub local_port: Option<u16>,
    /// Opened with the same stacks since the start.
    pub opened: Option<u64>,
}

/// What a JVM told, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// As in [`About`].
    pub jvm: Jvm,
    /// The threads of each dump.
    pub dumps: Vec<Vec<Thread>>,
    /// Sockets and connections on its heap.
    pub classes: Vec<Class>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The run.
    pub about: About,
    /// Who opened what.
    pub leaks: Vec<Leak>,
    /// What JVMs told.
    pub jvms: Vec<Told>,
}

impl Evidence {
    /// Reads it from a bundle.
    ///
    /// # Errors
    /// When what is needed is missing or makes no sense.
    pub fn of(bundle: &Bundle) -> Result<Evidence, BundleError> {
        let about: About = serde_json::from_slice(bundle.need(ABOUT)?)
            .map_err(|error| BundleError::NotOne(format!("{ABOUT}: {error}")))?;
        let lines = bundle.get(LEAKS).unwrap_or_default().split(|&byte| byte == b'\n');
        let leaks = lines
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice::<serde_json::Value>)
            .filter(|value| value.as_ref().is_ok_and(|value| value["event"] == "leak"))
            .map(|value| serde_json::from_value(value?))
            .collect::<Result<Vec<Leak>, _>>()
            .map_err(|error| BundleError::NotOne(format!("{LEAKS}: {error}")))?;
        let text = |name: &String| String::from_utf8_lossy(bundle.get(name).unwrap_or_default());
        let jvms = about.jvms.iter().map(|jvm| Told {
            dumps: jvm.dumps.iter().map(|name| threads::parse(&text(name))).collect(),
            classes: jvm.classes.iter().flat_map(|name| histogram::parse(&text(name))).collect(),
            jvm: jvm.clone(),
        });
        Ok(Evidence { jvms: jvms.collect(), leaks, about })
    }

    /// Where a thread of a process is now: of the last dump that has it.
    #[must_use]
    pub fn thread(&self, pid: u32, nid: u32) -> Option<&Thread> {
        let told = self.jvms.iter().find(|told| told.jvm.pid == pid)?;
        told.dumps.iter().rev().find_map(|dump| dump.iter().find(|one| one.nid == Some(nid)))
    }

    /// Whether a thread was in the same place in all dumps.
    #[must_use]
    pub fn stays(&self, pid: u32, nid: u32) -> bool {
        let Some(told) = self.jvms.iter().find(|told| told.jvm.pid == pid) else { return false };
        let mut places = told.dumps.iter().map(|dump| {
            dump.iter().find(|one| one.nid == Some(nid)).map(|one| (&one.state, &one.frames))
        });
        let first = places.next().flatten();
        told.dumps.len() > 1 && first.is_some() && places.all(|place| place == first)
    }
}
