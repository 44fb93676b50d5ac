//! [`RotatingSecrets`]: what a type of service shares with the monitors, which change it from time
//! to time.

use std::collections::BTreeMap;

use super::CryptoKey;
use crate::wire::Timestamp;

/// The secrets of a type of service, by their numbers. Tickets for the service are encrypted with
/// one of them and say which; the monitors encrypt with the latest.
///
/// Source: `RotatingSecrets` in Ceph's `src/auth/Auth.h`, which keeps three.
#[derive(Debug, Clone, Default)]
pub struct RotatingSecrets {
    secrets: BTreeMap<u64, (CryptoKey, Timestamp)>,
}

impl RotatingSecrets {
    /// Adds a secret that is good until `expires`.
    pub fn insert(&mut self, id: u64, secret: CryptoKey, expires: Timestamp) {
        self.secrets.insert(id, (secret, expires));
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Drops the secrets that have expired.
    pub fn expire(&mut self, now: Timestamp) {
        self.secrets.retain(|_, (_, expires)| now < *expires);
    }

    /// The secret with that number, unless it has expired.
    pub fn get(&self, id: u64, now: Timestamp) -> Option<&CryptoKey> {
        let (secret, expires) = self.secrets.get(&id)?;
        (now < *expires).then_some(secret)
    }

    /// The latest secret and its number, unless it has expired.
    pub fn latest(&self, now: Timestamp) -> Option<(u64, &CryptoKey)> {
        let (id, (secret, expires)) = self.secrets.last_key_value()?;
        (now < *expires).then_some((*id, secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_expire() {
        let at = |sec| Timestamp { sec, nsec: 0 };
        let secret = |byte| CryptoKey::new(&[byte; 16], at(0));
        let mut secrets = RotatingSecrets::default();
        assert!(secrets.latest(at(0)).is_none());
        secrets.insert(1, secret(1), at(10));
        secrets.insert(2, secret(2), at(20));
        let bytes = |id, now| secrets.get(id, at(now)).map(|secret| secret.secret()[0]);
        assert_eq!((bytes(1, 9), bytes(1, 10)), (Some(1), None));
        assert_eq!((bytes(2, 10), bytes(3, 0)), (Some(2), None));
        assert_eq!(secrets.latest(at(5)).unwrap().0, 2);
        assert!(secrets.latest(at(20)).is_none());
        secrets.expire(at(10));
        assert!(secrets.get(1, at(5)).is_none());
        assert!(secrets.get(2, at(5)).is_some());
    }
}
