//! [`ConnectionDump`]: what an operator may want to know about a connection.

use msgr_protocol::{EntityAddr, Peer, Policy, SessionCounts, State};

/// A connection at one moment.
#[derive(Debug, Clone)]
pub struct ConnectionDump {
    /// The address that was dialled; `None` for a connection that the peer opened.
    pub target: Option<EntityAddr>,
    /// Whether the messenger finds the connection by its peer's address, so that others share it.
    pub shared: bool,
    /// The other end; `None` for a connection to ourselves.
    pub peer: Option<Peer>,
    /// How far the connection has come.
    pub state: State,
    /// How the peer is treated.
    pub policy: Policy,
    /// How far the session has come.
    pub counts: SessionCounts,
    /// The memory, in bytes, that messages hold which wait to be transmitted or acknowledged.
    pub queued_bytes: usize,
    /// Whether it waits for room in a budget before it receives its next message.
    pub throttled: bool,
}
