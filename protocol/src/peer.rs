//! [`Peer`]: what is known about the other end of a connection.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::compression::Algorithm;
use crate::wire::{AuthName, EntityAddrVec, EntityName, EntityType, Features, Mode};

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
    /// Who the connector has proved to be, and what it may do, as encoded by whoever issued its
    /// ticket; only at an acceptor.
    pub principal: Option<Principal>,
    /// How frames are protected, once that is agreed.
    pub mode: Option<Mode>,
    /// By what frames are compressed, if that is agreed.
    pub compression: Option<Algorithm>,
    /// The features that both ends have.
    pub features: Features,
    /// Whether a broken connection to it takes the session with it.
    pub lossy: bool,
}

/// Somebody who has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub name: AuthName,
    /// Opaque here.
    pub caps: Bytes,
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
            principal: None,
            mode: None,
            compression: None,
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
