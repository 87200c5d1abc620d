//! How the cost grows: with connections a second, and with open sockets.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::netns::Netns;
use tests::witness::peak_memory;

use crate::Tools;
use crate::capacity::beside;
use crate::compare::aligned;
use crate::measure::churn;
use crate::process::cpu_ns;
use crate::subject::{Subject, Tracer};

/// Connections a second: 1x, 10x, 100x.
const RATES: [u32; 3] = [300, 3_000, 30_000];
/// Open sockets: 1x, 10x, 100x.
const SOCKETS: [u64; 3] = [1_000, 10_000, 100_000];

/// The two tables, as text and for `--json`.
pub(crate) fn tables(tools: &Tools, dir: &Path, seconds: u64) -> Result<(String, Value)> {
    let words = |row: &[&str]| row.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
    let mut lines =
        vec![words(&["", "CONNECTIONS/s", "CPU % OF ONE", "us/TRANSITION", "PEAK MB", "LOST"])];
    let mut rates = Vec::new();
    for subject in [Subject::Life, Subject::TailJson] {
        for rate in RATES {
            eprintln!("bench: {} at {rate} connections a second", subject.name());
            let netns = Netns::new()?;
            let tracer = Tracer::start(subject, tools, dir)?.context("a tracer")?;
            let (before, began) = (cpu_ns(tracer.pid())?, Instant::now());
            let load = churn(
                tools,
                &netns,
                &["--seconds", &seconds.to_string(), "--rate", &rate.to_string()],
            )?;
            sleep(Duration::from_millis(300));
            let used = (cpu_ns(tracer.pid())? - before) as f64;
            let share = used / began.elapsed().as_nanos() as f64;
            let peak = peak_memory(tracer.pid())?;
            let left = tracer.stop()?;
            let each = used / load.transitions as f64;
            lines.push(vec![
                subject.name().to_owned(),
                format!("{:.0}", load.per_second),
                format!("{:.2}", share * 100.0),
                format!("{:.2}", each / 1e3),
                format!("{:.0}", peak as f64 / 1e6),
                left.lost.map_or("-".to_owned(), |lost| lost.to_string()),
            ]);
            rates.push(json!({
                "tracer": subject.name(), "connections_per_second": load.per_second,
                "cpu": share, "cpu_ns_per_transition": each, "peak_bytes": peak, "lost": left.lost,
            }));
        }
    }
    let mut text = aligned(&lines);
    let mut lines = vec![words(&["OPEN SOCKETS", "list s", "OWNED", "tail CPU %", "tail PEAK MB"])];
    let mut sockets = Vec::new();
    for count in SOCKETS {
        eprintln!("bench: {count} open sockets");
        let one = beside(tools, dir, count, Duration::from_secs(seconds))?;
        lines.push(vec![
            count.to_string(),
            format!("{:.2}", one.list),
            one.owned.to_string(),
            format!("{:.2}", one.ticks * 100.0),
            format!("{:.0}", one.peak as f64 / 1e6),
        ]);
        sockets.push(json!({
            "sockets": count, "list_seconds": one.list, "owned": one.owned,
            "tail_cpu": one.ticks, "tail_peak_bytes": one.peak,
        }));
    }
    text.push('\n');
    text.push_str(&aligned(&lines));
    Ok((text, json!({"rates": rates, "sockets": sockets})))
}
