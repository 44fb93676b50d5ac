//! [`Link`]: a connection as the network sees it, with what its two ends are yet to be told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::fault::Side;
use super::pipe::{Arrival, Pipe};
use super::world::NodeId;
use crate::{CloseReason, ConnId, Event, ListenerId};

#[derive(Debug)]
pub(super) struct Link {
    /// The connector's address and the acceptor's.
    addresses: [SocketAddr; 2],
    /// By side; unset before it is accepted and after it has ended.
    ends: [Option<End>; 2],
    /// By side, whether it has left in good order: its host minds the connection to the end.
    lingers: [bool; 2],
    /// What each side sends.
    pipes: [Pipe; 2],
    pub(super) phase: Phase,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The attempt to connect is under way.
    Attempted,
    /// It has been decided about.
    Answered,
    /// The welcome has arrived.
    Established,
}

/// One side's process, and what it is yet to be told.
#[derive(Debug)]
pub(super) struct End {
    pub(super) node: NodeId,
    pub(super) conn: ConnId,
    inbox: VecDeque<News>,
    /// Why it has ended. Told when the inbox is empty, or cannot be told because nobody receives.
    verdict: Option<CloseReason>,
    /// Whether the process knows that the connection is up.
    pub(super) up: bool,
    pub(super) receiving: bool,
    /// Whether its node has been asked to look.
    pub(super) listed: bool,
}

/// What a process is told about its connection, in order.
#[derive(Debug)]
pub(super) enum News {
    Accepted(ListenerId),
    Connected,
    Bytes(Bytes),
    Fin,
}

impl End {
    pub(super) fn new(node: NodeId, conn: ConnId) -> Self {
        Self {
            node,
            conn,
            inbox: VecDeque::new(),
            verdict: None,
            up: false,
            receiving: true,
            listed: false,
        }
    }

    /// Has the process told. After the end there is no news.
    pub(super) fn tell(&mut self, news: News) {
        if self.verdict.is_none() {
            self.inbox.push_back(news);
        }
    }

    /// Ends it, for the first reason given.
    pub(super) fn sentence(&mut self, reason: CloseReason) {
        self.verdict.get_or_insert(reason);
    }

    /// The next news that may be told.
    fn next(&mut self) -> Option<News> {
        if matches!(self.inbox.front()?, News::Bytes(_) | News::Fin) && !self.receiving {
            return None;
        }
        self.inbox.pop_front()
    }
}

impl Link {
    /// A connection that `connector` has begun.
    pub(super) fn new(addresses: [SocketAddr; 2], connector: End, pipes: [Pipe; 2]) -> Self {
        Self {
            addresses,
            ends: [Some(connector), None],
            lingers: [false; 2],
            pipes,
            phase: Phase::Attempted,
        }
    }

    pub(super) fn address(&self, side: Side) -> SocketAddr {
        self.addresses[side as usize]
    }

    pub(super) fn end(&mut self, side: Side) -> Option<&mut End> {
        self.ends[side as usize].as_mut()
    }

    pub(super) fn set_end(&mut self, side: Side, end: Option<End>) {
        self.ends[side as usize] = end;
    }

    /// Takes the connector's end, if it is still to hear what becomes of its attempt.
    pub(super) fn take_attempt(&mut self) -> Option<End> {
        let end = &mut self.ends[Side::Connector as usize];
        let undecided = |end: &mut End| end.verdict.is_none();
        let asked = self.phase != Phase::Established;
        asked.then(|| end.take_if(undecided)).flatten()
    }

    /// Notes that the process at `side` leaves in good order.
    pub(super) fn linger(&mut self, side: Side) {
        self.lingers[side as usize] = self.end(side).is_some_and(|end| end.up);
    }

    /// Whether it is still there as far as the host at `side` knows.
    pub(super) fn is_held(&self, side: Side) -> bool {
        self.ends[side as usize].is_some() || self.lingers[side as usize]
    }

    pub(super) fn pipe(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side as usize]
    }

    /// Whether both processes have it, or are about to be told.
    pub(super) fn is_established(&self) -> bool {
        self.phase == Phase::Established && self.ends.iter().all(Option::is_some)
    }

    /// Whether nobody is concerned with it any more.
    pub(super) fn is_over(&self) -> bool {
        self.phase != Phase::Attempted && self.ends.iter().all(Option::is_none)
    }

    /// The next thing that comes out of what `side` sent.
    pub(super) fn next(&mut self, side: Side, now: Duration) -> Option<Arrival> {
        let established = self.phase == Phase::Established;
        self.pipe(side).next(now, established)
    }

    /// Tells the process at `side` everything it may be told. Returns whether the end has ended.
    pub(super) fn hand_up(&mut self, side: Side, events: &mut Vec<Event>) -> bool {
        let (local, remote) = (self.address(side), self.address(side.other()));
        let Some(end) = self.ends[side as usize].as_mut() else {
            return false;
        };
        let conn = end.conn;
        while let Some(news) = end.next() {
            match news {
                News::Accepted(listener) => {
                    end.up = true;
                    events.push(Event::Accepted {
                        listener,
                        conn,
                        local,
                        remote,
                    });
                }
                News::Connected => {
                    end.up = true;
                    events.push(Event::Connected { conn, local });
                }
                News::Bytes(bytes) => {
                    self.pipes[side.other() as usize].give_back(bytes.len());
                    events.push(Event::Data { conn, bytes });
                }
                News::Fin => end.sentence(CloseReason::PeerClosed),
            }
        }
        if let Some(reason) = end.verdict.take() {
            events.push(Event::Closed { conn, reason });
            return true;
        }
        if self.pipe(side).owes_room() {
            self.pipe(side).starved = false;
            events.push(Event::Room { conn });
        }
        false
    }

    /// The listener that the process at `side` has not been told about yet, if that is so.
    pub(super) fn untold(&self, side: Side) -> Option<ListenerId> {
        match self.ends[side as usize].as_ref()?.inbox.front() {
            Some(&News::Accepted(listener)) => Some(listener),
            _ => None,
        }
    }
}
