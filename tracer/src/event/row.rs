//! What the iterators tell: sockets that are there, and the descriptors that hold them.

use tracer_common::TcpState;

use crate::event::{Comm, SockId};
use crate::time::MonoNs;

/// Which of the kernel's three structs stands for the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// `struct tcp_sock`.
    Full,
    /// `struct tcp_request_sock`: the SYN came, the third ACK did not.
    Request,
    /// `struct tcp_timewait_sock`: the application has closed it; FIN_WAIT2 or TIME_WAIT.
    Mini,
}

/// A row of `iter/tcp`. Times are jiffies, converted by whoever knows the rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Existing {
    /// State now; of a mini-socket what it stands for.
    pub state: TcpState,
    /// What stands for it.
    pub shape: Shape,
    /// Inode of the socket's file, 0 for none.
    pub inode: u64,
    /// Owner of the socket.
    pub uid: u32,
    /// Unread bytes; of a listener, connections not accepted.
    pub recv_queue: u32,
    /// Unacknowledged or unsent bytes; of a listener, the accept queue's limit.
    pub send_queue: u32,
    /// Jiffies since data came in.
    pub since_received: u32,
    /// Jiffies since data went out.
    pub since_sent: u32,
    /// Jiffies since an ACK came in.
    pub since_ack: u32,
    /// Jiffies until the timer of a mini-socket or request.
    pub timer: u32,
    /// Times the head of the queue, or the SYN-ACK, was sent again without an answer.
    pub unanswered: u32,
    /// Window or keepalive probes without an answer.
    pub probes: u8,
    /// Of a request: the third ACK came, and TCP_DEFER_ACCEPT set it aside. Of a listener: it has that
    /// option.
    pub deferred: bool,
}

/// A descriptor that holds a socket, says `iter/task_file`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Which socket.
    pub id: SockId,
    /// Its address, where that is all the row has, else 0.
    pub address: u64,
    /// Process.
    pub pid: u32,
    /// Descriptor.
    pub fd: u32,
    /// The process's name.
    pub comm: Comm,
    /// Start of the process, CLOCK_BOOTTIME nanoseconds.
    pub start_ns: u64,
    /// When the row was made.
    pub at: MonoNs,
    /// The socket's state; `None`: not told.
    pub state: Option<TcpState>,
    /// Inode of its network namespace.
    pub netns: u32,
    /// It has a local port.
    pub bound: bool,
    /// It has a remote port: it is connected, or was and has not been disconnected.
    pub connected: bool,
}
