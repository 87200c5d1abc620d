//! Load for `cargo xtask bench`: connections opened and closed as fast as they go (`load churn`), or
//! many that stay open (`load hold`). Prints one JSON object about what it did.
//!
//! Connections are spread over many destination addresses, so that ports do not run out while TIME_WAIT
//! lasts. One thread connects, one accepts: on two cores that is both of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

/// Destination addresses: 127.1.0.1 and on.
const ADDRESSES: u64 = 200;
/// Connections of one kind in a row, of `mixed`.
const BLOCK: u64 = 100;
/// Descriptors a process keeps for other things than the connections it holds.
const SPARE: u64 = 100;

/// Load on loopback.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Opens and closes connections.
    Churn {
        /// How many; else until the time is up.
        #[arg(long, required_unless_present = "seconds")]
        connections: Option<u64>,
        /// For how long.
        #[arg(long)]
        seconds: Option<f64>,
        /// At most so many a second.
        #[arg(long)]
        rate: Option<f64>,
        /// Who closes, and how.
        #[arg(long, default_value = "mixed")]
        close: Close,
    },
    /// Opens sockets, both ends, and holds them until stdin is closed.
    Hold {
        /// How many sockets: two for each connection.
        sockets: u64,
    },
    /// The share of one process.
    #[command(hide = true)]
    HoldPart {
        /// How many connections.
        connections: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Close {
    /// The side that connected.
    Client,
    /// The side that accepted.
    Server,
    /// The side that connected, with a RST.
    Reset,
    /// Half by the client, four tenths by the server, a tenth with a RST.
    Mixed,
}

impl Close {
    /// How the `number`th connection is closed. Both threads ask, and get the same answer.
    fn of(self, number: u64) -> Close {
        match (self, number / BLOCK % 10) {
            (Close::Mixed, 0..5) => Close::Client,
            (Close::Mixed, 5..9) => Close::Server,
            (Close::Mixed, _) => Close::Reset,
            (one, _) => one,
        }
    }

    /// Changes of state of both ends, from CLOSE and LISTEN on.
    fn transitions(self) -> u64 {
        // With a RST: SYN_SENT, ESTABLISHED, CLOSE and SYN_RECV, ESTABLISHED, CLOSE.
        if self == Close::Reset { 6 } else { 10 }
    }
}

fn main() -> Result<()> {
    match Cli::parse().what {
        What::Churn { connections, seconds, rate, close } => {
            churn(connections, seconds.map(Duration::from_secs_f64), rate, close)
        }
        What::Hold { sockets } => hold(sockets),
        What::HoldPart { connections } => hold_part(connections),
    }
}

fn churn(most: Option<u64>, time: Option<Duration>, rate: Option<f64>, close: Close) -> Result<()> {
    let listener = listener()?;
    let port = listener.local_addr()?.port();
    // Connections in all; known to the server before the last one comes.
    let total = Arc::new(AtomicU64::new(u64::MAX));
    let server = {
        let total = Arc::clone(&total);
        thread::spawn(move || serve(&listener, &total, close))
    };
    let most = most.unwrap_or(u64::MAX);
    let began = Instant::now();
    let mut number = 0;
    loop {
        let last = number + 1 >= most || time.is_some_and(|time| began.elapsed() >= time);
        if last {
            total.store(number + 1, Ordering::Release);
        }
        connect_and_close(number, port, close.of(number))?;
        number += 1;
        if last {
            break;
        }
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(number as f64 / rate);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    server.join().map_err(|_| anyhow!("the server panicked"))??;
    let seconds = began.elapsed().as_secs_f64();
    let transitions: u64 = (0..number).map(|number| close.of(number).transitions()).sum();
    println!(
        "{{\"connections\":{number},\"transitions\":{transitions},\"seconds\":{seconds:.4},\"per_second\":{:.0}}}",
        number as f64 / seconds
    );
    Ok(())
}

fn connect_and_close(number: u64, port: u16, close: Close) -> Result<()> {
    let mut stream = TcpStream::connect((address(number), port))
        .with_context(|| format!("connection {number}"))?;
    match close {
        Close::Server => {
            // Until the server's FIN.
            let _ = stream.read(&mut [0]);
        }
        Close::Reset => SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
        Close::Client | Close::Mixed => {}
    }
    Ok(())
}

fn serve(listener: &TcpListener, total: &AtomicU64, close: Close) -> Result<()> {
    let mut number = 0;
    while number < total.load(Ordering::Acquire) {
        let (mut stream, _) = listener.accept()?;
        if close.of(number) != Close::Server {
            // Until the client's FIN or RST.
            let _ = stream.read(&mut [0]);
        }
        number += 1;
    }
    Ok(())
}

fn listener() -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from(socket))
}

fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + (number % ADDRESSES) as u32)
}

/// One process may not have so many descriptors: as many processes as it takes.
fn hold(sockets: u64) -> Result<()> {
    let each = descriptors()?.saturating_sub(SPARE) / 2;
    ensure!(each > 0, "too few descriptors are allowed: raise `ulimit -Hn`");
    let mut left = sockets.div_ceil(2);
    let mut parts = Vec::new();
    while left > 0 {
        let share = left.min(each);
        parts.push(part(share)?);
        left -= share;
    }
    for part in &mut parts {
        let stdout = part.stdout.as_mut().context("a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.starts_with("ready"), "a process could not open its connections");
    }
    println!("{{\"sockets\":{},\"processes\":{}}}", sockets.div_ceil(2) * 2, parts.len());
    std::io::stdout().flush()?;
    let _ = std::io::stdin().read(&mut [0]);
    for mut part in parts {
        // Closing its stdin ends it.
        drop(part.stdin.take());
        part.wait()?;
    }
    Ok(())
}

fn part(connections: u64) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["hold-part", &connections.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a process")
}

fn hold_part(connections: u64) -> Result<()> {
    descriptors()?;
    let listener = listener()?;
    let port = listener.local_addr()?.port();
    let mut held = Vec::new();
    for number in 0..connections {
        held.push(TcpStream::connect((address(number), port))?);
        held.push(listener.accept()?.0);
    }
    println!("ready");
    std::io::stdout().flush()?;
    let _ = std::io::stdin().read(&mut [0]);
    for stream in &held {
        // Without TIME_WAIT.
        SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}

/// Raises the limit as far as it goes, and returns it.
fn descriptors() -> Result<u64> {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
    Ok(hard.unwrap_or(u64::MAX))
}
