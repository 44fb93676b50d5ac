//! Authentication as both ends of a stream go through it: which method, which connection mode, and
//! the signatures. What a method says is in [`crate::auth`].

use super::{Connection, Event, Role, State, Stream, payload_error};
use crate::auth::{
    Admitted, AuthError, Prover, Secrets, Signatures, Transcript, Verdict, Verifier, key_log,
    method,
};
use crate::config::Config;
use crate::error::{Cause, PeerIncompatible, PeerMisbehaved};
use crate::frame::Revision;
use crate::peer::Principal;
use crate::wire::{
    AuthBadMethod, AuthDone, AuthReplyMore, AuthRequest, AuthRequestMore, AuthSignature,
    EntityType, Mode, Tag,
};

/// How often a peer may come with what we refuse before we hang up.
const MAX_REFUSED: u32 = 4;

/// What only the time before a connection is authenticated needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Handshake {
    /// `None` once it is signed.
    transcript: Option<Transcript>,
    exchange: Exchange,
    /// Connector: the methods asked for so far, the last one now. Acceptor: the one asked for.
    methods: Vec<u32>,
    /// Acceptor: how often we have refused.
    refused: u32,
    signatures: Option<Signatures>,
}

#[derive(Debug, Clone, Default)]
enum Exchange {
    #[default]
    None,
    Proving(Box<dyn Prover>),
    Verifying(Box<dyn Verifier>, Mode),
}

impl Handshake {
    pub(super) fn new() -> Self {
        Self {
            transcript: Some(Transcript::default()),
            ..Self::default()
        }
    }

    pub(super) fn sent(&mut self, bytes: &[u8]) {
        if let Some(transcript) = &mut self.transcript {
            transcript.sent(bytes);
        }
    }

    pub(super) fn received(&mut self, bytes: &[u8]) {
        if let Some(transcript) = &mut self.transcript {
            transcript.received(bytes);
        }
    }

    fn check_len(&self, limit: u32) -> Result<(), PeerMisbehaved> {
        let bytes = self.transcript.as_ref().map_or(0, Transcript::received_len);
        if bytes > limit as usize {
            return Err(PeerMisbehaved::HandshakeTooLong { bytes, limit });
        }
        Ok(())
    }
}

impl Stream {
    /// What the time before the connection is authenticated needs.
    fn handshake(&mut self) -> &mut Handshake {
        self.handshake.get_or_insert_default()
    }

    /// The modes in which a method can be used, of those that we want: without a key there is
    /// nothing to encrypt with, and msgr2.0 does it in a way that we may not want.
    fn usable(&self, config: &Config, method: u32, peer: EntityType) -> Vec<Mode> {
        let rev0 = self.assembler.layout().revision == Revision::Rev0;
        let encrypts = method != method::NONE && (config.secure_rev0 || !rev0);
        let modes = config.modes.of(peer).iter().copied();
        modes
            .filter(|mode| encrypts || *mode == Mode::Crc)
            .collect()
    }

    pub(super) fn check_handshake(&self, limit: u32) -> Result<(), PeerMisbehaved> {
        self.handshake
            .as_ref()
            .map_or(Ok(()), |handshake| handshake.check_len(limit))
    }
}

/// The connector's side.
impl Connection {
    /// Asks for the next method that we offer, of those that the peer allows. `refused` is why the
    /// one before did not do.
    pub(super) fn request_auth(
        &mut self,
        to: EntityType,
        refused: Option<AuthBadMethod>,
    ) -> Result<(), Cause> {
        let allowed = |method: &u32| {
            let refused = refused.as_ref();
            refused.is_none_or(|refused| refused.allowed_methods.contains(method))
        };
        let mut lacking = AuthError::NothingInCommon;
        for method in self.config.auth.offers(to) {
            let modes = self.stream.usable(&self.config, method, to);
            let handshake = self.stream.handshake();
            if modes.is_empty() || !allowed(&method) || handshake.methods.contains(&method) {
                continue;
            }
            handshake.methods.push(method);
            let begun = self.config.auth.prove(method, to);
            let request = begun.and_then(|mut prover| {
                let payload = prover.request()?;
                handshake.exchange = Exchange::Proving(prover);
                Ok(payload)
            });
            match request {
                Ok(payload) => {
                    self.control(&AuthRequest {
                        method,
                        preferred_modes: modes.into_iter().map(|mode| mode as u32).collect(),
                        payload,
                    });
                    self.stream.state = State::AuthConnecting;
                    return Ok(());
                }
                Err(error) => lacking = error,
            }
        }
        Err(match refused {
            Some(AuthBadMethod {
                method,
                result,
                allowed_methods,
                allowed_modes,
            }) => PeerIncompatible::AuthRefused {
                method,
                result,
                allowed_methods,
                allowed_modes,
            },
            None => PeerIncompatible::CannotAuthenticate(lacking),
        }
        .into())
    }

