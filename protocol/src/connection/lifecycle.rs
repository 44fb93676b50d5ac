//! What becomes of a session when its stream ends, and how it gets the next one.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Connection, Opening, Role, State, Stream};
use crate::config::Config;
use crate::wire::EntityAddr;

/// What becomes of a session whose stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AfterFault {
    /// It has ended too.
    Gone,
    /// It waits until there is something to send, or the peer comes.
    Standby,
    /// It connects again at once.
    Reconnect,
    /// It connects again after a while, which grows with every failure.
    Backoff,
}

impl Connection {
    /// The stream has ended. Returns the state that it was in, and what becomes of the session.
    pub fn disconnect(&mut self) -> (State, AfterFault) {
        let left = self.stream.failed_in.unwrap_or(self.stream.state);
        let after = self.after_fault(left);
        self.stream.state = match after {
            AfterFault::Gone => State::Closed,
            AfterFault::Standby => State::Standby,
            AfterFault::Reconnect | AfterFault::Backoff => State::StartConnect,
        };
        // Nothing received on the old stream counts any more.
        self.stream.failed_in = Some(left);
        self.stream.handshake = None;
        (left, after)
    }

    fn after_fault(&self, left: State) -> AfterFault {
        let idle = self.policy.standby && !self.has_work();
        if self.policy.lossy || left.is_accepting() || left == State::Closed {
            AfterFault::Gone
        } else if self.policy.server || self.dials().is_none() || (idle && left != State::Wait) {
            AfterFault::Standby
        } else if left == State::Ready {
            AfterFault::Reconnect
        } else {
            AfterFault::Backoff
        }
    }

    /// Whether there is a reason to connect: messages that have not got through, a question, or
    /// that the peer was made to wait for us.
    fn has_work(&self) -> bool {
        !self.messages.is_settled() || self.keepalive.is_some() || self.session.promised
    }

    /// Whether a session that stands by should connect now.
    pub fn wants_stream(&self) -> bool {
        self.stream.state == State::Standby
            && !self.policy.server
            && self.has_work()
            && self.dials().is_some()
    }

    /// Where this end can connect to: what it dialled, or where the peer listens.
    pub fn dials(&self) -> Option<EntityAddr> {
        self.target.or_else(|| {
            let addr = self.peer.addrs.msgr2()?;
            addr.socket
                .filter(|socket| socket.port() != 0)
                .map(|_| addr)
        })
    }

    /// Begins the session's next stream, from `local` to `remote`, which leads to
    /// [`dials`](Self::dials).
    pub fn reconnect(
        &mut self,
        config: Arc<Config>,
        (local, remote): (SocketAddr, SocketAddr),
        opening: Opening,
    ) {
        let Some(target) = self.dials() else { return };
        self.stream = Stream::new(&config, Role::Connector { target }, local, opening);
        self.config = config;
        self.peer.socket = remote;
        self.session.global_seq = opening.global_seq;
        if self.session.is_open() {
            self.session.connect_seq = self.session.connect_seq.saturating_add(1);
        }
    }

    /// Forgets the session if its stream ends: it is of no use to anybody any more.
    pub fn make_disposable(&mut self) {
        self.policy.lossy = true;
    }
}
