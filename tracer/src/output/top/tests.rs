//! Every tab of recordings as it is drawn, compared with what a person has looked at; and what keys do to it.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use crate::destroy::{Destroyer, Outcome, Outcomes, Reason, Target};
use crate::engine::rules::{self, Watch};
use crate::engine::{Engine, Rules, Sink, Update};
use crate::filter::Filter;
use crate::output::top::panel::Panel;
use crate::output::top::{Hands, Options};
use crate::output::{Asked, Play, Playback};
use crate::source::recording::{Item, Reader};
use crate::time::clock::Clock;
use crate::time::{Anchor, MonoNs};

/// A panel over a recording that was read to its end.
pub(super) struct Stage {
    pub(super) engine: Engine,
    panel: Panel,
    terminal: Terminal<TestBackend>,
    pub(super) now: MonoNs,
}

struct Feed<'a>(&'a mut Panel);

impl Sink for Feed<'_> {
    fn update(&mut self, engine: &Engine, update: &Update<'_>) {
        self.0.update(engine, update);
    }
}

pub(super) fn options() -> Options {
    Options {
        scope: Filter::default(),
        scope_args: Vec::new(),
        replay: None,
        source: "recording".to_owned(),
        color: false,
        ascii: false,
        clock: Clock::new(Anchor { wall_at_zero: 0 }, TimeZone::UTC),
        hands: None,
    }
}

pub(super) fn stage(name: &str, (width, height): (u16, u16), options: Options) -> Stage {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/recordings");
    let recording = std::fs::read(path.join(name).with_extension("tcpt")).expect("the fixture");
    let (origin, mut reader) = Reader::open(recording.as_slice()).expect("a recording");
    let watch = Watch::new(rules::Options { jiffy_ns: origin.jiffy_ns, ..Default::default() });
    let rules = Rules { watch, scope: Filter::default(), looks: true };
    let mut engine = Engine::new(origin, 1000).with_rules(Some(rules));
    let mut panel = Panel::new(options);
    panel.begin(&engine);
    let mut now = engine.origin().start();
    while let Some(item) = reader.next().expect("whole") {
        match item {
            Item::Input(input) => engine.feed(&input, &mut Feed(&mut panel)),
            Item::Ended(ended) => now = ended.at,
        }
    }
    engine.look_now(now, &mut Feed(&mut panel));
    panel.second(&engine, now);
    let backend = TestBackend::new(width, height);
    Stage { engine, panel, terminal: Terminal::new(backend).expect("memory"), now }
}

impl Stage {
    fn draw(&mut self) -> String {
        let Stage { engine, panel, terminal, now } = self;
        terminal.draw(|frame| panel.draw(frame, engine, *now)).expect("memory");
        let buffer = terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let cells: Vec<&str> = buffer.content.iter().map(|cell| cell.symbol()).collect();
        let lines = cells.chunks(width).map(|line| line.concat().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    fn press(&mut self, code: KeyCode) -> Asked {
        self.draw();
        let event = Event::Key(KeyEvent::new(code, KeyModifiers::NONE));
        self.panel.event(&self.engine, &event, self.now)
    }

    fn keys(&mut self, keys: &str) {
        for key in keys.chars() {
            self.press(match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '\t' => KeyCode::Tab,
                key => KeyCode::Char(key),
            });
        }
    }

    fn click(&mut self, column: u16, row: u16, kind: MouseEventKind) {
        self.draw();
        let event = Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE });
        self.panel.event(&self.engine, &event, self.now);
    }
}

const SIZES: [(&str, (u16, u16)); 2] = [("80x24", (80, 24)), ("160x50", (160, 50))];

/// After these keys the screen is as it was looked at.
fn check(name: &str, keys: &str) {
    for (suffix, size) in SIZES {
        let mut stage = stage("synthetic", size, options());
        stage.keys(keys);
        insta::assert_snapshot!(format!("{name}_{suffix}"), stage.draw());
    }
}

#[test]
fn every_tab() {
    check("findings", "");
    check("connections", "2");
    check("processes", "3");
    check("listeners", "4");
    check("remotes", "5");
    check("openers", "6");
}

#[test]
fn every_pane() {
    check("finding", "1\n");
    check("connection", "2\n");
    check("process", "3\n");
    check("listener", "4\n");
    check("remote", "5\n");
    check("opener", "6\n");
    check("help", "2?");
}

#[test]
fn groups_and_filters() {
    check("grouped", "2g");
    check("grouped_remotes", "5g");
    check("filtered", "2/state:close");
    check("wrong_filter", "2/port:x");
}

