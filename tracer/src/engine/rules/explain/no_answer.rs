//! The peer, or the way to it, does not answer.

use super::{Code, Page};

// Of a FIN that nobody acknowledges, whichever it is.
const GONE: &str =
    "The peer's host is gone, or a firewall or NAT on the path has forgotten the connection.";
const CHECK: &str = "Check the peer and the path.";
const CLOSED_HERE: &str = "tcptrail list --state FIN_WAIT1,CLOSING,LAST_ACK --group-by remote";

pub(super) const PAGES: &[Page] = &[
    Page {
        code: Code::SynSent,
        title: "a connect gets no answer",
        meaning: "The SYN was sent again and nothing came back, not even a RST. connect() waits until the kernel gives up \
                  (tcp_syn_retries), or the application does.",
        cause: "A firewall drops the SYN, the address is wrong, the host is down, or the listener's queue is full. \
                tcptrail says so where this machine itself drops the packets.",
        steps: &[
            "Check address and port, and whether the host is up.",
            "Follow the path: traceroute -T -p PORT HOST, and the counters of the firewalls on it.",
            "Set a connect timeout of a few seconds in the application.",
        ],
        commands: &["tcptrail tail --failed --rport PORT", "tcptrail tail --rport PORT"],
        anchor: "syn_sent",
    },
    Page {
        code: Code::SynRecv,
        title: "half-open connections pile up at a listener",
        meaning: "The listener answered SYNs with SYN-ACK, and the last ACK of the handshake does not come.",
        cause: "A SYN flood from addresses that do not answer, or the path back loses the SYN-ACKs (asymmetric routing, a \
                firewall).",
        steps: &[
            "Look at the sources: one real network means a path that loses packets, thousands mean a flood.",
            "Keep net.ipv4.tcp_syncookies at 1: the listener then still serves when its SYN queue is full.",
            "Real clients: check routing and firewalls on the path back.",
        ],
        commands: &[
            "tcptrail list --lport PORT --state SYN_RECV --group-by addr",
            "nstat -az TcpExtSyncookiesSent TcpExtListenDrops",
        ],
        anchor: "syn_recv",
    },
    Page {
        code: Code::SynRecvDeferred,
        title: "clients connected and sent nothing yet",
        meaning: "The handshakes are complete. The listener has TCP_DEFER_ACCEPT, so the kernel shows SYN_RECV until the \
                  first data comes. This is no flood and no fault.",
        cause: "Browsers and health checks connect ahead and send nothing. Apache sets the option by default; nginx calls \
                it deferred, haproxy defer-accept.",
        steps: &[
            "Nothing, unless the SYN queue fills up: then turn the option off or raise the listen backlog.",
        ],
        commands: &["tcptrail list --lport PORT --state SYN_RECV"],
        anchor: "syn_recv",
    },
    Page {
        code: Code::Established,
        title: "the peer does not acknowledge data",
        meaning: "Data was sent, sent again, and is not acknowledged. The kernel retransmits until tcp_retries2 is used \
                  up; then the application gets ETIMEDOUT.",
        cause: "The peer's host is down, or a NAT or firewall on the path has lost its state.",
        steps: &[
            "Check the peer and the path.",
            "Set TCP_USER_TIMEOUT on the socket, or a read timeout in the application, to notice sooner.",
        ],
        commands: &[
            "tcptrail list --addr ADDRESS --sort retransmits",
            "tcptrail tail --addr ADDRESS",
        ],
        anchor: "established-without-progress",
    },
    Page {
        code: Code::EstablishedWindow,
        title: "the peer does not read",
        meaning: "The peer's host answers, but its receive window is closed: its application does not read. Data waits \
                  here. The kernel probes for as long as the peer answers.",
        cause: "The peer's application hangs, waits for a lock, or is slower than this side.",
        steps: &[
            "Look at the peer: its socket has a full RECV-Q.",
            "Limit the wait here with a write timeout (SO_SNDTIMEO) or TCP_USER_TIMEOUT.",
        ],
        commands: &["tcptrail list --addr ADDRESS --sort send-q"],
        anchor: "established-without-progress",
    },
    Page {
        code: Code::FinWait1,
        title: "closed here, the peer does not acknowledge",
        meaning: "The application has closed. The kernel retransmits the FIN and nobody acknowledges it. This is no leak: \
                  the kernel ends each socket by itself.",
        cause: GONE,
        steps: &[CHECK, "Too many at once: lower net.ipv4.tcp_orphan_retries."],
        commands: &[CLOSED_HERE],
        anchor: "fin_wait1-closing-last_ack",
    },
    Page {
        code: Code::FinWait1Window,
        title: "closed here, the peer does not read the rest",
        meaning: "The application has closed, but data that it wrote before is still unsent. The peer's window is closed: \
                  its application does not read.",
        cause: "The peer hangs. As long as its host answers the kernel's probes, the socket stays.",
        steps: &[
            "Look at the peer's application.",
            "The kernel gives up only after tcp_orphan_retries probes without an answer.",
        ],
        commands: &["tcptrail list --state FIN_WAIT1 --sort send-q"],
        anchor: "fin_wait1-closing-last_ack",
    },
    Page {
        code: Code::FinWait2,
        title: "closed here, the peer does not close",
        meaning: "This side has sent its FIN and the peer has acknowledged it, but the peer does not close its side.",
        cause: "An orphaned socket: close() is missing at the peer, and the kernel ends it after tcp_fin_timeout. A socket \
                that a process still has: shutdown(SHUT_WR) was called and close() was not, and no timeout runs.",
        steps: &[
            "Orphaned: run tcptrail on the peer. Its sockets are in CLOSE_WAIT (TT101).",
            "Still held: call close() after shutdown(), or read with a timeout and then close.",
        ],
        commands: &["tcptrail list --state FIN_WAIT2 --group-by process,remote"],
        anchor: "fin_wait2",
    },
    Page {
        code: Code::Closing,
        title: "both closed at once, the FIN is not acknowledged",
        meaning: "Both sides closed at the same time, and the peer does not acknowledge the FIN. This is no leak: the \
                  kernel ends each socket by itself.",
        cause: GONE,
        steps: &[CHECK],
        commands: &[CLOSED_HERE],
        anchor: "fin_wait1-closing-last_ack",
    },
    Page {
        code: Code::LastAck,
        title: "both closed, the last FIN is not acknowledged",
        meaning: "The peer closed, the application closed too, and the peer does not acknowledge the last FIN. This is no \
                  leak: the kernel ends each socket by itself.",
        cause: GONE,
        steps: &[CHECK, "Too many at once: lower net.ipv4.tcp_orphan_retries."],
        commands: &[CLOSED_HERE],
        anchor: "fin_wait1-closing-last_ack",
    },
];
