//! NETLINK_SOCK_DIAG: asks the kernel about one TCP socket, or all, and ends one.
//!
//! The messages are four structs of `linux/netlink.h` and `linux/inet_diag.h`. The crate that knows them
//! (netlink-packet-sock-diag) has no SOCK_DESTROY, and would bring six more.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use foldhash::fast::FixedState;
use rustix::io::{self, Errno};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use tracer_common::TcpState;
use tracer_common::wire::{AF_INET, AF_INET6};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::netlink::{Header, NLM_F_REQUEST, NLMSG_ERROR, error, messages};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_DONE: u16 = 3;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const IPPROTO_TCP: u8 = 6;
/// Of `idiag_states` all from ESTABLISHED to NEW_SYN_RECV but CLOSE: what is bound and nothing more
/// (TCPF_BOUND_INACTIVE) is no connection or listener any more.
const STATES: u32 = 0x1ffe & !(1 << TcpState::Close.number());
/// The kernel fills messages of a dump up to this (`netlink_dump`).
const ROOM: usize = 32 << 10;
/// It answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// `struct inet_diag_sockid`; ports in network order, addresses of IPv4 in the first four bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ends {
    local_port: [u8; 2],
    remote_port: [u8; 2],
    local: [u8; 16],
    remote: [u8; 16],
    interface: u32,
    /// Low half, then high half.
    cookie: [u32; 2],
}

const NO_ENDS: Ends = Ends {
    local_port: [0; 2],
    remote_port: [0; 2],
    local: [0; 16],
    remote: [0; 16],
    interface: 0,
    cookie: [0; 2],
};

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    ends: Ends,
}

/// `struct inet_diag_msg`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Answer {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    ends: Ends,
    expires: u32,
    recv_queue: u32,
    send_queue: u32,
    uid: u32,
    inode: u32,
}

const _: () = {
    assert!(size_of::<Ends>() == 48);
    assert!(size_of::<Request>() == 16 + 56);
    assert!(size_of::<Answer>() == 72);
};

/// How one socket is addressed: the kernel looks for its ends and interface, then compares the cookie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    /// Ends of IPv4 for v4-mapped ones, too: the kernel finds both by them.
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) interface: u32,
    pub(super) cookie: u64,
}

/// `idiag_timer` of requests and of mini-sockets.
pub(super) const TIMER_OF_REQUEST: u8 = 1;
pub(super) const TIMER_OF_MINI: u8 = 3;

/// What the kernel tells of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Told {
    /// Of a mini-socket what it stands for.
    pub(super) state: Option<TcpState>,
    pub(super) timer: u8,
    pub(super) retransmits: u8,
    /// Until its timer fires.
    pub(super) expires_ms: u32,
    /// Of the application's socket, 0 for none.
    pub(super) inode: u32,
}

/// What was found at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The socket, in this state; of a mini-socket what it stands for.
    State(Option<TcpState>),
    /// No socket, or one with another cookie (`inet_diag_find_one_icsk`).
    Nothing,
}

/// A netlink socket; it belongs to the network namespace that its thread was in when it was made.
#[derive(Debug)]
pub(super) struct SockDiag {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl SockDiag {
    pub(super) fn open() -> io::Result<SockDiag> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(SockDiag { socket, sequence: 0, buffer: vec![0; ROOM] })
    }

    /// Looks for one socket.
    pub(super) fn find(&mut self, address: &Address) -> io::Result<Found> {
        Ok(self.tell(address)?.map_or(Found::Nothing, |told| Found::State(told.state)))
    }

    /// As `find`, with what else there is to tell.
    pub(super) fn tell(&mut self, address: &Address) -> io::Result<Option<Told>> {
        self.ask(SOCK_DIAG_BY_FAMILY, 0, family(address.local), ends(address))?;
        let mut told = None;
        let read = self.read(|message| {
            told = Some(Told {
                state: TcpState::try_from(message.state).ok(),
                timer: message.timer,
                retransmits: message.retransmits,
                expires_ms: message.expires,
                inode: message.inode,
            });
            true
        });
        match read {
            Err(Errno::NOENT) => Ok(None),
            read => read.map(|()| told),
        }
    }

