//! `stuck`: findings as they appear, change and clear; or all of them, drawn anew; or once.

mod json;

pub(crate) use json::object;

use std::io::{self, Write};

use tracer_common::TcpState;

use crate::engine::rules::{self, Finding, RuleId, Severity, Watch};
use crate::engine::{Engine, Update};
use crate::filter::Filter;
use crate::output::lines::screen::paint_over;
use crate::output::lines::{Known, Pen, Setting, whereabouts};
use crate::output::{Draws, Needs, Output, RulesNeed, Run, StacksNeed, Until, Verdict};
use crate::text::{self, Paint, Row, Terminal};
use crate::time::{Human, MonoNs};

/// Where the sentence begins, after time and word.
const INDENT: usize = 18;

/// The exit code when something is stuck, or when what `--fail-on` asks for holds.
const STUCK: u8 = 3;

/// How it shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Lines as findings come, change and go.
    Lines,
    /// Drawn anew after each look, on a terminal.
    Frames,
    /// Everything there is, once, at the end.
    Once,
}

/// The view.
#[derive(Debug)]
pub struct Stuck {
    setting: Setting,
    form: Form,
    /// The code that opened a socket is to be named.
    openers: bool,
    /// Conditions decide about the exit code.
    gates: bool,
}

impl Stuck {
    /// A view of what is stuck. `openers`: stacks are taken where sockets are opened. `gates`: there are
    /// conditions that decide about the exit code.
    #[must_use]
    pub fn new(setting: Setting, form: Form, openers: bool, gates: bool) -> Stuck {
        // JSON is for programs, on a terminal too.
        let form = if setting.pen.json && form == Form::Frames { Form::Lines } else { form };
        Stuck { setting, form, openers, gates }
    }
}

impl Output for Stuck {
    fn needs(&self) -> Needs {
        let once = self.form == Form::Once;
        Needs {
            rules: RulesNeed::Looks,
            // Nobody is to be disturbed, nor every read and system call to pay. And who accepts, or reads,
            // does so for all: of a server's sockets some would have a name, and some not, and be told
            // apart by it.
            stacks: (self.openers && !once).then(StacksNeed::default),
            draws: if once { Draws::AtEnd } else { Draws::Never },
            until: if once { Until::Facts } else { Until::Stopped },
            ..Needs::default()
        }
    }

    fn filter(&self) -> Filter {
        self.setting.filter.clone()
    }

    fn begin(&mut self, engine: &Engine, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.begin(engine, out);
        Ok(())
    }

    fn update(&mut self, engine: &Engine, update: &Update<'_>, out: &mut Vec<u8>) {
        let pen = &mut self.setting.pen;
        match (self.form, update) {
            // A frame says so in its first line.
            (Form::Frames, Update::Lost(_)) => {}
            (_, Update::Lost(loss)) => pen.loss(loss, out),
            (Form::Lines, Update::Finding { at, update, finding }) => {
                line(pen, engine, (update, finding), *at, out);
            }
            (Form::Frames, Update::Looked(now)) => {
                pen.terminal = Terminal::of_stdout(pen.terminal.color);
                frame(pen, engine, *now, text::lines_of_stdout(), out);
            }
            _ => {}
        }
    }

    fn resized(&mut self, engine: &Engine, now: MonoNs, out: &mut Vec<u8>) {
        if self.form == Form::Frames {
            self.update(engine, &Update::Looked(now), out);
        }
    }

    fn draw(&mut self, engine: &Engine, now: MonoNs, _last: bool, out: &mut Vec<u8>) {
        if let Some(watch) = engine.watch() {
            let young = young(engine, watch, &self.setting.filter, now);
            once(&mut self.setting.pen, engine, watch, (now, young), out);
        }
    }

    fn end(&mut self, run: &Run<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        self.setting.pen.end(run, out);
        if self.form == Form::Frames {
            // Below the last frame.
            out.push(b'\n');
        }
        Ok(())
    }

    /// What `--fail-on` asks for holds, which is said; or with `--once` something is stuck.
    fn verdict(&self, engine: &Engine) -> Option<Verdict> {
        let watch = engine.watch()?;
        if let Some(reason) = watch.failed() {
            return Some(Verdict { code: STUCK, reason: Some(reason.to_owned()) });
        }
        // Where there are conditions, they are what was asked.
        let found = self.form == Form::Once && !self.gates && watch.stuck() != 0;
        found.then_some(Verdict { code: STUCK, reason: None })
    }
}

