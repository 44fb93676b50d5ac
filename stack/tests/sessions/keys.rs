//! What processes need to be connected in secure mode: everybody has a key, and knows everybody's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use msgr::protocol::auth::Surroundings;
use msgr::protocol::cephx::{Cephx, CryptoKey, Keyring};
use msgr::protocol::{AuthName, Config, EntityName, EntityType, Mode, PerPeer, Timestamp};

/// Numbers that a seed determines, and a clock that stands still.
#[derive(Debug)]
struct Seeded(AtomicU64);

impl Surroundings for Seeded {
    fn now(&self) -> Timestamp {
        Timestamp {
            sec: 1_800_000_000,
            nsec: 0,
        }
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let drawn = self.0.fetch_add(1, Ordering::Relaxed);
            *byte = (drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
    }
}

/// Has the process `config` is of prove who it is, and encrypt all that it says.
pub(crate) fn secure(config: &mut Config, seed: u64) {
    let key = |num: i64| CryptoKey::new(&[num as u8; 16], Timestamp::default());
    let mut keyring = Keyring::default();
    for kind in [EntityType::Client, EntityType::Osd, EntityType::Mon] {
        for num in 0..64 {
            keyring.insert(EntityName { kind, num }.into(), key(num));
        }
    }
    let name: AuthName = config.name.into();
    let surroundings = Arc::new(Seeded(seed.into()));
    let cephx = Cephx::client(name, key(config.name.num), surroundings).with_keyring(keyring);
    config.auth = Arc::new(cephx);
    config.modes = PerPeer::new(vec![Mode::Secure]);
    config.secure_rev0 = true;
}
