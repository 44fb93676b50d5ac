//! How sessions get their streams and what becomes of them: connecting and accepting, faults and
//! the next attempt, peers that come for a session that there is already.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use msgr_protocol::{
    self as protocol, AfterFault, EntityAddr, EntityType, Meeting, Peer, State, wire::AddrType,
};
use msgr_transport::{Close, ConnId, ConnectOptions};

use super::core::Core;
use super::entry::{Link, Wire};
use crate::connection::{Connection, ConnectionId};
use crate::error::{Fault, FaultCause};
use crate::metrics::add;

/// A fault, and what became of the connection.
pub(super) enum Outcome {
    /// It ended. A handle that the application never had is left out.
    Ended {
        handle: Option<Connection>,
        fault: Fault,
    },
    /// Its session goes on.
    Interrupted(Fault),
    /// It ended, and nobody wants to know.
    Silent,
}

/// What became of a peer that asked for a session.
pub(super) enum Met {
    /// It got one: the connection with it is ready.
    Ready {
        id: ConnectionId,
        remote_reset: bool,
        /// The connection that ended in its favour.
        replaced: Option<(Connection, Fault)>,
    },
    /// It was answered, and asks again or goes.
    Answered,
    /// It was answered, and this connection's stream is to end.
    Outrun(ConnectionId),
    /// It made no sense.
    Failed(protocol::ConnectionError),
}

impl Core {
    /// Starts a session of ours.
    pub(super) fn connect(
        &mut self,
        handle: Connection,
        kind: EntityType,
        target: EntityAddr,
        now: Instant,
    ) -> ConnectionId {
        let remote = target.socket.expect("checked when the handle was made");
        let ends = (unspecified(remote.ip()), remote);
        let config = Arc::clone(&self.config);
        let opening = self.opening(0);
        let protocol = protocol::Connection::connect(config, target, kind, ends, opening);
        self.add_wire(handle, protocol, now)
    }

    /// Has the transport connect a session whose next stream is prepared.
    pub(super) fn dial(&mut self, id: ConnectionId, now: Instant) -> Result<(), FaultCause> {
        let target = self.wire(id).and_then(|wire| wire.protocol.dials());
        let Some(remote) = target.and_then(|target| target.socket) else {
            return Ok(());
        };
        let local = self.origin(remote);
        let mut conn = self.transport.connect(remote, &ConnectOptions { local });
        if let (Some(at), Err(error)) = (local, &conn) {
            // The port is taken by an earlier connection to the same peer, perhaps in TIME_WAIT.
            tracing::info!("cannot connect from {at}: {error}; connecting from any port");
            conn = self.transport.connect(remote, &ConnectOptions::default());
        }
        let ready_by = now + self.settings().timeouts.ready;
        self.set_deadline(id, Some(ready_by));
        let conn = conn.map_err(|error| FaultCause::Open(error.to_string()))?;
        self.attach(id, conn);
        Ok(())
    }

    /// Prepares the next stream of a session.
    pub(super) fn prepare_stream(&mut self, id: ConnectionId) {
        let (config, opening) = (Arc::clone(&self.config), self.opening(0));
        if let Some(wire) = self.wire_mut(id)
            && let Some(remote) = wire.protocol.dials().and_then(|target| target.socket)
        {
            let ends = (unspecified(remote.ip()), remote);
            wire.protocol.reconnect(config, ends, opening);
        }
    }

    /// The address that connections to `remote` originate from, if it matters.
    fn origin(&self, remote: SocketAddr) -> Option<SocketAddr> {
        let bound = self.config.addrs.iter().filter_map(|addr| addr.socket);
        let mut suitable = bound.filter(|bound| bound.is_ipv4() == remote.is_ipv4());
        let from_bound = self.settings().connect_from_bound;
        from_bound.then(|| suitable.next()).flatten()
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
        let Some(half_open) = self.admission.enter(remote.ip(), now) else {
            add(&self.metrics.turned_away, 1);
            self.transport.close(conn, Close::Abort);
            return;
        };
        let backlog = self.settings().send_backlog;
        let tickets = Arc::clone(&self.shared.last_ticket);
        let handle = Connection::new(Arc::clone(&self.inbox), None, backlog, tickets);
        let (config, opening) = (Arc::clone(&self.config), self.opening(0));
        let protocol = protocol::Connection::accept(config, (local, remote), opening);
        let id = self.add_wire(handle, protocol, now);
        self.attach(id, conn);
        if let Some(wire) = self.wire_mut(id) {
            wire.up = true;
            wire.half_open = Some(half_open);
        }
        self.set_deadline(id, Some(now + self.settings().timeouts.ready));
        self.touch(id);
    }