/// One finding that came, changed or went.
fn line(
    pen: &mut Pen,
    engine: &Engine,
    (update, finding): (&rules::Update, &Finding),
    now: MonoNs,
    out: &mut Vec<u8>,
) {
    let known = Known::of(engine, finding);
    if pen.json {
        json::object(pen, update, finding, &known, now, out);
        return;
    }
    pen.cell.clear();
    pen.clock.time_of_day(now, &mut pen.cell);
    let mut row = Row::new(out, pen.terminal, INDENT);
    row.cell(12, Paint::Dim, &pen.cell);
    match update {
        rules::Update::Appear => row.cell(4, paint(finding.severity), b"NEW"),
        rules::Update::Change => row.cell(4, paint(finding.severity), b"NOW"),
        rules::Update::Clear { .. } => row.cell(4, Paint::Good, b"OVER"),
    };
    if let rules::Update::Clear { since } = update {
        words(&mut row, Paint::Plain, &format!("after {}:", Human(now.since(*since))));
    }
    let verdict = match update {
        // What would have come of it is of no interest any more.
        rules::Update::Clear { .. } => finding.verdict.split("; ").next().unwrap_or_default(),
        rules::Update::Appear | rules::Update::Change => &finding.verdict,
    };
    words(&mut row, Paint::Plain, verdict);
    around(&mut row, finding, &known, &mut pen.cell);
    row.end();
    if matches!(update, rules::Update::Appear) {
        advice(pen.terminal, INDENT, finding, out);
    }
}

/// Everything there is to tell, for `--once`.
fn once(
    pen: &mut Pen,
    engine: &Engine,
    watch: &Watch,
    (now, young): (MonoNs, Option<String>),
    out: &mut Vec<u8>,
) {
    let findings = watch.findings();
    if pen.json {
        for (finding, _) in findings {
            let known = Known::of(engine, finding);
            json::object(pen, &rules::Update::Appear, finding, &known, now, out);
        }
        return;
    }
    for (finding, _) in &findings {
        paragraph(pen.terminal, finding, &Known::of(engine, finding), out);
    }
    if watch.stuck() == 0 {
        let _ = writeln!(out, "nothing is stuck: {} looked at", sockets(watch.sockets()));
        if let Some(young) = young {
            let mut row = Row::new(out, pen.terminal, 2);
            words(&mut row, Paint::Plain, &young);
            row.end();
        }
    }
}

/// CLOSE_WAIT sockets that are all too young to be told: who waits for a leak to show learns when it will.
fn young(engine: &Engine, watch: &Watch, filter: &Filter, now: MonoNs) -> Option<String> {
    let all = filter.wants_all(engine.origin().only_netns);
    let (mut count, mut oldest) = (0, 0);
    for conn in engine.table().iter().filter(|conn| conn.state == TcpState::CloseWait) {
        if all || filter.wants(conn) == Some(true) {
            count += 1;
            oldest = oldest.max(conn.in_state(now).ns().unwrap_or(0));
        }
    }
    let from = watch.thresholds().of(RuleId::CloseWait);
    (count != 0 && oldest < from).then(|| {
        let (are, oldest) = (if count == 1 { "is" } else { "are" }, Human(oldest));
        let from = Human(from);
        format!(
            "{} {are} in CLOSE_WAIT, the longest for at least {oldest}; tcptrail calls that stuck after {from}. \
             Try again later, or use --threshold CLOSE_WAIT=TIME",
            sockets(count)
        )
    })
}

/// Everything there is to tell, on a screen of that many lines.
fn frame(pen: &mut Pen, engine: &Engine, now: MonoNs, lines: usize, out: &mut Vec<u8>) {
    let Some(watch) = engine.watch() else { return };
    let lost: u64 = engine.lost().iter().sum();
    let mut screen = Vec::new();
    let mut row = Row::new(&mut screen, pen.terminal, 2);
    pen.cell.clear();
    pen.clock.time_of_day(now, &mut pen.cell);
    let time = pen.cell.get(..8).unwrap_or_default();
    row.cell(0, Paint::Dim, b"tcptrail stuck").cell(0, Paint::Dim, time);
    let watched = Human(now.since(engine.origin().start()) / 1_000_000_000 * 1_000_000_000);
    let watched = watched.to_string().replace(".00s", "s").replace(".0s", "s");
    let mut more = format!("{} watched for {watched}", sockets(watch.sockets()));
    if lost != 0 {
        more.push_str(&format!(", {lost} events lost"));
    }
    let count = watch.stuck();
    let (paint, found) = match count {
        0 => (Paint::Good, "nothing is stuck".to_owned()),
        1 => (Paint::Warn, "1 finding".to_owned()),
        _ => (Paint::Warn, format!("{count} findings")),
    };
    row.cell(0, Paint::Dim, more.as_bytes()).cell(0, paint, found.as_bytes()).end();
    paragraphs(pen.terminal, engine, &watch.findings(), lines, &mut screen);
    paint_over(&screen, lines.saturating_sub(1), out);
}

