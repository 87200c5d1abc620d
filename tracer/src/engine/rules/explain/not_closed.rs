//! Sockets that the application does not close.

use super::{Code, Page};

pub(super) const PAGES: &[Page] = &[
    Page {
        code: Code::CloseWait,
        title: "the peer has closed, the application has not",
        meaning: "The peer has sent its FIN, and this process has not called close(). The kernel has no timeout for \
                  CLOSE_WAIT: each socket stays until the process closes it or ends.",
        cause: "A code path skips close(): an exception, an early return, a response that is never closed, a connection \
                that is not returned to its pool. Where the number does not grow, threads may still work on these \
                connections.",
        steps: &[
            "Find the code that opened them: tcptrail leaks names class, method and line.",
            "Close on every path: try-with-resources in Java, finally, defer, with.",
            "If the number does not grow, see with jstack or gdb what the threads wait for.",
            "A restart of the process frees the sockets until the code is fixed.",
        ],
        commands: &[
            "tcptrail leaks --pid PID --duration 1m",
            "tcptrail list --pid PID --state CLOSE_WAIT",
            "tcptrail kill --pid PID --state CLOSE_WAIT --min-duration 10m --dry-run",
        ],
        anchor: "close_wait",
    },
    Page {
        code: Code::CloseWaitInherited,
        title: "a child process holds the parent's connections",
        meaning: "The peer has closed. The process that holds the sockets started after the connections were made: it \
                  inherited the file descriptors by fork. close() in the parent does not end such a connection.",
        cause: "The parent started a child without SOCK_CLOEXEC on its sockets, and the child keeps what it inherited.",
        steps: &[
            "Open sockets with SOCK_CLOEXEC: socket(), accept4(), or FD_CLOEXEC with fcntl().",
            "Or close the descriptors between fork and exec.",
            "Ending the child ends these sockets.",
        ],
        commands: &["tcptrail list --pid PID --state CLOSE_WAIT", "ls -l /proc/PID/fd"],
        anchor: "close_wait",
    },
    Page {
        code: Code::CloseWaitRestart,
        title: "the server ended all connections at one moment",
        meaning: "The peer closed all connections of a pool within two seconds, and the application has not noticed. This \
                  is no leak: a pool notices it at the next use and connects again.",
        cause: "The server restarted or failed over. Where all connections had been idle for the same time, its idle \
                timeout may have closed them instead. The two look alike from outside.",
        steps: &[
            "See in the server's log and uptime whether it restarted.",
            "Let the pool test a connection before it hands it out (HikariCP does; testOnBorrow, validationQuery).",
            "If it was an idle timeout, let the pool drop idle connections sooner than that.",
            "If the sockets stay after the application has worked again, close() is missing: see TT101.",
        ],
        commands: &[
            "tcptrail list --pid PID --state CLOSE_WAIT",
            "tcptrail tail --pid PID --failed",
        ],
        anchor: "close_wait",
    },
    Page {
        code: Code::CloseWaitKeepAlive,
        title: "the pool's keep-alive exceeds the server's",
        meaning: "The server closed idle connections of a pool after its keep-alive time. The pool has not noticed yet. \
                  Their number does not grow, so this is no leak. A request on such a connection fails.",
        cause: "The pool keeps idle connections for longer than the server does.",
        steps: &[
            "Let the pool drop idle connections sooner than the server closes them.",
            "Or raise the server's keep-alive above the pool's.",
            "Let the pool test a connection that was idle before it hands it out.",
        ],
        commands: &["tcptrail stuck --pid PID", "tcptrail list --pid PID --state CLOSE_WAIT"],
        anchor: "close_wait",
    },
    Page {
        code: Code::EstablishedIdle,
        title: "connections are opened and forgotten",
        meaning: "Connections are opened, and then neither used again nor closed, while more are opened. The peer keeps \
                  its end open, so no FIN shows the leak.",
        cause: "A pool, client or channel is made anew for each request and never closed: a DataSource, an HTTP client, \
                a gRPC channel, a WebSocket. Or a connection is not returned to its pool.",
        steps: &[
            "Find the code that opens them with tcptrail leaks.",
            "Make one client and share it, or close it on every path (try-with-resources, finally, defer).",
            "On a server: look at the client that is named. An idle timeout here bounds it (keepalive_timeout).",
        ],
        commands: &[
            "tcptrail leaks --pid PID --duration 5m",
            "tcptrail list --pid PID --state ESTABLISHED --group-by remote",
        ],
        anchor: "established-idle-and-forgotten",
    },
    Page {
        code: Code::Closed,
        title: "the connection has ended, its descriptor is open",
        meaning: "The connection was reset, refused, timed out or closed on both sides. Its socket is in CLOSE, and the \
                  process still has the file descriptor. ss does not show such sockets.",
        cause: "The code that handles an error of connect(), read() or write() does not call close(). Sockets that were \
                never connected come from an attempt that fails between socket() and connect().",
        steps: &[
            "Look at the code that handles the error and close there (try-with-resources, finally, defer).",
            "Never connected: look for a name that does not resolve or a bind() that fails.",
            "All ended at one moment: the peer restarted, and a pool closes them at the next use.",
        ],
        commands: &["tcptrail leaks --pid PID --duration 1m", "ls -l /proc/PID/fd"],
        anchor: "closed-and-not-given-back",
    },
    Page {
        code: Code::Collected,
        title: "only the garbage collector closes these sockets",
        meaning: "The application dropped the socket without close(). The JVM's garbage collector closed it later. The \
                  number need not grow; with a larger heap the collector comes later and more sockets are open.",
        cause: "close() is missing on some path. The JVM's threads Common-Cleaner or Finalizer close what became \
                unreachable.",
        steps: &[
            "Close on every path: try-with-resources, finally.",
            "tcptrail leaks names the code that opened them.",
        ],
        commands: &["tcptrail leaks --pid PID --duration 5m"],
        anchor: "closed-by-the-garbage-collector",
    },
];
