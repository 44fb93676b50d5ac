//! Who takes part: a monitor, an OSD, a client, and the world around them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use msgr_protocol::auth::{Authenticator, Surroundings};
use msgr_protocol::cephx::{Cephx, CryptoKey, Keyring, RotatingSecrets};
use msgr_protocol::{
    AuthName, Config, EntityAddr, EntityName, EntityType, Mode, PerPeer, Policy, Timestamp,
};

pub(crate) const CLIENT_KEY: [u8; 16] = *b"the client's key";
pub(crate) const SERVICE_SECRET: [u8; 16] = *b"the OSDs' secret";
/// Who the client is to authentication: nothing else contains this text.
pub(crate) const CLIENT_NAME: &str = "client.zaphod";
/// How long the OSDs' secret is good, in seconds.
pub(crate) const SECRET_VALIDITY: u32 = 4000;

/// A clock that stands still unless it is told, and random numbers that repeat in every world.
#[derive(Debug, Default)]
pub(crate) struct World {
    sec: AtomicU32,
    drawn: AtomicU64,
}

impl World {
    pub(crate) fn pass(&self, sec: u32) {
        self.sec.fetch_add(sec, Ordering::Relaxed);
    }
}

impl Surroundings for World {
    fn now(&self) -> Timestamp {
        let sec = 1_800_000_000 + self.sec.load(Ordering::Relaxed);
        Timestamp { sec, nsec: 0 }
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let drawn = self.drawn.fetch_add(1, Ordering::Relaxed) + 1;
            *byte = (drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
    }
}

/// Everybody's credentials, in one world.
pub(crate) struct Cast {
    pub(crate) world: Arc<World>,
    pub(crate) monitor: Arc<Cephx>,
    pub(crate) osd: Arc<Cephx>,
    pub(crate) client: Arc<Cephx>,
}

impl Cast {
    pub(crate) fn new() -> Self {
        let world = Arc::new(World::default());
        let key = |bytes: &[u8; 16]| CryptoKey::new(bytes, Timestamp::default());
        let name: AuthName = CLIENT_NAME.parse().unwrap();
        let mut keyring = Keyring::default();
        keyring.insert(name.clone(), key(&CLIENT_KEY));
        let mut secrets = RotatingSecrets::default();
        let expires = Timestamp {
            sec: world.now().sec + SECRET_VALIDITY,
            nsec: 0,
        };
        secrets.insert(3, key(&SERVICE_SECRET), expires);
        let server = |name: &str| Cephx::server(name.parse().unwrap(), world.clone());
        let granting = secrets.clone();
        Self {
            monitor: Arc::new(
                server("mon.a")
                    .with_keyring(keyring)
                    .with_service(EntityType::Osd, granting),
            ),
            osd: Arc::new(server("osd.3").with_service(EntityType::Osd, secrets)),
            client: Arc::new(Cephx::client(name, key(&CLIENT_KEY), world.clone())),
            world,
        }
    }
}

pub(crate) fn monitor_addr() -> EntityAddr {
    "v2:10.0.0.1:3300/0".parse().unwrap()
}

pub(crate) fn osd_addr() -> EntityAddr {
    "v2:10.0.0.3:6800/30".parse().unwrap()
}

/// A messenger that wants these modes.
pub(crate) fn config(
    kind: EntityType,
    addr: Option<EntityAddr>,
    auth: Arc<dyn Authenticator>,
    modes: &[Mode],
) -> Config {
    let policy = if kind == EntityType::Client {
        Policy::LOSSY_CLIENT
    } else {
        Policy::STATELESS_SERVER
    };
    let mut config = Config::new(EntityName { kind, num: 3 }, policy);
    config.auth = auth;
    config.modes = PerPeer::new(modes.to_vec());
    config.addrs = addr.into_iter().collect();
    config.nonce = 30;
    config
}
