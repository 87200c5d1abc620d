//! What a process's descriptors are that are no TCP sockets, and which kind of them grows.

use serde::{Deserialize, Serialize};

use crate::engine::rules::growth::Series;
use crate::text;
use crate::time::MonoNs;

/// By kind, as of one walk over descriptors.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Descriptors {
    /// UDP sockets.
    pub udp: u64,
    /// Unix sockets.
    pub unix: u64,
    /// Sockets of other families and protocols.
    pub other_sockets: u64,
    /// Pipes.
    pub pipes: u64,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Devices.
    pub devices: u64,
    /// Epoll instances.
    pub epolls: u64,
    /// Anything else: eventfd, timerfd, inotify.
    pub others: u64,
    /// The directory that more than half of the files are in, the end of its path.
    pub most_files_in: Option<String>,
}

/// Number of kinds in [`Descriptors`].
const KINDS: usize = 9;

impl Descriptors {
    /// Name of one, of several, and how many there are.
    pub(crate) fn kinds(&self) -> [(&'static str, &'static str, u64); KINDS] {
        [
            ("UDP socket", "UDP sockets", self.udp),
            ("unix socket", "unix sockets", self.unix),
            ("other socket", "other sockets", self.other_sockets),
            ("pipe end", "pipe ends", self.pipes),
            ("file", "files", self.files),
            ("directory", "directories", self.directories),
            ("device", "devices", self.devices),
            ("epoll instance", "epoll instances", self.epolls),
            (
                "event, timer or inotify descriptor",
                "event, timer and inotify descriptors",
                self.others,
            ),
        ]
    }
}

/// Walks over descriptors so far, of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds {
    last: Descriptors,
    known: bool,
    series: [Series; KINDS],
}

impl Kinds {
    pub(crate) fn take_in(&mut self, at: MonoNs, now: &Descriptors) {
        // Facts are read more often than descriptors are walked: what is the same says nothing new, but
        // that it stays.
        for (series, (_, _, count)) in self.series.iter_mut().zip(now.kinds()) {
            series.push(at, count);
        }
        self.last.clone_from(now);
        self.known = true;
    }

    /// As of the last walk, where there was one.
    pub(crate) fn last(&self) -> Option<&Descriptors> {
        self.known.then_some(&self.last)
    }

    /// The kind that grows most: its name, and how many more a second.
    pub(crate) fn growing(&self) -> Option<(&'static str, f64)> {
        let rate = |series: &Series| series.sustained().map(|growth| growth.per_second);
        let (index, rate) = self
            .series
            .iter()
            .enumerate()
            .filter_map(|(index, series)| Some((index, rate(series)?)))
            .max_by(|(_, one), (_, other)| one.total_cmp(other))?;
        let (_, name, _) = self.last.kinds()[index];
        Some((name, rate))
    }

    /// What most of them are: `112 files (most in logs/archive), 9 pipe ends, 3 unix sockets`.
    pub(crate) fn in_words(&self) -> Option<String> {
        const NAMED: usize = 3;
        let now = self.last()?;
        let mut kinds: Vec<_> =
            now.kinds().into_iter().filter(|&(_, _, count)| count != 0).collect();
        kinds.sort_by_key(|&(_, _, count)| std::cmp::Reverse(count));
        let words: Vec<String> = kinds
            .iter()
            .take(NAMED)
            .map(|&(one, several, count)| {
                let name = if count == 1 { one } else { several };
                match &now.most_files_in {
                    Some(directory) if several == "files" && count > 1 => {
                        let mut place = Vec::new();
                        text::name(directory.as_bytes(), &mut place);
                        let place = String::from_utf8_lossy(&place).into_owned();
                        format!("{count} {name} (most of them in .../{place})")
                    }
                    _ => format!("{count} {name}"),
                }
            })
            .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}
