//! Every filter: what matches is all there, and nothing else is. One run of known traffic, watched
//! through all filters at once; what each must show is worked out from what the test did.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio, id};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::netns::Netns;
use tests::ready;
use tests::tcptrail::{Event, Tcptrail};
use tests::traffic::{accept, connect, listen, read_end};

/// Servers' ports: of this process's client, of bash's, of the IPv6 client.
const OURS: u16 = 1001;
const BASH: u16 = 1002;
const SIX: u16 = 1003;

/// What the kernel is made to choose as their clients' ports.
const OURS_FROM: u16 = 40_001;
const BASH_FROM: u16 = 40_002;
const SIX_FROM: u16 = 40_003;

/// How long the first connection and all listeners last, and what `--min-duration` asks for.
const LONG: Duration = Duration::from_millis(450);

/// One transition that the traffic makes.
#[derive(Clone, Copy, Debug)]
struct Fact {
    role: &'static str,
    old: &'static str,
    new: &'static str,
    /// The server's port, which names the connection.
    conn: u16,
    pid: u32,
    addr: &'static str,
    long: bool,
}

/// All that happens, as rows `(role, old, new)` of each connection.
fn facts(bash: u32) -> Vec<Fact> {
    let client = [
        ("CLOSE", "SYN_SENT"),
        ("SYN_SENT", "ESTABLISHED"),
        ("ESTABLISHED", "FIN_WAIT1"),
        ("FIN_WAIT1", "FIN_WAIT2"),
        ("FIN_WAIT2", "TIME_WAIT"),
    ];
    let server = [
        ("LISTEN", "SYN_RECV"),
        ("SYN_RECV", "ESTABLISHED"),
        ("ESTABLISHED", "CLOSE_WAIT"),
        ("CLOSE_WAIT", "LAST_ACK"),
        ("LAST_ACK", "CLOSE"),
    ];
    let listener = [("CLOSE", "LISTEN"), ("LISTEN", "CLOSE")];
    let mut all = Vec::new();
    for (conn, addr, client_pid) in
        [(OURS, "127.0.0.1", id()), (BASH, "127.0.0.2", bash), (SIX, "::1", id())]
    {
        for (role, steps, pid) in [
            ("client", &client[..], client_pid),
            ("server", &server[..], id()),
            ("listener", &listener[..], id()),
        ] {
            for &(old, new) in steps {
                let long =
                    old == "LISTEN" && role == "listener" || old == "ESTABLISHED" && conn == OURS;
                all.push(Fact { role, old, new, conn, pid, addr, long });
            }
        }
    }
    all
}

/// How a transition is named here; how often each is there is counted.
type Shown = BTreeMap<(String, u16, String), usize>;

fn shown_facts(facts: &[Fact], wanted: impl Fn(&Fact) -> bool) -> Shown {
    let mut shown = Shown::new();
    for fact in facts.iter().filter(|fact| wanted(fact)) {
        let step = format!("{}>{}", fact.old, fact.new);
        *shown.entry((fact.role.to_owned(), fact.conn, step)).or_default() += 1;
    }
    shown
}

fn shown_events<'a>(events: impl Iterator<Item = &'a Event>) -> Shown {
    let mut shown = Shown::new();
    for event in events {
        let end = if event.text("role") == "client" { "remote" } else { "local" };
        let port = event.text(end).rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let key = (event.text("role").to_owned(), port.unwrap_or(0), event.step());
        *shown.entry(key).or_default() += 1;
    }
    shown
}

/// A cgroup of the test's own, removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Cgroup> {
        let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .map(PathBuf::from)
            .into_iter()
            .find(|root| root.join("cgroup.controllers").exists())?;
        let dir = root.join(format!("tt-{}", id()));
        fs::create_dir(&dir).ok()?;
        Some(Cgroup(dir))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its process has ended; the kernel may take a moment to know.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A process that connects when told to.
fn bash(netns: &Netns, cgroup: Option<&Cgroup>) -> Result<Child> {
    let enter = cgroup.map_or_else(String::new, |cgroup| {
        format!("echo $$ >{}/cgroup.procs || exit 1; ", cgroup.0.display())
    });
    let script = format!(
        "{enter}read; exec 3<>/dev/tcp/127.0.0.2/{BASH} || exit 1; read; exec 3>&-; exec 3<&-; read"
    );
    netns.spawn(Command::new("bash").args(["-c", &script]).stdin(Stdio::piped()))
}

fn tell(bash: &mut Child) -> Result<()> {
    let stdin = bash.stdin.as_mut().context("a pipe")?;
    Ok(std::io::Write::write_all(stdin, b"\n")?)
}

/// Makes the kernel choose this port for the next client.
fn next_port(netns: &Netns, port: u16) -> Result<()> {
    netns.sysctl("ipv4/ip_local_port_range", &format!("{port} {port}"))
}

