//! [`Nonce`]: counts the records of one direction, and never gives the same nonce twice.

use msgr_gcm::NONCE_LEN;
use zeroize::Zeroize;

use super::Revision;

/// The nonces of one direction, in order.
#[derive(Clone)]
pub(super) struct Nonce {
    revision: Revision,
    first: [u8; NONCE_LEN],
    /// How many were given out.
    used: u64,
}

impl Nonce {
    pub(super) fn new(revision: Revision, first: [u8; NONCE_LEN]) -> Self {
        let used = 0;
        Self {
            revision,
            first,
            used,
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Passes over some.
    #[cfg(test)]
    pub(super) fn skip(&mut self, nonces: u64) {
        self.used += nonces;
    }

    /// How many are left.
    pub(super) fn left(&self) -> u64 {
        match self.revision {
            Revision::Rev0 => (1 << 32) - self.used,
            // One of the 2^64 stays unused.
            Revision::Rev1 => u64::MAX - self.used,
        }
    }

    /// The next one; `None` if it would be the first again.
    pub(super) fn next(&mut self) -> Option<[u8; NONCE_LEN]> {
        if self.left() == 0 {
            return None;
        }
        let mut nonce = self.first;
        match self.revision {
            Revision::Rev0 => {
                let counter = nonce.first_chunk_mut().expect("12 bytes");
                let first = u32::from_le_bytes(*counter);
                *counter = first.wrapping_add(self.used as u32).to_le_bytes();
            }
            Revision::Rev1 => {
                let counter = nonce.last_chunk_mut().expect("12 bytes");
                let first = u64::from_le_bytes(*counter);
                *counter = first.wrapping_add(self.used).to_le_bytes();
            }
        }
        self.used += 1;
        Some(nonce)
    }
}

impl Drop for Nonce {
    fn drop(&mut self) {
        self.first.zeroize();
    }
}
