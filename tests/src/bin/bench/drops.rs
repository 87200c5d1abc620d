//! What it costs to hear of every packet that the kernel frees: on the plain load, under a scan, and with losses.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::sys::{Stats, enable_stats};
use tests::hand::flood;
use tests::netns::{Netns, Pair};

use crate::Tools;
use crate::compare::{Row, ratio};
use crate::figures::Figure;
use crate::measure::{Sample, churn, rounds};
use crate::process::{cpu_ns, programs};
use crate::subject::{Subject, Tracer};
use crate::target::Target;

/// The program's name, as far as the kernel keeps it.
const PROGRAM: &str = "kfree_skb";
/// SYNs of a scan, and how many of them a second.
const SCAN: u32 = 100_000;
const A_SECOND: u32 = 50_000;

/// The plain load with and without it, a scan, a load that loses segments.
pub(crate) fn targets(
    tools: &Tools,
    dir: &Path,
    count: usize,
    seconds: f64,
) -> Result<Vec<Target>> {
    let mut targets = vec![plain(tools, dir, count, seconds)?];
    targets.extend(scan(tools, dir)?);
    targets.extend(losses(tools, dir, seconds)?);
    Ok(targets)
}

/// What the program takes beside the others of the same run, where nothing else differs. Runs with and without it differ
/// by a fifth anyway: how they compare is only said.
fn plain(tools: &Tools, dir: &Path, count: usize, seconds: f64) -> Result<Target> {
    let subjects = [Subject::Life, Subject::LifeNoDrops];
    let mut rows = rounds(&subjects, tools, dir, count, seconds)?
        .into_iter()
        .map(|(subject, samples)| Row { subject, samples });
    let (with, without) = (rows.next().context("a row")?, rows.next().context("another")?);
    let share = |sample: &Sample| {
        let ran = sample.programs.iter().filter(|program| program.name.starts_with(PROGRAM));
        sample.kernel_ns / (sample.kernel_ns - ran.map(|program| program.ns).sum::<f64>())
    };
    let shares = Figure::of(with.samples.iter().map(share));
    if let Some(between) = ratio(&with, &without, |one| one.kernel_ns) {
        let between = between.text(3);
        eprintln!("bench: kernel time a transition, to that of runs with --no-drops: {between} x");
    }
    let what = "kernel time a transition, to that of the other programs";
    Ok(Target::at_most(what, 1.03, " x", shares, 3))
}

/// SYNs from many addresses to a port where nobody listens.
fn scan(tools: &Tools, dir: &Path) -> Result<Vec<Target>> {
    eprintln!("bench: a scan");
    let pair = Pair::new()?;
    for key in ["ipv4/conf/all/rp_filter", "ipv4/conf/eth0/rp_filter"] {
        pair.right.sysctl(key, "0")?;
    }
    pair.right.ip(&["route", "add", "10.0.0.0/8", "via", Pair::LEFT])?;
    let tracer = Tracer::start_in(&pair.right, tools, dir)?;
    let statistics = enable_stats(Stats::RunTime).context("the kernel does not count run times")?;
    let before = (cpu_ns(tracer.pid())?, programs(tracer.pid())?);
    let began = Instant::now();
    // From many addresses, to many ports; a thousandth of a second's worth at a time.
    let batch = A_SECOND / 1_000;
    for number in 0..SCAN / batch {
        let from = (0..batch).map(|step| {
            let [_, high, middle, low] = (number * batch + step).to_be_bytes();
            SocketAddrV4::new(Ipv4Addr::new(10, high + 100, middle, low), 4_000)
        });
        let port = u16::try_from(1_000 + number % 1_000)?;
        flood(&pair.left, from, SocketAddrV4::new(Pair::RIGHT.parse()?, port))?;
        let due = Duration::from_secs(1) * number / 1_000;
        sleep(due.saturating_sub(began.elapsed()));
    }
    let took = began.elapsed().as_secs_f64();
    let after = (cpu_ns(tracer.pid())?, programs(tracer.pid())?);
    drop(statistics);
    // What waits is told.
    sleep(Duration::from_secs(3));
    let left = tracer.stop()?;
    let ran = after.1.get(PROGRAM).copied().unwrap_or_default();
    let earlier = before.1.get(PROGRAM).copied().unwrap_or_default();
    let runs = (ran.count - earlier.count).max(1);
    let per_run = (ran.ns - earlier.ns) as f64 / runs as f64;
    let busy = (after.0 - before.0) as f64 / 1e9 / took * 100.0;
    let speed = f64::from(SCAN) / took / 1e3;
    let of = |what: &str| format!("{what}, a scan of {speed:.0},000 SYNs/s");
    Ok(vec![
        Target::at_most(&of("kernel time a packet"), 1_000.0, " ns", Figure::of([per_run]), 0),
        Target::at_most(&of("of one processor"), 20.0, " %", Figure::of([busy]), 1),
        Target::zero(&of("lost"), left.lost, u64::from(SCAN)),
    ])
}

/// One segment in a hundred is lost on its way in.
fn losses(tools: &Tools, dir: &Path, seconds: f64) -> Result<Vec<Target>> {
    eprintln!("bench: losses");
    let netns = Netns::new()?;
    netns.nft(
        "table inet loss {
            chain arriving {
                type filter hook input priority 0; policy accept;
                meta l4proto tcp numgen random mod 100 == 0 drop
            }
        }",
    )?;
    let tracer = Tracer::start_in(&netns, tools, dir)?;
    let before = cpu_ns(tracer.pid())?;
    let load = churn(tools, &netns, &["--seconds", &(4.0 * seconds).to_string()])?;
    sleep(Duration::from_millis(300));
    let used = (cpu_ns(tracer.pid())? - before) as f64 / load.transitions as f64 / 1e3;
    let left = tracer.stop()?;
    // The loss keeps the load slow: most of this are looks at the ring and walks, which come anyway.
    eprintln!("bench: `tail` with 1 % loss: {used:.1} us a transition");
    Ok(vec![Target::zero("lost, with 1 % loss", left.lost, load.transitions)])
}
