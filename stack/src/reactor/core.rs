//! [`Core`]: a reactor's connections and their transport; everything but the dispatcher, so that
//! callbacks can be given access to it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use msgr_protocol::{
    self as protocol, Config, ConnectionError, EntityAddr, EntityType, Message, Peer, State,
    Timestamp,
};
use msgr_transport::{Close, ConnId, ConnectOptions, ListenOptions, ListenerId, Slots, Transport};

use super::entry::{Entry, Link, Stage, Wire};
use super::timers::Timers;
use crate::connection::{Connection, ConnectionId, SendRefusal};
use crate::error::{BindError, Fault, FaultCause};
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
    number: usize,
    /// Where the handles of accepted connections lead.
    inbox: Arc<Inbox>,
    pub(super) transport: Box<dyn Transport>,
    config: Arc<Config>,
    pub(super) entries: Slots<Connection, Entry>,
    /// By slot of the transport's connection.
    by_conn: Vec<Option<ConnectionId>>,
    pub(super) touched: Vec<ConnectionId>,
    pub(super) local: VecDeque<(ConnectionId, Message)>,
    pub(super) timers: Timers,
    listeners: Vec<ListenerId>,
    /// Messages and payload bytes queued since the last transmission.
    pub(super) lot: (usize, usize),
    pub(super) block: BytesMut,
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
        Self {
            shared,
            number,
            inbox,
            transport,
            config,
            entries: Slots::default(),
            by_conn: Vec::new(),
            touched: Vec::new(),
            local: VecDeque::new(),
            timers: Timers::default(),
            listeners: Vec::new(),
            lot: (0, 0),
            block: BytesMut::new(),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics[self.number]
    }

    pub(super) fn settings(&self) -> &Settings {
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

    pub(crate) fn send(
        &mut self,
        id: ConnectionId,
        mut message: Message,
    ) -> Result<(), SendRefusal> {
        let backlog = self.settings().send_backlog;
        let entry = self.entries.get_mut(id).ok_or(SendRefusal::Closed)?;
        let len = message.payload_len();
        match &mut entry.link {
            Link::Wire(wire) => {
                let queued = wire.protocol.queued();
                if queued > backlog {
                    return Err(SendRefusal::Backlog { queued });
                }
                wire.protocol.send(message)?;
                self.lot = (self.lot.0 + 1, self.lot.1 + len);
                self.touch(id);
            }
            Link::Loopback { seq } => {
                *seq += 1;
                message.header.seq = *seq;
                self.local.push_back((id, message));
            }
        }
        add(&self.metrics().messages_sent, 1);
        add(&self.metrics().bytes_sent, len);
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

    // Opening and closing.

    pub(super) fn bind(&mut self, at: EntityAddr) -> Result<EntityAddr, BindError> {
        let endpoint = at.socket.ok_or(BindError::NotAnEndpoint(at))?;
        let share_port = self.settings().reactors > 1;
        let options = ListenOptions {
            share_port,
            ..ListenOptions::default()
        };
        let (listener, socket) = self.transport.listen(endpoint, &options)?;
        self.listeners.push(listener);
        let bound = EntityAddr {
            socket: Some(socket),
            ..at
        };
        let mut config = (*self.config).clone();
        config.addrs.push(bound);
        self.config = Arc::new(config);
        Ok(bound)
    }

    pub(super) fn unlisten(&mut self) {
        for listener in self.listeners.drain(..) {
            self.transport.unlisten(listener);
        }
    }

    pub(super) fn is_ours(&self, target: &EntityAddr) -> bool {
        self.config.addrs.contains(target)
    }

    pub(super) fn add_loopback(&mut self, handle: Connection) -> ConnectionId {
        self.entries.insert_with(|id| {
            handle.set_id(id);
            handle.set_ready(None);
            Entry {
                handle,
                link: Link::Loopback { seq: 0 },
            }
        })
    }

    pub(super) fn connect(
        &mut self,
        handle: Connection,
        kind: EntityType,
        target: EntityAddr,
        now: Instant,
    ) -> Result<(), Fault> {
        let remote = target.socket.expect("checked when the handle was made");
        let conn = self
            .transport
            .connect(remote, &ConnectOptions::default())
            .map_err(|error| {
                let peer = Box::new(Peer::at(remote));
                let cause = FaultCause::Open(error.to_string());
                Fault {
                    peer,
                    state: State::BannerConnecting,
                    cause,
                }
            })?;
        // The transport tells our end once it is up.
        let local = SocketAddr::new(unspecified(remote.ip()), 0);
        let config = Arc::clone(&self.config);
        let ends = (local, remote);
        let protocol = protocol::Connection::connect(config, target, kind, ends, self.next_seq());
        self.add_wire(handle, conn, protocol, Stage::Connecting, now);
        Ok(())
    }

    pub(super) fn connected(&mut self, conn: ConnId, local: SocketAddr) {
        if let Some(id) = self.id_of(conn)
            && let Some(wire) = self.wire_mut(id)
        {
            wire.up = true;
            wire.protocol.set_local(local);
            self.touch(id);
        }
    }

    pub(super) fn accept(
        &mut self,
        conn: ConnId,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) {
        let handle = Connection::new(Arc::clone(&self.inbox), None, self.settings().send_backlog);
        let config = Arc::clone(&self.config);
        let protocol = protocol::Connection::accept(config, (local, remote), self.next_seq());
        let id = self.add_wire(handle, conn, protocol, Stage::Accepting, now);
        self.touch(id);
    }

    fn next_seq(&self) -> u64 {
        self.shared.global_seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn add_wire(
        &mut self,
        handle: Connection,
        conn: ConnId,
        protocol: protocol::Connection,
        stage: Stage,
        now: Instant,
    ) -> ConnectionId {
        let wire = Wire {
            conn,
            protocol,
            unsent: VecDeque::new(),
            stage,
            up: stage == Stage::Accepting,
            touched: false,
            active: now,
        };
        let id = self.entries.insert_with(|id| {
            handle.set_id(id);
            Entry {
                handle,
                link: Link::Wire(Box::new(wire)),
            }
        });
        if self.by_conn.len() <= conn.slot() {
            self.by_conn.resize(conn.slot() + 1, None);
        }
        self.by_conn[conn.slot()] = Some(id);
        self.timers.set(now + self.settings().timeouts.ready, id);
        id
    }

    pub(super) fn remove(&mut self, id: ConnectionId, how: Close) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        if let Link::Wire(wire) = &entry.link {
            self.transport.close(wire.conn, how);
            self.by_conn[wire.conn.slot()] = None;
        }
        self.forget(&entry.handle);
        Some(entry)
    }

    /// Closes a handle and lets its address be dialled anew.
    pub(super) fn forget(&self, handle: &Connection) {
        handle.set_closed();
        self.shared.registry.remove(handle);
    }

    /// Takes a connection out because of `cause`; returns its handle, the fault, and how far it
    /// had come.
    pub(super) fn fault(
        &mut self,
        id: ConnectionId,
        cause: FaultCause,
        state: Option<State>,
    ) -> Option<(Connection, Fault, Stage)> {
        // What was laid out before may tell the peer why.
        let Entry { handle, link } = self.remove(id, Close::Drain)?;
        let Link::Wire(wire) = link else { return None };
        let metrics = &self.metrics();
        let ready = wire.stage == Stage::Ready;
        add(
            if ready {
                &metrics.resets
            } else {
                &metrics.failed_handshakes
            },
            1,
        );
        let peer = Box::new(wire.protocol.peer().clone());
        let state = state.unwrap_or(wire.protocol.state());
        Some((handle, Fault { peer, state, cause }, wire.stage))
    }

    // The way in.

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        self.entries.get(id).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The connection that uses the transport's `conn`.
    pub(super) fn id_of(&self, conn: ConnId) -> Option<ConnectionId> {
        let id = (*self.by_conn.get(conn.slot())?)?;
        self.wire(id).filter(|wire| wire.conn == conn).map(|_| id)
    }

    fn wire(&self, id: ConnectionId) -> Option<&Wire> {
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

    pub(super) fn receive(&mut self, id: ConnectionId, bytes: Bytes, now: Instant) {
        if let Some(wire) = self.wire_mut(id) {
            wire.active = now;
            wire.protocol.receive(bytes);
        }
    }

    /// The next event of a connection; `None` when it needs more bytes.
    pub(super) fn poll(
        &mut self,
        id: ConnectionId,
    ) -> Option<Result<protocol::Event, ConnectionError>> {
        self.wire_mut(id)?.protocol.poll().transpose()
    }

    /// Marks a connection ready; returns whether it was ours to open.
    pub(super) fn set_ready(&mut self, id: ConnectionId) -> bool {
        let Some(wire) = self.wire_mut(id) else {
            return false;
        };
        let ours = wire.stage == Stage::Connecting;
        wire.stage = Stage::Ready;
        let peer = wire.protocol.peer().clone();
        self.handle(id)
            .into_iter()
            .for_each(|handle| handle.set_ready(Some(peer.clone())));
        let metrics = &self.metrics();
        add(
            if ours {
                &metrics.connected
            } else {
                &metrics.accepted
            },
            1,
        );
        ours
    }

    /// Has a long run of bytes that is known to come received in one piece.
    pub(super) fn place(&mut self, id: ConnectionId) {
        let Some(wire) = self.wire(id) else { return };
        let (conn, missing) = (wire.conn, wire.protocol.missing());
        if missing >= PLACE_FROM && self.transport.caps().places {
            let run = self.transport.pool().take_exact(missing);
            // Declined: the bytes come in pieces, as ever.
            let _ = self.transport.place(conn, run);
        }
    }

    /// Why a connection whose timer expired must end, if it must.
    pub(super) fn overdue(&mut self, id: ConnectionId, now: Instant) -> Option<FaultCause> {
        let idle = self.settings().timeouts.idle;
        let wire = self.wire(id)?;
        let deadline = wire.active + idle;
        if wire.stage != Stage::Ready {
            return Some(FaultCause::ReadyTimeout);
        }
        if deadline <= now {
            return Some(FaultCause::IdleTimeout);
        }
        self.timers.set(deadline, id);
        None
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
