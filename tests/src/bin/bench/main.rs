//! What tcptrail costs, beside the least a tracer can cost and beside others, in one run on one load.
//! Started by `cargo xtask bench`, which builds everything and says where the rest is.

mod capacity;
mod compare;
mod drops;
mod figures;
mod growth;
mod latency;
mod looks;
mod lost;
mod measure;
mod process;
mod record;
mod scale;
mod screen;
mod serve;
mod subject;
mod target;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use rustix::process::geteuid;
use rustix::system::uname;
use serde_json::Value;

use crate::compare::Row;
use crate::subject::Subject;
use crate::target::Target;

/// Measures what tcptrail costs. Needs root and a quiet machine.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    /// Also write the results to this file, as one JSON object.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with other tracers too: tcpstates, tcplife and bpftrace, as far as they are installed.
    #[arg(long)]
    peers: bool,
    /// A first impression in half a minute.
    #[arg(long)]
    quick: bool,
    /// What to measure: `compare` unless told otherwise; several are separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "compare")]
    parts: Vec<Part>,
    /// Measure everything there is a target for, and fail when one is missed.
    #[arg(long)]
    targets: bool,
    /// Only these in the comparison.
    #[arg(long, value_delimiter = ',')]
    subjects: Vec<Subject>,
    /// Rounds of the comparison, each of every subject; the medians are shown.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of each load in the comparison, seconds.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// The binary that is measured.
    #[arg(long, hide = true)]
    tcptrail: PathBuf,
    /// The floor program's object.
    #[arg(long, hide = true)]
    floor: PathBuf,
    /// The program that makes recordings of many connections.
    #[arg(long, hide = true)]
    many: PathBuf,
    /// The object with the programs that fill a ring.
    #[arg(long, hide = true)]
    scale: PathBuf,
    /// The program that feeds recordings from memory.
    #[arg(long, hide = true)]
    alone: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// All tracers side by side on the same load.
    Compare,
    /// Three million transitions at full speed: is anything lost?
    Lost,
    /// Start to first event, Ctrl-C to exit, idle.
    Latency,
    /// A million live connections in a replay.
    Replay,
    /// A hundred thousand open sockets.
    Sockets,
    /// `top` beside a hundred thousand open sockets.
    Top,
    /// What it costs to hear of drops: on the plain load, under a scan, with losses.
    Drops,
    /// What the flight recorder writes, and what that costs.
    Record,
    /// Beside 200,000 TIME_WAITs: what looking costs, and how soon a FIN is told.
    Looks,
    /// What `serve` costs always running: idle, beside many sockets, a transition, a scrape.
    Serve,
    /// Cost at 1, 10 and 100 times the connections and sockets.
    Growth,
    /// What the ring and the reader can do alone, and what the ring's lock would do on many processors.
    Scale,
}

/// Where the other programs are.
pub(crate) struct Tools {
    /// The binary that is measured.
    pub(crate) tcptrail: PathBuf,
    /// The floor program's object.
    pub(crate) floor: PathBuf,
    /// Makes recordings of many connections.
    pub(crate) many: PathBuf,
    /// The object with the programs that fill a ring.
    pub(crate) scale: PathBuf,
    /// Feeds recordings from memory.
    pub(crate) alone: PathBuf,
}

