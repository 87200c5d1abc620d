//! What remote ends are called, and where connections really go: by rules of nftables, files and a server of DNS that
//! the tests make. Witnesses: the sockets' own addresses and cookies.

use std::fs;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt::socket_cookie;
use tests::netns::{Netns, Pair};
use tests::ready;
use tests::tcptrail::{Event, Run, Tcptrail, binary, command, run, shown};
use tests::traffic::{Both, accept, listen};
use tests::witness::has_cookies;

/// As a ClusterIP of Kubernetes.
const SERVICE: &str = "10.96.0.1";
/// Beyond what tcptrail takes to look at a file again, or to ask.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection to [`SERVICE`], and the socket that answers.
struct Translated {
    client: TcpStream,
    server: TcpStream,
}

impl Translated {
    fn connect(from: &Netns, listener: &std::net::TcpListener) -> Result<Translated> {
        let to: SocketAddr = format!("{SERVICE}:80").parse()?;
        let connect = || TcpStream::connect_timeout(&to, PATIENCE).context("connect");
        let client = from.run(connect)?;
        Ok(Translated { client, server: accept(listener)? })
    }

    /// The client's line says where it really goes, and each names the other.
    fn check(&self, run: &Run) -> Result<()> {
        let find = |stream: &TcpStream| {
            let (local, remote) = (shown(stream.local_addr()?), shown(stream.peer_addr()?));
            let of =
                |event: &&Event| event.text("local") == local && event.text("remote") == remote;
            let found = run.of_kind("socket").filter(of).last();
            found.with_context(|| format!("no socket {local} {remote}: {}", run.stderr))
        };
        let (client, server) = (find(&self.client)?, find(&self.server)?);
        ensure!(client.text("remote") == format!("{SERVICE}:80"), "{client:?}");
        ensure!(client.text("remote_real") == shown(self.server.local_addr()?), "{client:?}");
        ensure!(server.0["remote_real"].is_null(), "{server:?}");
        if has_cookies() {
            let cookies = [socket_cookie(&self.client)?, socket_cookie(&self.server)?];
            let told = [server.text("peer_conn"), client.text("peer_conn")];
            ensure!(told == cookies.map(|cookie| cookie.to_string()), "{client:?} {server:?}");
        }
        Ok(())
    }
}

/// Loads rules of NAT, which not every kernel has.
fn translate(netns: &Netns, hook: &str, rule: &str) -> Result<bool> {
    let rules = format!(
        "table ip nat {{
            chain {hook} {{
                type nat hook {hook} priority -100; policy accept;
                ip daddr {SERVICE} tcp dport 80 {rule}
            }}
        }}"
    );
    match netns.nft(&rules) {
        Ok(()) => Ok(true),
        Err(error) => {
            println!("skipped: no NAT here: {error:#}");
            Ok(false)
        }
    }
}

/// Whether conntrack can be asked: ctnetlink may be a module that nothing has loaded.
fn answers() -> bool {
    let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
    let loaded = |name: &str| modules.lines().any(|line| line.split(' ').next() == Some(name));
    let answers = !loaded("nf_conntrack") || loaded("nf_conntrack_netlink");
    if !answers {
        println!("skipped: nf_conntrack_netlink is not loaded");
    }
    answers
}

#[test]
fn a_translated_destination_is_told_and_so_is_the_other_end() -> Result<()> {
    if !ready(&["ip", "nft"]) {
        return Ok(());
    }
    let pair = Pair::new()?;
    pair.left.ip(&["route", "add", "10.96.0.0/16", "via", Pair::RIGHT])?;
    let listener = listen(&pair.right, &format!("{}:0", Pair::RIGHT))?;
    if !translate(&pair.left, "output", &format!("dnat to {}", listener.local_addr()?))?
        || !answers()
    {
        return Ok(());
    }
    let translated = Translated::connect(&pair.left, &listener)?;
    // Others to the same endpoint: all of them are in the first list.
    let others: Vec<Translated> =
        (0..5).map(|_| Translated::connect(&pair.left, &listener)).collect::<Result<_>>()?;
    let listed = run(&["list", "--json"])?;
    listed.check_whole()?;
    others.iter().chain([&translated]).try_for_each(|one| one.check(&listed))?;
    // A replay asks nobody.
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("r.tcpt");
    let file = file.to_str().context("UTF-8")?;
    run(&["list", "--json", "--record", file])?.check_whole()?;
    let replayed = run(&["replay", file, "list", "--json"])?;
    translated.check(&replayed)?;
    // What comes later has it, too, and in a text.
    let client = shown(translated.client.local_addr()?);
    let server = shown(translated.server.local_addr()?);
    let text = String::from_utf8(run(&["list", "--port", "80"])?.raw)?;
    let line = text.lines().find(|line| line.contains(&client)).context("no line")?;
    ensure!(line.contains(&format!("NAT to {server}")), "{line}");
    Ok(())
}

