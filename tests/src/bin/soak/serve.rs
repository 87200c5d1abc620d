//! `serve`, scraped all the time, which pushes to a collector that answers, stands still, is overloaded and dies, in
//! turn.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::rotel::{answer, read_request};

use crate::recorder::{KEEP, KEEP_SIZE};

/// Of each mood of the collector.
const MOOD: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Serve {
    child: Child,
    socket: PathBuf,
    collector: JoinHandle<Result<()>>,
    stop: Arc<AtomicBool>,
    /// Requests that the collector took.
    taken: Arc<AtomicU64>,
}

impl Serve {
    pub(crate) fn start(program: &Path, dir: &Path, net: &str, recorder: &Path) -> Result<Serve> {
        let socket = dir.join("serve.sock");
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let child = Command::new(program)
            .args(["serve", "--addr", net, "--otlp-interval", "1s"])
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()))
            .arg("--otlp")
            .arg(format!("http://{address}"))
            .arg("--recorder")
            .arg(recorder)
            .args(["--keep", KEEP, "--keep-size", KEEP_SIZE])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&taken));
        let collector = thread::spawn(move || collect(address, &ended, &count));
        let serve = Serve { child, socket, collector, stop, taken };
        let deadline = Instant::now() + PATIENCE;
        while serve.ask("/readyz").is_err() {
            ensure!(Instant::now() < deadline, "serve is not ready");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(serve)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The body of an answer.
    pub(crate) fn ask(&self, path: &str) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        Ok(body.to_owned())
    }

    /// What it pushed, and whether that is what the collector took.
    pub(crate) fn stop(mut self) -> Result<(String, bool)> {
        let metrics = self.ask("/metrics")?;
        let sum = |name: &str| {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
        };
        let (exports, failures) =
            (sum("tcptrail_otlp_exports_total"), sum("tcptrail_otlp_failures_total"));
        let dropped = sum("tcptrail_otlp_dropped_records_total");
        let taken = self.taken.load(Ordering::Relaxed);
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a pid")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        self.stop.store(true, Ordering::Relaxed);
        self.collector.join().map_err(|_| anyhow::anyhow!("the collector panicked"))??;
        let text = format!(
            "{exports} pushes, of which {taken} arrived; {failures} failed, {dropped} records dropped, {status}"
        );
        // One may be under way.
        let same = exports <= taken && taken <= exports + 1;
        Ok((text, same && exports != 0 && dropped == 0 && status.success()))
    }
}

/// A collector in each of its moods, until it is told to stop.
fn collect(address: SocketAddr, stop: &AtomicBool, taken: &AtomicU64) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let mut held: Vec<TcpStream> = Vec::new();
        for mood in 0..3 {
            during(MOOD, stop, || {
                let Ok((stream, _)) = listener.accept() else { return };
                // It may have been reset before it was taken.
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                match mood {
                    0 if read_request(&stream).is_ok() => {
                        taken.fetch_add(1, Ordering::Relaxed);
                        let _ = answer(&stream, "200 OK", "");
                    }
                    // Only so many: it does not close what others have closed.
                    1 if held.len() < 100 => held.push(stream),
                    2 => {
                        let _ = read_request(&stream);
                        let _ = answer(&stream, "503 Service Unavailable", "Retry-After: 1\r\n");
                    }
                    _ => {}
                }
            });
        }
        drop((listener, held));
        during(MOOD, stop, || {});
    }
    Ok(())
}

fn during(time: Duration, stop: &AtomicBool, mut act: impl FnMut()) {
    let until = Instant::now() + time;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        act();
        thread::sleep(Duration::from_millis(20));
    }
}
