//! What becomes of a peer that asks for a session, and of the session that there is with it.

use std::cmp::Ordering;
use std::mem;

use super::session::{Judgement, Known};
use super::{Connection, Request, State};
use crate::error::{Cause, ConnectionError, PeerMisbehaved};
use crate::peer::Peer;
use crate::wire::{
    EntityAddr, EntityAddrVec, SessionReset, SessionRetry, SessionRetryGlobal, Wait,
};

/// The outcome of [`Connection::meet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// The newcomer is ready, with a session of its own. The known one has ended, if there was one.
    Opened,
    /// The known session is ready, over the newcomer's stream. The stream that it had before, and
    /// what is left of the newcomer, are to be closed.
    TakenOver {
        /// Whether the peer forgot the session, so that what was queued was dropped.
        remote_reset: bool,
    },
    /// The peer must wait for the known session's own connection.
    Waits,
    /// The newcomer was told to ask again.
    AsksAgain,
    /// The newcomer was told to ask for a new session, because the known one is not open here yet,
    /// although the peer's end of it was: the peer has given up the stream on which it was opened.
    /// Close it; nothing that still arrives there may count.
    Outrun,
    /// The newcomer is late, and to be closed; nobody waits for an answer.
    Stale,
}

impl Connection {
    /// Answers the peer's request for a session, after [`Event::SessionRequested`]. `known` is the
    /// session that there is with the same peer. `global_seq` is the messenger's next place: one that
    /// is later than all attempts of its own up to now, which thereby become stale for the peer.
    ///
    /// [`Event::SessionRequested`]: super::Event::SessionRequested
    ///
    /// # Errors
    /// The request makes no sense; the newcomer's stream cannot go on, nothing befell the session.
    pub fn meet(
        &mut self,
        known: Option<&mut Self>,
        global_seq: u64,
    ) -> Result<Meeting, ConnectionError> {
        self.stream.opening.global_seq = global_seq;
        let Some(request) = self.stream.request.take() else {
            return Ok(Meeting::AsksAgain);
        };
        let outcome = self.carry_out(&request, known);
        outcome.map_err(|cause| self.fail(cause))
    }

    fn carry_out(&mut self, request: &Request, known: Option<&mut Self>) -> Result<Meeting, Cause> {
        if known
            .as_deref()
            .is_some_and(|known| known.belongs_to_another(&self.peer))
        {
            return Err(PeerMisbehaved::SessionOfAnother.into());
        }
        let judgement = request.judge(known.as_deref().map(|known| self.describe(known)).as_ref());
        match (judgement, known) {
            (Judgement::TakeOver { forgotten }, Some(known)) => {
                known.take_over(self, request, forgotten)?;
                return Ok(Meeting::TakenOver {
                    remote_reset: forgotten,
                });
            }
            (Judgement::Wait, Some(known)) => {
                known.session.promised = true;
                self.control(&Wait);
                return Ok(Meeting::Waits);
            }
            (Judgement::Stale, _) => return Ok(Meeting::Stale),
            (Judgement::Reset { full }, known) => {
                self.control(&SessionReset { full });
                if known.is_some_and(|known| known.stream.state.is_connecting() && !full) {
                    return Ok(Meeting::Outrun);
                }
            }
            (Judgement::Retry { connect_seq }, _) => self.control(&SessionRetry { connect_seq }),
            (Judgement::RetryGlobal { global_seq }, _) => {
                self.control(&SessionRetryGlobal { global_seq });
            }
            (Judgement::Open | Judgement::TakeOver { .. } | Judgement::Wait, _) => {
                if let Request::Open(ident) = request {
                    self.grant_session(ident);
                    return Ok(Meeting::Opened);
                }
            }
        }
        Ok(Meeting::AsksAgain)
    }

    /// Whether somebody other than `peer` has proved to be at the other end of this session: knowing
    /// its name is not enough to take it over.
    fn belongs_to_another(&self, peer: &Peer) -> bool {
        let owner = self.peer.principal.as_ref();
        owner.is_some_and(|owner| {
            let asks = peer.principal.as_ref();
            asks.map(|asks| &asks.name) != Some(&owner.name)
        })
    }

    fn describe(&self, known: &Self) -> Known {
        let (theirs, ours) = (identity(&self.peer.addrs), identity(&self.our_addrs()));
        Known {
            session: known.session,
            policy: known.policy,
            state: known.stream.state,
            used: known.session.is_open() && known.messages.is_used(),
            peer_wins: known.policy.server || theirs.race_cmp(&ours) == Ordering::Less,
        }
    }

    /// Goes on with the stream of `newcomer`, whose handshake comes along: layout, what was
    /// received, what is not transmitted yet.
    fn take_over(
        &mut self,
        newcomer: &mut Self,
        request: &Request,
        forgotten: bool,
    ) -> Result<(), Cause> {
        if let Request::Resume(request) = request {
            self.messages.check_resumption(request.msg_seq)?;
        }
        mem::swap(&mut self.stream, &mut newcomer.stream);
        newcomer.stream.state = State::Closed;
        newcomer.stream.handshake = None;
        self.config = newcomer.config.clone();
        let before = mem::replace(&mut self.peer, newcomer.peer.clone());
        match request {
            Request::Open(ident) => {
                self.policy = newcomer.policy;
                if forgotten {
                    self.forget();
                }
                self.grant_session(ident);
                Ok(())
            }
            Request::Resume(request) => {
                // Only CLIENT_IDENT and SERVER_IDENT tell these.
                self.peer.name = before.name;
                self.peer.features = before.features;
                self.peer.lossy = before.lossy;
                self.grant_resumption(request)
            }
        }
    }

    /// The peer forgot the session: nothing of it is left, nor of what was queued for it.
    pub(super) fn forget(&mut self) {
        self.session.close();
        self.session.client_cookie = 0;
        self.session.peer_global_seq = 0;
        self.messages.clear();
    }
}

/// The address that decides races.
fn identity(addrs: &EntityAddrVec) -> EntityAddr {
    let first = || addrs.iter().next().copied();
    addrs.msgr2().or_else(first).unwrap_or_default()
}
