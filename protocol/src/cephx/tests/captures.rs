//! Our half against the other half of what Ceph 16.2's own clients and daemons said: see
//! `tests/vectors/README.md`.

use std::fs;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::*;
use crate::cephx::envelope;
use crate::wire::{
    AuthDone, AuthReplyMore, AuthRequest, AuthRequestMore, AuthSignature, Control, Reader,
};

/// Logins, and the secret of the connection, as an independent decoder found it.
const LOGINS: [(&str, &str); 8] = [
    ("mon-crc-cephx.0", ""),
    ("rados-crc-cephx.0", ""),
    ("rados-crc-cephx.1", ""),
    ("rados-crc-cephx.2", ""),
    (
        "secure/mon-secure-cephx.0",
        "e0e033433973448bf1e91b5797f4003c4f6e6213d90bd81142dd13acb176ebd3\
         6e7b9812a24b750e069993fa9fb1134a5722260bdfaf668cfa8c0475df143a79",
    ),
    (
        "secure/rados-secure-cephx.0",
        "ed8904df2125976bf05ddeed612fe735b5d63b6cea3902d0f469ec865b2f3cfb\
         b87be43fb19423b4d80409b1400705b62d0327c7f548d07e2fe99c806b9babc4",
    ),
    (
        "secure/rados-secure-cephx.1",
        "780d797915b388e45b103c4ecad6ed327d1282a31400f638db8063bc84a25aa6\
         7e46b91b049a6b2495d84beef6626c780b01ff15b233f7a7bcdda8bdea7f8ebe",
    ),
    (
        "secure/rados-secure-cephx.2",
        "a85570e16c3f35b72224609178a846137902708e6b53a1e88ef8730c7c5c18ef\
         c74c47ae1308517d0083a7bc1a4a0dab56c130c5d546aefa090f0816aac1023e",
    ),
];

/// A client's conversation with an OSD, after its last login.
const AUTHORIZERS: [(&str, &str, &str); 2] = [
    ("rados-crc-cephx.2", "rados-crc-cephx.3", ""),
    (
        "secure/rados-secure-cephx.2",
        "secure/rados-secure-cephx.3",
        "e3cd5e0c890a6d466d5137aec98e0d5aa7ac682f5f68001bacf68cc455e4a6ef\
         39fd1b8a69d3446b68b69d14af93fdc2f2c89b98ee266c3743a74af5101eebdc",
    ),
];

/// Both sides of a recorded handshake.
struct Recorded {
    mode: Mode,
    client: Vec<u8>,
    server: Vec<u8>,
    request: AuthRequest,
    challenge: AuthReplyMore,
    answer: AuthRequestMore,
    done: AuthDone,
}

impl Recorded {
    fn new(name: &str) -> Self {
        let (client, server) = (stream(name, "client"), stream(name, "server"));
        Self {
            mode: if name.starts_with("secure/") {
                Mode::Secure
            } else {
                Mode::Crc
            },
            request: find(&client).0,
            challenge: find(&server).0,
            answer: find(&client).0,
            done: find(&server).0,
            client,
            server,
        }
    }

    /// The client as it was, that has the key of its cluster.
    fn client(&self, world: &Arc<World>) -> Cephx {
        let key = key(match self.mode {
            Mode::Crc => KEY,
            Mode::Secure => OTHER_KEY,
        });
        let client = Cephx::client("client.admin".parse().unwrap(), key, world.clone());
        let wanted = self.answer.0.last_chunk().copied();
        match u32::from_le_bytes(wanted.unwrap()) {
            0x20 => client.with_wanted(&[]),
            0x35 => client.with_wanted(&[EntityType::Mon, EntityType::Osd, EntityType::Mgr]),
            other => panic!("{other:#x}"),
        }
    }

    /// Says to `prover` what the server said, which must make it say what the client said.
    fn play(&self, mut prover: Box<dyn Prover>, secret: &str) {
        assert_eq!(prover.request().unwrap(), self.request.payload);
        assert_eq!(prover.more(&self.challenge.0).unwrap(), self.answer.0);
        let done = prover.done(self.done.global_id, self.mode, &self.done.payload);
        let secrets = done.unwrap();
        let (session_key, connection) = bytes(&secrets);
        assert_eq!(connection.map_or(&[][..], |bytes| bytes), unhex(secret));
        if self.mode == Mode::Crc {
            let (_, done_at) = find::<AuthDone>(&self.server);
            let (ours, _) = find::<AuthSignature>(&self.client);
            assert_eq!(ours, signature(session_key, &self.server[..done_at]));
            let (_, answer_at) = find::<AuthRequestMore>(&self.client);
            let (theirs, _) = find::<AuthSignature>(&self.server);
            assert_eq!(theirs, signature(session_key, &self.client[..answer_at]));
        }
    }

