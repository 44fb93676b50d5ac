//! [`Policy`]: what happens to a session when its connection breaks.
//!
//! Source: `Messenger::Policy` in Ceph's `src/msg/Policy.h`.

use std::fmt;
use std::str::FromStr;

/// How a messenger treats its peers of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A broken connection takes the session with it, and the application is told by a reset.
    pub lossy: bool,
    /// We wait for the peer to connect and never connect ourselves.
    pub server: bool,
}

impl Policy {
    /// A client that makes a new connection itself when it was told of a reset.
    pub const LOSSY_CLIENT: Self = Self {
        lossy: true,
        server: false,
    };
    /// A server that keeps nothing about clients whose connection broke.
    pub const STATELESS_SERVER: Self = Self {
        lossy: true,
        server: true,
    };

    const NAMES: [(&'static str, Self); 2] = [
        ("lossy-client", Self::LOSSY_CLIENT),
        ("stateless-server", Self::STATELESS_SERVER),
    ];
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, policy)| policy == self);
        f.write_str(name.map_or("custom", |(name, _)| name))
    }
}

/// The text names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy {0:?}, one of: lossy-client, stateless-server")]
pub struct UnknownPolicy(String);

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, policy)| *policy)
            .ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}
