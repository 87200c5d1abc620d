//! Asks the kernel's connection tracking where connections really go (ctnetlink, IPCTNL_MSG_CT_GET), on a thread of its
//! own: entering a namespace changes the thread, and it keeps privileges that others give up.
//!
//! - An entry has two tuples: the original one, as the client's socket has it, and that of replies. Where the destination
//!   was translated, the source of replies is another one (`nf_nat_setup_info`).
//! - The kernel wants CAP_NET_ADMIN for every message, of who opened the socket and of who sends
//!   (`nfnetlink_rcv`, `netlink_net_capable`).
//! - A message for a part of netfilter that is not loaded loads it (`nfnetlink_rcv_msg`, `request_module`), and tracking
//!   slows traffic. So nothing is asked unless it is there already: see [`is_loaded`].
//! - Packets are translated in the namespace that has the rules: of a pod's connection to a ClusterIP in the host's. So
//!   the host's is asked for what the socket's own does not know.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracer_common::wire::{AF_INET, AF_INET6};
use zerocopy::IntoBytes;

use super::netlink::{
    Header, NESTED, NLM_F_REQUEST, NLMSG_ERROR, attribute, error, find, messages,
};
use super::netns;
use super::places::{OWN, Places};
use crate::event::{Family, SockId, Tuple};
use crate::names::{Addr, Translation, bytes_of};
use crate::privileges::{self, Circumstances};

/// IPCTNL_MSG_CT_GET of NFNL_SUBSYS_CTNETLINK.
const GET: u16 = 1 << 8 | 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const IPPROTO_TCP: u8 = 6;
/// `struct nfgenmsg`.
const GENERIC: usize = 4;
/// An answer has some 250 bytes; with labels and helpers a few more.
const ROOM: usize = 8 << 10;
/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// The namespace of the machine.
const HOST: &str = "/proc/1/ns/net";
/// There only when connection tracking is; entries of the namespace of the thread that reads.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// A connection that this machine opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// Its identity.
    pub id: SockId,
    /// The network namespace of its socket.
    pub netns: u32,
    /// Its ends.
    pub tuple: Tuple,
}

/// What became of a question: where the connection really goes, if that is elsewhere.
pub type Answer = (Question, Option<Translation>);

/// The thread's handle. Dropping it ends the thread after its present questions.
#[derive(Debug)]
pub struct Conntrack {
    requests: mpsc::Sender<Vec<Question>>,
    answers: UnboundedReceiver<Vec<Answer>>,
}

impl Conntrack {
    /// Starts the thread, where there is something to ask: nothing is kept, and nothing runs, where connection tracking
    /// is not loaded; nor, in a run about one namespace, where neither that nor the machine's has an entry.
    #[must_use]
    pub fn start(only: Option<u32>, circumstances: Circumstances) -> Option<Conntrack> {
        if !is_loaded() || !privileges::may_ask_conntrack() {
            return None;
        }
        let (requests, incoming) = mpsc::channel();
        let (outgoing, answers) = unbounded_channel();
        let (ready, started) = mpsc::channel();
        let work = move || {
            let reach = Reach::new(only);
            let wanted = reach.has_anything();
            if wanted {
                privileges::keep_only(&privileges::conntrack(circumstances));
            }
            // Whoever starts it has gone where it cannot be told.
            let _ = ready.send(wanted);
            if wanted {
                run(reach, &incoming, &outgoing);
            }
        };
        thread::Builder::new().name("tcptrail-nat".to_owned()).spawn(work).ok()?;
        started.recv().ok().filter(|&wanted| wanted)?;
        Some(Conntrack { requests, answers })
    }

    /// Asks; answers come together.
    pub fn request(&self, questions: Vec<Question>) {
        // The thread ends only when this handle is dropped, or the kernel refuses to answer.
        let _ = self.requests.send(questions);
    }

    /// The next answers; `None` once the kernel has refused.
    pub async fn answer(&mut self) -> Option<Vec<Answer>> {
        self.answers.recv().await
    }
}

/// Tries it: asks about a connection that there is not, unless that would load a module.
///
/// # Errors
/// Why nothing can be asked, in words.
pub fn probe() -> Result<String, String> {
    const COST: &str = "where connections go whose destination is translated (DNAT) is unknown";
    if !Path::new(COUNT).exists() {
        return Ok("not loaded: it translates no destination, and is not asked".to_owned());
    }
    if !is_loaded() {
        return Err(format!(
            "nf_conntrack_netlink is not loaded: {COST}. Load it before tcptrail starts: modprobe nf_conntrack_netlink"
        ));
    }
    let nowhere = Tuple {
        local_addr: bytes_of(Ipv4Addr::LOCALHOST.into()),
        remote_addr: bytes_of(Ipv4Addr::LOCALHOST.into()),
        local_port: 0,
        remote_port: 0,
        family: Family::V4,
    };
    match Socket::open().and_then(|mut socket| socket.ask(&nowhere)) {
        Ok(_) => Ok("answers: where translated connections (DNAT) really go is shown".to_owned()),
        Err(Errno::PERM) => Err(format!("no CAP_NET_ADMIN: {COST}")),
        Err(error) => Err(format!("{error}: {COST}")),
    }
}