    pub(super) fn auth_reply_more(&mut self, payload: &AuthReplyMore) -> Result<(), Cause> {
        let answer = self.prover()?.more(&payload.0);
        let answer = answer.map_err(|error| unauthentic(Tag::AuthReplyMore, error))?;
        self.control(&AuthRequestMore(answer));
        Ok(())
    }

    pub(super) fn auth_done(&mut self, done: &AuthDone) -> Result<(), Cause> {
        let unoffered = PeerMisbehaved::UnofferedMode(done.con_mode);
        let asked = self.stream.handshake().methods.last().copied();
        let (Some(asked), Some(peer)) = (asked, self.peer.kind) else {
            return Err(unoffered.into());
        };
        let mode = Mode::from_number(done.con_mode).ok_or(unoffered.clone())?;
        if !self
            .stream
            .usable(&self.config, asked, peer)
            .contains(&mode)
        {
            return Err(unoffered.into());
        }
        let (global_id, payload) = (done.global_id, &done.payload);
        let prover = self.prover()?;
        let secrets = prover.done(global_id, mode, payload);
        let secrets = secrets.map_err(|error| unauthentic(Tag::AuthDone, error))?;
        self.peer.global_id = global_id;
        self.authenticated(mode, &secrets)?;
        self.stream.state = State::SignConnecting;
        Ok(())
    }

    fn prover(&mut self) -> Result<&mut Box<dyn Prover>, Cause> {
        match &mut self.stream.handshake().exchange {
            Exchange::Proving(prover) => Ok(prover),
            Exchange::None | Exchange::Verifying(..) => {
                Err(PeerMisbehaved::UnexpectedFrame(Tag::AuthDone).into())
            }
        }
    }
}

/// The acceptor's side.
impl Connection {
    pub(super) fn auth_request(&mut self, request: &AuthRequest) -> Result<Option<Event>, Cause> {
        self.stream.handshake().methods = vec![request.method];
        let Some(from) = self.peer.kind else {
            return Err(PeerMisbehaved::UnexpectedFrame(Tag::AuthRequest).into());
        };
        let granted = self.stream.usable(&self.config, request.method, from);
        let asked = request.preferred_modes.iter();
        let mut asked = asked.filter_map(|mode| Mode::from_number(*mode));
        let mode = asked.find(|mode| granted.contains(mode));
        let accepted = self.config.auth.accepts(from).contains(&request.method);
        let (Some(mode), true) = (mode, accepted) else {
            return self.refuse_auth(from, AuthError::Method(request.method));
        };
        let begun = self.config.auth.verify(request.method, from);
        let verdict = begun.and_then(|mut verifier| {
            let verdict = verifier.request(&request.payload, mode)?;
            self.stream.handshake().exchange = Exchange::Verifying(verifier, mode);
            Ok(verdict)
        });
        self.judge_peer(from, mode, Tag::AuthRequest, verdict)
    }

    pub(super) fn auth_request_more(
        &mut self,
        payload: &AuthRequestMore,
    ) -> Result<Option<Event>, Cause> {
        match (&mut self.stream.handshake().exchange, self.peer.kind) {
            (Exchange::Verifying(verifier, mode), Some(from)) => {
                let (verdict, mode) = (verifier.more(&payload.0), *mode);
                self.judge_peer(from, mode, Tag::AuthRequestMore, verdict)
            }
            _ => Err(PeerMisbehaved::UnexpectedFrame(Tag::AuthRequestMore).into()),
        }
    }

