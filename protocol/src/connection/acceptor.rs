//! The acceptor's side of the handshake.

use bytes::Bytes;

use super::{Connection, Role, State, decode};
use crate::auth;
use crate::error::{Cause, PeerMisbehaved};
use crate::wire::{
    AuthBadMethod, AuthDone, AuthRequest, AuthSignature, ClientIdent, EntityName, Features, Hello,
    IdentMissingFeatures, ServerIdent, SessionReconnect, SessionReset, Tag, ident_flags,
};

/// How often a peer may come with a method that we refuse before we hang up.
const MAX_REFUSED_AUTH: u32 = 4;

impl Connection {
    pub(super) fn acceptor_frame(&mut self, tag: Tag, payload: &[u8]) -> Result<(), Cause> {
        match tag {
            Tag::Hello => {
                let Hello { entity_type, .. } = decode(payload)?;
                self.peer.kind = Some(entity_type);
                self.policy = self.config.policies.of(entity_type);
                self.state = State::AuthAccepting;
                Ok(())
            }
            Tag::AuthRequest => self.auth_request(&decode(payload)?),
            Tag::AuthSignature => {
                auth::check_signature(&decode(payload)?)?;
                self.state = State::SessionAccepting;
                Ok(())
            }
            Tag::ClientIdent => self.client_ident(decode(payload)?),
            Tag::SessionReconnect => {
                // No session outlives its connection here: the peer must start a new one.
                let SessionReconnect { .. } = decode(payload)?;
                self.control(&SessionReset { full: true });
                Ok(())
            }
            other => Err(PeerMisbehaved::UnexpectedFrame(other).into()),
        }
    }

    fn auth_request(&mut self, request: &AuthRequest) -> Result<(), Cause> {
        if request.method != auth::METHOD_NONE || !request.preferred_modes.contains(&auth::MODE_CRC)
        {
            return self.refuse_auth(request.method);
        }
        let global_id = auth::none_global_id(&request.payload)?;
        // Only a login at a monitor asks for an id; any unused one will do.
        self.peer.global_id = if global_id == 0 {
            self.global_seq
        } else {
            global_id
        };
        self.control(&AuthDone {
            global_id: self.peer.global_id,
            con_mode: auth::MODE_CRC,
            payload: Bytes::new(),
        });
        self.control(&AuthSignature(auth::NO_SIGNATURE));
        self.state = State::SignAccepting;
        Ok(())
    }

    fn refuse_auth(&mut self, method: u32) -> Result<(), Cause> {
        if let Role::Acceptor { refused_auth } = &mut self.role {
            *refused_auth += 1;
            if *refused_auth > MAX_REFUSED_AUTH {
                return Err(PeerMisbehaved::TooManyAuthAttempts(*refused_auth).into());
            }
        }
        self.control(&AuthBadMethod {
            method,
            result: -auth::EOPNOTSUPP,
            allowed_methods: vec![auth::METHOD_NONE],
            allowed_modes: vec![auth::MODE_CRC],
        });
        Ok(())
    }

    fn client_ident(&mut self, ident: ClientIdent) -> Result<(), Cause> {
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
            return Ok(());
        }
        self.peer.name = self.peer.kind.map(|kind| EntityName {
            kind,
            num: ident.gid,
        });
        self.peer.addrs = ident.addrs;
        self.peer.features = self.config.features.supported & ident.supported;
        self.peer.lossy = ident.flags & ident_flags::LOSSY != 0;
        self.control(&ServerIdent {
            addrs: ours,
            gid: self.config.name.num,
            global_seq: self.global_seq,
            supported: self.config.features.supported,
            required: self.config.features.required,
            flags: if self.policy.lossy {
                ident_flags::LOSSY
            } else {
                0
            },
            cookie: 0,
        });
        self.state = State::Ready;
        Ok(())
    }
}
