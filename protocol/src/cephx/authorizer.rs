//! [`Authorizer`]: showing a service the ticket that a monitor gave us for it, and that we have the
//! key that is in it.
//!
//! Source: `CephXAuthorizer` and `CephXTicketHandler::build_authorizer` in Ceph's
//! `src/auth/cephx/CephxProtocol.cc`.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use subtle::ConstantTimeEq;

use super::envelope::{self, WrongKey};
use super::step::Step;
use super::ticket::{TicketBlob, bit};
use super::{AUTH_MODE_AUTHORIZER, CryptoKey, Shared, connection_secret, version};
use crate::auth::{AuthError, Prover, Secrets};
use crate::wire::{EntityType, Mode, Reader};

/// An exchange with a service under way.
#[derive(Clone)]
pub(super) struct Authorizer {
    service: EntityType,
    global_id: u64,
    ticket: TicketBlob,
    session_key: CryptoKey,
    /// What the service has to show that it could read.
    nonce: u64,
    step: Step,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer")
            .field("service", &self.service)
            .field("global_id", &self.global_id)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl Authorizer {
    pub(super) fn new(shared: &Arc<Shared>, service: EntityType) -> Result<Self, AuthError> {
        let tickets = shared.tickets();
        let held = tickets.get(service, shared.surroundings.now())?;
        Ok(Self {
            service,
            global_id: tickets.global_id,
            ticket: held.blob.clone(),
            session_key: held.session_key.clone(),
            nonce: shared.random_u64(),
            step: Step::Begun,
        })
    }

    fn authorizer(&self, answer: Option<u64>) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(AUTH_MODE_AUTHORIZER);
        out.put_u64_le(self.global_id);
        out.put_u32_le(bit(self.service));
        self.ticket.encode(&mut out);
        envelope::seal_framed(&self.session_key, &mut out, |plain| {
            plain.put_u8(2);
            plain.put_u64_le(self.nonce);
            plain.put_u8(answer.is_some().into());
            plain.put_u64_le(answer.unwrap_or(0));
        });
        out.freeze()
    }
}

impl Prover for Authorizer {
    fn request(&mut self) -> Result<Bytes, AuthError> {
        self.step.advance(Step::Begun, Step::Requested)?;
        Ok(self.authorizer(None))
    }

    fn more(&mut self, payload: &[u8]) -> Result<Bytes, AuthError> {
        self.step.advance(Step::Requested, Step::Answered)?;
        let opened = envelope::open(&self.session_key, payload);
        let opened = opened.map_err(|WrongKey| AuthError::ForgedReply)?;
        let reader = &mut opened.reader();
        version(reader, "challenge version", 1)?;
        let challenge = reader.u64("challenge")?;
        Ok(self.authorizer(Some(challenge.wrapping_add(1))))
    }

    fn done(&mut self, global_id: u64, mode: Mode, payload: &[u8]) -> Result<Secrets, AuthError> {
        // A service that has not challenged us would have taken a replayed authorizer.
        self.step.advance(Step::Answered, Step::Over)?;
        let sealed = Reader::new(payload).blob("sealed reply")?;
        let opened = envelope::open(&self.session_key, sealed);
        let opened = opened.map_err(|WrongKey| AuthError::ForgedReply)?;
        let reader = &mut opened.reader();
        let version = version(reader, "reply version", 1)?;
        let nonce = reader.u64("nonce")?;
        let read_ours: bool = nonce.ct_eq(&self.nonce.wrapping_add(1)).into();
        if !read_ours || global_id != self.global_id {
            return Err(AuthError::ForgedReply);
        }
        let connection = if version == 1 && mode == Mode::Crc {
            None
        } else {
            connection_secret(reader, mode)?
        };
        Ok(Secrets {
            session_key: Some(self.session_key.session_key()),
            connection,
        })
    }
}