    /// Whether the kernel has what answers for TCP: a dump of no state at all.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        self.ask_of(0, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, AF_INET, NO_ENDS)?;
        self.read(|_| false)
    }

    /// Ends one socket (`tcp_abort`).
    pub(super) fn destroy(&mut self, address: &Address) -> io::Result<()> {
        self.ask(SOCK_DESTROY, NLM_F_ACK, family(address.local), ends(address))?;
        self.read(|_| true)
    }

    /// The cookies of all connections and listeners of the namespace.
    pub(super) fn cookies(&mut self) -> io::Result<HashSet<u64, FixedState>> {
        let mut cookies = HashSet::default();
        // A v4-mapped socket is one of AF_INET6 here.
        for family in [AF_INET, AF_INET6] {
            self.ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, NO_ENDS)?;
            self.read(|message| {
                let [low, high] = message.ends.cookie;
                cookies.insert(u64::from(low) | u64::from(high) << 32);
                false
            })?;
        }
        Ok(cookies)
    }

    fn ask(&mut self, kind: u16, flags: u16, family: u8, ends: Ends) -> io::Result<()> {
        self.ask_of(STATES, kind, flags, family, ends)
    }

    fn ask_of(
        &mut self,
        states: u32,
        kind: u16,
        flags: u16,
        family: u8,
        ends: Ends,
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = Request {
            header: Header {
                length: u32::try_from(size_of::<Request>()).unwrap_or(0),
                kind,
                flags: NLM_F_REQUEST | flags,
                sequence: self.sequence,
                port: 0,
            },
            family,
            protocol: IPPROTO_TCP,
            extensions: 0,
            pad: 0,
            states,
            ends,
        };
        send(&self.socket, request.as_bytes(), SendFlags::empty())?;
        Ok(())
    }

    /// Reads the answer to the last question: until an error or acknowledgement, the end of a dump, or until
    /// `take` has what it wants.
    fn read(&mut self, mut take: impl FnMut(&Answer) -> bool) -> io::Result<()> {
        loop {
            let (got, _) = match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())
            {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let bytes = self.buffer.get(..got).unwrap_or_default();
            for (header, payload) in messages(bytes) {
                if header.sequence != self.sequence {
                    // Of a question before, of which enough was read.
                    continue;
                }
                match header.kind {
                    // With what the dump ended with (`netlink_dump_done`), a length or an error.
                    NLMSG_DONE => return if is_error(payload) { error(payload) } else { Ok(()) },
                    NLMSG_ERROR => return error(payload),
                    _ => {
                        let answer = Answer::read_from_prefix(payload).map_err(|_| Errno::BADMSG);
                        if take(&answer?.0) {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }
}

fn is_error(payload: &[u8]) -> bool {
    payload.first_chunk().is_some_and(|bytes| i32::from_ne_bytes(*bytes) < 0)
}

const fn family(addr: SocketAddr) -> u8 {
    match addr {
        SocketAddr::V4(_) => AF_INET,
        SocketAddr::V6(_) => AF_INET6,
    }
}

fn ends(address: &Address) -> Ends {
    let bytes = |addr: IpAddr| {
        let mut bytes = [0; 16];
        match addr {
            IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes = v6.octets(),
        }
        bytes
    };
    Ends {
        local_port: address.local.port().to_be_bytes(),
        remote_port: address.remote.port().to_be_bytes(),
        local: bytes(address.local.ip()),
        remote: bytes(address.remote.ip()),
        interface: address.interface,
        cookie: halves(address.cookie),
    }
}

/// As `sock_diag_save_cookie` has them.
fn halves(cookie: u64) -> [u32; 2] {
    let low = u32::try_from(cookie & u64::from(u32::MAX)).unwrap_or(0);
    let high = u32::try_from(cookie >> 32).unwrap_or(0);
    [low, high]
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_is_found_by_its_cookie() {
        let Ok(mut diag) = SockDiag::open() else { return println!("skipped: no netlink here") };
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("its own")).expect("loopback");
        let cookie = rustix::net::sockopt::socket_cookie(&client).expect("a cookie");
        let address = Address {
            local: client.local_addr().expect("its own"),
            remote: client.peer_addr().expect("connected"),
            interface: 0,
            cookie,
        };
        let found = match diag.find(&address) {
            Err(error) => return println!("skipped: no tcp_diag here: {error}"),
            Ok(found) => found,
        };
        assert_eq!(found, Found::State(Some(TcpState::Established)));
        assert!(diag.cookies().expect("a dump").contains(&cookie));
        let other = Address { cookie: cookie + (1 << 32), ..address };
        assert_eq!(diag.find(&other), Ok(Found::Nothing));
        let nobody = Address { remote: "127.0.0.1:1".parse().expect("an address"), ..address };
        assert_eq!(diag.find(&nobody), Ok(Found::Nothing));
        // Enough was read of each.
        assert_eq!(diag.find(&address), Ok(Found::State(Some(TcpState::Established))));
    }
}
