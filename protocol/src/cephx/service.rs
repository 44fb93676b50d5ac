//! [`AuthorizerCheck`]: a service looks at the ticket that somebody shows it.
//!
//! Source: `cephx_verify_authorizer` in Ceph's `src/auth/cephx/CephxProtocol.cc`. We also look
//! whether the ticket has expired, whose type it names, and whether both steps show the same one.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use subtle::ConstantTimeEq;

use super::envelope::{self, WrongKey};
use super::ticket::{Ticket, TicketBlob};
use super::{AUTH_MODE_AUTHORIZER, CryptoKey, Shared, version};
use crate::auth::{Admitted, AuthError, Secrets, Verdict};
use crate::wire::{EntityType, Malformed, Mode, Reader};

/// An authorizer that has been challenged.
#[derive(Clone)]
pub(super) struct AuthorizerCheck {
    shared: Arc<Shared>,
    from: EntityType,
    mode: Mode,
    challenge: u64,
    shown: TicketBlob,
}

impl fmt::Debug for AuthorizerCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizerCheck")
            .field("from", &self.from)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl AuthorizerCheck {
    /// Looks at the first authorizer. Whatever it says, it might be a copy of somebody else's: the
    /// answer is a challenge that only who has the ticket's key can read.
    pub(super) fn challenge(
        shared: Arc<Shared>,
        from: EntityType,
        mode: Mode,
        payload: &[u8],
    ) -> Result<(Self, Bytes), AuthError> {
        let authorizer = Authorizer::open(&shared, from, payload)?;
        let challenge = shared.random_u64();
        let mut out = BytesMut::new();
        envelope::seal(&authorizer.session_key, &mut out, |plain| {
            plain.put_u8(1);
            plain.put_u64_le(challenge);
        });
        let check = Self {
            shared,
            from,
            mode,
            challenge,
            shown: authorizer.blob,
        };
        Ok((check, out.freeze()))
    }

    /// Looks at the second authorizer, which has to answer the challenge.
    pub(super) fn answer(&self, payload: &[u8]) -> Result<Verdict, AuthError> {
        let authorizer = Authorizer::open(&self.shared, self.from, payload)?;
        if authorizer.blob != self.shown {
            return Err(AuthError::Replayed);
        }
        let expected = self.challenge.wrapping_add(1);
        let answered = authorizer.answer.unwrap_or(!expected).ct_eq(&expected);
        if !bool::from(answered) {
            return Err(AuthError::Replayed);
        }
        let connection = self.shared.new_connection_secret(self.mode);
        let mut out = BytesMut::new();
        envelope::seal_framed(&authorizer.session_key, &mut out, |plain| {
            plain.put_u8(2);
            plain.put_u64_le(authorizer.nonce.wrapping_add(1));
            super::put_connection_secret(plain, connection.as_ref());
        });
        Ok(Verdict::Done(Admitted {
            global_id: authorizer.ticket.global_id,
            name: Some(authorizer.ticket.name),
            caps: authorizer.ticket.caps,
            payload: out.freeze(),
            secrets: Secrets {
                session_key: Some(authorizer.session_key.session_key()),
                connection,
            },
        }))
    }
}

/// What an authorizer says, whose ticket is genuine.
struct Authorizer {
    blob: TicketBlob,
    ticket: Ticket,
    session_key: CryptoKey,
    nonce: u64,
    answer: Option<u64>,
}

impl Authorizer {
    fn open(shared: &Shared, from: EntityType, payload: &[u8]) -> Result<Self, AuthError> {
        let reader = &mut Reader::new(payload);
        match reader.u8("auth mode")? {
            AUTH_MODE_AUTHORIZER => {}
            mode => {
                return Err(AuthError::Malformed(Malformed::UnknownValue {
                    what: "auth mode",
                    value: mode.into(),
                }));
            }
        }
        let global_id = reader.u64("global id")?;
        let service = reader.u32("service")?;
        let blob = TicketBlob::decode(reader)?;
        let sealed = reader.blob("sealed authorizer")?;

        let secret = shared.service_secret(service, blob.secret_id)?;
        // Nobody is told how far what he has altered could be read: answers to that, one after the
        // other, would add up to the session key (a padding oracle).
        let (ticket, session_key) = blob
            .open(&secret)
            .map_err(|_| AuthError::ForgedAuthorizer)?;
        let opened = envelope::open(&session_key, sealed);
        let opened = opened.map_err(|WrongKey| AuthError::ForgedAuthorizer)?;
        let (nonce, answer) = read_authorizer(&mut opened.reader())
            .map_err(|_: Malformed| AuthError::ForgedAuthorizer)?;
        if ticket.global_id != global_id {
            return Err(AuthError::ForgedAuthorizer);
        }
        if ticket.expires <= shared.surroundings.now() {
            return Err(AuthError::TicketExpired);
        }
        if ticket.name.kind != from {
            return Err(AuthError::WrongType {
                announced: from,
                proven: ticket.name,
            });
        }
        Ok(Self {
            blob,
            ticket,
            session_key,
            nonce,
            answer,
        })
    }
}

/// The nonce, and the answer to a challenge if there is one.
fn read_authorizer(reader: &mut Reader<'_>) -> Result<(u64, Option<u64>), Malformed> {
    version(reader, "authorizer version", 2)?;
    let nonce = reader.u64("nonce")?;
    let answers = reader.u8("have challenge")? != 0;
    let answer = reader.u64("answer")?;
    Ok((nonce, answers.then_some(answer)))
}
