//! [`Policy`]: what happens to a session when its connection breaks.
//!
//! Source: `Messenger::Policy` in Ceph's `src/msg/Policy.h`.

use std::fmt;
use std::str::FromStr;

/// How a messenger treats its peers of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools)] // Five independent traits, as in Ceph.
pub struct Policy {
    /// A broken connection takes the session with it, and the application is told by a reset.
    pub lossy: bool,
    /// We wait for the peer to connect and never connect ourselves.
    pub server: bool,
    /// A session with nothing to send waits, instead of being connected again at once.
    pub standby: bool,
    /// A peer that forgot the session makes us drop what was queued for it.
    pub reset_check: bool,
    /// A lossy session can be found by its peer's address: a new one replaces it.
    pub register_lossy: bool,
}

/// Every preset by its name.
const PRESETS: [(&str, Policy); 7] = [
    ("lossy-client", Policy::LOSSY_CLIENT),
    ("stateless-server", Policy::STATELESS_SERVER),
    (
        "stateless-registered-server",
        Policy::STATELESS_REGISTERED_SERVER,
    ),
    ("stateful-server", Policy::STATEFUL_SERVER),
    ("lossless-client", Policy::LOSSLESS_CLIENT),
    ("lossless-peer", Policy::LOSSLESS_PEER),
    ("lossless-peer-reuse", Policy::LOSSLESS_PEER_REUSE),
];

const NOTHING: Policy = Policy {
    lossy: false,
    server: false,
    standby: false,
    reset_check: false,
    register_lossy: false,
};

impl Policy {
    /// A client that makes a new connection itself when it was told of a reset.
    pub const LOSSY_CLIENT: Self = Self {
        lossy: true,
        ..NOTHING
    };
    /// A server that keeps nothing about clients whose connection broke.
    pub const STATELESS_SERVER: Self = Self {
        lossy: true,
        server: true,
        ..NOTHING
    };
    /// The same, with one connection per client: a new one replaces the old.
    pub const STATELESS_REGISTERED_SERVER: Self = Self {
        register_lossy: true,
        ..Self::STATELESS_SERVER
    };
    /// A server that keeps a session until its client comes back for it.
    pub const STATEFUL_SERVER: Self = Self {
        server: true,
        standby: true,
        reset_check: true,
        ..NOTHING
    };
    /// A client that comes back for its session.
    pub const LOSSLESS_CLIENT: Self = Self {
        reset_check: true,
        ..NOTHING
    };
    /// One of two equals, either of which connects; keeps its queue even if the other forgot.
    pub const LOSSLESS_PEER: Self = Self {
        standby: true,
        ..NOTHING
    };
    /// The same, but drops its queue when the other forgot the session.
    pub const LOSSLESS_PEER_REUSE: Self = Self {
        reset_check: true,
        ..Self::LOSSLESS_PEER
    };

    /// Every preset.
    pub fn presets() -> impl Iterator<Item = Self> {
        PRESETS.into_iter().map(|(_, policy)| policy)
    }

    /// Whether an acceptor must find a peer's session by the peer's address.
    pub fn is_registered(self) -> bool {
        !self.lossy || self.register_lossy
    }

    /// Whether a session of ours can outlive its connection and be resumed by the peer.
    pub fn is_resumed_by_peer(self) -> bool {
        !self.lossy && (self.server || self.standby)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let preset = PRESETS.iter().find(|(_, policy)| policy == self);
        f.write_str(preset.map_or("custom", |(name, _)| name))
    }
}

/// The text names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy {0:?}, one of: {names}", names = PRESETS.map(|(name, _)| name).join(", "))]
pub struct UnknownPolicy(String);

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let found = PRESETS.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, policy)| *policy)
            .ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}
