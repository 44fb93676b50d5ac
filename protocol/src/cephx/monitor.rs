//! [`LoginCheck`]: the monitor's half of a login, for who has a keyring.
//!
//! Source: `CephxServiceHandler` in Ceph's `src/auth/cephx/`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use subtle::ConstantTimeEq;

use super::envelope;
use super::ticket::{Grant, Ticket, TicketBlob, bit};
use super::{AUTH_MODE_MON, CryptoKey, GET_AUTH_SESSION_KEY, Shared, version};
use crate::auth::{Admitted, AuthError, Secrets, Verdict};
use crate::wire::codec::put_blob;
use crate::wire::{AuthName, EntityType, Malformed, Mode, Reader, Timestamp};

/// How long a login is remembered: Ceph's `auth_mon_ticket_ttl`.
const LOGIN_VALIDITY: Duration = Duration::from_secs(72 * 3600);
/// How long a ticket for a service is good: Ceph's `auth_service_ticket_ttl`.
const SERVICE_VALIDITY: Duration = Duration::from_secs(3600);
/// The services that tickets can be had for.
const SERVICES: [EntityType; 4] = [
    EntityType::Mon,
    EntityType::Mds,
    EntityType::Osd,
    EntityType::Mgr,
];

/// A login that has been challenged.
#[derive(Clone)]
pub(super) struct LoginCheck {
    shared: Arc<Shared>,
    mode: Mode,
    name: AuthName,
    /// The global id that it had, if it can prove it; 0 for none.
    claimed: u64,
    challenge: u64,
}

impl fmt::Debug for LoginCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginCheck")
            .field("name", &self.name)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl LoginCheck {
    /// Challenges whoever it is. That a name is unknown is told only with the verdict, as a wrong key is.
    pub(super) fn challenge(
        shared: Arc<Shared>,
        from: EntityType,
        mode: Mode,
        payload: &[u8],
    ) -> Result<(Self, Bytes), AuthError> {
        let reader = &mut Reader::new(payload);
        match reader.u8("auth mode")? {
            AUTH_MODE_MON => {}
            mode => {
                return Err(AuthError::Malformed(Malformed::UnknownValue {
                    what: "auth mode",
                    value: mode.into(),
                }));
            }
        }
        let name = AuthName::decode(reader)?;
        let claimed = reader.u64("global id")?;
        if name.kind != from {
            return Err(AuthError::WrongType {
                announced: from,
                proven: name,
            });
        }
        let challenge = shared.random_u64();
        let mut out = BytesMut::new();
        out.put_u8(1);
        out.put_u64_le(challenge);
        let check = Self {
            shared,
            mode,
            name,
            claimed,
            challenge,
        };
        Ok((check, out.freeze()))
    }

    /// Checks the proof; grants a session and tickets.
    pub(super) fn answer(&self, payload: &[u8]) -> Result<Verdict, AuthError> {
        let reader = &mut Reader::new(payload);
        super::expect_request_type(reader)?;
        let version = version(reader, "login version", 1)?;
        let client_challenge = reader.u64("client challenge")?;
        let proof = reader.u64("proof")?;
        let old = TicketBlob::decode(reader)?;
        // The first version wanted nothing else.
        let wanted = if version < 2 {
            0
        } else {
            reader.u32("wanted tickets")?
        };

        let key = self.shared.key_of(&self.name)?;
        let expected = envelope::proof(&key, self.challenge, client_challenge);
        if !bool::from(proof.ct_eq(&expected)) {
            return Err(AuthError::WrongKey);
        }
        let now = self.shared.surroundings.now();
        let replaced = self.reclaim(&old, now);
        let global_id = match &replaced {
            Some((global_id, _)) => *global_id,
            None => self.shared.new_global_id(),
        };
        let replaced = replaced.map(|(_, session_key)| session_key);

        let login = self
            .grant(EntityType::Auth, LOGIN_VALIDITY, global_id, now)
            .ok_or(AuthError::Busy)?;
        let session_key = login.session_key.clone();
        let connection = self.shared.new_connection_secret(self.mode);
        let mut out = BytesMut::new();
        out.put_u16_le(GET_AUTH_SESSION_KEY);
        out.put_i32_le(0);
        Grant::encode_all(&[login], &key, replaced.as_ref(), &mut out);
        let mut part = BytesMut::new();
        envelope::seal_framed(&session_key, &mut part, |plain| {
            super::put_connection_secret(plain, connection.as_ref());
        });
        put_blob(&mut out, &part);
        let others: Vec<_> = SERVICES
            .into_iter()
            .filter(|service| wanted & bit(*service) != 0)
            .filter_map(|service| self.grant(service, SERVICE_VALIDITY, global_id, now))
            .collect();
        part.clear();
        Grant::encode_all(&others, &session_key, None, &mut part);
        put_blob(&mut out, &part);
        Ok(Verdict::Done(Admitted {
            global_id,
            name: Some(self.name.clone()),
            caps: Bytes::new(),
            payload: out.freeze(),
            secrets: Secrets {
                session_key: Some(session_key.session_key()),
                connection,
            },
        }))
    }

    /// The global id of a ticket that proves it, and the ticket's session key. Who cannot prove
    /// what it claims gets a new one: nobody can take over another's.
    fn reclaim(&self, old: &TicketBlob, now: Timestamp) -> Option<(u64, CryptoKey)> {
        let kind = bit(EntityType::Auth);
        let secret = self.shared.service_secret(kind, old.secret_id).ok()?;
        let (ticket, session_key) = old.open(&secret).ok()?;
        let proves = ticket.name == self.name && ticket.global_id == self.claimed;
        (proves && now < ticket.expires).then_some((ticket.global_id, session_key))
    }

    /// A new ticket, if there is a secret to make it with.
    fn grant(
        &self,
        service: EntityType,
        validity: Duration,
        global_id: u64,
        now: Timestamp,
    ) -> Option<Grant> {
        let secrets = self.shared.secrets();
        let secret = secrets.get(&service)?.latest(now)?;
        let session_key = CryptoKey::generate(&*self.shared.surroundings);
        let ticket = Ticket {
            name: self.name.clone(),
            global_id,
            created: now,
            expires: now.saturating_add(validity),
            caps: Bytes::new(),
        };
        Some(Grant {
            service: bit(service),
            validity,
            blob: ticket.seal(&session_key, secret),
            session_key,
        })
    }
}
