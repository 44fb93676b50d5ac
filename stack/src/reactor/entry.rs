//! [`Entry`]: what a reactor keeps about one connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use msgr_protocol::{self as protocol, TxQueue};
use msgr_transport::ConnId;

use super::admission::HalfOpen;
use crate::budget::{Account, Charge};
use crate::connection::{Connection, ConnectionId};

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
#[allow(clippy::struct_excessive_bools)] // They are independent of each other.
pub(super) struct Wire {
    /// The transport's connection, if the session has one now.
    pub(super) conn: Option<ConnId>,
    pub(super) protocol: protocol::Connection,
    /// Laid out, and not taken by the transport yet.
    pub(super) unsent: TxQueue,
    /// Whether the transport's connection is up.
    pub(super) up: bool,
    /// Whether it is listed to be transmitted in this turn.
    pub(super) touched: bool,
    /// Whether we opened it.
    pub(super) ours: bool,
    /// Whether the application knows it: it was ready once.
    pub(super) known: bool,
    /// Whether it ends without a word.
    pub(super) disposable: bool,
    /// When something was last received or sent.
    pub(super) active: Instant,
    /// When its timer expires.
    pub(super) deadline: Option<Instant>,
    /// How long to wait after the next failure.
    pub(super) backoff: Duration,
    /// When to stop waiting for what was sent to be delivered, once it is shut down.
    pub(super) end_by: Option<Instant>,
    /// What the connection's messages count against.
    pub(super) account: Option<Arc<Account>>,
    /// What keeps count of the handshake, until it is over.
    pub(super) half_open: Option<HalfOpen>,
    /// Room for the message being received.
    pub(super) charge: Option<Charge>,
    /// Whether it waits for room in a budget before it receives its next message.
    pub(super) starved: bool,
}

impl Wire {
    /// Lists the connection among those that have something to transmit, or lack a stream for it.
    #[inline]
    pub(super) fn touch(
        &mut self,
        id: ConnectionId,
        touched: &mut Vec<ConnectionId>,
        wanting: &mut Vec<ConnectionId>,
    ) {
        if self.up {
            if !self.touched && (!self.unsent.is_empty() || self.protocol.wants_transmit()) {
                self.touched = true;
                touched.push(id);
            }
        } else if self.protocol.wants_stream() {
            wanting.push(id);
        }
    }

    /// Whether nothing is left to be sent, nor, on a lossless session, to be acknowledged.
    pub(super) fn is_drained(&self) -> bool {
        self.unsent.is_empty() && self.protocol.is_settled() && !self.protocol.wants_transmit()
    }
}
