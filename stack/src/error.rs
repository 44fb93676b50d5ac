//! Why a call failed, and why a connection ended.

use msgr_protocol::{EntityAddr, Peer, State};
use msgr_transport::{CloseReason, OpenError};

/// A messenger could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The transport could not listen there.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address has no IP address and port.
    #[error("cannot bind to {0}: it is not an IP address and port")]
    NotAnEndpoint(EntityAddr),
    /// The messenger was shut down.
    #[error("the messenger is shut down")]
    ShutDown,
}

/// A connection could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address has no IP address and port.
    #[error("cannot connect to {0}: it is not an IP address and port")]
    NotAnEndpoint(EntityAddr),
    /// The messenger was shut down, or too many calls wait for it.
    #[error("the messenger takes no more calls")]
    Unavailable,
}

/// A connection ended: who was at the other end, how far it had come, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{peer}: {cause} (in state {state})")]
pub struct Fault {
    /// The other end, as far as it is known.
    pub peer: Box<Peer>,
    /// The state in which it ended.
    pub state: State,
    /// Why.
    pub cause: FaultCause,
}

impl Fault {
    /// Whether another attempt would end the same way: the two ends do not understand each other.
    pub fn is_final(&self) -> bool {
        matches!(self.cause, FaultCause::Protocol(_))
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultCause {
    /// What the peer sent, or left out.
    #[error(transparent)]
    Protocol(msgr_protocol::Cause),
    /// The byte stream ended.
    #[error("{reason}{}", where_it_ended(*mid_frame))]
    Transport {
        /// As the transport tells it.
        reason: CloseReason,
        /// Whether it ended within a frame.
        mid_frame: bool,
    },
    /// The transport could not even start to connect.
    #[error("{0}")]
    Open(String),
    /// The handshake took too long.
    #[error("not ready in time")]
    ReadyTimeout,
    /// The peer, whose end was ready, gave up this stream and came over another.
    #[error("the peer gave up this connection for another")]
    Outrun,
    /// A new connection of the same peer took its place.
    #[error("replaced by a new connection")]
    Replaced,
    /// It was shut down by us, and everything sent before was delivered.
    #[error("shut down")]
    ShutDown,
    /// It was shut down by us, and not everything could be delivered in time.
    #[error("shut down with messages undelivered")]
    ShutDownTimeout,
    /// Nothing was received for too long.
    #[error("idle for too long")]
    IdleTimeout,
}

fn where_it_ended(mid_frame: bool) -> &'static str {
    if mid_frame {
        " in the middle of a frame"
    } else {
        ""
    }
}
