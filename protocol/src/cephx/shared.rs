//! [`Shared`]: what all exchanges of a messenger have in common.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::tickets::Tickets;
use super::{CryptoKey, Keyring, RotatingSecrets};
use crate::auth::{AuthError, ConnectionSecret, Surroundings};
use crate::wire::{AuthName, EntityType, Mode, Timestamp};

/// The number of the secret for our own logins.
const FIRST_SECRET: u64 = 1;
/// Never, as far as timestamps go.
const NEVER: Timestamp = Timestamp {
    sec: u32::MAX,
    nsec: 0,
};

/// What one messenger knows. The locks are held for as long as it takes to look.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) surroundings: Arc<dyn Surroundings>,
    pub(super) name: AuthName,
    pub(super) key: Option<CryptoKey>,
    tickets: Mutex<Tickets>,
    keyring: Mutex<Option<Keyring>>,
    secrets: Mutex<HashMap<EntityType, RotatingSecrets>>,
}

impl Shared {
    pub(super) fn new(
        name: AuthName,
        key: Option<CryptoKey>,
        surroundings: Arc<dyn Surroundings>,
    ) -> Self {
        Self {
            surroundings,
            name,
            key,
            tickets: Mutex::default(),
            keyring: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    pub(super) fn tickets(&self) -> MutexGuard<'_, Tickets> {
        lock(&self.tickets)
    }

    pub(super) fn secrets(&self) -> MutexGuard<'_, HashMap<EntityType, RotatingSecrets>> {
        lock(&self.secrets)
    }

    /// Logins need a secret for the tickets by which they are known again. It is made up here, unless it
    /// is given: nobody else opens them.
    pub(super) fn set_keyring(&self, keyring: Keyring) {
        *lock(&self.keyring) = Some(keyring);
        self.secrets().entry(EntityType::Auth).or_insert_with(|| {
            let mut secrets = RotatingSecrets::default();
            let secret = CryptoKey::generate(&*self.surroundings);
            secrets.insert(FIRST_SECRET, secret, NEVER);
            secrets
        });
    }

    pub(super) fn serves_logins(&self) -> bool {
        lock(&self.keyring).is_some()
    }

    pub(super) fn key_of(&self, name: &AuthName) -> Result<CryptoKey, AuthError> {
        let keyring = lock(&self.keyring);
        let key = keyring.as_ref().and_then(|keyring| keyring.get(name));
        key.cloned()
            .ok_or_else(|| AuthError::UnknownName(name.clone()))
    }

    /// The secret that a ticket for `service` was sealed with.
    pub(super) fn service_secret(&self, service: u32, id: u64) -> Result<CryptoKey, AuthError> {
        let secrets = self.secrets();
        let secrets = EntityType::from_number(service.into())
            .ok()
            .and_then(|service| secrets.get(&service))
            .ok_or(AuthError::WrongService(service))?;
        if secrets.is_empty() {
            return Err(AuthError::Busy);
        }
        let secret = secrets.get(id, self.surroundings.now());
        secret.cloned().ok_or(AuthError::NoSuchSecret(id))
    }

    pub(super) fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.surroundings.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// An id that nobody has: a random one, positive also as a signed number, as messengers carry it.
    pub(super) fn new_global_id(&self) -> u64 {
        (self.random_u64() >> 1).max(1)
    }

    /// What encrypts a connection in secure mode.
    pub(super) fn new_connection_secret(&self, mode: Mode) -> Option<ConnectionSecret> {
        match mode {
            Mode::Crc => None,
            Mode::Secure => {
                let mut bytes = Zeroizing::new([0; 64]);
                self.surroundings.fill_random(&mut *bytes);
                ConnectionSecret::from_slice(&*bytes)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds a lock; if it did, what is behind it would still be whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
