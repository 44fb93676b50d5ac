//! Opening and closing: where we listen, which session has which connection of the transport's, and how
//! a session ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use msgr_protocol::{self as protocol, EntityAddr, Opening};
use msgr_transport::{Close, ConnId, ListenOptions, Port};

use super::core::Core;
use super::entry::{Entry, Link, Wire};
use crate::connection::{Connection, ConnectionId};
use crate::error::BindError;

impl Core {
    pub(super) fn bind(&mut self, at: EntityAddr) -> Result<EntityAddr, BindError> {
        let endpoint = at.socket.ok_or(BindError::NotAnEndpoint(at))?;
        // The first reactor takes the port for the messenger, the others join it there.
        let port = if self.number == 0 {
            Port::Take
        } else {
            Port::Join
        };
        let options = ListenOptions {
            port,
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

    pub(super) fn opening(&mut self, above: u64) -> Opening {
        Opening {
            global_seq: self.shared.next_global_seq(above),
            cookie: self.rng.u64(1..),
        }
    }

    pub(super) fn add_wire(
        &mut self,
        handle: Connection,
        protocol: protocol::Connection,
        now: Instant,
    ) -> ConnectionId {
        let wire = Wire {
            conn: None,
            ours: handle.target().is_some(),
            protocol,
            unsent: VecDeque::new(),
            up: false,
            touched: false,
            known: false,
            disposable: false,
            active: now,
            deadline: None,
            backoff: self.settings().backoff.initial,
            end_by: None,
            account: None,
            half_open: None,
            charge: None,
            starved: false,
        };
        self.entries.insert_with(|id| {
            handle.set_id(id);
            Entry {
                handle,
                link: Link::Wire(Box::new(wire)),
            }
        })
    }

    /// Gives the session a connection of the transport's.
    pub(super) fn attach(&mut self, id: ConnectionId, conn: ConnId) {
        if self.by_conn.len() <= conn.slot() {
            self.by_conn.resize(conn.slot() + 1, None);
        }
        let before = self.by_conn[conn.slot()].replace(id);
        if let Some(before) = before
            && let Some(ended) = self.wire(before).and_then(|wire| wire.conn)
        {
            self.displaced.push((ended, before));
        }
        if let Some(wire) = self.wire_mut(id) {
            wire.conn = Some(conn);
        }
    }

    /// Takes the session's connection of the transport's away.
    pub(super) fn detach(&mut self, id: ConnectionId, how: Close) {
        let Some(wire) = self.wire_mut(id) else {
            return;
        };
        wire.up = false;
        wire.starved = false;
        wire.charge = None;
        wire.unsent.clear();
        if let Some(conn) = wire.conn.take() {
            if self.by_conn[conn.slot()] == Some(id) {
                self.by_conn[conn.slot()] = None;
            } else {
                self.displaced.retain(|(displaced, _)| *displaced != conn);
            }
            self.transport.close(conn, how);
        }
    }

    /// The connection that uses the transport's `conn`.
    pub(super) fn id_of(&self, conn: ConnId) -> Option<ConnectionId> {
        let has = |id: &ConnectionId| self.wire(*id).is_some_and(|wire| wire.conn == Some(conn));
        let id = *self.by_conn.get(conn.slot())?;
        id.filter(has).or_else(|| {
            let mut displaced = self.displaced.iter();
            displaced
                .find(|(other, _)| *other == conn)
                .map(|(_, id)| *id)
        })
    }

    pub(super) fn set_deadline(&mut self, id: ConnectionId, at: Option<Instant>) {
        if let Some(Entry {
            link: Link::Wire(wire),
            ..
        }) = self.entries.get_mut(id)
        {
            let at = match (at, wire.end_by) {
                (Some(at), Some(end)) => Some(at.min(end)),
                (at, end) => at.or(end),
            };
            self.timers.reset(id, &mut wire.deadline, at);
        }
    }

    pub(super) fn remove(&mut self, id: ConnectionId, how: Close) -> Option<Entry> {
        if let Some(wire) = self.wire_mut(id) {
            wire.end_by = None;
        }
        self.set_deadline(id, None);
        self.detach(id, how);
        let entry = self.entries.remove(id)?;
        self.forget(&entry.handle);
        Some(entry)
    }

    /// Closes a handle and lets its address be dialled anew.
    pub(super) fn forget(&self, handle: &Connection) {
        self.shared.registry.remove(handle);
        handle.set_closed();
    }

    /// Takes nothing more to send on a connection, and ends it when all is delivered.
    pub(super) fn begin_end(&mut self, id: ConnectionId, now: Instant) {
        let end = now + self.settings().timeouts.shutdown;
        let Some(wire) = self.wire_mut(id) else {
            self.remove(id, Close::Drain);
            return;
        };
        if wire.end_by.is_none() {
            wire.end_by = Some(end);
            let deadline = wire.deadline;
            self.ending.push(id);
            self.set_deadline(id, deadline.or(Some(end)));
        }
    }
}
