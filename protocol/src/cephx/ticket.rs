//! What a monitor certifies: a [`Ticket`] and a session key, sealed for the service ([`TicketBlob`]),
//! and the same session key, sealed for the one who asked ([`Grant`]).
//!
//! Source: `AuthTicket` in Ceph's `src/auth/Auth.h`; `CephXTicketBlob`, `CephXServiceTicketInfo`,
//! `CephXServiceTicket` and `cephx_build_service_ticket_reply` in `src/auth/cephx/CephxProtocol.*`.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::envelope::{self, WrongKey};
use super::{CryptoKey, version};
use crate::auth::AuthError;
use crate::wire::codec::put_blob;
use crate::wire::{AuthName, EntityType, Malformed, Reader, Timestamp};

/// The most tickets in one reply: there are fewer types of service.
const MAX_GRANTS: usize = 32;
/// What was once the number of a user: `CEPH_AUTH_UID_DEFAULT`.
const NO_UID: u64 = u64::MAX;

/// Who somebody is, by the word of the monitors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) name: AuthName,
    pub(super) global_id: u64,
    pub(super) created: Timestamp,
    pub(super) expires: Timestamp,
    /// What it may do, in the service's own words.
    pub(super) caps: Bytes,
}

impl Ticket {
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(2);
        self.name.encode(out);
        out.put_u64_le(self.global_id);
        out.put_u64_le(NO_UID);
        self.created.encode(out);
        self.expires.encode(out);
        out.put_u8(1);
        out.put_u8(0); // Not allowed everything.
        put_blob(out, &self.caps);
        out.put_u32_le(0); // Flags, of which there are none.
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        version(reader, "ticket version", 2)?;
        let name = AuthName::decode(reader)?;
        let global_id = reader.u64("global id")?;
        reader.u64("user id")?;
        let (created, expires) = (Timestamp::decode(reader)?, Timestamp::decode(reader)?);
        version(reader, "caps version", 1)?;
        reader.u8("allow all")?;
        let caps = Bytes::copy_from_slice(reader.blob("caps")?);
        reader.u32("flags")?;
        Ok(Self {
            name,
            global_id,
            created,
            expires,
            caps,
        })
    }

    /// Seals the ticket and the session key for the service.
    pub(super) fn seal(
        &self,
        session_key: &CryptoKey,
        (secret_id, secret): (u64, &CryptoKey),
    ) -> TicketBlob {
        let mut sealed = BytesMut::new();
        envelope::seal(secret, &mut sealed, |plain| {
            plain.put_u8(1);
            self.encode(&mut **plain);
            session_key.encode(&mut **plain);
        });
        TicketBlob {
            secret_id,
            sealed: sealed.freeze(),
        }
    }
}

/// A sealed ticket and the number of the secret that opens it. Only the service knows what it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TicketBlob {
    pub(super) secret_id: u64,
    sealed: Bytes,
}

impl TicketBlob {
    pub(super) fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(1);
        out.put_u64_le(self.secret_id);
        put_blob(out, &self.sealed);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        version(reader, "ticket blob version", 1)?;
        Ok(Self {
            secret_id: reader.u64("secret id")?,
            sealed: Bytes::copy_from_slice(reader.blob("ticket")?),
        })
    }

    /// The ticket and the session key.
    pub(super) fn open(&self, secret: &CryptoKey) -> Result<(Ticket, CryptoKey), AuthError> {
        let opened = envelope::open(secret, &self.sealed);
        let opened = opened.map_err(|WrongKey| AuthError::ForgedAuthorizer)?;
        let reader = &mut opened.reader();
        version(reader, "service ticket version", 1)?;
        Ok((Ticket::decode(reader)?, CryptoKey::decode(reader)?))
    }
}

/// A ticket for a service, as its owner gets it.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    /// `CEPH_ENTITY_TYPE_*`.
    pub(super) service: u32,
    pub(super) session_key: CryptoKey,
    pub(super) validity: Duration,
    pub(super) blob: TicketBlob,
}

impl Grant {
    /// Appends grants, their session keys sealed with `key`. With the session key of the ticket that
    /// is replaced, the new ticket is sealed, too.
    pub(super) fn encode_all(
        grants: &[Self],
        key: &CryptoKey,
        replaced: Option<&CryptoKey>,
        out: &mut BytesMut,
    ) {
        out.put_u8(1);
        out.put_u32_le(u32::try_from(grants.len()).expect("there are few services"));
        for grant in grants {
            out.put_u32_le(grant.service);
            out.put_u8(1);
            envelope::seal_framed(key, out, |plain| {
                plain.put_u8(1);
                grant.session_key.encode(&mut **plain);
                plain.put_u32_le(u32::try_from(grant.validity.as_secs()).unwrap_or(u32::MAX));
                plain.put_u32_le(grant.validity.subsec_nanos());
            });
            let mut blob = BytesMut::new();
            grant.blob.encode(&mut blob);
            if let Some(replaced) = replaced {
                out.put_u8(1);
                envelope::seal_framed(replaced, out, |plain| put_blob(&mut **plain, &blob));
            } else {
                out.put_u8(0);
                put_blob(out, &blob);
            }
        }
    }

    /// Parses what [`Self::encode_all`] appends.
    pub(super) fn decode_all(
        reader: &mut Reader<'_>,
        key: &CryptoKey,
        replaced: Option<&CryptoKey>,
    ) -> Result<Vec<Self>, AuthError> {
        version(reader, "ticket reply version", 1)?;
        let count = reader.count("tickets", MAX_GRANTS)?;
        (0..count)
            .map(|_| Self::decode(reader, key, replaced))
            .collect()
    }

    fn decode(
        reader: &mut Reader<'_>,
        key: &CryptoKey,
        replaced: Option<&CryptoKey>,
    ) -> Result<Self, AuthError> {
        let open =
            |key, sealed| envelope::open(key, sealed).map_err(|WrongKey| AuthError::WrongKey);
        let service = reader.u32("service")?;
        version(reader, "ticket version", 1)?;
        let opened = open(key, reader.blob("session key")?)?;
        let inner = &mut opened.reader();
        version(inner, "session key version", 1)?;
        let session_key = CryptoKey::decode(inner)?;
        let validity = Timestamp::decode(inner)?;
        let sealed = reader.u8("ticket is encrypted")? != 0;
        let blob = reader.blob("ticket")?;
        let blob = if sealed {
            let opened = open(replaced.ok_or(AuthError::WrongKey)?, blob)?;
            TicketBlob::decode(&mut Reader::new(opened.reader().blob("ticket")?))?
        } else {
            TicketBlob::decode(&mut Reader::new(blob))?
        };
        Ok(Self {
            service,
            session_key,
            validity: Duration::new(validity.sec.into(), validity.nsec),
            blob,
        })
    }
}

/// The bit of a service in a set of wanted tickets.
pub(super) fn bit(service: EntityType) -> u32 {
    u32::from(service as u8)
}
