//! `load CONNECTIONS [CLOSE]`: opens and closes that many connections on loopback as fast as they
//! go, and prints how many a second. CLOSE is `client` (default), `server` or `reset`.
//!
//! The connections are spread over many destination addresses, so that ports do not run out while
//! TIME_WAIT lasts. One thread connects, one accepts: on two cores that is both of them.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use socket2::{Domain, SockRef, Socket, Type};

/// Destination addresses: 127.1.0.1 and on.
const ADDRESSES: u8 = 200;

#[derive(Clone, Copy, PartialEq)]
enum Close {
    Client,
    Server,
    Reset,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: load CONNECTIONS [client|server|reset]";
    let count: u32 = args.next().and_then(|text| text.parse().ok()).context(usage)?;
    let close = match args.next().as_deref() {
        None | Some("client") => Close::Client,
        Some("server") => Close::Server,
        Some("reset") => Close::Reset,
        Some(_) => bail!(usage),
    };
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    listener.listen(4096)?;
    let listener = TcpListener::from(listener);
    let port = listener.local_addr()?.port();
    let server = std::thread::spawn(move || serve(&listener, count, close));
    let began = Instant::now();
    for number in 0..count {
        let address = Ipv4Addr::new(127, 1, 0, 1 + u8::try_from(number % u32::from(ADDRESSES))?);
        let mut stream = TcpStream::connect((address, port))
            .with_context(|| format!("connection {number} of {count}"))?;
        match close {
            Close::Client => {}
            Close::Server => {
                // Until the server's FIN.
                let _ = stream.read(&mut [0]);
            }
            Close::Reset => SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?,
        }
    }
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{{\"connections\":{count},\"seconds\":{seconds:.3},\"per_second\":{:.0}}}",
        f64::from(count) / seconds
    );
    Ok(())
}

fn serve(listener: &TcpListener, count: u32, close: Close) -> Result<()> {
    for _ in 0..count {
        let (mut stream, _) = listener.accept()?;
        if close != Close::Server {
            // Until the client's FIN or RST.
            let _ = stream.read(&mut [0]);
        }
    }
    Ok(())
}
