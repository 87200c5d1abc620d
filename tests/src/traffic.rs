//! Connections to look at. Everything is bounded in number and time.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::SockRef;

use crate::netns::Netns;
use crate::pace::patience;
use crate::witness::Moment;

/// No call of a test's own sockets waits longer (but see [`patience`]).
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A listener inside `netns`; port 0 lets the kernel choose.
///
/// # Errors
/// When the address cannot be had.
pub fn listen(netns: &Netns, addr: &str) -> Result<TcpListener> {
    netns.run(|| TcpListener::bind(addr).with_context(|| format!("listen on {addr}")))
}

/// Connects from inside `netns`.
///
/// # Errors
/// When it does not come about in time.
pub fn connect(netns: &Netns, addr: SocketAddr) -> Result<TcpStream> {
    netns.run(|| {
        let stream = TcpStream::connect_timeout(&addr, patience(PATIENCE))
            .with_context(|| format!("connect to {addr}"))?;
        bounded(stream)
    })
}

/// The next connection of a listener.
///
/// # Errors
/// When none comes.
pub fn accept(listener: &TcpListener) -> Result<TcpStream> {
    SockRef::from(listener).set_read_timeout(Some(patience(PATIENCE)))?;
    let (stream, _) = listener.accept().context("accept")?;
    bounded(stream)
}

fn bounded(stream: TcpStream) -> Result<TcpStream> {
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    stream.set_write_timeout(Some(patience(PATIENCE)))?;
    Ok(stream)
}

/// A connection whose both ends are ours.
#[derive(Debug)]
pub struct Both {
    /// The end that connected.
    pub client: TcpStream,
    /// The end that was accepted.
    pub server: TcpStream,
    /// Addresses, which outlive the sockets.
    pub ends: Ends,
}

/// Addresses of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The end that connected.
    pub client: SocketAddr,
    /// The end that was accepted.
    pub server: SocketAddr,
}

impl Both {
    /// Connects to a listener from inside `netns`, and accepts.
    ///
    /// # Errors
    /// When it does not come about in time.
    pub fn new(netns: &Netns, listener: &TcpListener, to: SocketAddr) -> Result<Both> {
        let client = connect(netns, to)?;
        let server = accept(listener)?;
        let ends = Ends { client: client.local_addr()?, server: client.peer_addr()? };
        Ok(Both { client, server, ends })
    }
}

/// Sends `count` bytes one way and takes them in at the other end.
///
/// # Errors
/// When they do not arrive.
pub fn transfer(from: &TcpStream, to: &TcpStream, count: usize) -> Result<()> {
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut from = from;
            from.write_all(&vec![b'x'; count])
        });
        let mut buffer = vec![0; count];
        let mut to = to;
        to.read_exact(&mut buffer).context("receive")?;
        sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?.context("send")
    })
}

/// Waits for the other side's FIN.
///
/// # Errors
/// When there is data instead, or nothing in time.
pub fn read_end(mut stream: &TcpStream) -> Result<()> {
    let got = loop {
        match stream.read(&mut [0; 1]) {
            // A child's end may wake any thread.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other.context("wait for the FIN")?,
        }
    };
    ensure!(got == 0, "data instead of a FIN");
    Ok(())
}

/// Waits until the connection is reset.
///
/// # Errors
/// When it is not.
pub fn read_reset(mut stream: &TcpStream) -> Result<()> {
    match stream.read(&mut [0; 1]) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        other => anyhow::bail!("a reset was expected, not {other:?}"),
    }
}

/// Closes; says when.
#[must_use]
pub fn close(stream: TcpStream) -> Moment {
    Moment::of(|| drop(stream))
}

/// Closes with a RST; says when.
///
/// # Errors
/// When the option cannot be set.
pub fn reset(stream: TcpStream) -> Result<Moment> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(close(stream))
}

/// Sends the FIN and keeps reading; says when.
///
/// # Errors
/// When it is not connected.
pub fn finish_sending(stream: &TcpStream) -> Result<Moment> {
    let mut result = Ok(());
    let when = Moment::of(|| result = stream.shutdown(Shutdown::Write));
    result?;
    Ok(when)
}

/// `count` connections over loopback inside `netns`, one after the other: the client closes first,
/// the server when it has seen that.
///
/// # Errors
/// When one does not come about.
pub fn churn(netns: &Netns, count: usize) -> Result<u16> {
    // On loopback a connect may take the port of a TIME_WAIT that is a second old, and end it; and with
    // little memory the kernel keeps fewer of them than there will be.
    netns.sysctl("ipv4/tcp_tw_reuse", "0")?;
    netns.sysctl("ipv4/tcp_max_tw_buckets", "65536")?;
    netns.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        for _ in 0..count {
            let client = TcpStream::connect(addr)?;
            let server = accept(&listener)?;
            drop(client);
            read_end(&server)?;
        }
        Ok(addr.port())
    })
}
