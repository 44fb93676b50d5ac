//! [`Case`]: a peer that asks for a session, and the session that there is with it already.

use std::cmp::Ordering;

use bytes::Bytes;

use super::super::script::{
    End, client_ident, client_socket, feed, frame, message_frame, numbered, server_config,
    transmitted,
};
use crate::config::{Config, PerPeer};
use crate::connection::{Connection, Event, State};
use crate::frame::Revision;
use crate::message::Message;
use crate::policy::Policy;
use crate::wire::{ClientIdent, EntityAddr, EntityAddrVec, SessionReconnect, ident_flags};

/// The peer's name for the session that it asks for.
pub(super) const COOKIE: u64 = 0xa;
/// Another name.
pub(super) const OTHER: u64 = 0xb;
/// The names that the acceptor gave the session, and gives the next one.
pub(super) const GIVEN: u64 = 0xc;
pub(super) const NEXT: u64 = 0xc0de_0002;
/// What the known session has come to.
pub(super) const PEERS_PLACE: u64 = 50;
pub(super) const CONNECT_SEQ: u64 = 7;
pub(super) const ACKNOWLEDGED: u64 = 2;
pub(super) const SENT: u64 = 3;
pub(super) const RECEIVED: u64 = 5;
/// The messenger's place when the peer asks.
pub(super) const OUR_PLACE: u64 = 90;

/// What the known session is called, on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// We never asked for a session, nor did the peer.
    None,
    /// Somebody asked, under the name that the peer uses now or another, and was not answered.
    Asked { same: bool },
    /// The session was opened.
    Open { same: bool },
}

impl Names {
    const ALL: [Self; 5] = [
        Self::None,
        Self::Asked { same: true },
        Self::Asked { same: false },
        Self::Open { same: true },
        Self::Open { same: false },
    ];

    pub(super) fn is_same(self) -> bool {
        matches!(self, Self::Asked { same } | Self::Open { same } if same)
    }

    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    pub(super) fn cookies(self) -> (u64, u64) {
        let name = if self.is_same() { COOKIE } else { OTHER };
        match self {
            Self::None => (0, 0),
            Self::Asked { .. } => (name, 0),
            Self::Open { .. } => (name, GIVEN),
        }
    }
}

/// All that the decisions look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) policy: Policy,
    /// The known session's, if there is one.
    pub(super) state: Option<State>,
    pub(super) names: Names,
    /// The request's place compared to the last that the peer told.
    pub(super) place: Ordering,
    /// The request's `connect_seq` compared to the session's.
    pub(super) connect_seq: Ordering,
    /// Whether the peer's address is smaller than ours.
    pub(super) peer_first: bool,
}

impl Case {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let orders = [Ordering::Less, Ordering::Equal, Ordering::Greater];
        let mut all = Vec::new();
        for policy in Policy::presets().filter(|policy| policy.is_registered()) {
            let states = State::ALL.into_iter().filter(|state| !state.is_accepting());
            for state in states.map(Some).chain([None]) {
                let possible = |names: &Names| match (policy.lossy, state) {
                    (true, _) => *names == Names::None,
                    (false, Some(State::Ready)) => names.is_open(),
                    _ => true,
                };
                for names in Names::ALL.into_iter().filter(possible) {
                    for place in orders {
                        for connect_seq in orders {
                            all.extend([true, false].map(|peer_first| Self {
                                policy,
                                state,
                                names,
                                place,
                                connect_seq,
                                peer_first,
                            }));
                        }
                    }
                }
            }
        }
        all.into_iter()
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.state.is_some_and(State::is_connecting)
    }

    /// Whether ours wins, of two attempts that cross.
    pub(super) fn we_win(&self) -> bool {
        !self.peer_first && !self.policy.server
    }

    fn peers_addrs(&self) -> EntityAddrVec {
        let nonce = if self.peer_first { 29 } else { 31 };
        EntityAddr::msgr2(client_socket(), nonce).into()
    }

    pub(super) fn open(&self) -> ClientIdent {
        ClientIdent {
            addrs: self.peers_addrs(),
            global_seq: beside(PEERS_PLACE, self.place),
            flags: ident_flags::of(self.policy.lossy),
            cookie: if self.policy.lossy { 0 } else { COOKIE },
            ..client_ident()
        }
    }

    pub(super) fn resume(&self) -> SessionReconnect {
        SessionReconnect {
            addrs: self.peers_addrs(),
            client_cookie: COOKIE,
            server_cookie: GIVEN,
            global_seq: beside(PEERS_PLACE, self.place),
            connect_seq: beside(CONNECT_SEQ, self.connect_seq),
            msg_seq: ACKNOWLEDGED,
        }
    }
}

fn beside(number: u64, order: Ordering) -> u64 {
    number.saturating_add_signed(order as i64)
}

/// The two messages that the peer of the known session has not acknowledged.
pub(super) fn unheard(first_seq: u64, ack_seq: u64) -> Vec<u8> {
    let numbers = (first_seq..).zip([SENT, SENT + 1]);
    let messages = numbers.map(|(seq, tid)| {
        let mut message = numbered(seq);
        (message.header.tid, message.header.ack_seq) = (tid, ack_seq);
        message_frame(Revision::Rev1, &message)
    });
    messages.collect::<Vec<_>>().concat()
}

fn config(policy: Policy) -> Config {
    let mut config = server_config();
    config.policies = PerPeer::new(policy);
    config
}

/// An acceptor whose peer is about to ask for a session.
pub(super) fn newcomer(policy: Policy) -> Connection {
    End::Acceptor.reach_as(config(policy), Revision::Rev1, State::SessionAccepting)
}

/// A session of which two messages are acknowledged, one is sent, and one is queued.
pub(super) fn known(case: &Case) -> Option<Connection> {
    let mut known = newcomer(case.policy);
    feed(&mut known, &frame(&case.open())).unwrap();
    for tid in 1..=SENT {
        known.send(message(tid)).unwrap();
    }
    for seq in 1..=RECEIVED {
        let mut message = numbered(seq);
        message.header.ack_seq = ACKNOWLEDGED * (seq / RECEIVED);
        transmitted(&mut known);
        feed(&mut known, &message_frame(Revision::Rev1, &message)).unwrap();
    }
    known.send(message(SENT + 1)).unwrap();
    (known.session.client_cookie, known.session.server_cookie) = case.names.cookies();
    known.session.peer_global_seq = PEERS_PLACE;
    known.session.connect_seq = CONNECT_SEQ;
    known.stream.state = case.state?;
    Some(known)
}

fn message(tid: u64) -> Message {
    let mut message = numbered(0);
    message.header.tid = tid;
    message
}

pub(super) fn ask(case: &Case, request: &[u8]) -> Connection {
    let mut newcomer = newcomer(case.policy);
    newcomer.receive(Bytes::copy_from_slice(request));
    assert_eq!(newcomer.poll().unwrap(), Some(Event::SessionRequested));
    assert_eq!(newcomer.poll().unwrap(), None, "asked twice");
    newcomer
}