    fn judge_peer(
        &mut self,
        from: EntityType,
        mode: Mode,
        tag: Tag,
        verdict: Result<Verdict, AuthError>,
    ) -> Result<Option<Event>, Cause> {
        let admitted = match verdict {
            Ok(Verdict::More(payload)) => {
                self.control(&AuthReplyMore(payload));
                self.stream.state = State::AuthAcceptingMore;
                return Ok(None);
            }
            Ok(Verdict::Done(admitted)) => admitted,
            Err(AuthError::Malformed(source)) => return Err(payload_error(tag, source)),
            // Who is told a reason does not come again, and it may.
            Err(error @ AuthError::Busy) => {
                return Err(PeerIncompatible::CannotAuthenticate(error).into());
            }
            Err(error) => return self.refuse_auth(from, error),
        };
        let Admitted {
            global_id,
            name,
            caps,
            payload,
            secrets,
        } = admitted;
        // Who has no id gets one; any unused one will do.
        self.peer.global_id = if global_id == 0 {
            self.stream.opening.global_seq
        } else {
            global_id
        };
        self.peer.principal = name.map(|name| Principal { name, caps });
        self.control(&AuthDone {
            global_id: self.peer.global_id,
            con_mode: mode as u32,
            payload,
        });
        self.authenticated(mode, &secrets)?;
        self.stream.state = State::SignAccepting;
        Ok(None)
    }

    /// Tells the peer what would do; it may come again with that.
    fn refuse_auth(&mut self, from: EntityType, error: AuthError) -> Result<Option<Event>, Cause> {
        let allowed_methods = self.config.auth.accepts(from);
        let modes = self.config.modes.of(from).iter();
        let allowed_modes = modes.map(|mode| *mode as u32).collect();
        let handshake = self.stream.handshake();
        handshake.exchange = Exchange::None;
        handshake.refused += 1;
        if handshake.refused > MAX_REFUSED {
            return Err(PeerMisbehaved::TooManyAuthAttempts(handshake.refused).into());
        }
        let method = handshake.methods.first().copied().unwrap_or_default();
        self.control(&AuthBadMethod {
            method,
            result: -error.errno(),
            allowed_methods,
            allowed_modes,
        });
        self.stream.state = State::AuthAccepting;
        Ok(Some(Event::AuthRefused(Box::new(error))))
    }
}

/// Both sides.
impl Connection {
    /// Signs what was said up to here, and protects what follows by `mode`.
    fn authenticated(&mut self, mode: Mode, secrets: &Secrets) -> Result<(), Cause> {
        let unread = self.stream.reader.unread();
        let handshake = self.stream.handshake();
        let transcript = handshake.transcript.take().unwrap_or_default();
        let signatures = transcript.sign(secrets.session_key.as_ref(), unread);
        let ours = signatures.ours.clone();
        handshake.signatures = Some(signatures);
        handshake.exchange = Exchange::None;
        if let Some(log) = &self.config.key_log {
            let (ours, theirs) = (self.stream.local, self.peer.socket);
            let (connector, acceptor) = match self.stream.role {
                Role::Connector { .. } => (ours, theirs),
                Role::Acceptor => (theirs, ours),
            };
            log.write(&key_log::line(connector, acceptor, mode, secrets));
        }
        if mode == Mode::Secure {
            let secret = secrets.connection.as_ref();
            let secret = secret.ok_or_else(|| unauthentic(Tag::AuthDone, AuthError::NoSecret))?;
            self.stream.secure(secret);
        }
        self.peer.mode = Some(mode);
        self.control(&ours);
        Ok(())
    }

    /// Checks the peer's signature; with it, nothing of the handshake is needed any more.
    pub(super) fn auth_signature(&mut self, theirs: &AuthSignature) -> Result<(), Cause> {
        let signatures = self
            .stream
            .handshake
            .take()
            .and_then(|handshake| handshake.signatures);
        if signatures.is_some_and(|signatures| signatures.matches(theirs)) {
            Ok(())
        } else {
            Err(PeerMisbehaved::WrongSignature.into())
        }
    }
}

fn unauthentic(tag: Tag, error: AuthError) -> Cause {
    match error {
        AuthError::Malformed(source) => payload_error(tag, source),
        AuthError::UnexpectedStep => PeerMisbehaved::UnexpectedFrame(tag).into(),
        error => PeerMisbehaved::Unauthentic(error).into(),
    }
}
