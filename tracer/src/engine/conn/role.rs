//! Which side we are, and which side closed first.

/// Which side of the handshake we were on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We sent the SYN.
    Client,
    /// We received the SYN.
    Server,
    /// It listens.
    Listener,
    /// It was there before us and nothing tells.
    Unknown,
}

impl Role {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Client => "client",
            Role::Server => "server",
            Role::Listener => "listener",
            Role::Unknown => "unknown",
        }
    }
}

/// Which side closed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// We did.
    Local,
    /// The peer did.
    Remote,
    /// Nobody, or not yet, or not seen.
    None,
}

impl Ends {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Ends::Local => "local",
            Ends::Remote => "remote",
            Ends::None => "none",
        }
    }
}
