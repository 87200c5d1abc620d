//! Clients of other libraries before nginx, which closes idle connections after 2 s: what each does about it is what
//! must be said.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::java::Program;
use tests::netns::Netns;
use tests::ready;
use tests::servers::nginx;
use tests::traffic::connect;

use crate::stage::{check_verdict, finding, silent, start};

const PORT: u16 = 8401;

/// Five requests at once, a pause, five again; as its last line the number that failed.
const NODE: &str = "
const http = require('http');
const agent = new http.Agent({ keepAlive: true });
let failed = 0;
const ask = () => new Promise((done) => {
  http.get({ port: 8401, path: '/index.html', agent }, (answer) => { answer.resume(); answer.on('end', done); })
    .on('error', () => { failed++; done(); });
});
const round = () => Promise.all(Array.from({ length: 5 }, ask));
round().then(() => setTimeout(() => round().then(() => console.log('failed ' + failed)), 8000));
setTimeout(() => {}, 600000);
";

const REQUESTS: &str = "
import requests, threading, time
session = requests.Session()
session.mount('http://', requests.adapters.HTTPAdapter(pool_maxsize=5))
failed = []
# Each keeps its connection until all five have one: else a quick first would lend its own to the others.
together = threading.Barrier(5)
def ask():
    try:
        answer = session.get('http://127.0.0.1:8401/index.html', stream=True)
        together.wait(20)
        answer.content
    except Exception as error: failed.append(error)
def round():
    all = [threading.Thread(target=ask) for _ in range(5)]
    for one in all: one.start()
    for one in all: one.join()
round()
time.sleep(8)
round()
print('failed', len(failed), flush=True)
time.sleep(600)
";

/// Takes upgrades: answers, and keeps the socket or ends it when the client does. Nobody else reads from it, and the HTTP
/// server lets it be half-open.
const UPGRADES: &str = "
const kept = [];
const server = require('http').createServer();
server.on('upgrade', (request, socket) => {
  socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: chat\\r\\nConnection: Upgrade\\r\\n\\r\\n');
  kept.push(socket);
  if (process.argv[2] === 'end') { socket.resume(); socket.on('end', () => socket.end()); }
});
server.listen(Number(process.argv[3]), '127.0.0.1', () => console.log('ready'));
";
const UPGRADED: [u8; 72] =
    *b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n";

/// A connection that a handler took out of its HTTP server by an upgrade is nobody's but the handler's.
#[test]
fn upgraded_connections_that_nobody_ends_leak() -> Result<()> {
    if !ready(&["node"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("upgrades.js");
    fs::write(&script, UPGRADES)?;
    let mut stuck = start(&netns, &["--threshold", "CLOSE_WAIT=2s"])?;
    let serve = |how: &str, port: u16| -> Result<Program> {
        let mut node = Command::new("node");
        node.arg(&script).args([how, &port.to_string()]);
        let mut server = Program::start(&netns, node)?;
        server.wait_for("ready")?;
        Ok(server)
    };
    let (keeps, ends) = (serve("keep", 8402)?, serve("end", 8403)?);
    for _ in 0..16 {
        for port in [8402, 8403] {
            let mut client = connect(&netns, ([127, 0, 0, 1], port).into())?;
            client.write_all(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
            )?;
            // All of it: who closes with unread data sends a RST.
            let mut answer = [0; UPGRADED.len()];
            client.read_exact(&mut answer)?;
            ensure!(answer == UPGRADED, "{answer:?}");
        }
        sleep(Duration::from_millis(250));
    }
    let found = finding(&mut stuck, "close_wait", |event| event.text("severity") == "leak")?;
    println!("{}", found.text("verdict"));
    check_verdict(&found, &[&format!("[{}] leaks CLOSE_WAIT on :8402: ", keeps.pid())])?;
    // Node has read into its buffer, where nobody takes it from.
    ensure!(found.text("advice").contains("has read the end of the stream"), "{found:?}");
    let run = stuck.stop()?;
    let accused =
        run.of_kind("stuck").find(|event| event.number("pid") == Some(u64::from(ends.pid())));
    ensure!(accused.is_none(), "{accused:?}");
    run.check_whole()
}

/// Node's agent hears of the end of an idle connection and closes it: nothing to say.
#[test]
fn nodes_agent_closes_what_the_server_has_closed() -> Result<()> {
    if !ready(&["nginx", "node"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let dir = tempfile::tempdir()?;
    let script = dir.path().join("ask.js");
    fs::write(&script, NODE)?;
    let _nginx = nginx(&netns, PORT, "2s")?;
    let stuck = start(&netns, &["--threshold", "CLOSE_WAIT=1s"])?;
    let mut node = Command::new("node");
    node.arg(&script);
    Program::start(&netns, node)?.wait_for("failed 0")?;
    silent(stuck)
}

/// Python's requests keeps them until it is asked again, tests each first, and loses nothing.
#[test]
fn pythons_requests_keeps_them_until_it_is_asked_again() -> Result<()> {
    if !ready(&["nginx", "python3"]) {
        return Ok(());
    }
    if !Command::new("python3").args(["-c", "import requests"]).output()?.status.success() {
        println!("skipped: needs Python's requests");
        return Ok(());
    }
    let netns = Netns::new()?;
    let _nginx = nginx(&netns, PORT, "2s")?;
    let mut stuck = start(&netns, &["--threshold", "CLOSE_WAIT=2s"])?;
    let mut python = Command::new("python3");
    python.args(["-c", REQUESTS]);
    let mut python = Program::start(&netns, python)?;
    let held = finding(&mut stuck, "close_wait", |event| event.number("count") == Some(5))?;
    let says = format!(
        "python3[{}] keeps 5 idle connections that 127.0.0.1:8401 has closed after 2.0",
        python.pid()
    );
    check_verdict(&held, &[&says, "no leak"])?;
    python.wait_for("failed 0")?;
    sleep(Duration::from_secs(1));
    let run = stuck.stop()?;
    let lost = run.of_kind("stuck").find(|event| event.text("rule") == "stale_reuse");
    ensure!(lost.is_none(), "nothing was lost: {lost:?}");
    run.check_whole()
}

/// The JDK's own two clients hear of the end (`java.net.http`) or keep connections for five seconds
/// (`HttpURLConnection`), and test them before they use them.
#[test]
fn the_jdks_own_clients_do_not_leak() -> Result<()> {
    if !tests::java::ready(&["nginx"]) {
        return Ok(());
    }
    let netns = Netns::new()?;
    let _nginx = nginx(&netns, PORT, "2s")?;
    let stuck = start(&netns, &["--threshold", "CLOSE_WAIT=6s"])?;
    for which in ["http", "url"] {
        let mut client = Program::java(&netns, &[], "JdkClients", &["8401", which, "5", "8000"])?;
        client.wait_for("failed 0")?;
        client.wait_for("failed 0")?;
    }
    silent(stuck)
}
