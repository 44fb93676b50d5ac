//! The connector's side of the handshake.

use super::{Connection, Event, State, decode};
use crate::error::{Cause, PeerIncompatible, PeerMisbehaved};
use crate::wire::{
    ClientIdent, EntityAddr, EntityName, Features, Hello, IdentMissingFeatures, ServerIdent,
    SessionReconnect, SessionReconnectOk, SessionReset, SessionRetry, SessionRetryGlobal, Tag,
    ident_flags,
};

impl Connection {
    pub(super) fn connector_frame(
        &mut self,
        tag: Tag,
        payload: &[u8],
        target: EntityAddr,
    ) -> Result<Option<Event>, Cause> {
        match tag {
            Tag::Hello => self.hello_from_acceptor(&decode(payload)?)?,
            Tag::AuthBadMethod => {
                let kind = self.peer.kind.unwrap_or(self.config.name.kind);
                self.request_auth(kind, Some(decode(payload)?))?;
            }
            Tag::AuthReplyMore => self.auth_reply_more(&decode(payload)?)?,
            Tag::AuthDone => self.auth_done(&decode(payload)?)?,
            Tag::AuthSignature => {
                self.auth_signature(&decode(payload)?)?;
                if self.stream.offers_compression {
                    self.request_compression();
                } else {
                    self.ask_for_session(target);
                }
            }
            Tag::CompressionDone => {
                self.compression_done(decode(payload)?)?;
                self.ask_for_session(target);
            }
            Tag::ServerIdent => {
                self.server_ident(decode(payload)?, target)?;
                return Ok(Some(Event::Ready));
            }
            Tag::IdentMissingFeatures => {
                let IdentMissingFeatures { features } = decode(payload)?;
                return Err(PeerIncompatible::WeLackFeatures(features).into());
            }
            Tag::SessionReconnectOk => {
                let SessionReconnectOk { msg_seq } = decode(payload)?;
                self.messages.resume(msg_seq)?;
                self.become_ready();
                return Ok(Some(Event::Ready));
            }
            Tag::SessionRetry => {
                let SessionRetry { connect_seq } = decode(payload)?;
                check_sequence(connect_seq)?;
                self.session.connect_seq = connect_seq.saturating_add(1);
                self.resume_session();
            }
            Tag::SessionRetryGlobal => {
                let SessionRetryGlobal { global_seq } = decode(payload)?;
                check_sequence(global_seq)?;
                return Ok(Some(Event::RetryGlobal { above: global_seq }));
            }
            Tag::SessionReset => {
                let SessionReset { full } = decode(payload)?;
                self.session.close();
                if full {
                    self.forget();
                }
                self.open_session(target);
                return Ok(full.then_some(Event::RemoteReset));
            }
            Tag::Wait => {
                self.stream.state = State::Wait;
                return Ok(Some(Event::Wait));
            }
            other => return Err(PeerMisbehaved::UnexpectedFrame(other).into()),
        }
        Ok(None)
    }

    fn hello_from_acceptor(&mut self, hello: &Hello) -> Result<(), Cause> {
        if let Some(dialled) = self.peer.kind
            && dialled != hello.entity_type
        {
            let answered = hello.entity_type;
            return Err(PeerIncompatible::WrongEntityType { dialled, answered }.into());
        }
        // The peer sees us where we really are, also behind an address translator.
        if let Some(seen) = hello.peer_addr.socket {
            self.stream.local.set_ip(seen.ip());
        }
        self.request_auth(hello.entity_type, None)
    }

    fn ask_for_session(&mut self, target: EntityAddr) {
        if self.session.is_open() {
            self.resume_session();
        } else {
            self.open_session(target);
        }
    }

    fn open_session(&mut self, target: EntityAddr) {
        if !self.policy.lossy && self.session.client_cookie == 0 {
            self.session.client_cookie = self.stream.opening.cookie;
        }
        self.messages.restart();
        self.control(&ClientIdent {
            addrs: self.our_addrs(),
            target,
            gid: self.config.name.num,
            global_seq: self.session.global_seq,
            supported: self.config.features.supported,
            required: self.config.features.required,
            flags: ident_flags::of(self.policy.lossy),
            cookie: self.session.client_cookie,
        });
        self.stream.state = State::SessionConnecting;
    }

    fn resume_session(&mut self) {
        self.control(&SessionReconnect {
            addrs: self.our_addrs(),
            client_cookie: self.session.client_cookie,
            server_cookie: self.session.server_cookie,
            global_seq: self.session.global_seq,
            connect_seq: self.session.connect_seq,
            msg_seq: self.messages.in_seq(),
        });
        self.stream.state = State::SessionReconnecting;
    }

    /// Asks for the session again, after [`Event::RetryGlobal`].
    pub fn retry(&mut self, global_seq: u64) {
        if self.stream.state == State::SessionReconnecting {
            self.session.global_seq = global_seq;
            self.resume_session();
        }
    }

    fn server_ident(&mut self, ident: ServerIdent, target: EntityAddr) -> Result<(), Cause> {
        if !ident.addrs.contains(&target) {
            return Err(PeerMisbehaved::WrongIdentity {
                target,
                theirs: Box::new(ident.addrs),
            }
            .into());
        }
        let missing = ident.supported.missing(self.config.features.required);
        if missing != Features::default() {
            return Err(PeerIncompatible::PeerLacksFeatures(missing).into());
        }
        let missing = self.config.features.supported.missing(ident.required);
        if missing != Features::default() {
            return Err(PeerIncompatible::WeLackFeatures(missing).into());
        }
        self.peer.name = self.peer.kind.map(|kind| EntityName {
            kind,
            num: ident.gid,
        });
        self.peer.addrs = ident.addrs;
        self.peer.features = self.config.features.supported & ident.supported;
        self.peer.lossy = ident.flags & ident_flags::LOSSY != 0;
        // The server knows better whether it will remember us.
        self.policy.lossy |= self.peer.lossy;
        if !self.policy.lossy && ident.cookie == 0 {
            return Err(PeerMisbehaved::NoCookie.into());
        }
        self.session.server_cookie = if self.policy.lossy { 0 } else { ident.cookie };
        self.session.peer_global_seq = ident.global_seq;
        self.become_ready();
        Ok(())
    }
}

/// What a peer makes us count on from must not bring our counters to their end.
fn check_sequence(above: u64) -> Result<(), PeerMisbehaved> {
    if above < 1 << 63 {
        Ok(())
    } else {
        Err(PeerMisbehaved::SequenceExhausted(above))
    }
}
