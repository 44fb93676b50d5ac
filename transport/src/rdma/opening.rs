//! What both ways of setting up connections have in common: from which device a queue pair is, and
//! the moment from which on a connection is open.

use std::io;

use rustix::io::Errno;

use super::adapter::Adapter;
use super::cm::CmId;
use super::connection::Phase;
use super::link::Link;
use super::queue_pair::Transition;
use super::watch::Source;
use super::{Rdma, list};
use crate::{ConnId, Event};

impl Rdma {
    /// A queue pair on this adapter, brought to its first state, with receives that the peer may use.
    pub(super) fn link(
        &mut self,
        id: ConnId,
        index: usize,
        init: &mut Transition,
    ) -> io::Result<Link> {
        let adapter = &mut self.adapters[index];
        let queue_pair = adapter.queue_pair()?;
        queue_pair.modify(init)?;
        let exhausted = "all receives are granted to other connections";
        let grant = adapter.grants.open();
        let grant = grant.ok_or_else(|| io::Error::new(io::ErrorKind::OutOfMemory, exhausted))?;
        adapter.owners.insert(queue_pair.number(), id);
        let supplied = adapter.supply(&queue_pair, grant.initial());
        let link = Link::new(queue_pair, index, grant, self.config.setup);
        match supplied {
            Ok(()) => Ok(link),
            Err(error) => {
                link.release(adapter);
                Err(error)
            }
        }
    }

    /// The adapter of the device that `manager` is bound to.
    pub(super) fn adapter(&mut self, manager: &CmId) -> io::Result<usize> {
        let name = manager.device_name(self.libraries).unwrap_or_default();
        let same = |adapter: &Adapter| adapter.failed.is_none() && adapter.device.name() == name;
        if let Some(index) = self.adapters.iter().position(same) {
            return Ok(index);
        }
        if manager.is_iwarp() {
            tracing::error!(device = name, "iWARP has no immediate data");
            return Err(Errno::OPNOTSUPP.into());
        }
        let adapter = Adapter::open(self.libraries, manager, &self.config);
        let mut adapter = adapter.inspect_err(|error| {
            tracing::error!(device = name, %error, "the device cannot be used");
        })?;
        // In the place of one that has failed, once its connections are gone.
        let gone = |adapter: &Adapter| adapter.failed.is_some() && adapter.owners.is_empty();
        let gone = self.adapters.iter().position(gone);
        let index = gone.unwrap_or(self.adapters.len());
        let completions = rustix::fd::AsFd::as_fd(&adapter.completions);
        self.watch.add(completions, Source::Completions(index))?;
        self.watch
            .add(adapter.device.events(), Source::Device(index))?;
        adapter.is_watched = true;
        if gone.is_some() {
            self.adapters[index] = adapter;
        } else {
            self.adapters.push(adapter);
        }
        Ok(index)
    }

    /// The peer knows that we have accepted.
    pub(super) fn accepted(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(local) = conn.local else {
            return;
        };
        match conn.phase {
            Phase::Accepting(listener) => {
                conn.phase = Phase::Open;
                events.push(Event::Accepted {
                    listener,
                    conn: id,
                    local,
                    remote: conn.remote,
                });
            }
            // Theirs in the place of our own attempt.
            Phase::Requesting => {
                conn.phase = Phase::Open;
                events.push(Event::Connected { conn: id, local });
            }
            _ => return,
        }
        list(&mut self.work, id, conn);
    }
}
