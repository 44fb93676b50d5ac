//! Setting connections up by way of the connection manager: listeners, attempts, requests.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;

use super::ceph::any_port;
use super::cm::{CmEvent, CmEventKind, CmId, Parameters, PrivateData};
use super::connection::{Connection, Phase};
use super::link::Link;
use super::listening::{Listener, covers};
use super::queue_pair::State;
use super::wire::{Hello, Refusal};
use super::{RESOLVE, Rdma, Setup, device_failed, list, misbehaved};
use crate::{CloseReason, ConnId, Event, ListenerId};

/// Marks a listener's token: there are never 2^31 slots.
pub(super) const LISTENER: u64 = 1 << 31;

// Reasons of a rejection (InfiniBand specification, volume 1, section 12.6.7.2).
const REJECTED_TIMEOUT: i32 = 4;
const REJECTED_BY_USER: i32 = 28;

impl Rdma {
    /// An id bound to an address; to a port that others are bound to if it is `ours`.
    pub(super) fn bound(&self, at: SocketAddr, ours: bool) -> io::Result<CmId> {
        let mut id = CmId::new(&self.channel)?;
        if ours {
            id.share_port()?;
        }
        if at.is_ipv6() {
            id.keep_family()?;
        }
        id.bind(at).map_err(|error| {
            // No device has the address.
            if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) {
                let message = format!("no RDMA device has the address {}", at.ip());
                io::Error::new(io::ErrorKind::AddrNotAvailable, message)
            } else {
                error
            }
        })?;
        if id.is_iwarp() {
            let name = id.device_name(self.libraries).unwrap_or_default();
            let message = format!("{name} is of iWARP, which has no immediate data");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        Ok(id)
    }

    /// Starts to connect.
    pub(super) fn start(
        &mut self,
        to: SocketAddr,
        local: Option<SocketAddr>,
    ) -> io::Result<ConnId> {
        let mut conn = Connection::new(Phase::Resolving, to);
        if local == Some(to) {
            // There is nobody there but us.
            conn.fail(CloseReason::Refused);
            let id = self.conns.insert(conn);
            self.list(id);
            return Ok(id);
        }
        if self.config.setup == Setup::Ceph {
            return self.dial(to, local);
        }
        let mut id = match local {
            Some(at) => {
                if at.port() != 0 && self.between(at, to).is_some() {
                    return Err(Errno::ADDRNOTAVAIL.into());
                }
                let listens = |listener: &Listener| covers(listener.at, at);
                if self.listeners.iter().any(|(_, one)| listens(one)) {
                    conn.port = at.port();
                    conn.local = Some(at);
                    self.bound(SocketAddr::new(at.ip(), 0), false)?
                } else {
                    let id = self.bound(at, at.port() != 0)?;
                    conn.local = id.local();
                    id
                }
            }
            None => CmId::new(&self.channel)?,
        };
        id.resolve_address(to, RESOLVE)?;
        let conn = self.conns.insert_with(|conn_id| {
            id.set_token(conn_id.to_u64());
            conn.id = Some(id);
            conn
        });
        Ok(conn)
    }

    /// The connection or attempt between two addresses that is not over.
    fn between(&self, local: SocketAddr, remote: SocketAddr) -> Option<ConnId> {
        let same = |conn: &Connection| {
            conn.phase != Phase::Ending && conn.local == Some(local) && conn.remote == remote
        };
        let found = self.conns.iter().find(|(_, conn)| same(conn));
        found.map(|(id, _)| id)
    }

    /// Takes what the connection manager has to say.
    pub(super) fn hear_manager(&mut self, events: &mut Vec<Event>) {
        let channel = std::sync::Arc::clone(&self.channel);
        while let Some(CmEvent { token, kind }) = channel.next_event() {
            self.cost.system_calls += 1;
            let listener = ListenerId::from_u64(token & !LISTENER);
            if let CmEventKind::Request(id, offer) = kind {
                self.hand_on(listener, id, offer);
            } else if token & LISTENER != 0 {
                if let CmEventKind::DeviceRemoved = kind {
                    self.lose_listener(listener);
                }
            } else if token & LISTENER == 0 {
                self.on_progress(ConnId::from_u64(token), &kind, events);
            }
        }
    }

