//! The connector's side of the handshake.

use super::{Connection, State, decode};
use crate::auth;
use crate::error::{Cause, PeerIncompatible, PeerMisbehaved};
use crate::wire::{
    AuthBadMethod, AuthDone, AuthRequest, AuthSignature, ClientIdent, EntityAddr, EntityAddrVec,
    EntityName, Features, Hello, IdentMissingFeatures, ServerIdent, Tag, ident_flags,
};

impl Connection {
    pub(super) fn connector_frame(
        &mut self,
        tag: Tag,
        payload: &[u8],
        target: EntityAddr,
    ) -> Result<(), Cause> {
        match tag {
            Tag::Hello => self.hello_from_acceptor(&decode(payload)?),
            Tag::AuthBadMethod => Err(auth_refused(decode(payload)?)),
            Tag::AuthDone => self.auth_done(&decode(payload)?),
            Tag::AuthSignature => self.signature_from_acceptor(&decode(payload)?, target),
            Tag::ServerIdent => self.server_ident(decode(payload)?, target),
            Tag::IdentMissingFeatures => {
                let IdentMissingFeatures { features } = decode(payload)?;
                Err(PeerIncompatible::WeLackFeatures(features).into())
            }
            other => Err(PeerMisbehaved::UnexpectedFrame(other).into()),
        }
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
            self.local.set_ip(seen.ip());
        }
        self.control(&AuthRequest {
            method: auth::METHOD_NONE,
            preferred_modes: vec![auth::MODE_CRC],
            payload: auth::none_request(&self.config, hello.entity_type),
        });
        self.state = State::AuthConnecting;
        Ok(())
    }

    fn auth_done(&mut self, done: &AuthDone) -> Result<(), Cause> {
        if done.con_mode != auth::MODE_CRC {
            return Err(PeerMisbehaved::UnofferedMode(done.con_mode).into());
        }
        self.peer.global_id = done.global_id;
        self.control(&AuthSignature(auth::NO_SIGNATURE));
        self.state = State::SignConnecting;
        Ok(())
    }

    fn signature_from_acceptor(
        &mut self,
        signature: &AuthSignature,
        target: EntityAddr,
    ) -> Result<(), Cause> {
        auth::check_signature(signature)?;
        let mut addrs = self.our_addrs();
        if addrs.is_empty() {
            let mut here = self.local;
            here.set_port(0);
            addrs = EntityAddrVec::from(EntityAddr::any(here, self.config.nonce));
        }
        self.control(&ClientIdent {
            addrs,
            target,
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
        self.state = State::SessionConnecting;
        Ok(())
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
        self.state = State::Ready;
        Ok(())
    }
}

fn auth_refused(refused: AuthBadMethod) -> Cause {
    let AuthBadMethod {
        method,
        result,
        allowed_methods,
        allowed_modes,
    } = refused;
    PeerIncompatible::AuthRefused {
        method,
        result,
        allowed_methods,
        allowed_modes,
    }
    .into()
}