    /// Marks a connection ready. Returns whether the application is to be told, and then whether the
    /// connection is ours.
    pub(super) fn set_ready(&mut self, id: ConnectionId, now: Instant) -> Option<bool> {
        self.open_account(id);
        let initial = self.settings().backoff.initial;
        let wire = self.wire_mut(id)?;
        wire.active = now;
        wire.half_open = None;
        wire.backoff = initial;
        let first = !std::mem::replace(&mut wire.known, true);
        let ours = wire.ours;
        let peer = wire.protocol.peer().clone();
        let registered = wire.protocol.policy().is_registered() && !ours;
        let metrics = &self.metrics;
        add(
            match (first, ours) {
                (true, true) => &metrics.connected,
                (true, false) => &metrics.accepted,
                (false, _) => &metrics.reconnects,
            },
            1,
        );
        if let Some(handle) = self.handle(id) {
            if registered && let Some(addr) = key(&peer) {
                self.shared.registry.insert(addr, handle);
            }
            handle.set_ready(Some(peer));
        }
        self.set_deadline(id, Some(now + self.settings().timeouts.idle));
        first.then_some(ours)
    }

    /// Ends a stream because of `cause`.
    pub(super) fn fault(
        &mut self,
        id: ConnectionId,
        cause: FaultCause,
        now: Instant,
    ) -> Option<Outcome> {
        let wire = self.wire_mut(id)?;
        let peer = Box::new(wire.protocol.peer().clone());
        let (state, after) = wire.protocol.disconnect();
        let (known, ours, disposable) = (wire.known, wire.ours, wire.disposable);
        let protocol_fault = matches!(cause, FaultCause::Protocol(_));
        let metrics = &self.metrics;
        add(metrics.of(&cause), 1);
        let fault = Fault { peer, state, cause };
        if after == AfterFault::Gone {
            add(
                if known {
                    &metrics.resets
                } else {
                    &metrics.failed_handshakes
                },
                1,
            );
            // What was laid out before may tell the peer why.
            let handle = self.remove(id, Close::Drain)?.handle;
            if disposable {
                return Some(Outcome::Silent);
            }
            let handle = (known || ours).then_some(handle);
            return Some(Outcome::Ended { handle, fault });
        }
        add(&metrics.interruptions, 1);
        let how = if state == State::Ready {
            Close::Abort
        } else {
            Close::Drain
        };
        self.detach(id, how);
        if let Some(handle) = self.handle(id) {
            handle.set_interrupted();
        }
        match after {
            AfterFault::Gone | AfterFault::Standby => self.set_deadline(id, None),
            // A stream that ends because of what is sent on it would do so again at once.
            AfterFault::Reconnect if !protocol_fault => self.set_deadline(id, Some(now)),
            AfterFault::Reconnect | AfterFault::Backoff => {
                // Perhaps two that dialled each other from their ports at once, which makes one
                // connection without an acceptor (simultaneous open, RFC 9293, section 3.5):
                // chance has one come earlier the next time.
                let earlier = u32::from(protocol_fault) * self.rng.u32(..=128);
                self.back_off(id, earlier, now);
            }
        }
        Some(Outcome::Interrupted(fault))
    }

    /// Waits with the next attempt, `earlier`/256 less than is due.
    fn back_off(&mut self, id: ConnectionId, earlier: u32, now: Instant) {
        let longest = self.settings().backoff.longest;
        if let Some(wire) = self.wire_mut(id) {
            let backoff = wire.backoff.min(longest);
            wire.backoff = (backoff * 2).min(longest);
            self.set_deadline(id, Some(now + backoff * (256 - earlier) / 256));
        }
    }

    /// The peer said that its own connection comes: waits for that.
    pub(super) fn wait_for_peer(&mut self, id: ConnectionId, now: Instant) {
        add(&self.metrics.races_lost, 1);
        self.detach(id, Close::Drain);
        self.set_deadline(id, Some(now + self.settings().backoff.longest));
    }

    /// The session that there is with the peer of `newcomer` already.
    pub(super) fn known(&self, newcomer: ConnectionId) -> Option<Connection> {
        self.shared.registry.find(&self.peer(newcomer)?.addrs)
    }

