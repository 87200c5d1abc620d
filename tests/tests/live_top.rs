//! `top` in a real terminal: what it shows of a leak, what keys do, and how the terminal is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::holder::Holder;
use tests::java::{Program, WITH_FRAME_POINTERS, native, native_ready};
use tests::netns::{Netns, Pair};
use tests::ready;
use tests::tcptrail::{binary, run};
use tests::tmux::Terminal;
use tests::traffic::{connect, listen};
use tests::witness::{eventually, has_cookies, in_state, ss};

const UTF8: (&str, &str) = ("LC_ALL", "C.UTF-8");

/// `top` in a terminal, with its first screen.
fn top(terminal: &Terminal, args: &str) -> Result<()> {
    terminal.run(&format!("{} {args}; echo ended with $?", binary().display()))?;
    // The command itself is on the screen, too.
    let ended = |screen: &str| screen.lines().any(|line| line.starts_with("ended with"));
    terminal.wait("top", |screen| screen.contains("1 Findings") || ended(screen))?;
    Ok(())
}

/// As it was before: the shell's own screen, lines with an echo, no mouse, a cursor.
fn check_given_back(terminal: &Terminal, code: &str) -> Result<()> {
    terminal.wait_for(&format!("ended with {code}"))?;
    for (name, value) in [("alternate_on", "0"), ("mouse_any_flag", "0"), ("cursor_flag", "1")] {
        let found = terminal.variable(name)?;
        ensure!(found == value, "{name} is {found}");
    }
    terminal.run("clear; stty -a")?;
    let modes = terminal.wait_for("icanon")?;
    let modes: Vec<&str> = modes.split_whitespace().collect();
    for mode in ["icanon", "echo", "isig", "opost"] {
        ensure!(modes.contains(&mode), "no {mode}: {modes:?}");
    }
    Ok(())
}

/// A server that says a byte and closes.
fn closing_server(netns: &Netns) -> Result<u16> {
    let listener = listen(netns, "127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0]);
            let _ = stream.write_all(b"x");
        }
    });
    Ok(port)
}

#[test]
fn a_leak_is_found_and_explained() -> Result<()> {
    if !ready(&["tmux"]) || !native_ready() {
        return Ok(());
    }
    let netns = Netns::new()?;
    let port = closing_server(&netns)?;
    let mut crawler = std::process::Command::new(native("crawler", WITH_FRAME_POINTERS)?);
    crawler.args([&port.to_string(), "400"]);
    let program = Program::start(&netns, crawler)?;
    let terminal = Terminal::start(120, 40, &[UTF8])?;
    let dir = tempfile::tempdir()?;
    terminal.run(&format!("cd {}", dir.path().display()))?;
    top(&terminal, &format!("top --netns {} --threshold CLOSE_WAIT=1s", netns.name()))?;
    let sentence = format!("crawler[{}] leaks CLOSE_WAIT", program.pid());
    terminal.wait_for(&sentence)?;
    terminal.press("Enter")?;
    let pane = terminal.wait_for("What to do")?;
    ensure!(pane.contains("find the code path that skips it"), "{pane}");
    // Its sockets are those that ss sees.
    terminal.type_in("s")?;
    terminal.wait_for("filter: pid:")?;
    terminal.wait("as many rows as ss has", |screen| {
        let half_closed = ss(&netns)
            .map_or(0, |all| all.iter().filter(|socket| socket.state == "CLOSE_WAIT").count());
        let tabs = screen.lines().find(|line| line.contains("1 Findings")).unwrap_or_default();
        let rows = tabs.split_whitespace().last().and_then(|count| count.parse::<usize>().ok());
        // A second passes between the two, in which ten more come.
        half_closed != 0 && rows.is_some_and(|rows| rows.abs_diff(half_closed) <= 20)
    })?;
    // Who opened them is named by the function.
    terminal.type_in("6")?;
    let openers = terminal.wait_for("fetch")?;
    ensure!(openers.contains("connected"), "{openers}");
    check_written(&terminal, dir.path(), &sentence)?;
    // Any size, at any time.
    terminal.resize(60, 15)?;
    terminal.wait("a narrower screen", |screen| {
        screen.lines().all(|line| line.chars().count() <= 60) && screen.contains("1 Findings")
    })?;
    terminal.type_in("q")?;
    check_given_back(&terminal, "0")
}

