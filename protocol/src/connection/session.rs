//! [`Session`]: what outlives a byte stream besides the messages, and the rules by which an
//! acceptor decides what becomes of a peer that asks for one.
//!
//! Source: msgr2 specification, "Message flow" and "Reconnection"; `handle_client_ident` and
//! `handle_reconnect` in Ceph's `src/msg/async/ProtocolV2.cc`.

use super::State;
use crate::policy::Policy;
use crate::wire::{ClientIdent, SessionReconnect};

/// A session's identity, and how often it was connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Session {
    /// Chosen by the end that opened the session; 0 until it does, and if lossy.
    pub(super) client_cookie: u64,
    /// Chosen by the other end; 0 until we know it, and if lossy.
    pub(super) server_cookie: u64,
    /// The messenger's place of our last attempt to connect.
    pub(super) global_seq: u64,
    /// The last place that the peer told.
    pub(super) peer_global_seq: u64,
    /// How often the session was connected again.
    pub(super) connect_seq: u64,
    /// We made the peer wait for a connection of ours, so there must be one.
    pub(super) promised: bool,
}

impl Session {
    /// Whether the session was opened and can be resumed.
    pub(super) fn is_open(&self) -> bool {
        self.server_cookie != 0
    }

    /// Lets go of what the peer no longer knows, but for our name for the session.
    pub(super) fn close(&mut self) {
        self.server_cookie = 0;
        self.connect_seq = 0;
    }
}

/// What a new stream brings a peer that asks for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Open(ClientIdent),
    Resume(SessionReconnect),
}

/// The session that an acceptor has with the peer already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) session: Session,
    pub(super) policy: Policy,
    pub(super) state: State,
    /// Whether messages have gone through: then the peer knew the session too.
    pub(super) used: bool,
    /// Whether the peer's connection wins if ours is under way too.
    pub(super) peer_wins: bool,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// A session of its own; the one that is known, if any, is gone.
    Open,
    /// The known session goes on over the new stream, or starts anew there.
    TakeOver {
        /// Whether the peer forgot it, so that what is queued is dropped.
        forgotten: bool,
    },
    /// Our own connection is under way and wins.
    Wait,
    /// The request is older than the session: nobody waits for an answer.
    Stale,
    /// There is no such session: ask for a new one.
    Reset { full: bool },
    /// Ask again, as the connection after this one of the session.
    Retry { connect_seq: u64 },
    /// Ask again, from a later place in your messenger.
    RetryGlobal { global_seq: u64 },
}

impl Known {
    /// Whether our own attempt to open the session comes first. One that failed may have reached
    /// the peer all the same, once it went so far as to name the session.
    fn wins_opening(&self) -> bool {
        let named = self.session.client_cookie != 0;
        let attempt = self.state.is_connecting() || named;
        attempt && !self.session.is_open() && !self.peer_wins
    }

    /// Whether our own attempt to resume the session comes first. One that is not under way must
    /// not keep out a peer that has come through: both ends have the same session.
    fn wins_resuming(&self) -> bool {
        self.state.is_connecting() && !self.peer_wins
    }

    fn judge_open(&self, ident: &ClientIdent) -> Judgement {
        let Session {
            client_cookie,
            peer_global_seq,
            ..
        } = self.session;
        let another = self.session.is_open() && client_cookie != ident.cookie;
        // Ceph 20.2 takes an early place with another cookie for a restarted peer's while its own
        // attempt is under way. It may as well be a late echo of an attempt that the peer gave up
        // for ours. A peer that was restarted answers our attempt by a reset.
        if peer_global_seq > ident.global_seq {
            return Judgement::Stale;
        }
        if self.policy.lossy {
            return Judgement::Open;
        }
        if another {
            let forgotten = self.policy.reset_check;
            return Judgement::TakeOver { forgotten };
        }
        // Ceph lets any request with the same cookie through. But after a reset of a session that
        // was open at one end only, both may open it anew, and one of their streams has to win.
        if self.wins_opening() {
            return Judgement::Wait;
        }
        // The same cookie: the peer has not heard that the session is open, or has forgotten it.
        let forgotten = self.was_forgotten();
        Judgement::TakeOver { forgotten }
    }

    /// Whether a peer that knows the session's beginning, but not what we know, has forgotten it,
    /// and we care.
    fn was_forgotten(&self) -> bool {
        self.used && self.policy.reset_check
    }

    fn judge_resume(&self, request: &SessionReconnect) -> Judgement {
        let Session {
            client_cookie,
            peer_global_seq,
            connect_seq,
            ..
        } = self.session;
        if self.policy.lossy {
            return Judgement::Reset { full: true };
        }
        if client_cookie != request.client_cookie {
            let full = self.policy.reset_check;
            return Judgement::Reset { full };
        }
        if !self.session.is_open() {
            return Judgement::Reset { full: false };
        }
        // Both ends opened the session with the same client, but not with each other: one of the
        // streams was dead. Ceph does not look, and resumes what never was one session.
        if self.session.server_cookie != request.server_cookie {
            let full = self.was_forgotten();
            return Judgement::Reset { full };
        }
        if peer_global_seq > request.global_seq {
            let global_seq = peer_global_seq;
            return Judgement::RetryGlobal { global_seq };
        }
        if connect_seq > request.connect_seq {
            return Judgement::Retry { connect_seq };
        }
        if connect_seq == request.connect_seq && self.wins_resuming() {
            return Judgement::Wait;
        }
        Judgement::TakeOver { forgotten: false }
    }
}

impl Request {
    /// What becomes of the request, given the session with the same peer.
    pub(super) fn judge(&self, known: Option<&Known>) -> Judgement {
        match (self, known.filter(|known| known.state != State::Closed)) {
            (Self::Open(_), None) => Judgement::Open,
            (Self::Open(ident), Some(known)) => known.judge_open(ident),
            (Self::Resume(_), None) => Judgement::Reset { full: true },
            (Self::Resume(request), Some(known)) => known.judge_resume(request),
        }
    }
}