    /// Answers a peer that asks for a session; `known` is the one that there is with it.
    pub(super) fn meet(
        &mut self,
        newcomer: ConnectionId,
        known: Option<ConnectionId>,
        now: Instant,
    ) -> Met {
        let known = known.filter(|known| *known != newcomer && self.wire(*known).is_some());
        let Some(mut incoming) = self.take_wire(newcomer) else {
            return Met::Answered;
        };
        let global_seq = self.shared.next_global_seq(0);
        let wire = known.and_then(|known| self.wire_mut(known));
        let mut there = wire.map(|wire| (wire.protocol.state(), &mut wire.protocol));
        let before = there.as_ref().map(|(state, _)| *state);
        let other = there.as_mut().map(|(_, known)| &mut **known);
        let outcome = incoming.protocol.meet(other, global_seq);
        if let (Ok(Meeting::TakenOver { remote_reset }), Some(known)) = (&outcome, known) {
            if before.is_some_and(State::is_connecting) {
                add(&self.metrics.races_lost, 1);
            }
            self.hand_over(*incoming, newcomer, known, now);
            return Met::Ready {
                id: known,
                remote_reset: *remote_reset,
                replaced: None,
            };
        }
        self.put_wire_back(newcomer, incoming);
        match outcome {
            Ok(Meeting::Opened) => Met::Ready {
                id: newcomer,
                remote_reset: false,
                replaced: known.and_then(|known| self.replace(known)),
            },
            Ok(Meeting::Stale) => {
                self.remove(newcomer, Close::Abort);
                Met::Answered
            }
            Ok(Meeting::Waits) => {
                add(&self.metrics.races_won, 1);
                if let Some(known) = known {
                    self.hurry(known, now);
                }
                Met::Answered
            }
            Ok(Meeting::Outrun) => known.map_or(Met::Answered, Met::Outrun),
            Ok(Meeting::AsksAgain | Meeting::TakenOver { .. }) => Met::Answered,
            Err(error) => Met::Failed(error),
        }
    }

    /// The peer waits for a connection of ours: lets there be one soon.
    fn hurry(&mut self, known: ConnectionId, now: Instant) {
        match self.wire(known).map(|wire| wire.protocol.state()) {
            Some(State::StartConnect | State::Wait) => self.set_deadline(known, Some(now)),
            Some(State::Standby) => self.wanting.push(known),
            _ => {}
        }
    }

    /// The session `known` goes on over the connection that `newcomer` has.
    fn hand_over(
        &mut self,
        incoming: Wire,
        newcomer: ConnectionId,
        known: ConnectionId,
        now: Instant,
    ) {
        self.detach(known, Close::Abort);
        if let Some(conn) = incoming.conn {
            self.attach(known, conn);
        }
        if let Some(wire) = self.wire_mut(known) {
            wire.up = incoming.up;
            wire.unsent = incoming.unsent;
            wire.active = now;
        }
        self.timers
            .reset(newcomer, &mut incoming.deadline.clone(), None);
        if let Some(entry) = self.entries.remove(newcomer) {
            self.forget(&entry.handle);
        }
    }

    /// Ends a connection in whose place another has come.
    fn replace(&mut self, known: ConnectionId) -> Option<(Connection, Fault)> {
        let wire = self.wire(known)?;
        let peer = Box::new(wire.protocol.peer().clone());
        let state = wire.protocol.state();
        add(&self.metrics.resets, 1);
        let handle = self.remove(known, Close::Abort)?.handle;
        let cause = FaultCause::Replaced;
        Some((handle, Fault { peer, state, cause }))
    }

    fn take_wire(&mut self, id: ConnectionId) -> Option<Box<Wire>> {
        let entry = self.entries.get_mut(id)?;
        match std::mem::replace(&mut entry.link, Link::Loopback { seq: 0 }) {
            Link::Wire(wire) => Some(wire),
            link @ Link::Loopback { .. } => {
                entry.link = link;
                None
            }
        }
    }

    fn put_wire_back(&mut self, id: ConnectionId, wire: Box<Wire>) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.link = Link::Wire(wire);
        }
    }
}

/// The address under which a peer is found again.
fn key(peer: &Peer) -> Option<EntityAddr> {
    let first = || peer.addrs.iter().next().copied();
    let addr = peer.addrs.msgr2().or_else(first)?;
    (addr.kind != AddrType::None).then_some(addr)
}

fn unspecified(like: IpAddr) -> SocketAddr {
    let ip = match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, 0)
}