    fn on_progress(&mut self, id: ConnId, kind: &CmEventKind, events: &mut Vec<Event>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        tracing::trace!(peer = %conn.remote, phase = ?conn.phase, ?kind, "manager");
        let outcome = match kind {
            CmEventKind::AddressResolved => self.on_address(id),
            CmEventKind::RouteResolved => self.on_route(id),
            CmEventKind::Response(answer) => return self.on_response(id, answer, events),
            CmEventKind::Established => return self.accepted(id, events),
            CmEventKind::Rejected(reason, why) => {
                let reason = *reason;
                let why = Refusal::decode(why.bytes()).filter(|_| reason == REJECTED_BY_USER);
                tracing::debug!(peer = %conn.remote, reason, ?why, "rejected");
                match (conn.phase, why, reason) {
                    (Phase::Requesting, Some(Refusal::Crossed), _) => {
                        // The id is of no use any more; theirs will come.
                        conn.phase = Phase::Crossed;
                        return;
                    }
                    (_, _, REJECTED_TIMEOUT) => conn.fail(CloseReason::TimedOut),
                    _ => conn.fail(CloseReason::Refused),
                }
                list(&mut self.work, id, conn);
                return;
            }
            CmEventKind::Disconnected => {
                conn.disconnected = true;
                list(&mut self.work, id, conn);
                return;
            }
            CmEventKind::DeviceRemoved => {
                let adapter = conn.link.as_ref().map(|link| link.adapter);
                if let Some(adapter) = adapter {
                    let failed = &mut self.adapters[adapter].failed;
                    failed.get_or_insert("the device was removed");
                }
                return self.fail(id, device_failed());
            }
            CmEventKind::Failed(status) => {
                return self.fail(id, unreachable(*status));
            }
            CmEventKind::Request(..) | CmEventKind::Note => return,
        };
        if let Err(error) = outcome {
            self.fail(id, CloseReason::from(&error));
        }
    }

