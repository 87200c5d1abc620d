//! `soak`: a mixed load for half an hour, and what became of tcptrail meanwhile.
//!
//! Connections of every ending, processes that come and go with sockets open, namespaces that are
//! removed with sockets in TIME_WAIT, listeners, JVMs that are killed. Four tcptrails watch: `tail`
//! (which records too), `list --watch`, `stuck`, and `serve`, which is scraped, pushes to a collector that dies and
//! comes back, and has a flight recorder whose disk is full now and then. What they say is compared with `ss` and with
//! what was done; their memory has to be flat. `cargo xtask soak` builds and runs it.
//!
//! `--report` instead makes half a million connections, whose two ends are a million for tcptrail, and has their
//! recording reported and opened in a browser. `--verdicts` runs healthy software for minutes, of which nothing may be called a leak.

mod figures;
mod follow;
mod load;
mod recorder;
mod report;
mod serve;
mod verdicts;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tests::netns::Netns;
use tests::witness::ss;

use crate::figures::Figures;
use crate::follow::{List, Stuck, Tail, differences};
use crate::load::Load;
use crate::recorder::Recorder;
use crate::serve::Serve;

/// Everything of the soak has these addresses, so that the filter keeps everything else out.
const NET: &str = "127.77.0.0/16";
/// How often what is listed is compared with `ss`.
const COMPARE_EVERY: Duration = Duration::from_secs(20);
/// TIME_WAIT, a walk, and some more.
const SETTLE: Duration = Duration::from_secs(75);

