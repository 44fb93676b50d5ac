//! Listening by way of the connection manager: ports of one's own and shared ones, and ports whose
//! device goes away and comes back.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::cm::{CmId, PrivateData};
use super::connection::{Connection, Phase};
use super::setup::LISTENER;
use super::sharing::{Letter, Mailbox, SharedPort};
use super::watch::Source;
use super::{Rdma, Setup};
use crate::{ConnId, ListenOptions, ListenerId, Port};

/// A listener.
pub(super) struct Listener {
    pub(super) at: SocketAddr,
    backlog: u32,
    port: Arc<SharedPort>,
    mailbox: Arc<Mailbox>,
    /// Whether it listens for all that share the port.
    is_first: bool,
    /// With what, unless its device is gone.
    id: Option<CmId>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.port
            .leave(&self.mailbox, self.is_first, self.id.take());
    }
}

/// Whether somebody at `bound` is in the way of, or the same as, `at`.
pub(super) fn covers(bound: SocketAddr, at: SocketAddr) -> bool {
    let any = bound.ip().is_unspecified() && bound.is_ipv4() == at.is_ipv4();
    bound.port() == at.port() && (any || bound.ip() == at.ip())
}

impl Rdma {
    pub(super) fn open_listener(
        &mut self,
        at: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        if self.config.setup == Setup::Ceph {
            return self.open_port(at, options);
        }
        let mailbox = Mailbox::new(&self.channel)?;
        let joined = match options.port {
            Port::Join => SharedPort::join(at, &mailbox),
            Port::Take => None,
        };
        let is_first = joined.is_none();
        let (port, id, at) = if let Some(port) = joined {
            (port, None, at)
        } else {
            let mut id = self.bound(at, true)?;
            id.listen(options.backlog)?;
            let at = id.local().unwrap_or(at);
            (SharedPort::take(at, &mailbox), Some(id), at)
        };
        let listener = self.listeners.insert(Listener {
            at,
            backlog: options.backlog,
            port,
            mailbox: Arc::clone(&mailbox),
            is_first,
            id: None,
        });
        let watched = self.watch.add(mailbox.as_fd(), Source::Port(listener));
        if let Err(errno) = watched {
            self.listeners.remove(listener);
            return Err(errno.into());
        }
        self.begin_listening(listener, id);
        Ok((listener, at))
    }

    fn begin_listening(&mut self, listener: ListenerId, id: Option<CmId>) {
        let found = self.listeners.get_mut(listener);
        if let (Some(found), Some(mut id)) = (found, id) {
            id.set_token(listener.to_u64() | LISTENER);
            found.id = Some(id);
        }
    }

    /// Takes what others that listen on the same port have for this one.
    pub(super) fn empty_mailbox(&mut self, listener: ListenerId) {
        let Some(found) = self.listeners.get(listener) else {
            return;
        };
        for letter in found.mailbox.empty() {
            match letter {
                Letter::Request(id, offer) => self.on_request(listener, id, &offer),
                Letter::Listen(id) => {
                    if let Some(found) = self.listeners.get_mut(listener) {
                        found.is_first = true;
                    }
                    self.has_lost_listeners |= id.is_none();
                    self.begin_listening(listener, id);
                }
            }
        }
    }

    /// Somebody connects to a port; whose turn is it?
    pub(super) fn hand_on(&mut self, listener: ListenerId, id: CmId, offer: PrivateData) {
        let ours = match self.listeners.get(listener) {
            Some(found) => found.port.hand_on(id, offer, &found.mailbox),
            None => None,
        };
        if let Some((id, offer)) = ours {
            self.on_request(listener, id, &offer);
        }
    }

    /// The device of a listener was removed.
    pub(super) fn lose_listener(&mut self, listener: ListenerId) {
        if let Some(found) = self.listeners.get_mut(listener) {
            tracing::warn!(at = %found.at, "not listening: the device was removed");
            found.id = None;
            self.has_lost_listeners = true;
        }
    }

    /// Listens again where a device was gone, and may have come back.
    pub(super) fn reopen_listeners(&mut self) {
        let lost = |(id, listener): (ListenerId, &Listener)| {
            let lost = listener.is_first && listener.id.is_none();
            lost.then_some((id, listener.at, listener.backlog))
        };
        let lost: Vec<_> = self.listeners.iter().filter_map(lost).collect();
        let ports: Vec<_> = self.ports.iter().map(|(id, _)| id).collect();
        // One that is watched already cannot be watched twice, and is in order.
        let watch = |&id: &ListenerId| {
            self.watch_port(id)
                .is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists)
        };
        self.has_lost_listeners = ports.iter().any(watch);
        for (listener, at, backlog) in lost {
            let id = self.bound(at, true).and_then(|mut id| {
                id.listen(backlog)?;
                Ok(id)
            });
            match id {
                Ok(id) => {
                    tracing::info!(%at, "listening again");
                    self.begin_listening(listener, Some(id));
                }
                Err(error) => {
                    tracing::debug!(%at, %error, "not listening yet");
                    self.has_lost_listeners = true;
                }
            }
        }
    }

    pub(super) fn close_listener(&mut self, listener: ListenerId) {
        self.listeners.remove(listener);
        self.ports.remove(listener);
        // Nobody is told of what it has begun to accept.
        let begun = |conn: &Connection| conn.phase == Phase::Accepting(listener);
        let begun = self.conns.iter().filter(|(_, conn)| begun(conn));
        let begun: Vec<ConnId> = begun.map(|(id, _)| id).collect();
        for id in begun {
            self.end(id);
        }
    }
}