    fn on_address(&mut self, id: ConnId) -> io::Result<()> {
        if let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.is_attempt())
            && let Some(manager) = &mut conn.id
        {
            if conn.port == 0 {
                conn.local = manager.local();
            }
            if let (Setup::Ceph, Some(local)) = (self.config.setup, manager.local()) {
                return self.dial_from(any_port(local), id);
            }
            manager.resolve_route(RESOLVE)?;
        }
        Ok(())
    }

    fn on_route(&mut self, id: ConnId) -> io::Result<()> {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.is_attempt()) else {
            return Ok(());
        };
        let Some(mut manager) = conn.id.take() else {
            return Ok(());
        };
        // It would not get there, and `rdma_rxe` may be unable to connect ever again once it has tried.
        if !manager.is_port_up(self.libraries) {
            return Err(Errno::NETUNREACH.into());
        }
        let port = conn.port;
        let (link, hello) = self.offer(id, &manager)?;
        let asked = manager.connect(&Parameters {
            queue_pair: link.queue_pair.number(),
            reads: hello.reads,
            private: &Hello { port, ..hello }.encode(),
        });
        if let Some(conn) = self.conns.get_mut(id) {
            conn.link = Some(link);
            conn.id = Some(manager);
            conn.phase = Phase::Requesting;
        }
        asked
    }

    /// A queue pair on the device that `manager` is bound to, and our offer for it.
    fn offer(&mut self, id: ConnId, manager: &CmId) -> io::Result<(Link, Hello)> {
        let index = self.adapter(manager)?;
        let link = self.link(id, index, &mut manager.transition(State::Init)?)?;
        let adapter = &self.adapters[index];
        let hello = Hello {
            credits: link.grant.initial(),
            block_size: self.config.block_size as u32,
            port: 0,
            reads: adapter.reads,
            read_size: adapter.landing_size() as u32,
        };
        Ok((link, hello))
    }

    /// The peer has accepted.
    fn on_response(&mut self, id: ConnId, answer: &PrivateData, events: &mut Vec<Event>) {
        let conn = self.conns.get_mut(id);
        let Some(conn) = conn.filter(|conn| conn.phase == Phase::Requesting) else {
            return;
        };
        let (Some(link), Some(manager)) = (&mut conn.link, &mut conn.id) else {
            return;
        };
        let hello = match Hello::decode(answer.bytes()) {
            Ok(hello) => hello,
            Err(error) => {
                tracing::warn!(peer = %conn.remote, %error, "not connected");
                return self.fail(id, misbehaved());
            }
        };
        let adapter = &self.adapters[link.adapter];
        let reads = hello.reads.min(adapter.reads);
        let outcome = ready_for(link, manager, reads).and_then(|()| manager.establish());
        link.begin(hello, self.config.offer_from, adapter);
        if let Err(error) = outcome {
            return self.fail(id, CloseReason::from(&error));
        }
        conn.phase = Phase::Open;
        if let Some(local) = conn.local.or_else(|| manager.local()) {
            events.push(Event::Connected { conn: id, local });
        }
    }

    /// Somebody connects to one of our listeners.
    pub(super) fn on_request(&mut self, listener: ListenerId, manager: CmId, offer: &PrivateData) {
        let (Some(local), Some(mut remote)) = (manager.local(), manager.remote()) else {
            return;
        };
        let hello = match Hello::decode(offer.bytes()) {
            Ok(hello) => hello,
            Err(error) => {
                tracing::warn!(%remote, %error, "connection declined");
                return refuse(manager, Refusal::Foreign);
            }
        };
        if hello.port != 0 {
            remote.set_port(hello.port);
        }
        let (id, phase) = match self.between(local, remote) {
            None => {
                let mut conn = Connection::new(Phase::Accepting(listener), remote);
                conn.local = Some(local);
                (self.conns.insert(conn), Phase::Accepting(listener))
            }
            // Both connect to each other at once: one attempt gives way, the same one for both.
            Some(id) => {
                let gives_way = |conn: &Connection| {
                    conn.is_attempt() && (conn.phase == Phase::Crossed || local < remote)
                };
                if !self.conns.get(id).is_some_and(gives_way) {
                    return refuse(manager, Refusal::Crossed);
                }
                self.forget_attempt(id);
                (id, Phase::Requesting)
            }
        };
        if let Err((manager, error)) = self.accept(id, manager, hello) {
            tracing::warn!(%remote, %error, "connection declined");
            refuse(manager, Refusal::Exhausted);
            if phase == Phase::Requesting {
                self.fail(id, CloseReason::from(&error));
            } else {
                self.end(id);
            }
            return;
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.phase = phase;
        }
    }

    /// Drops what an attempt of ours has come to; the connection stays.
    fn forget_attempt(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            if let Some(link) = conn.link.take() {
                let index = link.adapter;
                link.release(&mut self.adapters[index]);
            }
            conn.id = None;
        }
    }

    fn accept(
        &mut self,
        id: ConnId,
        mut manager: CmId,
        hello: Hello,
    ) -> Result<(), (CmId, io::Error)> {
        let (mut link, ours) = match self.offer(id, &manager) {
            Ok(linked) => linked,
            Err(error) => return Err((manager, error)),
        };
        manager.set_token(id.to_u64());
        let adapter = &mut self.adapters[link.adapter];
        let reads = hello.reads.min(ours.reads);
        let parameters = Parameters {
            queue_pair: link.queue_pair.number(),
            reads,
            private: &Hello { reads, ..ours }.encode(),
        };
        let outcome = ready_for(&link, &manager, reads).and_then(|()| manager.accept(&parameters));
        if let Err(error) = outcome {
            link.release(adapter);
            return Err((manager, error));
        }
        link.begin(hello, self.config.offer_from, adapter);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.link = Some(link);
            conn.id = Some(manager);
        }
        Ok(())
    }
}

/// Brings a queue pair to where it sends and receives. What the peer may do is known only now, so
/// that even the first state is to be set again.
fn ready_for(link: &Link, manager: &CmId, reads: u8) -> io::Result<()> {
    for state in [State::Init, State::ReadyToReceive, State::ReadyToSend] {
        let mut transition = manager.transition(state)?;
        transition.allow_reads(reads);
        link.queue_pair.modify(&mut transition)?;
    }
    Ok(())
}

fn refuse(manager: CmId, refusal: Refusal) {
    tracing::debug!(?refusal, "connection declined");
    // The peer may have given up already.
    let _ = manager.reject(&refusal.encode());
}

/// Why a connection could not be made.
fn unreachable(status: i32) -> CloseReason {
    match Errno::from_raw_os_error(status.abs()) {
        Errno::TIMEDOUT => CloseReason::TimedOut,
        Errno::CONNREFUSED => CloseReason::Refused,
        _ => CloseReason::Unreachable,
    }
}