/// The traffic that [`facts`] tell.
fn traffic(netns: &Netns, bash: &mut Child) -> Result<()> {
    let ours = listen(netns, &format!("127.0.0.1:{OURS}"))?;
    let for_bash = listen(netns, &format!("127.0.0.2:{BASH}"))?;
    let six = listen(netns, &format!("[::1]:{SIX}"))?;
    next_port(netns, OURS_FROM)?;
    let client = connect(netns, ours.local_addr()?)?;
    let server = accept(&ours)?;

    next_port(netns, BASH_FROM)?;
    tell(bash)?;
    let of_bash = accept(&for_bash)?;
    tell(bash)?;
    read_end(&of_bash)?;
    drop(of_bash);

    next_port(netns, SIX_FROM)?;
    let six_client = connect(netns, six.local_addr()?)?;
    let six_server = accept(&six)?;
    drop(six_client);
    read_end(&six_server)?;
    drop(six_server);

    thread::sleep(LONG);
    drop(client);
    read_end(&server)?;
    Ok(())
}

#[test]
fn each_shows_all_that_matches_and_nothing_else() -> Result<()> {
    if !ready(&["bash"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let elsewhere = Netns::new()?;
    let cgroup = Cgroup::new();
    if cgroup.is_none() {
        println!("skipped: --cgroup needs a cgroup version 2 hierarchy");
    }
    let mut bash = bash(&netns, cgroup.as_ref())?;
    let bash_pid = bash.id();
    let facts = facts(bash_pid);
    let our_comm = fs::read_to_string("/proc/self/comm")?.trim_end().to_owned();

    let here = netns.name().to_owned();
    let path = format!("/run/netns/{here}");
    let (inode, of_pid) = (netns.inode().to_string(), format!("pid:{bash_pid}"));
    let other = elsewhere.name().to_owned();
    let (pid, pids) = (id().to_string(), format!("{},{bash_pid}", id()));
    let bash_pid_text = bash_pid.to_string();
    let cgroup_name = cgroup.as_ref().and_then(|cgroup| cgroup.0.file_name()?.to_str());

    type Wanted<'a> = Box<dyn Fn(&Fact) -> bool + 'a>;
    let mut filters: Vec<(Vec<&str>, Wanted<'_>)> = Vec::new();
    let mut add = |args: &[&'static str], wanted: fn(&Fact) -> bool| {
        filters.push((args.to_vec(), Box::new(wanted)));
    };
    add(&[], |_| true);
    add(&["--port", "1001"], |f| f.conn == OURS);
    add(&["--port", "1001,1003"], |f| f.conn != BASH);
    add(&["--port", "1000-1002"], |f| f.conn != SIX);
    add(&["--port", "1"], |_| false);
    // The ephemeral port is not chosen yet at CLOSE->SYN_SENT.
    add(&["--port", "40001"], |f| f.conn == OURS && f.role != "listener");
    add(&["--lport", "40001"], |f| f.conn == OURS && f.role == "client");
    add(&["--lport", "40002-40009"], |f| f.conn != OURS && f.role == "client");
    add(&["--lport", "1002"], |f| f.conn == BASH && f.role != "client");
    add(&["--rport", "1003"], |f| f.conn == SIX && f.role == "client");
    add(&["--rport", "40003"], |f| f.conn == SIX && f.role == "server");
    add(&["--lport", "40003", "--rport", "1003"], |f| f.conn == SIX && f.role == "client");
    add(&["--lport", "40003", "--rport", "1001"], |_| false);
    // Who connects to 127.0.0.2 does it from 127.0.0.1.
    add(&["--addr", "127.0.0.1"], |f| {
        f.addr == "127.0.0.1" || f.addr == "127.0.0.2" && f.role != "listener"
    });
    add(&["--addr", "127.0.0.2/31"], |f| f.addr == "127.0.0.2");
    add(&["--addr", "127.0.0.0/8"], |f| f.addr != "::1");
    add(&["--addr", "::1"], |f| f.addr == "::1");
    add(&["--addr", "::1/128,127.0.0.2"], |f| f.addr != "127.0.0.1");
    add(&["--addr", "10.0.0.0/8"], |_| false);
    add(&["-4"], |f| f.addr != "::1");
    add(&["-6"], |f| f.addr == "::1");
    add(&["--state", "CLOSE_WAIT"], |f| f.old == "CLOSE_WAIT" || f.new == "CLOSE_WAIT");
    add(&["--state", "listen,time-wait"], |f| {
        [f.old, f.new].iter().any(|state| ["LISTEN", "TIME_WAIT"].contains(state))
    });
    add(&["--state", "CLOSING"], |_| false);
    add(&["--state", "SYN_SENT", "--lport", "40001"], |f| {
        f.conn == OURS && (f.old == "SYN_SENT" || f.new == "SYN_SENT")
    });
    add(&["--role", "client"], |f| f.role == "client");
    add(&["--role", "server"], |f| f.role == "server");
    add(&["--role", "listener"], |f| f.role == "listener");
    add(&["--role", "server", "--port", "1001"], |f| f.role == "server" && f.conn == OURS);
    add(&["--min-duration", "300ms"], |f| f.long);
    add(&["--min-duration", "1m"], |_| false);
    add(&["--comm", "bash"], |f| f.conn == BASH && f.role == "client");
    add(&["--comm", "nobody"], |_| false);
    filters.push((vec!["--comm", &our_comm], Box::new(|f| f.pid == id())));
    filters.push((vec!["--pid", &pid], Box::new(|f| f.pid == id())));
    filters.push((vec!["-p", &bash_pid_text], Box::new(|f| f.pid == bash_pid)));
    filters.push((vec!["--pid", &pids], Box::new(|_| true)));
    filters.push((vec!["--pid", "1"], Box::new(|_| false)));
    if let Some(name) = cgroup_name {
        filters.push((vec!["--cgroup", name], Box::new(|f| f.conn == BASH && f.role == "client")));
    }
    // All have `--netns` but those that are about it.
    for (args, _) in &mut filters {
        args.extend(["--netns", &here]);
    }
    for ns in [&path, &inode, &of_pid] {
        filters.push((vec!["--netns", ns], Box::new(|_| true)));
    }
    filters.push((vec!["--netns", &other], Box::new(|_| false)));

    let commands: Vec<_> = filters.iter().map(|(args, _)| args.clone()).collect();
    let running = Tcptrail::start_all(&commands)?;
    traffic(&netns, &mut bash)?;
    let runs = Tcptrail::stop_all(running)?;
    let mut wrong = Vec::new();
    for ((args, wanted), run) in filters.into_iter().zip(runs) {
        run.check_whole().with_context(|| args.join(" "))?;
        let expected = shown_facts(&facts, wanted);
        let got = shown_events(run.of_kind("transition"));
        if got != expected {
            let missing: Vec<_> =
                expected.iter().filter(|fact| got.get(fact.0) != Some(fact.1)).collect();
            let extra: Vec<_> =
                got.iter().filter(|row| expected.get(row.0) != Some(row.1)).collect();
            wrong.push(format!("{}: missing {missing:?}; extra {extra:?}", args.join(" ")));
        }
        // Where a port decided, the line that had to wait for it shows it.
        if args.contains(&"--lport") || args.contains(&"40001") {
            for event in run.of_kind("transition").filter(|event| event.text("role") == "client") {
                ensure!(!event.text("local").is_empty(), "{}: {event:?}", args.join(" "));
            }
        }
    }
    drop(bash.stdin.take());
    bash.wait()?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn life_shows_whole_connections_that_match() -> Result<()> {
    if !ready(&["bash"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let mut bash = bash(&netns, None)?;
    let bash_pid = bash.id().to_string();
    type Wanted = fn(&str, u16) -> bool;
    let filters: [(&[&str], Wanted); 11] = [
        (&[], |_, _| true),
        (&["--lport", "40002"], |role, conn| role == "client" && conn == BASH),
        (&["--port", "1003"], |_, conn| conn == SIX),
        (&["--state", "CLOSE_WAIT"], |role, _| role == "server"),
        (&["--state", "SYN_SENT"], |role, _| role == "client"),
        (&["--min-duration", "300ms"], |_, conn| conn == OURS),
        (&["--role", "server"], |role, _| role == "server"),
        (&["--pid", &bash_pid], |role, conn| role == "client" && conn == BASH),
        (&["-6"], |_, conn| conn == SIX),
        (&["--addr", "127.0.0.2"], |_, conn| conn == BASH),
        (&["--state", "CLOSING"], |_, _| false),
    ];
    let commands: Vec<_> = filters
        .iter()
        .map(|(args, _)| [&["life"], *args, &["--netns", netns.name()]].concat())
        .collect();
    let running = Tcptrail::start_all(&commands)?;
    traffic(&netns, &mut bash)?;
    let runs = Tcptrail::stop_all(running)?;
    for ((args, wanted), run) in filters.into_iter().zip(runs) {
        run.check_whole()?;
        let mut expected = Vec::new();
        for role in ["client", "server"] {
            expected.extend([OURS, BASH, SIX].map(|conn| (role, conn)));
        }
        expected.retain(|&(role, conn)| wanted(role, conn));
        let mut got: Vec<_> = run
            .of_kind("close")
            .map(|event| {
                let role = event.text("role");
                let end = event.text(if role == "client" { "remote" } else { "local" });
                (role, end.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0))
            })
            .collect();
        got.sort_unstable();
        ensure!(got == expected, "life {}: {got:?}, not {expected:?}", args.join(" "));
    }
    drop(bash.stdin.take());
    bash.wait()?;
    Ok(())
}