/// Whether connection tracking and its netlink interface are there, so that asking loads neither.
#[must_use]
pub fn is_loaded() -> bool {
    let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
    Path::new(COUNT).exists() && asking_loads_nothing(&modules)
}

/// From `/proc/modules`: of a kernel that has connection tracking built in, its netlink interface is, too.
fn asking_loads_nothing(modules: &str) -> bool {
    let loaded = |name: &str| modules.lines().any(|line| line.split(' ').next() == Some(name));
    !loaded("nf_conntrack") || loaded("nf_conntrack_netlink")
}

/// Entries of the namespace that the thread is in.
fn has_entries() -> bool {
    let count = fs::read_to_string(COUNT).ok().and_then(|text| text.trim().parse::<u64>().ok());
    count.is_some_and(|count| count > 0)
}

/// How namespaces are reached.
enum Reach {
    /// Entered as they are asked for. A socket that stayed open would keep a namespace from ending.
    All { places: Places, host: Option<(File, u32)> },
    /// The one the run is about, and the machine's: sockets in both, so that neither is entered again.
    Two(BTreeMap<u32, Socket>, Option<Socket>),
}

impl Reach {
    fn new(only: Option<u32>) -> Reach {
        let host = File::open(HOST).or_else(|_| File::open(OWN)).ok();
        let host = host.and_then(|file| inode_of(&file).map(|inode| (file, inode)));
        let Some(only) = only else {
            return Reach::All { places: Places::new(None), host };
        };
        let here = netns::inode(OWN.as_ref()).ok();
        let path = netns::all().remove(&only);
        let entered = here == Some(only) || path.is_some_and(|path| netns::enter(&path).is_ok());
        let open =
            |is_there: bool| (is_there && has_entries()).then(Socket::open).and_then(Result::ok);
        let one = open(entered);
        let host = host.filter(|(_, inode)| *inode != only);
        let there = host.is_some_and(|(host, _)| netns::enter_file(host.as_fd()).is_ok());
        Reach::Two(one.map(|one| (only, one)).into_iter().collect(), open(there))
    }

    fn has_anything(&self) -> bool {
        match self {
            Reach::All { .. } => true,
            Reach::Two(one, host) => !one.is_empty() || host.is_some(),
        }
    }
}

fn inode_of(file: &File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    u32::try_from(file.metadata().ok()?.ino()).ok()
}

fn run(
    mut reach: Reach,
    requests: &mpsc::Receiver<Vec<Question>>,
    answers: &UnboundedSender<Vec<Answer>>,
) {
    while let Ok(questions) = requests.recv() {
        let mut asked: Vec<Answer> =
            questions.into_iter().map(|question| (question, None)).collect();
        asked.sort_by_key(|(question, _)| question.netns);
        let went = match &mut reach {
            Reach::All { places, host } => ask_all(&mut asked, places, host.as_ref()),
            Reach::Two(one, host) => ask_two(&mut asked, one, host.as_mut()),
        };
        // Without the right to ask there is no answer to any question.
        let refused = went.is_err_and(|error| error == Errno::PERM);
        if refused || answers.send(asked).is_err() {
            return;
        }
    }
}

fn ask_all(
    asked: &mut [Answer],
    places: &mut Places,
    host: Option<&(File, u32)>,
) -> rustix::io::Result<()> {
    let netns: Vec<u32> = asked.chunk_by(same_netns).map(|of_one| of_one[0].0.netns).collect();
    let ways = places.find(Some(&netns));
    for of_one in asked.chunk_by_mut(same_netns) {
        let inode = of_one[0].0.netns;
        let there = || netns::inode(OWN.as_ref()).is_ok_and(|here| here == inode);
        let entered = there() || ways.get(&inode).is_some_and(|way| way.enter().is_ok() && there());
        if entered && has_entries() {
            Socket::open()?.ask_each(of_one, None)?;
        }
    }
    let Some((host, inode)) = host else { return Ok(()) };
    let open = asked.iter().any(|(of, found)| found.is_none() && of.netns != *inode);
    if open && netns::enter_file(host.as_fd()).is_ok() && has_entries() {
        Socket::open()?.ask_each(asked, Some(*inode))?;
    }
    Ok(())
}

