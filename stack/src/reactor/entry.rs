//! [`Entry`]: what a reactor keeps about one connection.

use std::time::Instant;

use msgr_protocol::{self as protocol, TxQueue};
use msgr_transport::ConnId;

use crate::connection::Connection;

/// A connection in its reactor's table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) handle: Connection,
    pub(super) link: Link,
}

/// Where a connection leads.
#[derive(Debug)]
pub(super) enum Link {
    Wire(Box<Wire>),
    /// To ourselves; holds the last sequence number given out.
    Loopback {
        seq: u64,
    },
}

/// A connection over the transport.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) conn: ConnId,
    pub(super) protocol: protocol::Connection,
    /// Laid out, and not taken by the transport yet.
    pub(super) unsent: TxQueue,
    pub(super) stage: Stage,
    /// Whether the transport's connection is up.
    pub(super) up: bool,
    /// Whether it is listed to be transmitted in this turn.
    pub(super) touched: bool,
    /// When something was last received or sent.
    pub(super) active: Instant,
}

/// How far a connection has come, as the application sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Accepting,
    Ready,
}
