//! cephx: whatever is said to any of its four roles, also by somebody who has the keys, ends in a
//! typed error or in secrets that both ends have.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use aes::Aes128;
use bytes::{BufMut, Bytes};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use msgr_protocol::auth::{
    Authenticator, Prover, Secrets, Surroundings, Verdict, Verifier, method,
};
use msgr_protocol::cephx::{Cephx, CryptoKey, Keyring, RotatingSecrets};
use msgr_protocol::wire::Mode;
use msgr_protocol::{AuthName, EntityType, Timestamp};

use super::input::Input;

const NOW: Timestamp = Timestamp {
    sec: 1_000,
    nsec: 0,
};
const LATER: Timestamp = Timestamp {
    sec: 9_000,
    nsec: 0,
};
/// The client's, the service's, and one that a ticket may carry.
const KEYS: [[u8; 16]; 3] = [[1; 16], [2; 16], [3; 16]];
const SECRET_ID: u64 = 5;
/// The most pieces of a payload that is made up.
const MAX_PIECES: usize = 32;

static NAME: LazyLock<AuthName> = LazyLock::new(|| "client.a".parse().expect("a name"));

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Surroundings for Counter {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let drawn = self.0.fetch_add(1, Ordering::Relaxed);
        for (byte, i) in bytes.iter_mut().zip(0u64..) {
            *byte = ((drawn * 64 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
    }
}

/// A client, and somebody who is both a monitor and an OSD.
fn ends() -> (Cephx, Cephx) {
    let surroundings = Arc::new(Counter::default());
    let key = |i: usize| CryptoKey::new(&KEYS[i], NOW);
    let mut keyring = Keyring::default();
    keyring.insert(NAME.clone(), key(0));
    let mut secrets = RotatingSecrets::default();
    secrets.insert(SECRET_ID, key(1), LATER);
    let client = Cephx::client(NAME.clone(), key(0), surroundings.clone());
    let server = Cephx::server("mon.a".parse().expect("a name"), surroundings)
        .with_keyring(keyring)
        .with_service(EntityType::Auth, secrets.clone())
        .with_service(EntityType::Osd, secrets);
    (client, server)
}

/// Plays an exchange in which the bytes say what is altered, or made up, by whom.
pub fn cephx(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        // A key that can be read is written as it was.
        if let Ok(key) = text.parse::<CryptoKey>() {
            assert_eq!(*key.to_base64(), text);
        }
        if let Err(error) = text.parse::<Keyring>() {
            assert!(error.line >= 1 && error.line <= text.lines().count());
        }
    }
    let input = &mut Input::new(data);
    let flags = input.u8();
    let mode = if flags & 1 == 0 {
        Mode::Crc
    } else {
        Mode::Secure
    };
    let to = if flags & 2 == 0 {
        EntityType::Mon
    } else {
        EntityType::Osd
    };
    let (client, server) = ends();
    if flags & 4 != 0 {
        // There are tickets, the one for the monitor among them.
        let logged_in = exchange(&client, &server, EntityType::Mon, mode, |_, _| {});
        assert_eq!(logged_in, Some(true));
    }
    if flags & 8 == 0 {
        altered(&client, &server, to, mode, input);
    } else if flags & 16 == 0 {
        said_to_connector(&client, to, mode, input);
    } else {
        said_to_acceptor(&server, mode, input);
    }
}

fn prove(client: &Cephx, to: EntityType) -> Box<dyn Prover> {
    client.prove(method::CEPHX, to).expect("it has a key")
}

fn verify(server: &Cephx) -> Box<dyn Verifier> {
    let from = EntityType::Client;
    server.verify(method::CEPHX, from).expect("it is cephx")
}

fn secret_bytes(secrets: &Secrets) -> (&[u8], Option<&[u8]>) {
    let session_key = secrets.session_key.as_ref().expect("cephx has one");
    let connection = secrets.connection.as_ref();
    (
        session_key.bytes(),
        connection.map(|secret| &secret.bytes()[..]),
    )
}

/// What the ends of an exchange end with; `None` if one of them objects.
fn exchange(
    client: &Cephx,
    server: &Cephx,
    to: EntityType,
    mode: Mode,
    mut alter: impl FnMut(usize, &mut Vec<u8>),
) -> Option<bool> {
    let mut leg = 0;
    let mut on_its_way = |payload: Bytes| {
        let mut payload = payload.to_vec();
        alter(leg, &mut payload);
        leg += 1;
        payload
    };
    let (mut prover, mut verifier) = (prove(client, to), verify(server));
    let request = on_its_way(prover.request().expect("there is nothing in the way"));
    let Verdict::More(challenge) = verifier.request(&request, mode).ok()? else {
        panic!("admitted without a challenge");
    };
    let challenge = on_its_way(challenge);
    let answer = on_its_way(prover.more(&challenge).ok()?);
    let Verdict::Done(admitted) = verifier.more(&answer).ok()? else {
        panic!("challenged twice");
    };
    assert_eq!(
        admitted.name.as_ref(),
        Some(&*NAME),
        "nobody else has a key"
    );
    assert_ne!(admitted.global_id, 0);
    let done = on_its_way(admitted.payload);
    let secrets = prover.done(admitted.global_id, mode, &done).ok()?;
    check(&secrets, mode);
    check(&admitted.secrets, mode);
    Some(secret_bytes(&secrets) == secret_bytes(&admitted.secrets))
}

fn check(secrets: &Secrets, mode: Mode) {
    let (session_key, connection) = secret_bytes(secrets);
    assert_eq!(session_key.len(), 16);
    assert_eq!(connection.is_some(), mode == Mode::Secure);
}

/// Some bytes of each payload are altered on their way.
fn altered(client: &Cephx, server: &Cephx, to: EntityType, mode: Mode, input: &mut Input<'_>) {
    let mut intact = true;
    let agreed = exchange(client, server, to, mode, |_, payload| {
        let before = payload.clone();
        for _ in 0..input.u8() % 4 {
            let at = usize::from(input.u16()) % (payload.len() + 1);
            match input.u8() {
                0 => payload.truncate(at),
                1 => {
                    let len = input.len();
                    payload.splice(at..at, input.bytes(len).to_vec());
                }
                mask => payload
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|byte| *byte ^= mask),
            }
        }
        intact &= before == *payload;
    });
    if intact {
        assert_eq!(agreed, Some(true));
    }
}

