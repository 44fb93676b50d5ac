//! The exchange in all four roles: against what Ceph's own clients and daemons recorded, against each
//! other, and against whoever alters, repeats or makes up what is said.

mod captures;
mod flips;
mod logins;
mod services;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Cephx, CryptoKey, Keyring, RotatingSecrets};
use crate::auth::{
    Admitted, AuthError, Authenticator, ConnectionSecret, Prover, Secrets, Surroundings, Verdict,
    Verifier, method,
};
use crate::wire::{EntityType, Mode, Timestamp};

const KEY: &str = "AQA4CwFrLILmIBAAM2WcZrp2Dpfv7a3K55w4Og==";
const OTHER_KEY: &str = "AQA/CwFru2+0LxAAx1fM/tJQYzQerGjv9Ne+8Q==";
const BOTH_MODES: [Mode; 2] = [Mode::Crc, Mode::Secure];

/// A clock that stands still unless it is told, and random numbers that are listed, then counted.
#[derive(Debug, Default)]
struct World {
    sec: AtomicU32,
    listed: Mutex<Vec<u8>>,
    drawn: Mutex<u64>,
}

impl World {
    fn pass(&self, sec: u32) {
        self.sec.fetch_add(sec, Ordering::Relaxed);
    }

    /// The next random bytes.
    fn list(&self, bytes: &[u8]) {
        self.listed.lock().unwrap().extend(bytes);
    }
}

impl Surroundings for World {
    fn now(&self) -> Timestamp {
        let sec = 1_800_000_000 + self.sec.load(Ordering::Relaxed);
        Timestamp { sec, nsec: 0 }
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let (mut listed, mut drawn) = (self.listed.lock().unwrap(), self.drawn.lock().unwrap());
        for byte in bytes {
            *byte = if listed.is_empty() {
                *drawn += 1;
                (drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
            } else {
                listed.remove(0)
            };
        }
    }
}

fn world() -> Arc<World> {
    Arc::default()
}

fn key(text: &str) -> CryptoKey {
    text.parse().unwrap()
}

fn secrets(ids: &[u64], world: &World) -> RotatingSecrets {
    let mut secrets = RotatingSecrets::default();
    for id in ids {
        let secret = CryptoKey::new(&[*id as u8; 16], Timestamp::default());
        let hours = (*id as u32) * 3600;
        let expires = Timestamp {
            sec: world.now().sec + hours,
            nsec: 0,
        };
        secrets.insert(*id, secret, expires);
    }
    secrets
}

fn admin(world: &Arc<World>) -> Cephx {
    let name = "client.admin".parse().unwrap();
    Cephx::client(name, key(KEY), world.clone())
}

/// Who knows the client's key and a secret of the OSDs.
fn monitor(world: &Arc<World>) -> Cephx {
    let text = format!("[client.admin]\nkey = {KEY}\n[osd.3]\nkey = {OTHER_KEY}");
    let keyring: Keyring = text.parse().unwrap();
    Cephx::server("mon.a".parse().unwrap(), world.clone())
        .with_keyring(keyring)
        .with_service(EntityType::Osd, secrets(&[1, 2, 3], world))
}

fn osd(world: &Arc<World>) -> Cephx {
    Cephx::server("osd.3".parse().unwrap(), world.clone())
        .with_service(EntityType::Osd, secrets(&[1, 2, 3], world))
}

fn prove(client: &Cephx, to: EntityType) -> Box<dyn Prover> {
    client.prove(method::CEPHX, to).unwrap()
}

fn verify(server: &Cephx, from: EntityType) -> Box<dyn Verifier> {
    server.verify(method::CEPHX, from).unwrap()
}

fn more(verdict: Result<Verdict, AuthError>) -> Bytes {
    match verdict.unwrap() {
        Verdict::More(payload) => payload,
        Verdict::Done(admitted) => panic!("admitted without a challenge: {admitted:?}"),
    }
}

fn admitted(verdict: Verdict) -> Admitted {
    match verdict {
        Verdict::Done(admitted) => admitted,
        Verdict::More(_) => panic!("another challenge"),
    }
}

/// A whole exchange between a client and somebody of type `to`.
fn meet(
    client: &Cephx,
    server: &Cephx,
    to: EntityType,
    mode: Mode,
) -> Result<(Secrets, Admitted), AuthError> {
    let mut prover = client.prove(method::CEPHX, to)?;
    let mut verifier = verify(server, EntityType::Client);
    let challenge = more(Ok(verifier.request(&prover.request()?, mode)?));
    let admitted = admitted(verifier.more(&prover.more(&challenge)?)?);
    let secrets = prover.done(admitted.global_id, mode, &admitted.payload)?;
    Ok((secrets, admitted))
}

fn bytes(secrets: &Secrets) -> (&[u8], Option<&[u8; 64]>) {
    let session_key = secrets.session_key.as_ref().unwrap();
    let connection = secrets.connection.as_ref();
    (session_key.bytes(), connection.map(ConnectionSecret::bytes))
}