/// As many findings as there is room for: first the sentence of each, then advice, from the worst on.
fn paragraphs(
    terminal: Terminal,
    engine: &Engine,
    findings: &[(&Finding, MonoNs)],
    lines: usize,
    screen: &mut Vec<u8>,
) {
    let height = |text: &[u8]| text.iter().filter(|&&byte| byte == b'\n').count();
    let mut room = lines.saturating_sub(height(screen) + 1);
    let mut texts: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (index, (finding, _)) in findings.iter().enumerate() {
        let mut sentence = b"\n".to_vec();
        verdict(terminal, finding, &Known::of(engine, finding), &mut sentence);
        // A line for what is left out, unless this is the last.
        let kept = usize::from(index + 1 != findings.len());
        if height(&sentence) + kept > room && index != 0 {
            break;
        }
        room = room.saturating_sub(height(&sentence));
        texts.push((sentence, Vec::new()));
    }
    let left_out = findings.len() - texts.len();
    room = room.saturating_sub(usize::from(left_out != 0));
    for ((finding, _), (_, advised)) in findings.iter().zip(&mut texts) {
        let mut text = Vec::new();
        advice(terminal, 4, finding, &mut text);
        if height(&text) > room {
            break;
        }
        room -= height(&text);
        *advised = text;
    }
    for (sentence, advised) in texts {
        screen.extend_from_slice(&sentence);
        screen.extend_from_slice(&advised);
    }
    if left_out != 0 {
        let _ = writeln!(screen, "and {left_out} more: --json, or a pipe, shows all of them");
    }
}

fn sockets(count: u64) -> String {
    if count == 1 { "1 socket".to_owned() } else { format!("{count} sockets") }
}

fn paragraph(terminal: Terminal, finding: &Finding, known: &Known, out: &mut Vec<u8>) {
    verdict(terminal, finding, known, out);
    advice(terminal, 4, finding, out);
}

fn verdict(terminal: Terminal, finding: &Finding, known: &Known, out: &mut Vec<u8>) {
    let mut row = Row::new(out, terminal, 2);
    words(&mut row, paint(finding.severity), &finding.verdict);
    around(&mut row, finding, known, &mut Vec::new());
    row.end();
}

/// After the sentence: in which service, container or pod, and what is at the other end.
fn around(row: &mut Row<'_>, finding: &Finding, known: &Known, cell: &mut Vec<u8>) {
    let mut bracketed = |begin: &[u8], write: &dyn Fn(&mut Vec<u8>)| {
        cell.clear();
        cell.extend_from_slice(begin);
        write(cell);
        if cell.len() > begin.len() {
            cell.push(b']');
            row.cell(0, Paint::Dim, cell);
        }
    };
    bracketed(b"[", &|cell| whereabouts(&known.place(), cell));
    bracketed(b"[remote: ", &|cell| known.beyond.in_words(finding.remote, cell));
}

fn advice(terminal: Terminal, indent: usize, finding: &Finding, out: &mut Vec<u8>) {
    // The first line is indented as the others are: by a cell of spaces.
    let mut row = Row::new(out, terminal, indent);
    row.cell(0, Paint::Plain, &b" ".repeat(indent - 1));
    words(&mut row, Paint::Dim, &finding.advice);
    // One word, so that the command stands on one line.
    row.cell(0, Paint::Dim, finding.more().as_bytes());
    row.end();
}

/// Word by word, so that lines break between them.
fn words(row: &mut Row<'_>, paint: Paint, text: &str) {
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        row.cell(0, paint, word.as_bytes());
    }
}

const fn paint(severity: Severity) -> Paint {
    match severity {
        Severity::Exhaustion | Severity::Leak => Paint::Bad,
        Severity::Stuck => Paint::Warn,
        Severity::Note => Paint::Dim,
    }
}
