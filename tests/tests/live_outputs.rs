//! Several outputs at once over one live engine, each with its filter and its sink.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use jiff::tz::TimeZone;
use serde_json::Value;
use tests::netns::Netns;
use tests::ready;
use tests::traffic::{Both, listen, read_end};
use tracer::cli::Cli;
use tracer::config::{self, Source};
use tracer::engine::{Engine, Update};
use tracer::filter::{Filter, Ports};
use tracer::input::Input;
use tracer::output::lines::{Life, Pen, Setting, Tail};
use tracer::output::record::Recorder;
use tracer::output::{Needs, Output, Run};
use tracer::source::live;
use tracer::source::recording::{Item, Reader};
use tracer::text::Terminal;

/// An output that keeps what another would write to stdout.
struct Kept {
    of: Box<dyn Output>,
    lines: Arc<Mutex<Vec<u8>>>,
    begun: Sender<()>,
}

impl Kept {
    fn keep(&mut self, out: Vec<u8>) {
        if let Ok(mut lines) = self.lines.lock() {
            lines.extend(out);
        }
    }
}

impl Output for Kept {
    fn needs(&self) -> Needs {
        self.of.needs()
    }

    fn filter(&self) -> Filter {
        self.of.filter()
    }

    fn begin(&mut self, engine: &Engine, _out: &mut Vec<u8>) -> io::Result<()> {
        let mut out = Vec::new();
        self.of.begin(engine, &mut out)?;
        self.keep(out);
        self.begun.send(()).map_err(io::Error::other)
    }

    fn update(&mut self, engine: &Engine, update: &Update<'_>, _out: &mut Vec<u8>) {
        let mut out = Vec::new();
        self.of.update(engine, update, &mut out);
        self.keep(out);
    }

    fn end(&mut self, run: &Run<'_>, _out: &mut Vec<u8>) -> io::Result<()> {
        let mut out = Vec::new();
        self.of.end(run, &mut out)?;
        self.keep(out);
        Ok(())
    }
}

fn setting(port: u16) -> Setting {
    let filter = Filter { ports: vec![Ports { first: port, last: port }], ..Filter::default() };
    let pen = Pen::new(true, Terminal { width: None, color: false }, TimeZone::UTC);
    Setting { pen, filter }
}

/// Lines of an event, as JSON.
fn of_kind(lines: &Arc<Mutex<Vec<u8>>>, kind: &str) -> Result<Vec<Value>> {
    let lines = lines.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
    let all = lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let all = all.map(serde_json::from_slice).collect::<serde_json::Result<Vec<Value>>>()?;
    Ok(all.into_iter().filter(|line| line["event"] == kind).collect())
}

#[test]
fn tail_life_and_a_recording_each_get_what_is_theirs() -> Result<()> {
    const TAILED: u16 = 8101;
    const LIVED: u16 = 8102;
    if !ready(&[]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("both.tcpt");
    let (tail, life) = (Arc::default(), Arc::default());
    let (begun, begins) = channel();
    let kept = |of: Box<dyn Output>, lines: &Arc<_>, begun: &Sender<()>| -> Box<dyn Output> {
        Box::new(Kept { of, lines: Arc::clone(lines), begun: begun.clone() })
    };
    let (tail_lines, life_lines, path) = (Arc::clone(&tail), Arc::clone(&life), file.clone());
    let name = netns.name().to_owned();
    // Privileges belong to threads, and a run gives up its own.
    let run = thread::spawn(move || -> Result<u8> {
        let cli = Cli::try_parse_from(["tcptrail", "--netns", &name, "--duration", "4s"])?;
        let config = config::resolve(cli.command, &cli.common)?;
        let Source::Live { ring_bytes } = config.source else { anyhow::bail!("not live") };
        live::run_with(&config, ring_bytes, |_| {
            let life = Life::new(setting(LIVED), false, false);
            Ok(vec![
                kept(Box::new(Tail::new(setting(TAILED))), &tail_lines, &begun),
                kept(Box::new(life), &life_lines, &begun),
                Box::new(Recorder::create(&path, Filter::default())?),
            ])
        })
    });
    for _ in 0..2 {
        begins.recv_timeout(Duration::from_secs(20)).context("the outputs did not begin")?;
    }
    for port in [TAILED, LIVED] {
        let addr = format!("127.0.0.1:{port}");
        let listener = listen(&netns, &addr)?;
        let both = Both::new(&netns, &listener, addr.parse()?)?;
        drop(both.client);
        read_end(&both.server)?;
        drop(both.server);
    }
    let code = run.join().map_err(|_| anyhow::anyhow!("the run panicked"))??;
    ensure!(code == 0, "exit code {code}");

    // Each end went CLOSE or LISTEN -> ... -> CLOSE; the first of the client's waited for its port.
    let transitions = of_kind(&tail, "transition")?;
    let port = |line: &Value, key: &str, port: u16| {
        line[key].as_str().is_some_and(|text| text.ends_with(&format!(":{port}")))
    };
    let at = |line: &Value, of: u16| port(line, "local", of) || port(line, "remote", of);
    ensure!(transitions.iter().all(|line| at(line, TAILED)), "{transitions:#?}");
    let opened = transitions.iter().filter(|line| line["new"] == "SYN_SENT").count();
    ensure!(opened == 1, "{opened} SYN_SENT: {transitions:#?}");
    let established = transitions.iter().filter(|line| line["new"] == "ESTABLISHED").count();
    ensure!(established == 2, "{established} ESTABLISHED: {transitions:#?}");
    ensure!(of_kind(&tail, "close")?.is_empty());

    let closes = of_kind(&life, "close")?;
    ensure!(closes.len() == 2 && closes.iter().all(|line| at(line, LIVED)), "{closes:#?}");
    ensure!(of_kind(&life, "transition")?.is_empty());
    // Each has counted its own.
    let events = |lines| -> Result<u64> {
        of_kind(lines, "end")?.first().and_then(|end| end["connections"].as_u64()).context("no end")
    };
    ensure!((events(&tail)?, events(&life)?) == (2, 2), "{:?}", of_kind(&tail, "end")?);

    // The recording has both.
    let (_, mut reader) = Reader::open(std::fs::File::open(&file)?)?;
    let (mut records, mut ended) = (0, false);
    while let Some(item) = reader.next()? {
        records += u64::from(matches!(item, Item::Input(Input::Record(_))));
        ended |= matches!(item, Item::Ended(_));
    }
    ensure!(ended && records >= 20, "{records} records, ended: {ended}");
    Ok(())
}
