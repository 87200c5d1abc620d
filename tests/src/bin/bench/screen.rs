//! `top` beside many sockets: what each tab costs, and how soon a key is answered.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::held::Held;
use tests::netns::Netns;
use tests::tmux::Terminal;

use crate::Tools;
use crate::figures::Figure;
use crate::process::cpu_ns;
use crate::target::Target;

/// The key of each tab, and a title of a column that only it has.
const TABS: [(&str, &str); 6] = [
    ("2", "RECV-Q"),
    ("3", "USED"),
    ("4", "HALF-OPEN"),
    ("5", "HS p50"),
    ("6", "OPENED BY"),
    ("1", "HOW BAD"),
];
/// Sockets are walked, stacks and rules have settled.
const SETTLE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(5);

/// One frame a second on each tab for half a minute, `quick`: three seconds, beside so many sockets. All sockets are
/// walked every half minute: a shorter time has the whole of a walk in it, or none.
pub(crate) fn targets(tools: &Tools, sockets: u64, quick: bool) -> Result<Vec<Target>> {
    let watch = Duration::from_secs(if quick { 3 } else { 30 });
    ensure!(tests::ready(&["tmux"]), "no terminal to draw on");
    eprintln!("bench: top beside {sockets} open sockets");
    let netns = Netns::new()?;
    let _held = Held::open(&tools.beside("load").context("no load")?, &netns, sockets)?;
    let terminal = Terminal::start(160, 50, &[("LC_ALL", "C.UTF-8")])?;
    terminal.run(&format!("{} top --netns {}", tools.tcptrail.display(), netns.name()))?;
    terminal.wait_for("1 Findings")?;
    sleep(SETTLE);
    let shell = terminal.shell()?;
    let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
    let pid: u32 = children.split_whitespace().next().context("no top")?.parse()?;
    let (mut shares, mut keys) = (Vec::new(), Vec::new());
    for (key, title) in TABS {
        keys.push(answered(&terminal, key, title)?);
        sleep(Duration::from_secs(2));
        let (before, began) = (cpu_ns(pid)?, Instant::now());
        sleep(watch);
        let share = (cpu_ns(pid)? - before) as f64 / began.elapsed().as_nanos() as f64;
        eprintln!("bench: tab {key}: {:.1} % of a processor", share * 100.0);
        shares.push(share * 100.0);
        // Each key looks through every row.
        let mut typed = String::new();
        terminal.type_in("/")?;
        for key in ["1", "2", "7", "."] {
            typed.push_str(key);
            keys.push(answered(&terminal, key, &format!("filter: {typed}"))?);
        }
        terminal.press("Escape")?;
        terminal.wait("no filter", |screen| !screen.contains("filter: 1"))?;
    }
    terminal.type_in("q")?;
    let most = |all: &[f64]| Figure::of(all.iter().copied().reduce(f64::max));
    let what = |what: &str| format!("`top` beside {sockets} sockets, {what}");
    Ok(vec![
        Target::at_most(&what("of one processor, the worst tab"), 5.0, " %", most(&shares), 1),
        Target::at_most(&what("the slowest key, as tmux shows it"), 50.0, " ms", most(&keys), 0),
    ])
}

/// Milliseconds from a key to the text that it brings to the screen.
fn answered(terminal: &Terminal, key: &str, text: &str) -> Result<f64> {
    // Not in the midst of the frame of every second.
    sleep(Duration::from_millis(300));
    let began = Instant::now();
    terminal.type_in(key)?;
    while !terminal.screen()?.contains(text) {
        ensure!(began.elapsed() < PATIENCE, "{key} brings no {text}:\n{}", terminal.screen()?);
    }
    let took = began.elapsed().as_secs_f64() * 1e3;
    eprintln!("bench: {key:?} brings {text:?} after {took:.0} ms");
    Ok(took)
}
