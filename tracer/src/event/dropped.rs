//! Segments that the kernel threw away.

use tracer_common::wire::dropped;

/// Where the kernel was with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Place {
    /// On its way out, before it left this namespace.
    Output,
    /// Received, and not routed yet.
    Prerouting,
    /// Received, for this namespace.
    Input,
    /// Received, on its way to somewhere else.
    Forward,
}

impl Place {
    /// As netfilter calls its hooks, and as in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Place::Output => "output",
            Place::Prerouting => "prerouting",
            Place::Input => "input",
            Place::Forward => "forward",
        }
    }

    /// As the wire has it.
    #[must_use]
    pub const fn of_wire(number: u8) -> Option<Place> {
        match number {
            dropped::OUTPUT => Some(Place::Output),
            dropped::PREROUTING => Some(Place::Prerouting),
            dropped::INPUT => Some(Place::Input),
            dropped::FORWARD => Some(Place::Forward),
            _ => None,
        }
    }
}

/// What a segment was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Dropped {
    /// A client's first.
    Syn,
    /// A server's answer to that.
    SynAck,
    /// It resets a connection.
    Rst,
    /// The last of one side; there may be data in it.
    Fin,
    /// Data.
    Data,
    /// Nothing but an ACK.
    Ack,
}

impl Dropped {
    /// By the flags of its TCP header and its payload.
    #[must_use]
    pub fn of(flags: u8, payload: u32) -> Dropped {
        let has = |bit: u8| flags & bit != 0;
        if has(dropped::RST) {
            Dropped::Rst
        } else if has(dropped::SYN) && has(dropped::ACK) {
            Dropped::SynAck
        } else if has(dropped::SYN) {
            Dropped::Syn
        } else if has(dropped::FIN) {
            Dropped::Fin
        } else if payload != 0 {
            Dropped::Data
        } else {
            Dropped::Ack
        }
    }

    /// `SYN`, or of several `SYNs`.
    #[must_use]
    pub const fn noun(self, count: u64) -> &'static str {
        match (self, count == 1) {
            (Dropped::Syn, true) => "SYN",
            (Dropped::Syn, false) => "SYNs",
            (Dropped::SynAck, true) => "SYN-ACK",
            (Dropped::SynAck, false) => "SYN-ACKs",
            (Dropped::Rst, true) => "RST",
            (Dropped::Rst, false) => "RSTs",
            (Dropped::Fin, true) => "FIN",
            (Dropped::Fin, false) => "FINs",
            (Dropped::Data, true) => "data segment",
            (Dropped::Data, false) => "data segments",
            (Dropped::Ack, true) => "ACK",
            (Dropped::Ack, false) => "ACKs",
        }
    }

    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Dropped::Syn => "syn",
            Dropped::SynAck => "synack",
            Dropped::Rst => "rst",
            Dropped::Fin => "fin",
            Dropped::Data => "data",
            Dropped::Ack => "ack",
        }
    }
}

/// A segment that the kernel threw away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drop {
    /// `enum skb_drop_reason`.
    pub reason: u16,
    /// Where.
    pub place: Place,
    /// What it was.
    pub segment: Dropped,
    /// Its payload, bytes; 0 where the header does not say.
    pub payload: u32,
    /// Others that were dropped for this reason since one was told last: too many in a second. Whose they were is
    /// not known.
    pub untold: u32,
}

/// Why, in words: of the reasons that operators meet; of all others the kernel's name.
#[must_use]
pub fn in_words(reason: Option<&str>, place: Place) -> String {
    let Some(reason) = reason else { return "for a reason without a name".to_owned() };
    let words = match reason {
        "NETFILTER_DROP" => return format!("by netfilter ({})", place.name()),
        "NO_SOCKET" => "nobody listens there",
        "TCP_LISTEN_OVERFLOW" => "the accept queue is full",
        "TCP_REQQFULLDROP" => "the SYN queue is full",
        "IP_RPFILTER" => "by the reverse path filter",
        "IP_INNOROUTES" | "IP_OUTNOROUTES" => "there is no route",
        "IP_INADDRERRORS" => "the address is not of this host",
        "XFRM_POLICY" => "by an IPsec policy",
        "SOCKET_FILTER" => "by the socket's filter",
        "BPF_CGROUP_EGRESS" => "by a BPF program of the cgroup",
        "TC_INGRESS" | "TC_EGRESS" => "by traffic control (tc)",
        "XDP" => "by an XDP program",
        "QDISC_DROP" => "the interface's queue (qdisc) is full",
        "CPU_BACKLOG" => "this CPU's backlog is full (netdev_max_backlog)",
        "SOCKET_BACKLOG" => "the socket's backlog is full",
        "SOCKET_RCVBUFF" => "the receive buffer is full",
        "PROTO_MEM" => "TCP's memory limit is reached (tcp_mem)",
        "NOMEM" => "the kernel has no memory for it",
        "TCP_ZEROWINDOW" => "the receive window is closed",
        "TCP_OVERWINDOW" => "it is beyond the receive window",
        "TCP_INVALID_SEQUENCE" | "TCP_INVALID_END_SEQUENCE" => {
            "its sequence number is outside the window"
        }
        "TCP_INVALID_ACK_SEQUENCE" | "TCP_ACK_UNSENT_DATA" => "it acknowledges what was never sent",
        "TCP_TOO_OLD_ACK" => "its ACK is too old",
        "TCP_RFC7323_PAWS" | "TCP_RFC7323_PAWS_ACK" => "its timestamp is too old (PAWS)",
        "TCP_RFC7323_TSECR" => "its echoed timestamp is wrong",
        "TCP_ABORT_ON_DATA" => "the socket was closed before this data came",
        "TCP_INVALID_SYN" => "a SYN inside an open connection",
        "TCP_OFO_DROP" | "TCP_OFO_QUEUE_PRUNE" => "there is no room for out-of-order data",
        "TCP_CSUM" | "SKB_CSUM" | "IP_CSUM" => "its checksum is wrong",
        "TCP_MD5NOTFOUND" | "TCP_MD5UNEXPECTED" | "TCP_MD5FAILURE" => "its MD5 signature",
        "TCP_MINTTL" => "its TTL is too small",
        "NEIGH_FAILED" | "NEIGH_DEAD" => "the next hop does not answer (ARP, NDP)",
        "NEIGH_QUEUEFULL" => "too much waits for the next hop's address (ARP, NDP)",
        "PKT_TOO_BIG" => "it is larger than the MTU",
        _ => return reason.to_ascii_lowercase(),
    };
    words.to_owned()
}
