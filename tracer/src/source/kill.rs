//! `kill`: lists what it would end, asks, has it ended, and says what became of each.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::channel;
use std::thread;

use anyhow::{Context, Result, anyhow};
use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::{Config, KillOptions};
use crate::destroy::{Destroyer, Outcomes};
use crate::kernel::destroy;
use crate::output::Output;
use crate::output::kill::{Choice, Kill, outcomes, summary};
use crate::output::lines::{Pen, Setting};
use crate::source::live;
use crate::text::Terminal;
use crate::time::Anchor;
use crate::time::clock::Clock;

/// The exit code when a socket is still there.
const REMAINS: u8 = 1;
/// The exit code when nobody can be asked.
const USAGE: u8 = 2;

/// Returns the exit code.
///
/// # Errors
/// When sockets cannot be listed or ended here.
pub fn run(config: &Config, ring_bytes: u32, options: &KillOptions) -> Result<u8> {
    if !options.yes && !options.dry_run && !io::stdin().is_terminal() {
        eprintln!(
            "tcptrail: kill asks before it ends anything, and stdin is no terminal: add --yes, or --dry-run to see what it would end"
        );
        return Ok(USAGE);
    }
    let destroyer = match options.dry_run {
        true => None,
        // Before it is listed: whoever cannot is told at once.
        false => Some(
            destroy::start().map_err(|reason| anyhow!("no socket can be ended here: {reason}"))?,
        ),
    };
    let terminal = Terminal::of_stdout(config.color);
    let (sender, choices) = channel();
    let code = live::run_with(config, ring_bytes, |config| {
        let pen = Pen::new(config.json, terminal, TimeZone::system());
        let setting = Setting { pen, filter: config.filter.clone() };
        Ok(vec![Box::new(Kill::new(setting, options.max, sender)) as Box<dyn Output>])
    })?;
    if code != 0 {
        return Ok(code);
    }
    let Ok(choice) = choices.try_recv() else {
        eprintln!("tcptrail: stopped before the sockets were listed: nothing was ended");
        return Ok(REMAINS);
    };
    if let Some(left_alone) = choice.left_alone() {
        eprintln!("tcptrail: {left_alone}");
    }
    let count = choice.chosen.len();
    let sockets = if count == 1 { "1 socket" } else { &format!("{count} sockets") };
    if count == 0 {
        eprintln!("tcptrail: no socket matches: nothing to end");
        return Ok(0);
    }
    if count > options.max {
        eprintln!(
            "tcptrail: {sockets} match, more than --max {}: nothing was ended; narrow the filters, or raise --max",
            options.max
        );
        return Ok(REMAINS);
    }
    let Some(destroyer) = destroyer else {
        eprintln!("tcptrail: would end {sockets}: {}", choice.owners());
        return Ok(0);
    };
    if !options.yes && !is_wanted(&choice, sockets)? {
        eprintln!("tcptrail: nothing was ended");
        return Ok(REMAINS);
    }
    tell(config, terminal, &choice, &end(&destroyer, &choice)?)
}

fn end(destroyer: &Destroyer, choice: &Choice) -> Result<Outcomes> {
    destroyer.ask(choice.chosen.iter().map(|chosen| chosen.target.clone()).collect());
    destroyer.answer().context("the thread that ends sockets has ended")
}

/// Says what became of each. Returns the exit code.
fn tell(config: &Config, terminal: Terminal, choice: &Choice, became: &Outcomes) -> Result<u8> {
    let mut clock = Clock::new(Anchor::now(), TimeZone::UTC);
    let json = config.json.then_some(&mut clock);
    let lines = outcomes(&choice.chosen, became, json, terminal);
    match io::stdout().write_all(&lines) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("tcptrail: cannot write the output: {error}");
        }
        _ => {}
    }
    let (text, all_gone) = summary(became);
    eprintln!("tcptrail: {text}");
    Ok(if all_gone { 0 } else { REMAINS })
}

/// Asks. Ctrl-C is a no: the run before has taken the signal over.
fn is_wanted(choice: &Choice, sockets: &str) -> Result<bool> {
    eprint!(
        "tcptrail: end {sockets} ({})? Their processes get ECONNABORTED and keep their descriptors; peers get a RST. [y/N] ",
        choice.owners()
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, line) = oneshot::channel();
        // It may wait for ever; the process does not.
        thread::Builder::new().name("tcptrail-ask".to_owned()).spawn(move || {
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line);
            // Whoever asked may have gone.
            let _ = sender.send(read.map(|_| line));
        })?;
        tokio::select! {
            _ = interrupt.recv() => {
                eprintln!();
                Ok(String::new())
            }
            line = line => line.unwrap_or_else(|_| Ok(String::new())),
        }
    });
    let answer = answer.context("the answer cannot be read")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