/// What Kubernetes does: the pod's namespace has no rules, the machine's has them.
#[test]
fn the_machines_namespace_is_asked_for_what_pods_send() -> Result<()> {
    if !ready(&["ip", "nft", "unshare"]) {
        return Ok(());
    }
    let Pair { left: pod, right: node } = Pair::new()?;
    pod.ip(&["route", "add", "10.96.0.0/16", "via", Pair::RIGHT])?;
    let listener = listen(&node, &format!("{}:0", Pair::RIGHT))?;
    if !translate(&node, "prerouting", &format!("dnat to {}", listener.local_addr()?))?
        || !answers()
    {
        return Ok(());
    }
    let translated = Translated::connect(&pod, &listener)?;
    for only in [None, Some(pod.name())] {
        // With process ids of its own, so that its first process is in the node's namespace.
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc"]).arg(binary()).args(["list", "--json"]);
        command.args(only.map(|name| ["--netns", name]).into_iter().flatten());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let listed = node.run(|| Tcptrail::spawn(command))?.wait()?;
        listed.check_good_end()?;
        match only {
            None => translated.check(&listed)?,
            // The other end is in a namespace that this run is not about.
            Some(_) => {
                let real = shown(translated.server.local_addr()?);
                let told = listed.of_kind("socket").any(|it| it.text("remote_real") == real);
                ensure!(told, "{:?}", listed.stderr);
            }
        }
    }
    Ok(())
}

#[test]
fn a_redirect_to_loopback_is_told() -> Result<()> {
    if !ready(&["ip", "nft"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.ip(&["addr", "add", "10.9.9.9/32", "dev", "lo"])?;
    netns.ip(&["route", "add", "10.96.0.0/16", "dev", "lo"])?;
    let listener = listen(&netns, "127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    if !translate(&netns, "output", &format!("redirect to :{port}"))? || !answers() {
        return Ok(());
    }
    let translated = Translated::connect(&netns, &listener)?;
    let mut watch = Tcptrail::start(&["list", "--watch=500ms", "--netns", netns.name()])?;
    let real = shown(translated.server.local_addr()?);
    watch.wait_for("where it really goes", |event| event.text("remote_real") == real)?;
    let listed = watch.stop()?;
    translated.check(&listed)
}

/// tcptrail with another `/etc`, in namespaces of mounts and of network of its own.
fn with_etc(netns: &Netns, etc: &Path, args: &[&str]) -> Result<Tcptrail> {
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "bash", "-c"]);
    shell.arg("mount --bind \"$1\" /etc && shift && exec \"$@\"").arg("bash").arg(etc);
    shell.arg(binary()).args(command(args).get_args()).env_remove("NO_COLOR");
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    netns.run(|| Tcptrail::spawn(shell))
}

fn host_and_port(event: &Event) -> [&str; 3] {
    ["remote_name", "remote_name_source", "port_name"].map(|field| event.text(field))
}