#[test]
fn keys_show_what_figures_made_anew_show() {
    for name in ["synthetic", "loopback"] {
        for tab in "123456".chars() {
            let mut stage = stage(name, (160, 50), options());
            stage.keys(&tab.to_string());
            for keys in ["/1", "2", "\x1b", "/:", "\x1b", ">", "r", "g", "/.", "\x1b", "/port:80"] {
                stage.keys(keys);
                let kept = stage.draw();
                let redraw = KeyEvent::new(KeyCode::Char('l'), KeyModifiers::CONTROL);
                stage.panel.event(&stage.engine, &Event::Key(redraw), stage.now);
                assert_eq!(kept, stage.draw(), "{name}, tab {tab}, {keys:?}");
            }
        }
    }
}

#[test]
fn plain_ascii_has_nothing_else() {
    let ascii = Options { ascii: true, ..options() };
    let mut stage = stage("synthetic", (160, 50), ascii);
    for keys in ["1", "2", "3", "4", "5", "6", "2\n", "\x1b?"] {
        stage.keys(keys);
        let screen = stage.draw();
        assert!(screen.is_ascii(), "{keys:?}: {screen}");
    }
}

#[test]
fn no_name_steers_the_terminal() {
    let mut stage = stage("synthetic", (160, 50), options());
    stage.keys("2");
    let screen = stage.draw();
    assert!(!screen.contains(|c: char| c.is_control() && c != '\n'), "{screen}");
}

#[test]
fn any_size_is_drawn() {
    for name in ["synthetic", "loopback"] {
        for size in [(1, 1), (20, 5), (40, 10), (80, 24), (81, 25), (132, 43), (400, 100)] {
            let mut stage = stage(name, size, options());
            for keys in ["1", "\n", "2", "\n", "3", "\n", "4", "\n", "5", "\n", "6", "\n", "?"] {
                stage.keys(keys);
                stage.draw();
            }
        }
    }
}

/// A table is sorted by each column, both ways, and the row that was chosen stays chosen.
#[test]
fn every_column_sorts() {
    for tab in "123456".chars() {
        let mut stage = stage("synthetic", (400, 50), options());
        stage.keys(&tab.to_string());
        for _ in 0..30 {
            stage.press(KeyCode::Right);
            stage.draw();
            stage.press(KeyCode::Char('r'));
            stage.draw();
        }
    }
}

#[test]
fn what_is_typed_filters_at_once() {
    let mut stage = stage("synthetic", (160, 50), options());
    stage.keys("2/pid:31467");
    let screen = stage.draw();
    assert!(screen.contains("filter: pid:31467"), "{screen}");
    assert!(screen.contains("java[31467]") && !screen.contains("psql"), "{screen}");
    // Esc puts back what was there before.
    stage.keys("\x1b");
    assert!(stage.draw().contains("psql"));
    stage.keys("/psql\n");
    let screen = stage.draw();
    assert!(screen.contains("psql") && !screen.contains("CLOSE_WAIT  >=14m"), "{screen}");
    // On its own Esc lets go of the filter.
    stage.keys("\x1b");
    assert!(!stage.draw().contains("filter:"));
}

#[test]
fn keys_ask_for_what_the_run_does() {
    let mut live = stage("synthetic", (80, 24), options());
    assert_eq!(live.press(KeyCode::Char('q')), Asked::End);
    assert_eq!(live.press(KeyCode::Char('.')), Asked::Nothing);
    let replay = Options { replay: Some("x.tcpt".into()), ..options() };
    let mut replay = stage("synthetic", (80, 24), replay);
    replay.panel.played(Playback::new(MonoNs(0), MonoNs(10), 2.0));
    assert!(replay.draw().contains("2x"));
    assert_eq!(replay.press(KeyCode::Char(' ')), Asked::Play(Play::Pause));
    assert_eq!(replay.press(KeyCode::Char(']')), Asked::Play(Play::Seek(10_000_000_000)));
}

#[test]
fn the_command_line_is_copied() {
    let check = |keys: &str, expect: &str| {
        let mut stage = stage("synthetic", (160, 50), options());
        stage.keys(keys);
        assert_eq!(stage.panel.copied.as_deref(), Some(expect), "{keys}");
        assert!(stage.draw().contains(expect), "{keys}");
    };
    check("2y", "tcptrail tail --addr 10.1.9.77 --lport 8089 --rport 50111");
    check("2/state:close-wait\ngy", "tcptrail list --pid 31467 --state close-wait");
    check("5y", "tcptrail life --addr 198.51.100.7 --rport 5432");
}

#[test]
fn the_sockets_of_a_row_are_shown() {
    let mut stage = stage("synthetic", (160, 50), options());
    stage.keys("1s");
    let screen = stage.draw();
    assert!(screen.contains("filter: state:LAST_ACK lport:8089"), "{screen}");
    assert!(screen.contains("10.1.9.78:50112"), "{screen}");
}

