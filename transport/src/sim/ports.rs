//! Ports of a simulated network: who holds one, and what its connections meet.
//!
//! As in TCP (RFC 9293, section 4) two addresses name one connection at a time, at each of
//! their hosts; the two hosts may differ about it.

use std::net::SocketAddr;

use super::fault::Side;
use super::link::{End, Link, News};
use super::pipe::Parcel;
use super::world::{LinkId, NodeId, World};
use crate::CloseReason;

/// Where ports are chosen from: those of Linux (ip(7), `ip_local_port_range`).
const FIRST_PORT: u16 = 32768;
const LAST_PORT: u16 = 60999;

impl World {
    /// `at`, with a port where nobody listens and that is not connected to `peer` if it has none.
    /// Unset if there is no such port.
    pub(super) fn choose_port(
        &mut self,
        mut at: SocketAddr,
        peer: Option<SocketAddr>,
    ) -> Option<SocketAddr> {
        if at.port() != 0 {
            return Some(at);
        }
        for _ in FIRST_PORT..=LAST_PORT {
            self.last_port = match self.last_port {
                last @ FIRST_PORT..LAST_PORT => last + 1,
                _ => FIRST_PORT,
            };
            at.set_port(self.last_port);
            let connected = peer.is_some_and(|peer| self.is_connected(at, peer));
            if !connected && !self.listeners.contains_key(&at) {
                return Some(at);
            }
        }
        None
    }

    /// Whether others listen at `at`, and `node` does not.
    pub(super) fn is_foreign(&self, at: SocketAddr, node: NodeId) -> bool {
        let there = self.listeners.get(&at);
        there.is_some_and(|there| there.iter().all(|listening| listening.node != node))
    }

    /// Whether the host of `local` has a connection to `remote` from there, whoever began it.
    pub(super) fn is_connected(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        self.between(local, remote).next().is_some()
    }

    fn between(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> impl Iterator<Item = (LinkId, Side)> {
        let is_named = move |link: &Link, side: Side| {
            let ends = (link.address(side), link.address(side.other()));
            ends == (local, remote) && link.is_held(side)
        };
        self.links.iter().flat_map(move |(id, link)| {
            let sides = Side::BOTH.into_iter();
            let there = sides.filter(move |&side| is_named(link, side));
            there.map(move |side| (id, side))
        })
    }

    /// Lets an attempt that has arrived meet what its host has under the same two addresses. That
    /// may be an attempt in the other direction: the two become one connection that nobody has
    /// accepted (simultaneous open, RFC 9293, section 3.5). Whether it was. Anything else is from
    /// a past that only this host remembers, and is reset (section 3.10.7.4 and RFC 5961).
    pub(super) fn meet(&mut self, id: LinkId) -> bool {
        let Some(link) = self.links.get(id) else {
            return false;
        };
        let (there, here) = (link.address(Side::Connector), link.address(Side::Acceptor));
        let others = self.between(here, there).filter(|&(other, _)| other != id);
        let others: Vec<_> = others.collect();
        for (other, side) in others {
            let Some(link) = self.links.get_mut(other) else {
                continue;
            };
            if side == Side::Connector
                && let Some(end) = link.take_attempt()
            {
                self.links.remove(other);
                self.join(id, end);
                return true;
            }
            if let Some(end) = link.end(side) {
                end.sentence(CloseReason::Reset);
            }
            self.list(other, side);
        }
        false
    }

    /// Makes what was an attempt of its own the acceptor's end.
    fn join(&mut self, id: LinkId, mut end: End) {
        self.note(id, Side::Acceptor, "was itself about to connect to");
        if let Some(process) = self.nodes.get_mut(end.node)
            && let Some(place) = process.conns.get_mut(end.conn)
            && let Some(link) = self.links.get_mut(id)
        {
            *place = (id, Side::Acceptor);
            end.tell(News::Connected);
            link.set_end(Side::Acceptor, Some(end));
        }
        self.list(id, Side::Acceptor);
        self.post(id, Side::Acceptor, Parcel::Welcome);
    }
}