#[test]
fn names_of_hosts_and_ports_are_those_of_the_files() -> Result<()> {
    if !ready(&["unshare", "mount", "bash"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.ip(&["addr", "add", "10.9.9.9/32", "dev", "lo"])?;
    let listener = listen(&netns, "10.9.9.9:0")?;
    let addr = listener.local_addr()?;
    let both = Both::new(&netns, &listener, addr)?;
    let etc = tempfile::tempdir()?;
    let name = |name: &str| fs::write(etc.path().join("hosts"), format!("10.9.9.9 {name} x\n"));
    name("db.internal")?;
    let services = format!("shop-db {}/tcp # of ours\n", addr.port());
    fs::write(etc.path().join("services"), services)?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("r.tcpt");
    let file = file.to_str().context("UTF-8")?;
    let args = ["list", "--watch=500ms", "--json", "--netns", netns.name(), "--record", file];
    let mut list = with_etc(&netns, etc.path(), &args)?;
    let client = shown(both.ends.client);
    let is_client = |event: &Event| event.text("local") == client;
    let listed = list.wait_for("the client", is_client)?;
    ensure!(host_and_port(&listed) == ["db.internal", "hosts", "shop-db"], "{listed:?}");
    let server = list.wait_for("the server", |event| event.text("remote") == client)?;
    ensure!(host_and_port(&server) == ["db.internal", "hosts", "shop-db"], "{server:?}");
    let listening = list.wait_for("the listener", |event| event.text("role") == "listener")?;
    ensure!(host_and_port(&listening) == ["", "", "shop-db"], "{listening:?}");
    // Characters that would clear a terminal are no part of a name's line.
    name("new\u{1b}[2Jname")?;
    list.wait_for_within("the new name", PATIENCE, |event| {
        is_client(event) && event.text("remote_name") == "new\u{1b}[2Jname"
    })?;
    let run_of_list = list.stop()?;
    run_of_list.check_good_end()?;
    ensure!(!run_of_list.raw.contains(&0x1b), "an escape in JSON");
    // A replay has the names as they were, wherever it runs.
    let replayed = run(&["replay", file, "list", "--json"])?;
    let replayed = replayed.of_kind("socket").find(|event| is_client(event)).context("client")?;
    ensure!(replayed.text("port_name") == "shop-db", "{replayed:?}");
    ensure!(replayed.text("remote_name") == "new\u{1b}[2Jname", "{replayed:?}");
    let text = String::from_utf8(run(&["replay", file, "list"])?.raw)?;
    let line = text.lines().find(|line| line.contains("| shop-db on ")).context("client")?;
    ensure!(line.ends_with("new\\u{1b}[2Jname") && line.contains(&client), "{line}");
    Ok(())
}

/// A server that knows one name: `db.example`, for whatever is asked.
fn serve_dns(netns: &Netns) -> Result<()> {
    let socket = netns.run(|| Ok(UdpSocket::bind("127.0.0.1:53")?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            // The question as it came, with one answer: PTR of the name at byte 12, for a minute.
            let end = query[12..length].iter().position(|&byte| byte == 0).unwrap_or(0) + 12 + 5;
            let mut answer = query[..end.min(length)].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60, 0, 12]);
            answer.extend(b"\x02db\x07example\0");
            if socket.send_to(&answer, from).is_err() {
                return;
            }
        }
    });
    Ok(())
}

#[test]
fn dns_is_asked_only_when_it_is_asked_for() -> Result<()> {
    if !ready(&["unshare", "mount", "bash"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    netns.ip(&["addr", "add", "10.9.9.9/32", "dev", "lo"])?;
    let listener = listen(&netns, "10.9.9.9:0")?;
    let both = Both::new(&netns, &listener, listener.local_addr()?)?;
    serve_dns(&netns)?;
    let etc = tempfile::tempdir()?;
    fs::write(etc.path().join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1\n")?;
    let client = shown(both.ends.client);
    let is_client = |event: &Event| event.text("local") == client;
    let args = ["list", "--watch=500ms", "--json", "--netns", netns.name()];
    let mut without = with_etc(&netns, etc.path(), &args)?;
    let mut with = with_etc(&netns, etc.path(), &[&args[..], &["--resolve"]].concat())?;
    let named = |event: &Event| is_client(event) && event.text("remote_name") == "db.example";
    let found = with.wait_for_within("the name", PATIENCE, named)?;
    ensure!(found.text("remote_name_source") == "dns", "{found:?}");
    with.stop()?.check_good_end()?;
    without.wait_for("the client", is_client)?;
    let without = without.stop()?;
    let nameless = |event: &Event| event.0["remote_name"].is_null();
    ensure!(without.of_kind("socket").all(nameless), "DNS was asked");
    let refused = run(&["replay", "x.tcpt", "--resolve"])?;
    ensure!(refused.code() == Some(2) && refused.stderr.contains("--resolve"), "{refused:?}");
    Ok(())
}