#[test]
fn the_mouse_does_what_keys_do() {
    let mut stage = stage("synthetic", (80, 24), options());
    let down = MouseEventKind::Down(MouseButton::Left);
    // The second tab; the second row; again, for its pane.
    stage.click(14, 3, down);
    assert!(stage.draw().contains("REMOTE"));
    stage.click(10, 6, down);
    stage.click(10, 6, down);
    let screen = stage.draw();
    assert!(screen.contains("10.1.2.3:8089 -> 10.1.9.79:50113"), "{screen}");
    stage.keys("\x1b");
    // The title of a column sorts by it.
    stage.click(3, 4, down);
    assert!(stage.draw().contains("STATE\u{25b2}"));
    stage.click(3, 10, MouseEventKind::ScrollDown);
    assert!(stage.draw().lines().nth(8).is_some_and(|line| line.starts_with('\u{25b6}')));
}

#[test]
fn a_frozen_screen_stands_still() {
    let mut stage = stage("synthetic", (80, 24), options());
    stage.keys("2 ");
    let before = stage.draw();
    assert!(before.contains("paused since 11:00:50"), "{before}");
    stage.now = stage.now.after(60_000_000_000);
    stage.panel.second(&stage.engine, stage.now);
    let rows = |screen: &str| screen.lines().skip(3).map(str::to_owned).collect::<Vec<_>>();
    let after = stage.draw();
    assert_eq!(rows(&after), rows(&before));
    assert!(after.starts_with("tcptrail 11:01:50"), "{after}");
    stage.keys(" ");
    assert_ne!(rows(&stage.draw()), rows(&before));
}

/// Somebody who ends sockets, as far as a panel knows: what was asked for, and answers.
fn hands() -> (Hands, Receiver<Vec<Target>>, Sender<Outcomes>) {
    let (requests, asked) = channel();
    let (answers, told) = channel();
    (Some(Ok(Destroyer::new(requests, told))), asked, answers)
}

#[test]
fn only_a_yes_ends_sockets() {
    let check = |keys: &str, expect: &[u64]| {
        let (hands, asked, _answers) = hands();
        let mut stage = stage("synthetic", (160, 50), Options { hands, ..options() });
        stage.keys(keys);
        let ids: Vec<u64> = asked.try_iter().flatten().map(|target| target.id.0).collect();
        assert_eq!(ids, expect, "{keys}");
    };
    check("2k", &[]);
    check("2kn", &[]);
    check("2k\n", &[]);
    check("2k\x1b", &[]);
    check("2ky", &[3]);
    check("2mmky", &[3, 5]);
    // A yes to nothing is none.
    check("2kny", &[]);
    // A finding is no socket.
    check("1ky", &[]);
    check("2\nky", &[3]);
}

#[test]
fn the_question_names_what_is_to_be_ended() {
    for (suffix, size) in SIZES {
        let (hands, _asked, _answers) = hands();
        let mut stage = stage("synthetic", size, Options { hands, ..options() });
        stage.keys("2Mk");
        insta::assert_snapshot!(format!("question_{suffix}"), stage.draw());
    }
}

/// What became of sockets is told, each of them where one is still there; another question waits until then.
#[test]
fn what_became_of_sockets_is_told() {
    let (hands, asked, answers) = hands();
    let mut stage = stage("synthetic", (100, 30), Options { hands, ..options() });
    stage.keys("2mmky");
    assert!(stage.draw().contains("ending 2 sockets..."), "{}", stage.draw());
    stage.keys("k");
    assert!(stage.draw().contains("are still being ended"), "{}", stage.draw());
    let targets = asked.try_recv().expect("asked");
    let became = targets.iter().map(|target| (target.clone(), Outcome::Ended)).collect();
    answers.send(became).expect("it listens");
    stage.panel.second(&stage.engine, stage.now);
    let screen = stage.draw();
    assert!(screen.contains("2 sockets: 2 ended; each was looked for by its cookie"), "{screen}");
    stage.keys("mmky");
    let targets = asked.try_recv().expect("asked again");
    let outcomes = [Outcome::Ended, Outcome::Remains(Reason::NotPermitted)];
    answers.send(targets.into_iter().zip(outcomes).collect()).expect("it listens");
    stage.panel.second(&stage.engine, stage.now);
    let screen = stage.draw();
    assert!(screen.contains("2 sockets: 1 ended, 1 REMAIN"), "{screen}");
    assert!(screen.contains("CAP_NET_ADMIN") && screen.contains("remains"), "{screen}");
    stage.keys("\x1b");
    assert!(!stage.draw().contains("CAP_NET_ADMIN"), "{}", stage.draw());
}

#[test]
fn where_nothing_can_be_ended_k_says_why() {
    let check = |hands: Hands, expect: &str| {
        let mut stage = stage("synthetic", (160, 50), Options { hands, ..options() });
        stage.keys("2k");
        assert!(stage.draw().contains(expect), "{}", stage.draw());
        stage.keys("y");
        assert!(stage.draw().contains("copied:"), "it runs on: {}", stage.draw());
    };
    check(None, "from a recording");
    check(Some(Err(Reason::NotPermitted)), "no socket can be ended here: not permitted");
    check(Some(Err(Reason::NotInThisKernel)), "CONFIG_INET_DIAG_DESTROY");
}
