//! Idle connections that the other side, or the way to it, ends or forgets.

use super::{Code, Page};

pub(super) const PAGES: &[Page] = &[
    Page {
        code: Code::Idle,
        title: "idle connections without keepalive",
        meaning: "Nothing has come from the peer for a long time, and SO_KEEPALIVE is off. Nobody can tell whether the peer \
                  is still there. This is a note: it does not change the exit code.",
        cause: "Load balancers, firewalls and NATs forget idle connections: AWS NLB after 350 s, Azure after 4 minutes. A \
                peer that crashed sends nothing.",
        steps: &[
            "Set SO_KEEPALIVE, and TCP_KEEPIDLE below the time of the device on the path.",
            "Or let the pool drop idle connections sooner.",
        ],
        commands: &["tcptrail list --pid PID --state ESTABLISHED --sort age"],
        anchor: "idle-without-keepalive",
    },
    Page {
        code: Code::IdleReset,
        title: "idle connections are reset",
        meaning: "Connections were reset after about the same time without data, or when they were used again after it.",
        cause: "A load balancer, firewall or NAT on the path, or the peer, ends or forgets idle connections.",
        steps: &[
            "Set SO_KEEPALIVE with a TCP_KEEPIDLE below that time.",
            "Or let the application ask: a heartbeat, the pool's keepaliveTime.",
            "Or drop idle connections sooner than that.",
        ],
        commands: &[
            "tcptrail life --how rst_received --rport PORT",
            "sysctl net.ipv4.tcp_keepalive_time",
        ],
        anchor: "idle-connections-reset",
    },
    Page {
        code: Code::StaleReuse,
        title: "requests on connections the server had closed",
        meaning: "The server closed an idle connection, the pool handed it out again, and the server answered the request \
                  with a RST. The request failed, unless the library sent it again.",
        cause: "The pool keeps idle connections for longer than the server does.",
        steps: &[
            "Let the pool drop idle connections sooner than the server closes them.",
            "Or raise the server's keep-alive above the pool's.",
            "Let the pool test a connection that was idle before it hands it out.",
        ],
        commands: &["tcptrail life --how rst_received --rport PORT", "tcptrail tail --rport PORT"],
        anchor: "stale-connections-used",
    },
];
