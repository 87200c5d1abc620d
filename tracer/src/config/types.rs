//! What a command line comes to.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::listing::Listing;
use crate::config::serve::ServeOptions;
use crate::config::span::Span;
use crate::engine::rules::{self, Gate, Thresholds};
use crate::engine::stats::By;
use crate::filter::Filter;

/// The command, with what belongs to it alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Show {
    /// Transitions.
    Tail,
    /// Finished connections.
    Life {
        /// Wait for the end of TIME_WAIT.
        with_time_wait: bool,
        /// At the end, those that have not finished, too.
        unfinished: bool,
    },
    /// What there is.
    List {
        /// Again after this time.
        watch: Option<Duration>,
        /// How it sorts, limits and groups.
        listing: Listing,
    },
    /// Figures of finished connections.
    Stats(StatsOptions),
    /// Who opened what is still open.
    Leaks(LeaksOptions),
    /// What is stuck.
    Stuck(StuckOptions),
    /// One page about what is wrong, and a bundle of evidence; of a replay the page.
    Incident(IncidentOptions),
    /// One HTML file.
    Report(ReportOptions),
    /// A screen to look around in.
    Top(TopOptions),
    /// Sockets that are to be ended.
    Kill(KillOptions),
    /// Metrics and findings over HTTP.
    Serve(ServeOptions),
    /// Nothing: only recording.
    Nothing,
}

/// How `top` looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopOptions {
    /// From when on something is stuck.
    pub thresholds: Thresholds,
    /// The code that opened a socket is to be named.
    pub openers: bool,
    /// Stacks of accepts and reads are taken, too.
    pub accepted: bool,
    /// Nothing but ASCII is drawn.
    pub ascii: bool,
    /// Of a replay: how many times as fast as it was.
    pub speed: f64,
}

/// How `kill` ends sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillOptions {
    /// Nobody is asked.
    pub yes: bool,
    /// Nothing is ended.
    pub dry_run: bool,
    /// With more than so many, nothing is ended.
    pub max: usize,
}

/// How `stats` counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsOptions {
    /// What groups have in common; of all when empty.
    pub by: Vec<By>,
    /// Bars, too.
    pub histogram: bool,
    /// No more than so many groups.
    pub top: Option<usize>,
    /// Again after this time, beside at the end.
    pub watch: Option<Duration>,
}

/// How `leaks` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaksOptions {
    /// Again after this time.
    pub watch: Option<Duration>,
    /// JVMs may be asked for names.
    pub attach: bool,
    /// Only sockets that have been open for this long.
    pub older: Duration,
    /// Folded stacks, as flame graph tools read them.
    pub folded: bool,
    /// All frames.
    pub full: bool,
}

/// How `stuck` looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StuckOptions {
    /// One answer, then the end.
    pub once: bool,
    /// From when on something is stuck.
    pub thresholds: Thresholds,
    /// Conditions that end the run with exit code 3.
    pub gates: Vec<Gate>,
    /// The code that opened a socket is to be named.
    pub openers: bool,
}

/// How `incident` watches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IncidentOptions {
    /// JVMs may be asked.
    pub attach: bool,
    /// Where the bundle goes; `None` for a name after the time.
    pub output: Option<PathBuf>,
    /// What `doctor` says of this machine, for the bundle.
    pub doctor: String,
    /// From when on something is stuck.
    pub thresholds: Thresholds,
    /// That, as given.
    pub threshold_words: Vec<String>,
}

/// How `report` watches, and where it goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportOptions {
    /// JVMs may be asked.
    pub attach: bool,
    /// Where it goes; `None` for a name after the time.
    pub output: Option<PathBuf>,
    /// From when on something is stuck.
    pub thresholds: Thresholds,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This kernel.
    Live {
        /// Size of the ring buffer in bytes.
        ring_bytes: u32,
    },
    /// A recording: a file, a bundle, or the directory of a flight recorder.
    File(PathBuf),
}

/// Everything a run needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where events come from.
    pub source: Source,
    /// Which part of a recording; `None` for all of it.
    pub span: Option<Span>,
    /// What prints.
    pub show: Show,
    /// What is shown.
    pub filter: Filter,
    /// The filters as given, for headers.
    pub filter_words: Vec<String>,
    /// NDJSON.
    pub json: bool,
    /// The names of columns have a line.
    pub header: bool,
    /// Stop by itself.
    pub duration: Option<Duration>,
    /// Also record.
    pub record_to: Option<PathBuf>,
    /// Colours may be used.
    pub color: bool,
    /// More on stderr.
    pub verbose: u8,
    /// Most connections kept.
    pub max_connections: usize,
    /// Segments that the kernel drops are traced.
    pub drops: bool,
    /// DNS is asked for names.
    pub resolve: bool,
}

impl Config {
    /// What the rules are to do in a run of this origin.
    #[must_use]
    pub fn rules(&self, jiffy_ns: u64) -> rules::Options {
        let (thresholds, gates) = match &self.show {
            Show::Stuck(options) => (options.thresholds, options.gates.clone()),
            Show::Incident(options) => (options.thresholds, Vec::new()),
            Show::Report(options) => (options.thresholds, Vec::new()),
            Show::Top(options) => (options.thresholds, Vec::new()),
            Show::Serve(options) => (options.thresholds, Vec::new()),
            _ => Default::default(),
        };
        rules::Options { thresholds, gates, jiffy_ns }
    }

    /// The filters as arguments for another machine: namespaces by their inodes. What a cgroup is, the other
    /// machine cannot know; the kernel has decided about it.
    #[must_use]
    pub fn filter_args(&self) -> Vec<String> {
        let known_here =
            |word: &&String| !word.starts_with("--netns") && !word.starts_with("--cgroup");
        let words = self.filter_words.iter().filter(known_here);
        let args = words.flat_map(|word| word.splitn(2, ' ').map(str::to_owned));
        let netns = self.filter.netns.iter().flat_map(|id| ["--netns".to_owned(), id.to_string()]);
        args.chain(netns).collect()
    }
}
