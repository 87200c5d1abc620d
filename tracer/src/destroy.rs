//! Sockets that are to be ended, and what became of each: what goes between whoever asks (`kill`) and
//! `kernel::destroy`, which does it.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use thiserror::Error;
use tracer_common::TcpState;

use crate::engine::conn::{Connection, Table};
use crate::event::{Family, SockId};

/// A socket to end. It is ended only if it has this identity and is in this state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its cookie.
    pub id: SockId,
    /// Inode of its network namespace.
    pub netns: u32,
    /// What its addresses are shown as.
    pub family: Family,
    /// Our end.
    pub local: SocketAddr,
    /// The other end; of a listener unspecified.
    pub remote: SocketAddr,
    /// Index of the interface it is bound to, 0 for none.
    pub interface: u32,
    /// The state it was in when it was chosen.
    pub state: TcpState,
    /// A process and its descriptor that hold it: a way into a namespace that no process is in.
    pub holder: Option<(u32, u32)>,
}

impl Target {
    /// A connection or listener of the table.
    #[must_use]
    pub fn of(table: &Table, conn: &Connection) -> Target {
        let holder = table.holders_of(conn.id).first();
        Target {
            id: conn.id,
            netns: conn.netns,
            family: conn.tuple.family,
            local: conn.tuple.local(),
            remote: conn.tuple.remote(),
            interface: conn.interface(),
            state: conn.state,
            holder: holder.map(|holder| (holder.pid, holder.fd)),
        }
    }
}

/// What became of a socket. Each was looked for by its cookie afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The kernel ended it, and has no such socket any more.
    Ended,
    /// It was gone before its turn: it ended by itself, or its other end was ended and sent a RST.
    Gone,
    /// It was in another state by then, and was left alone.
    Changed(TcpState),
    /// It is still there.
    Remains(Reason),
}

impl Outcome {
    /// Whether the kernel has no such socket any more.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Outcome::Ended | Outcome::Gone)
    }

    /// As in the JSON contract.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Outcome::Ended => "ended",
            Outcome::Gone => "gone",
            Outcome::Changed(_) => "changed",
            Outcome::Remains(_) => "remains",
        }
    }
}

/// Why a socket is still there.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Reason {
    /// EPERM (`sock_diag_destroy`).
    #[error("not permitted: it takes CAP_NET_ADMIN (run as root)")]
    NotPermitted,
    /// EOPNOTSUPP: the handler has no destroy (`inet_diag_cmd_exact`).
    #[error("this kernel was built without CONFIG_INET_DIAG_DESTROY, and cannot end sockets")]
    NotInThisKernel,
    /// EOPNOTSUPP of a mini-socket: `tcp_abort` learned of TIME_WAIT in 6.0.
    #[error("this kernel cannot end TIME_WAIT sockets and the like (6.0 and later can)")]
    NoMiniSockets,
    /// ENOENT of the request itself: there is no handler for TCP.
    #[error("the kernel module tcp_diag is not loaded (modprobe tcp_diag)")]
    NoDiagnosis,
    /// Before 5.12 tracing programs are given no cookies.
    #[error(
        "this kernel gives tracing programs no socket cookies (5.12 and later do), so tcptrail could end the wrong socket"
    )]
    NoCookies,
    /// Its namespace could not be entered.
    #[error("its network namespace cannot be entered: {0}")]
    NoWayIn(String),
    /// It could not be addressed: another socket with the same ends is found in its place.
    #[error("another socket has its addresses and ports now")]
    Hidden,
    /// The kernel said that it had ended it.
    #[error("the kernel reported success, but the socket is still there")]
    Survived,
    /// Something else.
    #[error("the kernel refused: {0}")]
    Refused(String),
}

/// The sockets of one request, each with what became of it.
pub type Outcomes = Vec<(Target, Outcome)>;

/// To the thread that ends sockets. It ends when this is dropped.
#[derive(Debug)]
pub struct Destroyer {
    requests: Sender<Vec<Target>>,
    answers: Receiver<Outcomes>,
}

impl Destroyer {
    /// For a thread that takes requests and answers each, in their order.
    #[must_use]
    pub fn new(requests: Sender<Vec<Target>>, answers: Receiver<Outcomes>) -> Destroyer {
        Destroyer { requests, answers }
    }

    /// Asks for sockets to be ended. Does not wait.
    pub fn ask(&self, targets: Vec<Target>) {
        // The thread ends only when this is dropped.
        let _ = self.requests.send(targets);
    }

    /// Waits for the next answer; `None` when the thread has ended.
    #[must_use]
    pub fn answer(&self) -> Option<Outcomes> {
        self.answers.recv().ok()
    }

    /// The next answer, if it is there.
    ///
    /// # Errors
    /// When it is not, or the thread has ended.
    pub fn try_answer(&self) -> Result<Outcomes, TryRecvError> {
        self.answers.try_recv()
    }
}