/// A payload in pieces: as they are, or encrypted with a key that the fuzzer thus has.
fn made_up(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..MAX_PIECES {
        let kind = input.u8();
        match kind % 16 {
            0 => break,
            1..=6 => {
                let key = usize::from(kind - 1) % 3;
                let sealed = seal(&KEYS[key], &plain(input));
                if kind % 16 < 4 {
                    out.put_u32_le(sealed.len() as u32);
                }
                out.put_slice(&sealed);
            }
            // The size of the next piece is right, however long it is.
            7 => {
                let sized = plain(input);
                out.put_u32_le(sized.len() as u32);
                out.put_slice(&sized);
            }
            _ => out.put_slice(input.bytes(usize::from(kind) / 16 + 1)),
        }
    }
    out
}

/// What is encrypted: numbers, and a session key that the fuzzer has.
fn plain(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..MAX_PIECES {
        let kind = input.u8();
        match kind % 8 {
            0 => break,
            1 => {
                out.put_u16_le(1);
                out.put_u64_le(0);
                out.put_u16_le(16);
                out.put_slice(&KEYS[2]);
            }
            2 => out.put_u64_le(SECRET_ID),
            3 => NAME.encode(&mut out),
            4 => {
                let sealed = seal(
                    &KEYS[usize::from(kind) / 8 % 3],
                    input.bytes(usize::from(kind)),
                );
                out.put_u32_le(sealed.len() as u32);
                out.put_slice(&sealed);
            }
            _ => out.put_slice(input.bytes(usize::from(kind) / 8 + 1)),
        }
    }
    out
}

fn seal(key: &[u8; 16], value: &[u8]) -> Vec<u8> {
    let mut plain = vec![1];
    plain.put_u64_le(0xff00_9cad_8826_aa55);
    plain.put_slice(value);
    let len = plain.len();
    plain.resize(len / 16 * 16 + 16, 0);
    cbc::Encryptor::<Aes128>::new(key.into(), b"cephsageyudagreg".into())
        .encrypt_padded::<Pkcs7>(&mut plain, len)
        .expect("there is room");
    plain
}

fn said_to_connector(client: &Cephx, to: EntityType, mode: Mode, input: &mut Input<'_>) {
    let before = client.global_id();
    let mut prover = prove(client, to);
    let request = prover.request().expect("there is nothing in the way");
    assert!(!request.is_empty());
    if prover.more(&made_up(input)).is_err() {
        return;
    }
    let global_id = before.max(1);
    match prover.done(global_id, mode, &made_up(input)) {
        Ok(secrets) => check(&secrets, mode),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(client.global_id(), before, "nothing is kept");
        }
    }
}

fn said_to_acceptor(server: &Cephx, mode: Mode, input: &mut Input<'_>) {
    let mut verifier = verify(server);
    match verifier.request(&made_up(input), mode) {
        Ok(Verdict::More(challenge)) => assert!(!challenge.is_empty()),
        Ok(Verdict::Done(_)) => panic!("admitted without a challenge"),
        Err(error) => assert!(error.errno() > 0),
    }
    match verifier.more(&made_up(input)) {
        Ok(Verdict::Done(admitted)) => check(&admitted.secrets, mode),
        Ok(Verdict::More(_)) => panic!("challenged twice"),
        Err(error) => assert!(error.errno() > 0),
    }
}
