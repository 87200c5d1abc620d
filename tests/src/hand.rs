//! A TCP peer made by hand: every segment it sends, and when, is the test's own.
//!
//! It has an address of its namespace and a raw socket. What the namespace's kernel would answer for
//! it (a RST: it knows no such connection) never leaves the machine.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;
use crate::pace::patience;
use crate::traffic::PATIENCE;
use crate::witness::{Moment, now_ns};

/// FIN.
pub const FIN: u8 = 1;
/// SYN.
pub const SYN: u8 = 2;
/// RST.
pub const RST: u8 = 4;
/// PSH.
pub const PSH: u8 = 8;
/// ACK.
pub const ACK: u8 = 16;

/// Packets of ours, as against those of the kernel.
const MARK: u32 = 77;

/// Loses whatever TCP the kernel of this namespace would say: only hands speak.
///
/// # Errors
/// When `nft` refuses it.
pub fn silence(netns: &Netns) -> Result<()> {
    netns.nft(&format!(
        "table ip hand {{
            chain leaving {{
                type filter hook output priority 0; policy accept;
                meta l4proto tcp meta mark != {MARK} drop
            }}
        }}"
    ))
}

/// A segment that arrived.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// FIN, SYN, RST, PSH, ACK.
    pub flags: u8,
    /// Its first byte's number.
    pub seq: u32,
    /// What it acknowledges.
    pub ack: u32,
    /// Bytes of data.
    pub length: u32,
    /// Whence.
    pub from: SocketAddrV4,
    /// Port of ours.
    pub to: u16,
    /// When it was read.
    pub at: u64,
}

impl Segment {
    /// The number after it.
    #[must_use]
    pub fn end(&self) -> u32 {
        let numbers = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.seq.wrapping_add(self.length + numbers)
    }
}

/// One connection's end.
#[derive(Debug)]
pub struct Hand {
    socket: Socket,
    /// Our address.
    pub local: SocketAddrV4,
    /// The other end's; port 0 until it has called.
    pub remote: SocketAddrV4,
    /// Number of the next byte we send.
    pub seq: u32,
    /// Number of the next byte we expect.
    pub ack: u32,
}

impl Hand {
    /// One at `local`, an address in `netns` (which must be [`silence`]d), that will talk with `remote`.
    ///
    /// # Errors
    /// When the raw socket cannot be had.
    pub fn new(netns: &Netns, local: SocketAddrV4, remote: SocketAddrV4) -> Result<Hand> {
        let socket = netns.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
            socket.set_header_included_v4(true)?;
            socket.set_mark(MARK)?;
            // Room for what comes while the test is not scheduled.
            socket.set_recv_buffer_size(4 << 20)?;
            Ok(socket)
        })?;
        Ok(Hand { socket, local, remote, seq: 1_000, ack: 0 })
    }

    /// Our end as others show it.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.local.into()
    }

    /// Sends a segment that takes its numbers; says when.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn send(&mut self, flags: u8, data: &[u8]) -> Result<Moment> {
        let (seq, ack) = (self.seq, self.ack);
        let (when, ()) = Moment::try_of(|| self.send_at(flags, seq, ack, data))?;
        let numbers = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.seq = seq.wrapping_add(u32::try_from(data.len())? + numbers);
        Ok(when)
    }

    /// Sends a segment with any numbers.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn send_at(&self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Result<()> {
        send(&self.socket, self.local, self.remote, flags, (seq, ack), data)
    }

    /// The next segment for our port; `None` when none comes in time.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn receive(&self, within: Duration) -> Result<Option<Segment>> {
        let deadline = Instant::now() + within;
        let mut packet = [0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let length = match (&self.socket).read(&mut packet) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context("raw socket"),
            };
            let Some(segment) = parse(&packet[..length]) else { continue };
            let ours = segment.to == self.local.port()
                && (self.remote.port() == 0 || segment.from == self.remote);
            if ours {
                return Ok(Some(segment));
            }
        }
    }

    /// Waits for a segment with just these flags (PSH aside), and takes it as received.
    ///
    /// # Errors
    /// When none comes.
    pub fn expect(&mut self, flags: u8) -> Result<Segment> {
        let deadline = Instant::now() + patience(PATIENCE);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(segment) = self.receive(left)? else {
                bail!("no segment with flags {flags:#x} for {}", self.local);
            };
            if segment.flags & !PSH == flags {
                self.remote = segment.from;
                self.ack = segment.end();
                return Ok(segment);
            }
        }
    }

    /// Opens the connection to a listener.
    ///
    /// # Errors
    /// When it does not come about.
    pub fn connect(&mut self) -> Result<()> {
        self.send(SYN, &[])?;
        self.expect(SYN | ACK)?;
        self.send(ACK, &[])?;
        Ok(())
    }

    /// Takes the connection that somebody opens.
    ///
    /// # Errors
    /// When nobody does.
    pub fn accept(&mut self) -> Result<()> {
        self.expect(SYN)?;
        self.send(SYN | ACK, &[])?;
        self.expect(ACK)?;
        Ok(())
    }
}