impl Tools {
    /// A program built beside this one.
    pub(crate) fn beside(&self, name: &str) -> Option<PathBuf> {
        Some(env::current_exe().ok()?.parent()?.join(name))
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Many.
const SOCKETS: u64 = 100_000;

/// What is measured in so many rounds of so many seconds.
type InRounds = fn(&Tools, &Path, usize, f64) -> Result<Vec<Target>>;

const IN_ROUNDS: [(Part, InRounds); 4] = [
    (Part::Drops, drops::targets),
    (Part::Record, record::targets),
    (Part::Serve, serve::targets),
    // Last: the kernel tidies its TIME_WAITs away for a while.
    (Part::Looks, looks::targets),
];

/// What `--targets` measures.
const OF_TARGETS: [Part; 10] = [
    Part::Compare,
    Part::Lost,
    Part::Latency,
    Part::Replay,
    Part::Sockets,
    Part::Top,
    Part::Drops,
    Part::Record,
    Part::Serve,
    Part::Looks,
];

fn run(cli: Cli) -> Result<ExitCode> {
    ensure!(geteuid().is_root(), "tracing needs root");
    let Cli { tcptrail, floor, many, scale, alone, .. } = cli;
    let tools = Tools { tcptrail, floor, many, scale, alone };
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let parts = if cli.targets { OF_TARGETS.to_vec() } else { cli.parts };
    let (rounds, seconds) = if cli.quick { (2, 0.5) } else { (cli.rounds, cli.seconds) };
    let part = |wanted| parts.contains(&wanted);
    needs(&parts)?;
    println!("{}", machine());
    let mut targets = Vec::new();
    let mut results = serde_json::Map::new();
    results.insert("machine".to_owned(), machine().into());
    if part(Part::Compare) {
        let subjects = subjects(&cli.subjects, cli.peers);
        let rows = side_by_side(&subjects, &tools, dir, rounds, seconds)?;
        results.insert("compare".to_owned(), compare::json(&rows));
        targets.extend(target::of_comparison(&rows));
    }
    if part(Part::Lost) {
        let transitions = if cli.quick { 3e5 } else { 3e6 };
        targets.extend(lost::targets(&tools, dir, transitions)?);
    }
    if part(Part::Latency) {
        let idle = Duration::from_secs(if cli.quick { 3 } else { 20 });
        targets.extend(latency::targets(&tools, dir, idle)?);
    }
    if part(Part::Replay) {
        let connections = if cli.quick { 100_000 } else { 1_000_000 };
        targets.extend(capacity::replay(&tools, dir, connections)?);
    }
    if part(Part::Sockets) {
        targets.extend(capacity::sockets(&tools, dir, SOCKETS)?);
    }
    if part(Part::Top) {
        targets.extend(screen::targets(&tools, SOCKETS, cli.quick)?);
    }
    for (wanted, of) in IN_ROUNDS {
        if part(wanted) {
            targets.extend(of(&tools, dir, rounds, seconds)?);
        }
    }
    grown(&tools, dir, cli.quick, &parts, &mut results)?;
    if !targets.is_empty() {
        println!("{}", target::text(&targets));
        results.insert("targets".to_owned(), target::json(&targets));
    }
    cli.json.map_or(Ok(()), |path| keep(&path, results))?;
    let missed = |target: &Target| target.met == Some(false);
    Ok(if cli.targets && targets.iter().any(missed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Programs that parts run. One that is missing is said now, and not after a quarter of an hour.
fn needs(parts: &[Part]) -> Result<()> {
    for (part, program) in [(Part::Drops, "nft"), (Part::Top, "tmux")] {
        let is_here = || Command::new(program).arg("-V").output().is_ok();
        ensure!(
            !parts.contains(&part) || is_here(),
            "there is no {program} here, which the bench needs: install it (nftables, tmux)"
        );
    }
    Ok(())
}

/// All tracers on the same load, as a table.
fn side_by_side(
    subjects: &[Subject],
    tools: &Tools,
    dir: &Path,
    rounds: usize,
    seconds: f64,
) -> Result<Vec<Row>> {
    let all = measure::rounds(subjects, tools, dir, rounds, seconds)?;
    let rows: Vec<Row> =
        all.into_iter().map(|(subject, samples)| Row { subject, samples }).collect();
    println!(
        "Loopback, as fast as it goes: {rounds} rounds of {seconds} s each, medians (least..greatest).\n\n{}",
        compare::text(&rows)
    );
    Ok(rows)
}

/// What has tables of its own.
fn grown(
    tools: &Tools,
    dir: &Path,
    quick: bool,
    parts: &[Part],
    results: &mut serde_json::Map<String, Value>,
) -> Result<()> {
    if parts.contains(&Part::Growth) {
        let (text, json) = growth::tables(tools, dir, if quick { 3 } else { 10 })?;
        println!("{text}");
        results.insert("growth".to_owned(), json);
    }
    if parts.contains(&Part::Scale) {
        let (text, json) = scale::tables(tools, dir, quick)?;
        println!("{text}");
        results.insert("scale".to_owned(), json);
    }
    Ok(())
}

/// For `--json`.
fn keep(path: &Path, results: serde_json::Map<String, Value>) -> Result<()> {
    let text = serde_json::to_string_pretty(&Value::Object(results))? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Without a tracer, the floor, tcptrail, and the peers that are installed; or what was asked for.
fn subjects(only: &[Subject], peers: bool) -> Vec<Subject> {
    let mut all = vec![Subject::None, Subject::Floor];
    all.extend(Subject::OWN);
    if peers {
        all.extend(Subject::PEERS);
    }
    if !only.is_empty() {
        all = only.to_vec();
    }
    all.retain(|subject| {
        let missing = subject.program().filter(|program| !tests::ready(&[program]));
        if let Some(program) = missing {
            eprintln!(
                "bench: {program} is not installed: `--peers` of cargo xtask bench installs it"
            );
        }
        missing.is_none()
    });
    all
}

/// Processor, number of them, kernel.
fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let count = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{count} x {model}, Linux {}", uname().release().to_string_lossy())
}