fn ask_two(
    asked: &mut [Answer],
    one: &mut BTreeMap<u32, Socket>,
    host: Option<&mut Socket>,
) -> rustix::io::Result<()> {
    for of_one in asked.chunk_by_mut(same_netns) {
        if let Some(socket) = one.get_mut(&of_one[0].0.netns) {
            socket.ask_each(of_one, None)?;
        }
    }
    host.map_or(Ok(()), |host| host.ask_each(asked, None))
}

fn same_netns((one, _): &Answer, (other, _): &Answer) -> bool {
    one.netns == other.netns
}

/// A netlink socket; it belongs to the network namespace that its thread was in when it was made.
struct Socket {
    socket: OwnedFd,
    sequence: u32,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Socket {
    fn open() -> rustix::io::Result<Socket> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Socket { socket, sequence: 0, request: Vec::new(), buffer: vec![0; ROOM] })
    }

    /// Asks for all that are not known, and not of this namespace.
    fn ask_each(&mut self, asked: &mut [Answer], but: Option<u32>) -> rustix::io::Result<()> {
        let unknown = asked.iter_mut().filter(|(_, found)| found.is_none());
        for (question, found) in unknown.filter(|(question, _)| Some(question.netns) != but) {
            *found = self.ask(&question.tuple)?;
        }
        Ok(())
    }

    fn ask(&mut self, tuple: &Tuple) -> rustix::io::Result<Option<Translation>> {
        self.sequence = self.sequence.wrapping_add(1);
        request(tuple, self.sequence, &mut self.request);
        send(&self.socket, &self.request, SendFlags::empty())?;
        loop {
            let (got, _) = match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())
            {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let bytes = self.buffer.get(..got).unwrap_or_default();
            // Those of a question before came too late.
            let own = |(header, _): &(Header, &[u8])| header.sequence == self.sequence;
            let Some((header, payload)) = messages(bytes).find(own) else { continue };
            return match header.kind {
                NLMSG_ERROR => match error(payload) {
                    Err(error) if error != Errno::NOENT => Err(error),
                    _ => Ok(None),
                },
                _ => Ok(translation(payload, tuple)),
            };
        }
    }
}

/// The question for a connection's entry.
fn request(tuple: &Tuple, sequence: u32, out: &mut Vec<u8>) {
    out.clear();
    let (local, remote) = (tuple.local(), tuple.remote());
    let header = Header { length: 0, kind: GET, flags: NLM_F_REQUEST, sequence, port: 0 };
    out.extend_from_slice(header.as_bytes());
    // NFNETLINK_V0, and no resource.
    out.extend_from_slice(&[if local.is_ipv4() { AF_INET } else { AF_INET6 }, 0, 0, 0]);
    attribute(CTA_TUPLE_ORIG | NESTED, out, |out| {
        attribute(CTA_TUPLE_IP | NESTED, out, |out| {
            let mut addr = |kinds: [u16; 2], addr: SocketAddr| match addr.ip() {
                IpAddr::V4(v4) => {
                    attribute(kinds[0], out, |out| out.extend_from_slice(&v4.octets()));
                }
                IpAddr::V6(v6) => {
                    attribute(kinds[1], out, |out| out.extend_from_slice(&v6.octets()));
                }
            };
            addr([CTA_IP_V4_SRC, CTA_IP_V6_SRC], local);
            addr([CTA_IP_V4_DST, CTA_IP_V6_DST], remote);
        });
        attribute(CTA_TUPLE_PROTO | NESTED, out, |out| {
            attribute(CTA_PROTO_NUM, out, |out| out.push(IPPROTO_TCP));
            let mut port = |kind, port: u16| {
                attribute(kind, out, |out| out.extend_from_slice(&port.to_be_bytes()));
            };
            port(CTA_PROTO_SRC_PORT, local.port());
            port(CTA_PROTO_DST_PORT, remote.port());
        });
    });
    let length = u32::try_from(out.len()).unwrap_or(0);
    if let Some(place) = out.get_mut(..4) {
        place.copy_from_slice(&length.to_ne_bytes());
    }
}

/// From an entry: where the connection goes, if its destination was translated. The kernel finds entries by both tuples
/// (`nf_conntrack_find_get`): of a connection that came from outside it has ours as the one of replies.
fn translation(payload: &[u8], tuple: &Tuple) -> Option<Translation> {
    let entry = payload.get(GENERIC..)?;
    let asked = Translation {
        local: (bytes_of(tuple.local().ip()), tuple.local_port),
        remote: (bytes_of(tuple.remote().ip()), tuple.remote_port),
    };
    let [from, to] = ends(find(entry, CTA_TUPLE_ORIG)?)?;
    if (from, to) != (asked.local, asked.remote) {
        return None;
    }
    // Replies come from there, and go to what the other end takes us for.
    let [remote, local] = ends(find(entry, CTA_TUPLE_REPLY)?)?;
    (remote != asked.remote).then_some(Translation { local, remote })
}

