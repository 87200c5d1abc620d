//! Many small services for `cargo xtask bench`, each a process with a name of its own and a little of everything:
//! connections in use, connections that leaked on either side, and all the ways that one ends. `services 200` holds them
//! until its stdin is closed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use socket2::SockRef;

/// Ports that each listens on: as many places that its connections leak to.
const PORTS: usize = 11;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// So many services.
    Hold {
        /// How many.
        count: usize,
    },
    /// One of them.
    #[command(hide = true)]
    One {
        /// Its process's name.
        name: String,
    },
}

fn main() -> Result<()> {
    match Cli::parse().what {
        What::Hold { count } => hold(count),
        What::One { name } => one(&name),
    }
}

fn hold(count: usize) -> Result<()> {
    let mut services = Vec::new();
    for number in 0..count {
        let mut service = Command::new(std::env::current_exe()?)
            .args(["one", &format!("svc-{number:03}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a process")?;
        let mut line = String::new();
        BufReader::new(service.stdout.as_mut().context("a pipe")?).read_line(&mut line)?;
        services.push(service);
        ensure!(line.starts_with("ready"), "service {number} has failed");
    }
    println!("{{\"services\":{count}}}");
    std::io::stdout().flush()?;
    let _ = std::io::stdin().read(&mut [0]);
    services.iter_mut().for_each(|service: &mut Child| drop(service.stdin.take()));
    services.iter_mut().try_for_each(|service| service.wait().map(drop))?;
    Ok(())
}

fn one(name: &str) -> Result<()> {
    rustix::thread::set_name(&std::ffi::CString::new(name)?)?;
    let mut kept = Vec::new();
    for _ in 0..PORTS {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let to = listener.local_addr()?;
        let pair = || -> Result<(TcpStream, TcpStream)> {
            let client = TcpStream::connect(to)?;
            let (server, _) = listener.accept()?;
            (&client).write_all(b"ask")?;
            (&server).read_exact(&mut [0; 3])?;
            (&server).write_all(b"answer")?;
            (&client).read_exact(&mut [0; 6])?;
            Ok((client, server))
        };
        // In use; leaked by the client, and by the server.
        let (client, server) = pair()?;
        kept.extend([client, server]);
        kept.push(pair()?.0);
        kept.push(pair()?.1);
        // Ended by the one and the other, with FIN and with RST.
        let (client, server) = pair()?;
        finish(client, server)?;
        let (client, server) = pair()?;
        finish(server, client)?;
        let (client, server) = pair()?;
        abort(client, server)?;
        let (client, server) = pair()?;
        abort(server, client)?;
        refused()?;
        // It listens for as long as it lives.
        std::mem::forget(listener);
    }
    println!("ready");
    std::io::stdout().flush()?;
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}

fn finish(first: TcpStream, mut second: TcpStream) -> Result<()> {
    drop(first);
    second.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn abort(first: TcpStream, mut second: TcpStream) -> Result<()> {
    SockRef::from(&first).set_linger(Some(Duration::ZERO))?;
    drop(first);
    // Connection reset by peer.
    let _ = second.read(&mut [0]);
    Ok(())
}

/// A port that is bound, and on which nobody listens.
fn refused() -> Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let to = socket.local_addr()?.as_socket().context("an address")?;
    ensure!(TcpStream::connect(to).is_err(), "{to} takes connections");
    Ok(())
}