/// `w` writes the report of the run, with the table that is shown, and says where.
fn check_written(terminal: &Terminal, folder: &Path, sentence: &str) -> Result<()> {
    terminal.type_in("w")?;
    terminal.wait_for(&format!("written: {}/tcptrail-openers-", folder.display()))?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        ensure!(fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600, "{path:?}");
        if path.extension().is_some_and(|kind| kind == "html") {
            pages.push(fs::read_to_string(path)?);
        }
    }
    let [page] = pages.as_slice() else { bail!("{} reports", pages.len()) };
    let data = page.split("type=\"application/json\">").nth(1).context("data")?;
    let data: serde_json::Value =
        serde_json::from_str(data.split("</script>").next().context("its end")?)?;
    let verdict = data["findings"][0]["verdict"].as_str().unwrap_or_default();
    ensure!(verdict.starts_with(sentence), "{verdict}");
    let of_fetch = |rows: &serde_json::Value| rows.to_string().contains("fetch");
    ensure!(of_fetch(&data["shown"]["rows"]), "{}", data["shown"]);
    ensure!(of_fetch(&data["stacks"]), "{}", data["stacks"]);
    Ok(())
}

#[test]
fn the_terminal_is_given_back_however_it_ends() -> Result<()> {
    if !ready(&["tmux"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    for signal in [None, Some(Signal::TERM), Some(Signal::INT), Some(Signal::HUP)] {
        let terminal = Terminal::start(80, 24, &[UTF8])?;
        top(&terminal, &format!("top --netns {}", netns.name()))?;
        match signal {
            None => terminal.press("C-c")?,
            Some(signal) => {
                kill_process(Pid::from_raw(child(&terminal)?).context("a pid")?, signal)?;
            }
        }
        check_given_back(&terminal, "0")?;
    }
    // The terminal goes away: top ends, and does not turn round and round without one.
    let terminal = Terminal::start(80, 24, &[UTF8])?;
    top(&terminal, &format!("top --netns {}", netns.name()))?;
    let process = format!("/proc/{}", child(&terminal)?);
    drop(terminal);
    eventually("its end", Duration::from_secs(10), || {
        Ok((!std::path::Path::new(&process).exists()).then_some(()))
    })?;
    Ok(())
}

/// What the shell of a terminal runs.
fn child(terminal: &Terminal) -> Result<i32> {
    let shell = terminal.shell()?;
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
    Ok(children.split_whitespace().next().context("a child")?.parse()?)
}

/// `k` in a terminal: the question names the sockets, no is a no, and yes ends them, which `ss` confirms. Their process
/// lives and keeps what it has.
#[test]
fn k_ends_what_its_question_names() -> Result<()> {
    const COUNT: usize = 5;
    if !ready(&["tmux", "ss", "python3"]) || !has_cookies() {
        return Ok(());
    }
    let pair = Pair::new()?;
    let addr = format!("{}:8089", Pair::RIGHT).parse()?;
    let mut holder = Holder::start(&pair.right, addr)?;
    for _ in 0..COUNT {
        drop(connect(&pair.left, addr)?);
    }
    eventually("all in CLOSE_WAIT", Duration::from_secs(20), || {
        let there = in_state(&pair.right, "CLOSE_WAIT")?;
        Ok((there == COUNT && holder.held()? == COUNT).then_some(()))
    })?;
    let descriptors = holder.descriptors()?;
    let terminal = Terminal::start(100, 30, &[UTF8])?;
    top(&terminal, &format!("top --pid {} --state CLOSE_WAIT", holder.pid()))?;
    terminal.type_in("2")?;
    let of_holder = format!("python3[{}]", holder.pid());
    terminal.wait("its sockets", |screen| {
        let rows = screen.lines().skip(3).filter(|line| line.contains(&of_holder));
        rows.filter(|line| line.contains("CLOSE_WAIT")).count() >= COUNT
    })?;
    // One of them, and no.
    terminal.type_in("k")?;
    let question = terminal.wait_for("End 1 socket?")?;
    ensure!(question.contains(&format!("{addr} -> {}:", Pair::LEFT)), "{question}");
    ensure!(question.contains(&of_holder), "{question}");
    terminal.press("Escape")?;
    terminal.wait_for("nothing was ended")?;
    ensure!(in_state(&pair.right, "CLOSE_WAIT")? == COUNT, "a no was taken for a yes");
    // Two of them, and yes.
    terminal.type_in("mmk")?;
    terminal.wait_for("End 2 sockets?")?;
    terminal.type_in("y")?;
    terminal.wait_for("2 sockets: 2 ended; each was looked for by its cookie")?;
    ensure!(in_state(&pair.right, "CLOSE_WAIT")? == COUNT - 2, "{:?}", ss(&pair.right)?);
    // All that are shown.
    terminal.type_in("Mk")?;
    terminal.wait_for(&format!("End {} sockets?", COUNT - 2))?;
    terminal.type_in("y")?;
    terminal.wait_for(&format!("{0} sockets: {0} ended", COUNT - 2))?;
    ensure!(in_state(&pair.right, "CLOSE_WAIT")? == 0, "{:?}", ss(&pair.right)?);
    ensure!(holder.held()? == COUNT && holder.descriptors()? == descriptors, "the process");
    terminal.type_in("q")?;
    check_given_back(&terminal, "0")
}

/// Without the privilege to end sockets everything else works, and `k` says what is missing.
#[test]
fn without_the_privilege_k_says_so_and_top_runs_on() -> Result<()> {
    if !ready(&["tmux", "setpriv"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let _client = connect(&netns, listener.local_addr()?)?;
    let terminal = Terminal::start(120, 30, &[UTF8])?;
    let less = "setpriv --bounding-set=-net_admin --inh-caps=-net_admin";
    terminal.run(&format!(
        "{less} {} top --netns {}; echo ended with $?",
        binary().display(),
        netns.name()
    ))?;
    terminal.wait_for("1 Findings")?;
    terminal.type_in("2")?;
    terminal.wait_for("127.0.0.1:")?;
    terminal.type_in("k")?;
    terminal.wait_for("no socket can be ended here: not permitted: it takes CAP_NET_ADMIN")?;
    terminal.type_in("3")?;
    terminal.wait_for("PROCESS")?;
    terminal.type_in("q")?;
    check_given_back(&terminal, "0")
}

#[test]
fn without_a_terminal_it_says_what_to_use() -> Result<()> {
    if !ready(&[]) {
        return Ok(());
    }
    let ended = run(&["top"])?;
    ensure!(ended.code() == Some(1), "{ended:?}");
    ensure!(ended.raw.is_empty(), "{ended:?}");
    ensure!(
        ended.stderr.contains("stdout is not a terminal: use `tcptrail list`"),
        "{}",
        ended.stderr
    );
    let ended = run(&["top", "--json"])?;
    ensure!(ended.code() == Some(2) && ended.stderr.contains("list --json"), "{ended:?}");
    if !ready(&["tmux"]) {
        return Ok(());
    }
    // A terminal that nothing can be drawn on.
    let terminal = Terminal::start(120, 24, &[UTF8])?;
    terminal.run(&format!("TERM=dumb {} top; echo ended with $?", binary().display()))?;
    terminal.wait_for("top cannot draw on a terminal of type `dumb` (TERM)")?;
    terminal.wait_for("ended with 1")?;
    Ok(())
}

#[test]
fn a_recording_stands_still_and_goes_back() -> Result<()> {
    if !ready(&["tmux"]) {
        return Ok(());
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/synthetic.tcpt");
    // No UTF-8 locale: plain ASCII, which says so by its arrows.
    let terminal = Terminal::start(100, 30, &[("LC_ALL", "C"), ("TZ", "UTC")])?;
    top(&terminal, &format!("replay {file} top"))?;
    terminal.type_in(" 2")?;
    terminal.wait_for("paused")?;
    terminal.type_in("]]]]")?;
    let screen = terminal.wait_for("40s of 50s")?;
    ensure!(screen.is_ascii() && screen.contains("java[31467]"), "{screen}");
    terminal.type_in(",")?;
    terminal.wait_for("39s of 50s")?;
    terminal.type_in("[[[")?;
    terminal.wait_for("9s of 50s")?;
    terminal.type_in("$")?;
    terminal.wait_for("50s of 50s")?;
    terminal.type_in("k")?;
    terminal.wait_for("these sockets are from a recording and cannot be ended")?;
    terminal.type_in("q")?;
    check_given_back(&terminal, "0")
}

/// Keys are answered, and lines written by others to the same terminal are kept for the end.
#[test]
fn keys_are_answered_while_events_pour_in() -> Result<()> {
    if !ready(&["tmux"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || for _ in listener.incoming() {});
    let terminal = Terminal::start(80, 24, &[UTF8])?;
    top(&terminal, &format!("top --netns {}", netns.name()))?;
    let load = netns.run(move || {
        Ok(std::thread::spawn(move || {
            for _ in 0..20_000 {
                let _ = std::net::TcpStream::connect(addr);
            }
        }))
    })?;
    for tab in ["2", "3", "4", "5", "6", "1"] {
        terminal.type_in(tab)?;
        let marker = ["", "WHAT", "REMOTE", "PROCESS", "LISTENS AT", "HS p50", "OPENED BY"];
        terminal.wait_for(marker[tab.parse::<usize>()?])?;
    }
    sleep(Duration::from_millis(100));
    eventually("the load", Duration::from_secs(60), || Ok(load.is_finished().then_some(())))?;
    terminal.wait("nothing lost", |screen| screen.contains("lost 0"))?;
    terminal.type_in("q")?;
    check_given_back(&terminal, "0")
}