/// Source and destination of a tuple.
fn ends(tuple: &[u8]) -> Option<[(Addr, u16); 2]> {
    let (ip, proto) = (find(tuple, CTA_TUPLE_IP)?, find(tuple, CTA_TUPLE_PROTO)?);
    let port = |kind| Some(u16::from_be_bytes(find(proto, kind)?.try_into().ok()?));
    let addr = |v4: u16, v6: u16| -> Option<Addr> {
        match find(ip, v4) {
            Some(bytes) => Some(bytes_of(<[u8; 4]>::try_from(bytes).ok()?.into())),
            None => find(ip, v6)?.try_into().ok(),
        }
    };
    Some([
        (addr(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?, port(CTA_PROTO_SRC_PORT)?),
        (addr(CTA_IP_V4_DST, CTA_IP_V6_DST)?, port(CTA_PROTO_DST_PORT)?),
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tuple(local: &str, remote: &str) -> Tuple {
        let addr = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let (local, remote) = (addr(local), addr(remote));
        Tuple {
            local_addr: bytes_of(local.ip()),
            remote_addr: bytes_of(remote.ip()),
            local_port: local.port(),
            remote_port: remote.port(),
            family: if local.is_ipv4() { Family::V4 } else { Family::V6 },
        }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(pair).collect()
    }

    /// What Linux 6.18 answered about a connection to 10.96.0.1:80 that nftables led to 127.0.0.1:8080.
    const ENTRY: &str = "020000003400018014000180080001000a090909080002000a6000011c0002800500010006000000060\
                         00200aa90000006000300005000003400028014000180080001007f000001080002000a0909091c0002\
                         800500010006000000060002001f90000006000300aa90000008000300000001ae080008000000000008\
                         000c001a997efc08000b0000000002080007000006978030000480";

    #[test]
    fn an_entry_says_where_it_really_goes() {
        if cfg!(target_endian = "big") {
            return;
        }
        let hex: String = ENTRY.split_whitespace().collect();
        let asked = tuple("10.9.9.9:43664", "10.96.0.1:80");
        let found = translation(&bytes(&hex), &asked).expect("it was translated");
        let end = |addr: [u8; 4], port| (bytes_of(addr.into()), port);
        assert_eq!(found.remote, end([127, 0, 0, 1], 8080));
        assert_eq!(found.local, end([10, 9, 9, 9], 43664));
        // The same, asked for by the other end, and by nobody.
        assert_eq!(translation(&bytes(&hex), &tuple("127.0.0.1:8080", "10.9.9.9:43664")), None);
        assert_eq!(translation(&bytes(&hex), &tuple("10.9.9.9:43664", "127.0.0.1:8080")), None);
        for length in 0..100 {
            assert_eq!(translation(&bytes(&hex[..2 * length]), &asked), None, "{length}");
        }
    }

    #[test]
    fn a_question_is_what_the_kernel_takes() {
        if cfg!(target_endian = "big") {
            return;
        }
        let mut out = Vec::new();
        request(&tuple("1.2.3.4:5", "10.96.0.1:80"), 1, &mut out);
        let expect = "4800000001010100010000000000000002000000340001801400018008000100010203040800\
                      02000a6000011c0002800500010006000000060002000005000006000300005000 00";
        let expect: String = expect.split_whitespace().collect();
        assert_eq!(out, bytes(&expect));
        request(&tuple("[2001:db8::1]:5", "[2001:db8::2]:80"), 1, &mut out);
        assert_eq!(out.len(), 16 + GENERIC + 4 + 4 + 2 * 20 + 28);
    }

    #[test]
    fn nothing_is_asked_that_would_load_a_module() {
        let check = |modules: &str, expect| assert_eq!(asking_loads_nothing(modules), expect);
        check("", true);
        check("nf_conntrack 200704 3 nf_nat, Live 0x0\n", false);
        check("nf_conntrack 200704 3 x, Live 0x0\nnf_conntrack_netlink 57344 0 - Live 0x0\n", true);
        check("nf_conntrack_netlink_other 1 0 - Live 0x0\nnf_conntrack 1 0 - Live\n", false);
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = translation(&bytes, &tuple("1.2.3.4:5", "10.96.0.1:80"));
        }
    }
}
