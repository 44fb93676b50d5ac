//! What must not be seen, nor left in memory: [`SessionKey`] and [`ConnectionSecret`].

use std::fmt;

use zeroize::Zeroizing;

/// The key that signs a handshake.
#[derive(Clone)]
pub struct SessionKey(Zeroizing<Vec<u8>>);

impl SessionKey {
    /// Keeps a copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The key itself.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What the keys of an encrypted connection are made of.
#[derive(Clone)]
pub struct ConnectionSecret(Zeroizing<[u8; Self::LEN]>);

impl ConnectionSecret {
    /// In bytes (Ceph's `AuthConnectionMeta::get_connection_secret_length`).
    pub const LEN: usize = 64;

    /// Keeps a copy of `bytes`; `None` if they are too few or too many.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes
            .try_into()
            .ok()
            .map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// The secret itself.
    pub fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for ConnectionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
