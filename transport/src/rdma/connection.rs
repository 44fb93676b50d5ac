//! [`Connection`]: how far a connection is, what has come that the caller has not got yet, and what
//! its owner is to be told. Nothing here sets a connection up, or calls a device.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::adapter::Adapter;
use super::arena::Block;
use super::ceph::Channel;
use super::cm::CmId;
use super::link::Link;
use crate::{CloseReason, Cost, ListenerId};

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Looking for the device, and the way to the peer.
    Resolving,
    /// The peer is asked.
    Requesting,
    /// The peer prefers its own attempt, which is under way, to ours.
    Crossed,
    /// We have accepted; the peer may not know yet.
    Accepting(ListenerId),
    Open,
    /// The caller has left; what it queued is still going out.
    Draining,
    /// The caller has left, or was told the end. What the device still has of it comes back.
    Ending,
}

/// What the peer has sent and the caller has not got yet.
#[derive(Debug)]
pub(super) enum Held {
    Received(Block, usize),
    /// The next of its offers.
    Offered,
}

/// One connection.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Independent conditions, each read where it matters.
pub(super) struct Connection {
    pub(super) phase: Phase,
    pub(super) local: Option<SocketAddr>,
    /// The port it originates from, if its id is bound to another.
    pub(super) port: u16,
    pub(super) remote: SocketAddr,
    /// Dropped behind the queue pair.
    pub(super) link: Option<Link>,
    pub(super) id: Option<CmId>,
    /// Over which two of Ceph's messengers set it up, and which lives as long as it.
    pub(super) channel: Option<Channel>,
    /// Why it has ended, once that is known.
    pub(super) failed: Option<CloseReason>,
    /// The peer, or the manager, has ended it. What was received before still counts.
    pub(super) disconnected: bool,
    /// Received while the caller wanted nothing.
    pub(super) held: VecDeque<Held>,
    /// The peer's last byte is received.
    pub(super) ended: bool,
    /// Our end is announced to the peer.
    said_last: bool,
    pub(super) receiving: bool,
    /// Credits were owed at the last look already: nothing has taken them along since.
    pub(super) owes_credits: bool,
    pub(super) owes_room: bool,
    /// Whether it is among those that wait for what all share.
    pub(super) starved: bool,
    pub(super) touched: bool,
    pub(super) listed: bool,
    /// Anything received since the last look of the keepalive.
    pub(super) heard: bool,
    /// Looks of the keepalive without any progress.
    pub(super) silent: u32,
    /// What had completed at its last look.
    pub(super) seen: u64,
}

impl Connection {
    pub(super) fn new(phase: Phase, remote: SocketAddr) -> Self {
        Self {
            phase,
            local: None,
            port: 0,
            remote,
            link: None,
            id: None,
            channel: None,
            failed: None,
            disconnected: false,
            held: VecDeque::new(),
            ended: false,
            said_last: false,
            receiving: true,
            owes_credits: false,
            owes_room: false,
            starved: false,
            touched: false,
            listed: false,
            heard: false,
            silent: 0,
            seen: 0,
        }
    }

    /// Whether the caller still has it.
    pub(super) fn is_owned(&self) -> bool {
        !matches!(self.phase, Phase::Draining | Phase::Ending)
    }

    /// Whether we connect, and are not connected yet.
    pub(super) fn is_attempt(&self) -> bool {
        matches!(
            self.phase,
            Phase::Resolving | Phase::Requesting | Phase::Crossed
        )
    }

    /// Whether it waits for what only the peer can do, and nobody but us gives up.
    pub(super) fn awaits_peer(&self) -> bool {
        let unmet = self.is_attempt() || matches!(self.phase, Phase::Accepting(_));
        self.phase == Phase::Crossed || (unmet && self.channel.is_some())
    }

    /// Notes why it has ended. The first reason counts.
    pub(super) fn fail(&mut self, reason: CloseReason) {
        self.failed.get_or_insert(reason);
    }

    /// Whether everything is out, the end included, and acknowledged by the peer's device.
    pub(super) fn is_drained(&self) -> bool {
        self.said_last && self.link.as_ref().is_none_or(Link::is_drained)
    }

    /// Announces the end behind the last byte. False if there is no room for that now.
    pub(super) fn say_last(&mut self, adapter: &mut Adapter, cost: &mut Cost) -> bool {
        if let Some(link) = &mut self.link
            && !self.said_last
        {
            let posted = link.post(adapter, cost);
            match posted.and_then(|()| link.control(true, adapter, cost)) {
                Ok(said) => self.said_last = said,
                Err(reason) => self.fail(reason),
            }
        }
        self.said_last
    }
}