#[derive(Parser)]
struct Args {
    /// How long: 90s, 30m, 2h
    #[arg(long, default_value = "30m", value_parser = duration)]
    duration: Duration,
    /// The tcptrail to watch with
    #[arg(long)]
    tcptrail: Option<PathBuf>,
    /// Report a recording of so many connections instead; each has two ends, which count as two
    #[arg(long, conflicts_with = "verdicts", num_args = 0..=1, default_missing_value = "500000")]
    report: Option<u64>,
    /// Run pools, wrk and deploys instead, of which nothing may be called a leak
    #[arg(long)]
    verdicts: bool,
    /// How long each of these runs
    #[arg(long, default_value_t = 10, requires = "verdicts")]
    minutes: u64,
    /// One of them only
    #[arg(long, requires = "verdicts")]
    only: Option<verdicts::Load>,
    /// Connect there, say something and end without closing (used by the soak itself)
    #[arg(long, hide = true)]
    child: Option<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no duration: write 90s, 30m or 2h");
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.child {
        Some(addr) => load::child(addr).map(|()| true),
        None if args.verdicts => {
            let program = args.tcptrail.clone().unwrap_or_else(tests::tcptrail::binary);
            verdicts::run(&program, args.minutes, args.only)
        }
        None => match args.report {
            Some(connections) => {
                let program = args.tcptrail.clone().unwrap_or_else(tests::tcptrail::binary);
                report::run(&program, connections)
            }
            None => soak(&args),
        },
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak(args: &Args) -> Result<bool> {
    ensure!(tests::ready(&["ss", "ip"]), "it cannot run here");
    let program = args.tcptrail.clone().unwrap_or_else(tests::tcptrail::binary);
    let dir = tempfile::tempdir()?;
    let recording = dir.path().join("soak.tcpt");
    let home = Netns::new()?;
    let tail = Tail::start(&program, &recording, NET)?;
    let list = List::start(&program, home.name())?;
    let stuck = Stuck::start(&program, NET, home.name())?;
    let mut recorder = Recorder::new(dir.path())?;
    let serve = Serve::start(&program, dir.path(), NET, recorder.dir())?;
    let watched = [
        ("tail", tail.pid()),
        ("list", list.pid()),
        ("stuck", stuck.pid()),
        ("serve", serve.pid()),
    ];
    let mut figures = Figures::new(&watched);
    let mut load = Load::start(&home, dir.path())?;
    let tracers = (&list, &serve, &mut recorder);
    let Looks { comparisons, different, mut brief } =
        keep_loading(args.duration, &home, tracers, &mut load, &mut figures)?;
    let load_ended = tests::witness::now_ns();
    settle(&mut load, &mut figures)?;
    let before = ss(&home)?;
    let frame = list.frame_begun_after(tests::witness::now_ns(), || Ok(()))?;
    let frame = frame.context("no listing at the end")?;
    let at_the_end = differences(&before, &frame, &ss(&home)?, &mut brief);
    let told = tail.stop()?;
    list.stop()?;
    let findings = stuck.stop()?;
    let (pushed, well) = serve.stop()?;
    let same = told.same_as(&before);
    let (recorded, recorded_well) = recorder.verdict(&program, &recording, NET, load_ended)?;
    let replayed = follow::replay(&program, &recording, NET)?;

    println!("{}", load.summary());
    let mut good = true;
    let mut judge = |what: &str, holds: bool| {
        println!("{} {what}", if holds { "ok" } else { "NO" });
        good &= holds;
    };
    judge(&format!("{comparisons} looks while it ran, {different} differences"), different == 0);
    judge(&format!("list at the end is what ss shows: {at_the_end:?}"), at_the_end.is_empty());
    judge(&format!("tail at the end is what ss shows: {same:?}"), same.is_empty());
    judge(&format!("no transition out of order: {:?}", told.broken), told.broken.is_empty());
    let (made, connects) = (load.made(), told.connects);
    judge(&format!("connections made {made}, told {connects}"), made == connects);
    judge(&format!("lost {}", told.lost), told.lost == 0);
    judge(&format!("stuck has found nothing: {findings:?}"), findings.is_empty());
    judge(&format!("serve, whose collector died and came back: {pushed}"), well);
    judge(&format!("its recorder: {recorded}"), recorded_well);
    let steps = format!("{} and {} transitions", told.steps(), replayed.steps());
    judge(&format!("the recording replays alike: {steps}"), told.tally == replayed.tally);
    for (name, verdict, flat) in figures.verdicts() {
        judge(&format!("memory of {name}: {verdict}"), flat);
    }
    Ok(good)
}

/// What was compared with `ss` while the load ran.
#[derive(Default)]
struct Looks {
    comparisons: u32,
    different: u32,
    /// Sockets that differed in the last look: wrong is what differs twice.
    brief: BTreeSet<u64>,
}

/// Keeps the load going for this long, and compares.
fn keep_loading(
    duration: Duration,
    home: &Netns,
    (list, serve, recorder): (&List, &Serve, &mut Recorder),
    load: &mut Load,
    figures: &mut Figures,
) -> Result<Looks> {
    let mut looks = Looks::default();
    let began = Instant::now();
    let mut compared = began;
    while began.elapsed() < duration {
        load.step()?;
        figures.take(load)?;
        recorder.step(serve, duration.saturating_sub(began.elapsed()))?;
        if compared.elapsed() >= COMPARE_EVERY {
            compared = Instant::now();
            looks.comparisons += 1;
            ensure!(serve.ask("/healthz")? == "ok\n", "serve stands still");
            serve.ask("/metrics")?;
            recorder.look()?;
            for difference in compare(home, list, load, &mut looks.brief)? {
                println!("difference at {:.0?}: {difference}", began.elapsed());
                looks.different += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(looks)
}

/// Ends the load, and waits until its last TIME_WAIT is over.
fn settle(load: &mut Load, figures: &mut Figures) -> Result<()> {
    load.finish()?;
    println!("the load has ended; waiting for TIME_WAIT to end");
    let until = Instant::now() + SETTLE;
    while Instant::now() < until {
        figures.take(load)?;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// In what the next listing differs from what `ss` shows before and after it.
fn compare(
    home: &Netns,
    list: &List,
    load: &mut Load,
    brief: &mut BTreeSet<u64>,
) -> Result<Vec<String>> {
    // One frame after this one is a look that began and ended between the two of `ss`.
    let before = ss(home)?;
    let frame = list.frame_begun_after(tests::witness::now_ns(), || load.step())?;
    let Some(frame) = frame else { return Ok(vec!["no listing within 20 s".to_owned()]) };
    let after = ss(home)?;
    Ok(differences(&before, &frame, &after, brief))
}