    /// A client that logs in as this one did.
    fn log_in(&self, world: &Arc<World>, secret: &str) -> Cephx {
        let client = self.client(world);
        world.list(&self.answer.0[3..11]);
        self.play(prove(&client, EntityType::Mon), secret);
        assert_eq!(client.global_id(), self.done.global_id);
        client
    }
}

fn stream(name: &str, side: &str) -> Vec<u8> {
    let file = format!("tests/vectors/{name}.{side}.hex");
    let digits = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    unhex(&digits.replace('\n', ""))
}

fn unhex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The first frame of its kind in what precedes encryption, and where it ends.
fn find<C: Control>(stream: &[u8]) -> (C, usize) {
    let mut at = 26;
    loop {
        let frame = &stream[at..];
        let len = u32::from_le_bytes(frame[2..6].try_into().unwrap()) as usize;
        at += 32 + len + 4;
        if frame[0] == C::TAG as u8 {
            return (C::decode(&frame[32..32 + len]).unwrap(), at);
        }
    }
}

fn signature(key: &[u8], bytes: &[u8]) -> AuthSignature {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    hmac.update(bytes);
    AuthSignature(hmac.finalize().into_bytes().into())
}

#[test]
fn we_log_in_as_cephs_clients_did() {
    for (name, secret) in LOGINS {
        Recorded::new(name).log_in(&world(), secret);
    }
}

/// The ticket for the OSDs comes out of the login, and the rest of that conversation out of it.
#[test]
fn we_show_the_authorizer_that_cephs_clients_showed() {
    for (login, name, secret) in AUTHORIZERS {
        let world = world();
        let (_, login_secret) = LOGINS.into_iter().find(|(name, _)| *name == login).unwrap();
        let client = Recorded::new(login).log_in(&world, login_secret);
        let recorded = Recorded::new(name);
        let held = {
            let tickets = client.shared.tickets();
            tickets.get(EntityType::Osd, world.now()).unwrap().clone()
        };
        let sealed = recorded.request.payload.last_chunk::<32>().unwrap();
        let opened = envelope::open(&held.session_key, sealed).unwrap();
        world.list(&opened.reader().rest()[1..9]);
        recorded.play(prove(&client, EntityType::Osd), secret);
    }
}

/// Ceph's clients show us that they have their key. Our tickets are our own.
#[test]
fn we_let_in_cephs_clients() {
    for (name, _) in LOGINS {
        let recorded = Recorded::new(name);
        let world = world();
        let text = match recorded.mode {
            Mode::Crc => KEY,
            Mode::Secure => OTHER_KEY,
        };
        let keyring = format!("[client.admin]\nkey = {text}");
        let monitor = Cephx::server("mon.a".parse().unwrap(), world.clone())
            .with_keyring(keyring.parse().unwrap());
        let mut verifier = verify(&monitor, EntityType::Client);
        world.list(&recorded.challenge.0[1..]);
        let challenge = more(verifier.request(&recorded.request.payload, recorded.mode));
        assert_eq!(challenge, recorded.challenge.0);
        let admitted = admitted(verifier.more(&recorded.answer.0).unwrap());

        // What Ceph's client would have read.
        let client = recorded.client(&world);
        let mut prover = prove(&client, EntityType::Mon);
        prover.request().unwrap();
        prover.more(&challenge).unwrap();
        let secrets = prover
            .done(admitted.global_id, recorded.mode, &admitted.payload)
            .unwrap();
        assert_eq!(bytes(&secrets), bytes(&admitted.secrets));
    }
}

/// With another key nothing of it can be read.
#[test]
fn another_key() {
    let recorded = Recorded::new("mon-crc-cephx.0");
    let name = "client.admin".parse().unwrap();
    let client = Cephx::client(name, key(OTHER_KEY), world());
    let mut prover = prove(&client, EntityType::Mon);
    prover.request().unwrap();
    assert_ne!(
        prover.more(&recorded.challenge.0).unwrap(),
        recorded.answer.0
    );
    let error = prover.done(4109, Mode::Crc, &recorded.done.payload);
    assert_eq!(error.unwrap_err(), AuthError::WrongKey);
}

/// The reply of a monitor, cut short everywhere.
#[test]
fn a_reply_cut_short() {
    let recorded = Recorded::new("mon-crc-cephx.0");
    let world = world();
    for len in 0..recorded.done.payload.len() {
        let client = recorded.client(&world);
        let mut prover = prove(&client, EntityType::Mon);
        prover.request().unwrap();
        prover.more(&recorded.challenge.0).unwrap();
        let error = prover.done(4109, Mode::Crc, &recorded.done.payload[..len]);
        assert!(matches!(error, Err(AuthError::Malformed(_))), "{len} bytes");
        assert!(client.shared.tickets().own().is_none());
    }
    let mut reader = Reader::new(&recorded.done.payload);
    assert_eq!(reader.u16("request").unwrap(), 0x0100);
}
