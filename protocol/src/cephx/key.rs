//! [`CryptoKey`]: a shared secret with its type, as keyrings and tickets carry it.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut;
use zeroize::Zeroizing;

use crate::auth::{AuthError, SessionKey, Surroundings};
use crate::wire::{Malformed, Reader, Timestamp};

/// `CEPH_CRYPTO_AES`: AES-128, the only type there is up to Ceph 20.1.
const AES: u16 = 1;
/// The length of such a key, in bytes.
pub(super) const KEY_LEN: usize = 16;
/// The length of a key with its type and times, in bytes.
const ENCODED_LEN: usize = 12 + KEY_LEN;

/// An AES-128 key. Debug output does not show it, and its memory is cleared when it is dropped.
///
/// Its text form is base64 of type (LE16), time of creation (LE32 seconds, LE32 nanoseconds), length
/// (LE16) and secret: `CryptoKey` in Ceph's `src/auth/Crypto.h`.
#[derive(Clone)]
pub struct CryptoKey {
    created: Timestamp,
    secret: Zeroizing<[u8; KEY_LEN]>,
}

impl CryptoKey {
    /// A key of these bytes.
    pub fn new(secret: &[u8; KEY_LEN], created: Timestamp) -> Self {
        Self {
            created,
            secret: Zeroizing::new(*secret),
        }
    }

    /// A new key.
    pub fn generate(surroundings: &dyn Surroundings) -> Self {
        let mut secret = Zeroizing::new([0; KEY_LEN]);
        surroundings.fill_random(&mut *secret);
        Self {
            created: surroundings.now(),
            secret,
        }
    }

    /// The text form, for a keyring.
    pub fn to_base64(&self) -> Zeroizing<String> {
        let mut wire = Zeroizing::new([0; ENCODED_LEN]);
        let mut rest = &mut wire[..];
        self.encode(&mut rest);
        Zeroizing::new(STANDARD.encode(*wire))
    }

    /// The bare bytes.
    pub(super) fn secret(&self) -> &[u8; KEY_LEN] {
        &self.secret
    }

    /// What signs and encrypts a session that this key was made for.
    pub(super) fn session_key(&self) -> SessionKey {
        SessionKey::new(&*self.secret)
    }

    /// Appends type, time of creation, length and secret.
    pub(super) fn encode(&self, out: &mut impl BufMut) {
        out.put_u16_le(AES);
        out.put_u32_le(self.created.sec);
        out.put_u32_le(self.created.nsec);
        out.put_u16_le(KEY_LEN as u16);
        out.put_slice(&*self.secret);
    }

    /// Parses a key.
    ///
    /// # Errors
    /// [`AuthError::Malformed`] or [`AuthError::UnsupportedKeyType`].
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, AuthError> {
        const LENGTH: &str = "key length";
        let kind = reader.u16("key type")?;
        let created = Timestamp::decode(reader)?;
        let len = reader.u16(LENGTH)?;
        if kind != AES {
            return Err(AuthError::UnsupportedKeyType(kind));
        }
        let secret = reader.bytes("key", len.into())?;
        let secret = secret.try_into().map_err(|_| Malformed::UnknownValue {
            what: LENGTH,
            value: len.into(),
        })?;
        Ok(Self::new(secret, created))
    }
}

/// Parses the text form.
impl FromStr for CryptoKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let bytes = STANDARD
            .decode(text)
            .map_err(|_| ParseKeyError::NotBase64)?;
        let bytes = Zeroizing::new(bytes);
        let reader = &mut Reader::new(&bytes);
        match Self::decode(reader) {
            Ok(key) if reader.rest().is_empty() => Ok(key),
            Err(AuthError::UnsupportedKeyType(kind)) => Err(ParseKeyError::UnsupportedType(kind)),
            Ok(_) | Err(_) => Err(ParseKeyError::NotAKey),
        }
    }
}

impl fmt::Debug for CryptoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A text is not a key. What the text was is not told: it may be most of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseKeyError {
    /// Base64 is how keys are written.
    #[error("a key is written in base64")]
    NotBase64,
    /// The bytes are fewer or more than the key's type has.
    #[error("not a key, or not the whole of one")]
    NotAKey,
    /// Only type 1 (AES-128) is supported.
    #[error("key type {0} is not supported")]
    UnsupportedType(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "AQA4CwFrLILmIBAAM2WcZrp2Dpfv7a3K55w4Og==";

    #[test]
    fn text_form() {
        let key: CryptoKey = TEXT.parse().unwrap();
        assert_eq!(
            (key.created.sec, key.created.nsec),
            (0x6b01_0b38, 0x20e6_822c)
        );
        assert_eq!(key.secret[..4], [0x33, 0x65, 0x9c, 0x66]);
        assert_eq!(*key.to_base64(), TEXT);
        assert_eq!(format!("{key:?}"), "[secret]");
    }

    #[test]
    fn what_is_not_a_key() {
        let error = |text: &str| text.parse::<CryptoKey>().unwrap_err();
        assert_eq!(error("AQA4!"), ParseKeyError::NotBase64);
        assert_eq!(error(""), ParseKeyError::NotAKey);
        assert_eq!(error(&TEXT[..36]), ParseKeyError::NotAKey);
        let mut bytes = STANDARD.decode(TEXT).unwrap();
        bytes[0] = 2;
        assert_eq!(
            error(&STANDARD.encode(&bytes)),
            ParseKeyError::UnsupportedType(2)
        );
        bytes[0] = 1;
        bytes.push(0);
        assert_eq!(error(&STANDARD.encode(&bytes)), ParseKeyError::NotAKey);
        bytes.pop();
        bytes[10] = 15;
        assert_eq!(error(&STANDARD.encode(&bytes)), ParseKeyError::NotAKey);
    }
}
