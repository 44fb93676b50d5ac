//! [`Login`]: showing a monitor that we have our key, for a session and tickets.
//!
//! Source: `CephxClientHandler` in Ceph's `src/auth/cephx/`.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::envelope::{self, WrongKey};
use super::step::Step;
use super::ticket::{Grant, TicketBlob, bit};
use super::{AUTH_MODE_MON, CryptoKey, GET_AUTH_SESSION_KEY, Shared, connection_secret, version};
use crate::auth::{AuthError, Prover, Secrets};
use crate::wire::{EntityType, Mode, Reader};

/// A login under way.
#[derive(Debug, Clone)]
pub(super) struct Login {
    shared: Arc<Shared>,
    key: CryptoKey,
    /// At a monitor: with what others of its kind gave us, and we keep what it gives us. At a
    /// service that lets us log in, each time is the first.
    at_monitor: bool,
    /// The session key of the ticket that we asked to replace.
    replaced: Option<CryptoKey>,
    step: Step,
}

impl Login {
    pub(super) fn new(shared: Arc<Shared>, to: EntityType) -> Result<Self, AuthError> {
        let key = shared.key.clone().ok_or(AuthError::NoKey)?;
        Ok(Self {
            shared,
            key,
            at_monitor: to == EntityType::Mon,
            replaced: None,
            step: Step::Begun,
        })
    }
}

impl Prover for Login {
    fn request(&mut self) -> Result<Bytes, AuthError> {
        self.step.advance(Step::Begun, Step::Requested)?;
        let mut out = BytesMut::new();
        out.put_u8(AUTH_MODE_MON);
        self.shared.name.encode(&mut out);
        let global_id = if self.at_monitor {
            self.shared.tickets().global_id
        } else {
            0
        };
        out.put_u64_le(global_id);
        Ok(out.freeze())
    }

    fn more(&mut self, payload: &[u8]) -> Result<Bytes, AuthError> {
        self.step.advance(Step::Requested, Step::Answered)?;
        let reader = &mut Reader::new(payload);
        version(reader, "challenge version", 1)?;
        let theirs = reader.u64("server challenge")?;
        let ours = self.shared.random_u64();
        let mut out = BytesMut::new();
        out.put_u16_le(GET_AUTH_SESSION_KEY);
        out.put_u8(3);
        out.put_u64_le(ours);
        out.put_u64_le(envelope::proof(&self.key, theirs, ours));
        let tickets = self.shared.tickets();
        if let Some(own) = tickets.own().filter(|_| self.at_monitor) {
            own.blob.encode(&mut out);
            self.replaced = Some(own.session_key.clone());
        } else {
            TicketBlob::default().encode(&mut out);
        }
        out.put_u32_le(tickets.wanted);
        Ok(out.freeze())
    }

    fn done(&mut self, global_id: u64, mode: Mode, payload: &[u8]) -> Result<Secrets, AuthError> {
        // A monitor that is content without a proof has not seen that we have the key.
        self.step.advance(Step::Answered, Step::Over)?;
        let reader = &mut Reader::new(payload);
        super::expect_request_type(reader)?;
        match reader.i32("result")? {
            0 => {}
            result => return Err(AuthError::Refused(result)),
        }
        let mut grants = Grant::decode_all(reader, &self.key, self.replaced.as_ref())?;
        let session_key = grants
            .iter()
            .find(|grant| grant.service == bit(EntityType::Auth))
            .ok_or(AuthError::NoTicket(EntityType::Auth))?
            .session_key
            .clone();
        let sealed = &mut Reader::new(reader.blob("sealed connection secret")?);
        let opened = envelope::open(&session_key, sealed.blob("sealed connection secret")?);
        let opened = opened.map_err(|WrongKey| AuthError::WrongKey)?;
        let connection = connection_secret(&mut opened.reader(), mode)?;
        let others = reader.blob("other tickets")?;
        if !others.is_empty() {
            let others = Grant::decode_all(&mut Reader::new(others), &session_key, None)?;
            grants.extend(others);
        }
        if self.at_monitor {
            let now = self.shared.surroundings.now();
            let mut tickets = self.shared.tickets();
            tickets.global_id = global_id;
            tickets.keep(grants, now);
        }
        Ok(Secrets {
            session_key: Some(session_key.session_key()),
            connection,
        })
    }
}
