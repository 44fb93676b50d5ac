//! [`Peer`]: what is known about the other end of a connection.

use std::fmt;
use std::net::SocketAddr;

use crate::wire::{EntityAddrVec, EntityName, EntityType, Features};

/// The other end of a connection; fields fill in as the handshake goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where its socket is.
    pub socket: SocketAddr,
    /// What kind of entity it is.
    pub kind: Option<EntityType>,
    /// Its name. Complete from the ident frames on.
    pub name: Option<EntityName>,
    /// Its addresses: its identity.
    pub addrs: EntityAddrVec,
    /// The id under which the connector was authenticated: at an acceptor the peer's, at a
    /// connector our own.
    pub global_id: u64,
    /// The features that both ends have.
    pub features: Features,
    /// Whether a broken connection to it takes the session with it.
    pub lossy: bool,
}

impl Peer {
    /// A peer of which only the socket is known.
    pub fn at(socket: SocketAddr) -> Self {
        Self {
            socket,
            kind: None,
            name: None,
            addrs: EntityAddrVec::default(),
            global_id: 0,
            features: Features::default(),
            lossy: true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.kind) {
            (Some(name), _) => write!(f, "{name} at {}", self.socket),
            (None, Some(kind)) => write!(f, "{kind} at {}", self.socket),
            (None, None) => write!(f, "{}", self.socket),
        }
    }
}
