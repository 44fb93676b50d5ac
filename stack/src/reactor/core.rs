//! [`Core`]: a reactor's connections and their transport; everything but the dispatcher, so that
//! callbacks can be given access to it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use msgr_protocol::auth::AuthError;
use msgr_protocol::{self as protocol, Config, ConnectionError, Message, Peer, Ticket, Timestamp};
use msgr_transport::{Close, ConnId, ListenerId, Slots, Transport};

use super::admission::Admission;
use super::entry::{Entry, Link, Wire};
use super::timers::Timers;
use crate::budget::{Account, Budget};
use crate::connection::{Connection, ConnectionId, SendRefusal};
use crate::dump::ConnectionDump;
use crate::inbox::Inbox;
use crate::messenger::Shared;
use crate::metrics::{Metrics, add};
use crate::settings::Settings;

/// A segment of which this many bytes are missing is read straight into a run of its own.
const PLACE_FROM: usize = 128 << 10;

/// A reactor's connections and their transport.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    /// Which of the messenger's reactors this is.
    pub(super) number: usize,
    pub(super) metrics: Arc<Metrics>,
    /// Where the handles of accepted connections lead.
    pub(super) inbox: Arc<Inbox>,
    pub(super) transport: Box<dyn Transport>,
    pub(super) config: Arc<Config>,
    pub(super) entries: Slots<Connection, Entry>,
    /// By slot of the transport's connection.
    pub(super) by_conn: Vec<Option<ConnectionId>>,
    /// Connections of the transport's that have ended, and whose slot is used again before we were
    /// told so.
    pub(super) displaced: Vec<(ConnId, ConnectionId)>,
    pub(super) touched: Vec<ConnectionId>,
    pub(super) local: VecDeque<(ConnectionId, Message)>,
    pub(super) timers: Timers,
    /// When messages that were given a deadline are taken back.
    pub(super) cancellations: BTreeMap<(Instant, Ticket), ConnectionId>,
    /// Connections that are being shut down.
    pub(super) ending: Vec<ConnectionId>,
    /// Connections that wait for room in a budget, the longest first.
    pub(super) starved: VecDeque<ConnectionId>,
    /// Sessions without a stream that were given something to send.
    pub(super) wanting: Vec<ConnectionId>,
    budget: Option<Arc<Budget>>,
    pub(super) admission: Admission,
    pub(super) listeners: Vec<ListenerId>,
    /// Messages and payload bytes queued since the last transmission.
    pub(super) lot: (usize, usize),
    pub(super) block: BytesMut,
    pub(super) rng: Rng,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("transport", &self.transport.name())
            .field("connections", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl Core {
    pub(super) fn new(
        shared: Arc<Shared>,
        number: usize,
        inbox: Arc<Inbox>,
        transport: Box<dyn Transport>,
    ) -> Self {
        let config = Arc::new(shared.settings.protocol.clone());
        let budget = Budget::new(shared.settings.budgets.reactor);
        let admission = Admission::new(shared.settings.handshakes);
        let rng = Rng::with_seed(shared.settings.seed.wrapping_add(number as u64));
        Self {
            metrics: Arc::clone(&shared.metrics[number]),
            shared,
            number,
            inbox,
            transport,
            config,
            entries: Slots::default(),
            by_conn: Vec::new(),
            displaced: Vec::new(),
            touched: Vec::new(),
            local: VecDeque::new(),
            timers: Timers::default(),
            cancellations: BTreeMap::new(),
            ending: Vec::new(),
            starved: VecDeque::new(),
            wanting: Vec::new(),
            budget,
            admission,
            listeners: Vec::new(),
            lot: (0, 0),
            block: BytesMut::new(),
            rng,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    // What callbacks and commands ask for.

    pub(crate) fn handle(&self, id: ConnectionId) -> Option<&Connection> {
        self.entries.get(id).map(|entry| &entry.handle)
    }

    pub(crate) fn peer(&self, id: ConnectionId) -> Option<&Peer> {
        self.wire(id).map(|wire| wire.protocol.peer())
    }

    pub(crate) fn queued(&self, id: ConnectionId) -> usize {
        self.wire(id).map_or(0, |wire| wire.protocol.queued())
    }

    /// Queues a message, unless more than `most` bytes are queued already. (Handles look themselves:
    /// what they have taken is never dropped.)
    pub(crate) fn send(
        &mut self,
        id: ConnectionId,
        mut message: Message,
        most: usize,
    ) -> Result<(), SendRefusal> {
        self.queue(id, &mut message, most, None)
    }

    pub(crate) fn send_cancellable(
        &mut self,
        id: ConnectionId,
        mut message: Message,
        most: usize,
        ticket: Ticket,
        deadline: Option<Instant>,
    ) -> Result<(), SendRefusal> {
        self.queue(id, &mut message, most, Some(ticket))?;
        let cancellation = deadline.map(|at| ((at, ticket), id));
        self.cancellations.extend(cancellation);
        Ok(())
    }

    fn queue(
        &mut self,
        id: ConnectionId,
        message: &mut Message,
        most: usize,
        ticket: Option<Ticket>,
    ) -> Result<(), SendRefusal> {
        let entry = self.entries.get_mut(id).ok_or(SendRefusal::Closed)?;
        let len = message.payload_len();
        match &mut entry.link {
            Link::Wire(wire) => {
                let queued = wire.protocol.queued();
                if queued > most {
                    return Err(SendRefusal::Backlog { queued });
                }
                if wire.end_by.is_some() {
                    return Err(SendRefusal::Closed);
                }
                wire.protocol.queue(message, ticket)?;
                entry.handle.set_queued(wire.protocol.queued());
                self.lot = (self.lot.0 + 1, self.lot.1 + len);
                wire.touch(id, &mut self.touched, &mut self.wanting);
            }
            Link::Loopback { seq } => {
                *seq += 1;
                message.header.seq = *seq;
                self.local.push_back((id, std::mem::take(message)));
            }
        }
        add(&self.metrics.messages_sent, 1);
        add(&self.metrics.bytes_sent, len);
        Ok(())
    }

    pub(crate) fn keepalive(&mut self, id: ConnectionId, stamp: Timestamp) {
        if let Some(wire) = self.wire_mut(id) {
            wire.protocol.keepalive(stamp);
            self.touch(id);
        }
    }

    pub(crate) fn mark_down(&mut self, id: ConnectionId) {
        self.remove(id, Close::Abort);
    }

    pub(super) fn make_disposable(&mut self, id: ConnectionId) {
        if let Some(wire) = self.wire_mut(id) {
            wire.disposable = true;
            wire.protocol.make_disposable();
        }
    }

    pub(super) fn dump(&self) -> Vec<ConnectionDump> {
        let wires = self.entries.iter().filter_map(|(_, entry)| {
            let Link::Wire(wire) = &entry.link else {
                return None;
            };
            Some(ConnectionDump {
                target: entry.handle.target(),
                shared: entry.handle.key().is_some(),
                peer: Some(wire.protocol.peer().clone()),
                state: wire.protocol.state(),
                policy: wire.protocol.policy(),
                counts: wire.protocol.counts(),
                queued_bytes: wire.protocol.queued(),
                throttled: wire.starved,
            })
        });
        wires.collect()
    }

    // What is there, and the way in.

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        self.entries.get(id).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn wire(&self, id: ConnectionId) -> Option<&Wire> {
        match &self.entries.get(id)?.link {
            Link::Wire(wire) => Some(wire),
            Link::Loopback { .. } => None,
        }
    }

    pub(super) fn wire_mut(&mut self, id: ConnectionId) -> Option<&mut Wire> {
        match &mut self.entries.get_mut(id)?.link {
            Link::Wire(wire) => Some(wire),
            Link::Loopback { .. } => None,
        }
    }

    pub(super) fn is_mid_frame(&self, id: ConnectionId) -> bool {
        self.wire(id)
            .is_some_and(|wire| wire.protocol.is_mid_frame())
    }

    /// Gives a connection what the transport has received for it.
    pub(super) fn receive(
        &mut self,
        conn: ConnId,
        bytes: Bytes,
        now: Instant,
    ) -> Option<ConnectionId> {
        let id = self.id_of(conn)?;
        let wire = self.wire_mut(id)?;
        wire.active = now;
        wire.protocol.receive(bytes);
        Some(id)
    }

    /// The peer was not let in. It may try again, so this is not the connection's end.
    pub(super) fn auth_refused(&self, id: ConnectionId, error: &AuthError) {
        add(&self.metrics.auth_refused, 1);
        if let Some(peer) = self.peer(id) {
            tracing::info!("{peer} is not let in: {error}");
        }
    }

    /// What the connection's messages count against, from now on.
    pub(super) fn open_account(&mut self, id: ConnectionId) {
        let Some(kind) = self.peer(id).and_then(|peer| peer.kind) else {
            return;
        };
        let budgets = self.budget.iter().cloned();
        let account = Account::new(budgets.chain(self.shared.budgets(kind)).collect());
        if let Some(wire) = self.wire_mut(id)
            && wire.account.is_none()
            && account.is_some()
        {
            wire.account = account;
        }
    }

    /// What a connection has received next; `None` when it needs more bytes, or room for a message.
    #[inline]
    pub(super) fn poll(
        &mut self,
        id: ConnectionId,
    ) -> Result<Option<protocol::Event>, ConnectionError> {
        let Some(Entry {
            link: Link::Wire(wire),
            ..
        }) = self.entries.get_mut(id)
        else {
            return Ok(None);
        };
        let mut refused = false;
        let polled = wire.protocol.poll_admitting(&mut |len| {
            let Some(account) = &wire.account else {
                return true;
            };
            if wire.starved {
                return false;
            }
            // Room for a message that the peer sent twice, or took back, is room for this one; and a
            // compressed message that has arrived keeps its room until there is enough.
            refused = !account.charge_instead(&mut wire.charge, len, &self.inbox);
            !refused
        });
        if refused {
            self.starve(id);
        }
        polled
    }

    /// Has a connection wait for room in a budget.
    #[cold]
    fn starve(&mut self, id: ConnectionId) {
        let Some(wire) = self.wire_mut(id) else {
            return;
        };
        wire.starved = true;
        if let Some(conn) = wire.conn {
            self.transport.set_receive(conn, false);
        }
        self.starved.push_back(id);
        add(&self.metrics.throttled, 1);
    }

    /// Looks after a connection that has taken in what it received.
    pub(super) fn settle(&mut self, id: ConnectionId) {
        let Some(Entry {
            link: Link::Wire(wire),
            handle,
        }) = self.entries.get_mut(id)
        else {
            return;
        };
        // Acknowledgements may have made room.
        handle.set_queued(wire.protocol.queued());
        wire.touch(id, &mut self.touched, &mut self.wanting);
        // A long run of bytes that is known to come is received in one piece.
        let missing = wire.protocol.missing();
        if missing >= PLACE_FROM
            && let Some(conn) = wire.conn
            && self.transport.caps().places
        {
            let run = self.transport.pool().take_exact(missing);
            // Declined: the bytes come in pieces, as ever.
            let _ = self.transport.place(conn, run);
        }
    }

    /// Has a connection that waited for room read again. Returns whether it did wait.
    pub(super) fn end_starvation(&mut self, id: ConnectionId) -> bool {
        let Some(wire) = self.wire_mut(id) else {
            return false;
        };
        let starved = std::mem::take(&mut wire.starved);
        if starved && let Some(conn) = wire.conn {
            self.transport.set_receive(conn, true);
        }
        starved
    }

    /// Asks for a session again, from a place behind `above`.
    pub(super) fn retry(&mut self, id: ConnectionId, above: u64) {
        let global_seq = self.shared.next_global_seq(above);
        if let Some(wire) = self.wire_mut(id) {
            wire.protocol.retry(global_seq);
        }
    }

    /// Takes a message back; returns whether the peer will not see it.
    pub(super) fn cancel(&mut self, id: ConnectionId, ticket: Ticket) -> bool {
        self.wire_mut(id)
            .is_some_and(|wire| wire.protocol.cancel(ticket, &mut wire.unsent))
    }

    pub(super) fn next_cancellation(&self) -> Option<Instant> {
        let ((at, _), _) = self.cancellations.first_key_value()?;
        Some(*at)
    }

    pub(super) fn due_cancellation(&mut self, now: Instant) -> Option<(ConnectionId, Ticket)> {
        if self.next_cancellation()? > now {
            return None;
        }
        let ((_, ticket), id) = self.cancellations.pop_first()?;
        Some((id, ticket))
    }
}
