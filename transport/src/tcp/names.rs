//! [`Names`]: who listens where, and the ports that connections originate from.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::steering::Steering;
use crate::{ListenOptions, ListenerId, Port, Slots};

/// The ports to choose from where 0 is asked for: those of Linux (ip(7), `ip_local_port_range`).
const FIRST_PORT: u16 = 32768;
const LAST_PORT: u16 = 60999;

#[derive(Debug, Default)]
pub(super) struct Names {
    listeners: Slots<crate::slots::Listener, Listener>,
    /// The listeners at each port; several joined, or at different addresses.
    by_port: HashMap<u16, Vec<ListenerId>>,
    last_port: u16,
}

#[derive(Debug)]
pub(super) struct Listener {
    at: SocketAddr,
    /// The most connections that are not established yet.
    backlog: usize,
    /// How many there are.
    pub(super) half_open: usize,
}

impl Names {
    pub(super) fn listen<F>(
        &mut self,
        mut at: SocketAddr,
        options: &ListenOptions,
        most: usize,
        steering: Option<&Steering<F>>,
    ) -> io::Result<(ListenerId, SocketAddr)> {
        if at.port() == 0 {
            let port = self.choose_port(|port| steering.is_none_or(|others| others.is_free(port)));
            at.set_port(port.ok_or(io::ErrorKind::AddrInUse)?);
        }
        let is_taken = |one: &Listener| {
            let joined = options.port == Port::Join && one.at == at;
            overlap(one.at.ip(), at.ip()) && !joined
        };
        if self.at_port(at.port()).any(|(_, one)| is_taken(one)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if let Some(others) = steering {
            others.listen(at, options.port)?;
        }
        let id = self.listeners.insert(Listener {
            at,
            backlog: (options.backlog.max(1) as usize).min(most),
            half_open: 0,
        });
        self.by_port.entry(at.port()).or_default().push(id);
        Ok((id, at))
    }

    /// Returns where it listened.
    pub(super) fn unlisten(&mut self, id: ListenerId) -> Option<SocketAddr> {
        let Listener { at, .. } = self.listeners.remove(id)?;
        if let Some(there) = self.by_port.get_mut(&at.port()) {
            there.retain(|one| *one != id);
            if there.is_empty() {
                self.by_port.remove(&at.port());
            }
        }
        Some(at)
    }

    pub(super) fn get_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.listeners.get_mut(id)
    }

    /// Who may accept a connection to `local`: of several, the one with the fewest under way.
    pub(super) fn listener_for(&self, local: SocketAddr) -> Option<ListenerId> {
        let there = self.at_port(local.port());
        let willing = there
            .filter(|(_, one)| one.half_open < one.backlog && overlap(one.at.ip(), local.ip()));
        let best = willing.min_by_key(|(_, one)| (one.at.ip().is_unspecified(), one.half_open));
        best.map(|(id, _)| id)
    }

    /// Whether anybody listens at `local`, however busy.
    pub(super) fn is_listened_at(&self, local: SocketAddr) -> bool {
        let mut there = self.at_port(local.port());
        there.any(|(_, one)| overlap(one.at.ip(), local.ip()))
    }

    fn at_port(&self, port: u16) -> impl Iterator<Item = (ListenerId, &Listener)> {
        let ids = self.by_port.get(&port).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.listeners.get(*id)?)))
    }

    /// The next port that nobody listens at and that is `free`.
    pub(super) fn choose_port(&mut self, free: impl Fn(u16) -> bool) -> Option<u16> {
        for _ in FIRST_PORT..=LAST_PORT {
            let next = self.last_port.wrapping_add(1).max(FIRST_PORT);
            self.last_port = if next > LAST_PORT { FIRST_PORT } else { next };
            if !self.by_port.contains_key(&self.last_port) && free(self.last_port) {
                return Some(self.last_port);
            }
        }
        None
    }
}

/// Whether something can be for both addresses. The unspecified one stands for all of its family.
pub(super) fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
        && (one == other || one.is_unspecified() || other.is_unspecified())
}
