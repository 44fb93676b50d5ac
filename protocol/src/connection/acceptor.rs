//! The acceptor's side of the handshake.

use super::{Connection, Event, Request, State, decode};
use crate::error::{Cause, PeerMisbehaved};
use crate::wire::{
    ClientIdent, EntityName, Features, Hello, IdentMissingFeatures, ServerIdent, SessionReconnect,
    SessionReconnectOk, SessionReset, Tag, ident_flags,
};

impl Connection {
    pub(super) fn acceptor_frame(
        &mut self,
        tag: Tag,
        payload: &[u8],
    ) -> Result<Option<Event>, Cause> {
        match tag {
            Tag::Hello => {
                let Hello { entity_type, .. } = decode(payload)?;
                self.peer.kind = Some(entity_type);
                self.policy = *self.config.policies.of(entity_type);
                self.stream.state = State::AuthAccepting;
            }
            Tag::AuthRequest => return self.auth_request(&decode(payload)?),
            Tag::AuthRequestMore => return self.auth_request_more(&decode(payload)?),
            Tag::AuthSignature => {
                self.auth_signature(&decode(payload)?)?;
                self.stream.state = if self.stream.offers_compression {
                    State::CompressionAccepting
                } else {
                    State::SessionAccepting
                };
            }
            Tag::CompressionRequest => self.compression_request(&decode(payload)?),
            Tag::ClientIdent => return self.client_ident(decode(payload)?),
            Tag::SessionReconnect => return Ok(self.session_reconnect(decode(payload)?)),
            other => return Err(PeerMisbehaved::UnexpectedFrame(other).into()),
        }
        Ok(None)
    }

    fn client_ident(&mut self, ident: ClientIdent) -> Result<Option<Event>, Cause> {
        let ours = self.our_addrs();
        if !ours.contains(&ident.target) {
            return Err(PeerMisbehaved::WrongTarget {
                target: ident.target,
                ours: Box::new(ours),
            }
            .into());
        }
        let missing = ident.supported.missing(self.config.features.required);
        if missing != Features::default() {
            // The peer may come again with more; it hangs up if it cannot.
            self.control(&IdentMissingFeatures { features: missing });
            return Ok(None);
        }
        self.peer.name = self.peer.kind.map(|kind| EntityName {
            kind,
            num: ident.gid,
        });
        self.peer.addrs = ident.addrs.clone();
        self.peer.features = self.config.features.supported & ident.supported;
        self.peer.lossy = ident.flags & ident_flags::LOSSY != 0;
        // Who would never come back for a session gets none that waits.
        self.policy.lossy |= self.peer.lossy;
        if !self.policy.lossy && ident.cookie == 0 {
            return Err(PeerMisbehaved::NoCookie.into());
        }
        if !self.policy.is_registered() {
            self.grant_session(&ident);
            return Ok(Some(Event::Ready));
        }
        self.stream.request = Some(Request::Open(ident));
        Ok(Some(Event::SessionRequested))
    }

    fn session_reconnect(&mut self, request: SessionReconnect) -> Option<Event> {
        if !self.policy.is_registered() {
            // No session outlives its connection here: the peer must start a new one.
            self.control(&SessionReset { full: true });
            return None;
        }
        self.peer.addrs = request.addrs.clone();
        self.stream.request = Some(Request::Resume(request));
        Some(Event::SessionRequested)
    }

    /// Opens the session that the peer asks for.
    pub(super) fn grant_session(&mut self, ident: &ClientIdent) {
        let opening = self.stream.opening;
        let lossy = self.policy.lossy;
        self.session.client_cookie = ident.cookie;
        self.session.server_cookie = if lossy { 0 } else { opening.cookie };
        self.session.global_seq = opening.global_seq;
        self.session.peer_global_seq = ident.global_seq;
        self.session.connect_seq = 0;
        self.messages.restart();
        self.control(&ServerIdent {
            addrs: self.our_addrs(),
            gid: self.config.name.num,
            global_seq: opening.global_seq,
            supported: self.config.features.supported,
            required: self.config.features.required,
            flags: ident_flags::of(lossy),
            cookie: self.session.server_cookie,
        });
        self.become_ready();
    }

    /// Goes on with the session that the peer asks for.
    pub(super) fn grant_resumption(&mut self, request: &SessionReconnect) -> Result<(), Cause> {
        self.messages.resume(request.msg_seq)?;
        self.session.connect_seq = request.connect_seq;
        self.session.peer_global_seq = request.global_seq;
        let msg_seq = self.messages.in_seq();
        self.control(&SessionReconnectOk { msg_seq });
        self.become_ready();
        Ok(())
    }
}
