//! Something runs out: the acceptor's time, queues, descriptors, ports, TIME_WAIT sockets.

use super::{Code, Page};

pub(super) const PAGES: &[Page] = &[
    Page {
        code: Code::Unaccepted,
        title: "the application does not accept",
        meaning: "The handshakes are complete and the clients wait, but no thread calls accept(). For the clients these \
                  connections are established.",
        cause: "The accepting thread sleeps, waits for a lock or a full pool, or has ended. Or the process has no file \
                descriptor left, and accept() fails with EMFILE.",
        steps: &[
            "See what the accepting thread does: jstack PID, gdb -p PID, /proc/PID/task/*/stack.",
            "No descriptor left: find what the process leaks, then raise RLIMIT_NOFILE.",
            "CLOSE_WAIT here means that clients gave up: no close() is missing.",
        ],
        commands: &["tcptrail list --lport PORT", "tcptrail stuck --lport PORT"],
        anchor: "not-accepted",
    },
    Page {
        code: Code::AcceptQueue,
        title: "the accept queue is full",
        meaning: "More connections wait for accept() than the listen backlog allows. The kernel drops further handshakes. \
                  Clients see timeouts, or believe that they are connected.",
        cause: "accept() is called too seldom or not at all: too few threads, or too much work between two calls.",
        steps: &[
            "Accept with more threads, or do less work between two calls of accept().",
            "A larger backlog only helps against bursts: listen(), net.core.somaxconn, acceptCount.",
        ],
        commands: &[
            "tcptrail list --role listener --sort recv-q",
            "nstat -az TcpExtListenOverflows",
        ],
        anchor: "accept-queue",
    },
    Page {
        code: Code::Fds,
        title: "a process runs out of file descriptors",
        meaning: "The process has used its limit of open files, or will soon. Then accept(), connect(), socket() and open() \
                  fail with EMFILE.",
        cause: "The process opens sockets or files and does not close them, or the limit is too low for its load.",
        steps: &[
            "Most are sockets: see the other findings of this process, and tcptrail leaks.",
            "Most are files or pipes: ls -l /proc/PID/fd shows what each is.",
            "A higher limit buys time: prlimit --pid PID --nofile=N, LimitNOFILE= in systemd.",
        ],
        commands: &[
            "tcptrail leaks --pid PID --duration 1m",
            "tcptrail list --pid PID --group-by state,remote",
        ],
        anchor: "file-descriptors",
    },
    Page {
        code: Code::Ports,
        title: "local ports towards a destination run out",
        meaning: "Each connection to one destination needs a local port of its own. When none is left, connect() fails with \
                  EADDRNOTAVAIL, or bind() with EADDRINUSE.",
        cause: "A connection that this side closes first waits in TIME_WAIT for 60 s and keeps its port. Many short \
                connections use up the range. Or too many are open at once.",
        steps: &[
            "Reuse connections: a pool, HTTP keep-alive. Or let the server close first.",
            "Widen net.ipv4.ip_local_port_range, and set net.ipv4.tcp_tw_reuse to 1.",
            "Spread over more destination or source addresses.",
            "Bound to an address before connect(): set IP_BIND_ADDRESS_NO_PORT.",
        ],
        commands: &[
            "tcptrail list --group-by remote,state --top 10",
            "sysctl net.ipv4.ip_local_port_range",
        ],
        anchor: "ports",
    },
    Page {
        code: Code::TimeWaitOverflow,
        title: "no room for more TIME_WAIT sockets",
        meaning: "The kernel has net.ipv4.tcp_max_tw_buckets TIME_WAIT sockets in this network namespace and forgets \
                  further closed connections at once. A late segment may reach a new connection with the same ports.",
        cause: "This side closes very many connections first.",
        steps: &[
            "Reuse connections, or let the peer close first.",
            "Raise net.ipv4.tcp_max_tw_buckets: each TIME_WAIT socket takes about 250 bytes.",
        ],
        commands: &[
            "tcptrail list --state TIME_WAIT --group-by remote",
            "nstat -az TcpExtTCPTimeWaitOverflow",
        ],
        anchor: "no-time_wait",
    },
];
