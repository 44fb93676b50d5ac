//! Authentication method `none`: both ends say who they are, and nobody checks.
//!
//! Source: `AuthNoneClientHandler` and `AuthNoneAuthorizer` in Ceph's `src/auth/none/`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::config::Config;
use crate::error::{Cause, Malformed, PeerMisbehaved};
use crate::wire::{AuthName, AuthSignature, EntityType, Reader, Tag};

/// `CEPH_AUTH_NONE`.
pub(crate) const METHOD_NONE: u32 = 1;
/// `CEPH_CON_MODE_CRC`: checksums, no encryption.
pub(crate) const MODE_CRC: u32 = 1;
/// Linux's errno for "operation not supported", whatever the host's is.
pub(crate) const EOPNOTSUPP: i32 = 95;
/// The signature where there is no session key.
pub(crate) const NO_SIGNATURE: [u8; 32] = [0; 32];

/// First byte of the payload: a login at a monitor (`AUTH_MODE_MON`).
const LOGIN: u8 = 10;
/// First byte of the payload: an authorizer for a service (`AUTH_MODE_AUTHORIZER`).
const AUTHORIZER: u8 = 1;

/// The payload of a request to a peer of type `to`.
pub(crate) fn none_request(config: &Config, to: EntityType) -> Bytes {
    let mut payload = BytesMut::new();
    payload.put_u8(if to == EntityType::Mon {
        LOGIN
    } else {
        AUTHORIZER
    });
    config.auth_name.encode(&mut payload);
    payload.put_u64_le(config.global_id);
    payload.freeze()
}

/// The global id that a request claims; 0 asks for a new one. An empty request claims nothing.
pub(crate) fn none_global_id(payload: &[u8]) -> Result<u64, Cause> {
    if payload.is_empty() {
        return Ok(0);
    }
    let mut reader = Reader::new(payload);
    let parsed = (|| {
        reader.u8("auth mode")?;
        AuthName::decode(&mut reader)?;
        reader.u64("global id")
    })();
    parsed.map_err(|source| {
        Malformed::Payload {
            tag: Tag::AuthRequest,
            source,
        }
        .into()
    })
}

/// Without a session key a signature is all zeros.
pub(crate) fn check_signature(signature: &AuthSignature) -> Result<(), Cause> {
    if signature.0 == NO_SIGNATURE {
        Ok(())
    } else {
        Err(PeerMisbehaved::WrongSignature.into())
    }
}
