//! [`Transcript`]: everything that both ends have said until they are authenticated, which each then
//! signs, so that nobody can have changed it on its way.
//!
//! Source: msgr2 specification, `AUTH_SIGNATURE`; `pre_auth.txbuf` and `rxbuf` in Ceph's
//! `src/msg/async/ProtocolV2.cc`.

use std::fmt;

use bytes::{BufMut, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::SessionKey;
use crate::wire::AuthSignature;

/// What was said so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transcript {
    sent: BytesMut,
    received: BytesMut,
}

impl Transcript {
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        self.sent.put_slice(bytes);
    }

    pub(crate) fn received(&mut self, bytes: &[u8]) {
        self.received.put_slice(bytes);
    }

    /// Bytes received so far.
    pub(crate) fn received_len(&self) -> usize {
        self.received.len()
    }

    /// Signs it, but for the last `unread` bytes received, which belong to what follows.
    pub(crate) fn sign(self, key: Option<&SessionKey>, unread: usize) -> Signatures {
        let received = &self.received[..self.received.len().saturating_sub(unread)];
        Signatures {
            ours: AuthSignature(sign(key, received)),
            theirs: sign(key, &self.sent),
        }
    }
}

/// The signatures over a transcript: each end signs what it has received.
#[derive(Clone)]
pub(crate) struct Signatures {
    /// To be sent.
    pub(crate) ours: AuthSignature,
    /// To be expected.
    theirs: [u8; 32],
}

impl fmt::Debug for Signatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Signatures {
    /// Whether the peer has received what we sent, and knows the key. Takes the same time wherever
    /// the difference is.
    pub(crate) fn matches(&self, received: &AuthSignature) -> bool {
        self.theirs.ct_eq(&received.0).into()
    }
}

/// HMAC-SHA256; all zeros where there is no key.
fn sign(key: Option<&SessionKey>, bytes: &[u8]) -> [u8; 32] {
    key.map_or([0; 32], |key| {
        let mac = Hmac::<Sha256>::new_from_slice(key.bytes());
        let mut mac = mac.expect("HMAC takes a key of any length");
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    })
}