/// SYNs from as many addresses and ports as it takes, for a flood.
///
/// # Errors
/// When they cannot be sent.
pub fn flood(
    netns: &Netns,
    from: impl Iterator<Item = SocketAddrV4> + Send,
    to: SocketAddrV4,
) -> Result<()> {
    netns.run(move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        socket.set_header_included_v4(true)?;
        socket.set_mark(MARK)?;
        for local in from {
            send(&socket, local, to, SYN, (1_000, 0), &[])?;
        }
        Ok(())
    })
}

fn send(
    socket: &Socket,
    local: SocketAddrV4,
    remote: SocketAddrV4,
    flags: u8,
    (seq, ack): (u32, u32),
    data: &[u8],
) -> Result<()> {
    ensure!(remote.port() != 0, "nobody to send to");
    let length = u16::try_from(40 + data.len())?;
    let mut packet = Vec::with_capacity(usize::from(length));
    // Version and header length, length (which the kernel fills in, with the checksum), TTL, TCP.
    packet.extend([0x45, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    packet.extend(local.ip().octets());
    packet.extend(remote.ip().octets());
    packet.extend(local.port().to_be_bytes());
    packet.extend(remote.port().to_be_bytes());
    packet.extend(seq.to_be_bytes());
    packet.extend(ack.to_be_bytes());
    // Five words of header, flags, window, checksum, urgent pointer.
    packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(data);
    let sum = checksum(&packet[12..20], &packet[20..]);
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    socket.send_to(&packet, &SocketAddr::from(remote).into()).context("raw segment")?;
    Ok(())
}

/// Of the pseudo header (addresses, protocol, length) and the segment.
fn checksum(addresses: &[u8], segment: &[u8]) -> u16 {
    let mut sum = 6 + u32::try_from(segment.len()).unwrap_or(0);
    for pair in addresses.chunks(2).chain(segment.chunks(2)) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn parse(packet: &[u8]) -> Option<Segment> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let from = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
    let tcp = packet.get(header..)?;
    let short = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
    let data = usize::from(tcp.get(12)? >> 4) * 4;
    Some(Segment {
        flags: tcp.get(13)? & (FIN | SYN | RST | PSH | ACK),
        seq: long(4)?,
        ack: long(8)?,
        length: u32::try_from(tcp.len().checked_sub(data)?).ok()?,
        from: SocketAddrV4::new(from, short(0)?),
        to: short(2)?,
        at: now_ns(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_that_is_right_checks_to_zero() {
        let addresses = [10, 77, 0, 1, 10, 77, 0, 2];
        let mut segment = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0, 7];
        let sum = checksum(&addresses, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&addresses, &segment), 0);
    }
}
