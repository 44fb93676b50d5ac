//! Authorizers, genuine and not.

use bytes::{BufMut, BytesMut};

use super::*;
use crate::cephx::envelope;
use crate::cephx::ticket::{Grant, Ticket};
use crate::wire::Reader;

const OSD: EntityType = EntityType::Osd;

/// A client that has logged in, and the OSD that it has a ticket for.
fn ready(world: &Arc<World>) -> (Cephx, Cephx) {
    let client = admin(world);
    meet(&client, &monitor(world), EntityType::Mon, Mode::Crc).unwrap();
    (client, osd(world))
}

/// What an OSD says to the first and the second authorizer of a client.
fn shown(osd: &Cephx, first: &[u8], second: impl FnOnce(&[u8]) -> Bytes) -> AuthError {
    let mut verifier = verify(osd, EntityType::Client);
    match verifier.request(first, Mode::Secure) {
        Ok(Verdict::More(challenge)) => verifier.more(&second(&challenge)).unwrap_err(),
        Ok(Verdict::Done(_)) => panic!("admitted without a challenge"),
        Err(error) => error,
    }
}

fn first(client: &Cephx) -> Bytes {
    prove(client, OSD).request().unwrap()
}

/// What an OSD says to the first authorizer, altered.
fn altered(osd: &Cephx, client: &Cephx, alter: impl FnOnce(&mut [u8])) -> AuthError {
    let mut request = first(client).to_vec();
    alter(&mut request);
    shown(osd, &request, |_| panic!("challenged"))
}

#[test]
fn both_ends_agree() {
    for mode in BOTH_MODES {
        let world = world();
        let (client, osd) = ready(&world);
        let (secrets, admitted) = meet(&client, &osd, OSD, mode).unwrap();
        assert_eq!(bytes(&secrets), bytes(&admitted.secrets));
        assert_eq!(secrets.connection.is_some(), mode == Mode::Secure);
        assert_eq!(admitted.global_id, client.global_id());
        assert_eq!(admitted.name.unwrap().to_string(), "client.admin");
        // Once more: another connection, another secret.
        let (again, _) = meet(&client, &osd, OSD, mode).unwrap();
        assert_eq!(bytes(&again).0, bytes(&secrets).0);
        assert_eq!(bytes(&again).1 == bytes(&secrets).1, mode == Mode::Crc);
    }
}

/// Secrets change; tickets that were made with older ones stay good as long as those are.
#[test]
fn secrets_rotate() {
    let world = world();
    let (client, osd) = ready(&world);
    osd.set_secrets(OSD, secrets(&[2, 3, 4], &world));
    meet(&client, &osd, OSD, Mode::Secure).unwrap();
    osd.set_secrets(OSD, secrets(&[4, 5], &world));
    let error = shown(&osd, &first(&client), |_| panic!("challenged"));
    assert_eq!(error, AuthError::NoSuchSecret(3));
    osd.set_secrets(OSD, RotatingSecrets::default());
    let error = shown(&osd, &first(&client), |_| panic!("challenged"));
    assert_eq!(error, AuthError::Busy);
}

#[test]
fn expired_tickets() {
    let world = world();
    let (client, osd) = ready(&world);
    let request = first(&client);
    world.pass(3600);
    // We know by ourselves, and an OSD does not take our word for it.
    let error = client.prove(method::CEPHX, OSD).unwrap_err();
    assert_eq!(error, AuthError::TicketExpired);
    let error = shown(&osd, &request, |_| panic!("challenged"));
    assert_eq!(error, AuthError::TicketExpired);
    // Later the secret has, too.
    world.pass(2 * 3600);
    let error = shown(&osd, &request, |_| panic!("challenged"));
    assert_eq!(error, AuthError::NoSuchSecret(3));
}

/// It may also expire between the two steps.
#[test]
fn a_ticket_that_expires_under_way() {
    let world = world();
    let (client, osd) = ready(&world);
    let mut prover = prove(&client, OSD);
    let request = prover.request().unwrap();
    world.pass(3599);
    let error = shown(&osd, &request, |challenge| {
        let answer = prover.more(challenge).unwrap();
        world.pass(1);
        answer
    });
    assert_eq!(error, AuthError::TicketExpired);
}

#[test]
fn replayed_authorizers() {
    let world = world();
    let (client, osd) = ready(&world);
    let mut prover = prove(&client, OSD);
    let mut verifier = verify(&osd, EntityType::Client);
    let request = prover.request().unwrap();
    let challenge = more(verifier.request(&request, Mode::Secure));
    let answer = prover.more(&challenge).unwrap();
    verifier.more(&answer).unwrap();

    // All of it, from a recording.
    let error = shown(&osd, &request, |_| answer.clone());
    assert_eq!(error, AuthError::Replayed);
    // The answer first.
    let error = shown(&osd, &answer, |_| answer.clone());
    assert_eq!(error, AuthError::Replayed);
    // The request twice: it answers nothing.
    let error = shown(&osd, &request, |_| request.clone());
    assert_eq!(error, AuthError::Replayed);
}

/// The answer has to come from who was challenged.
#[test]
fn another_ticket_in_the_answer() {
    let world = world();
    let (client, osd) = ready(&world);
    let other = ready(&world).0;
    let error = shown(&osd, &first(&client), |_| first(&other));
    assert_eq!(error, AuthError::Replayed);
}

#[test]
fn forged_authorizers() {
    let world = world();
    let (client, osd) = ready(&world);
    let len = first(&client).len();
    let forged = AuthError::ForgedAuthorizer;
    // Another global id than the ticket's.
    assert_eq!(altered(&osd, &client, |request| request[1] ^= 1), forged);
    // A ticket that nobody made: its first byte.
    assert_eq!(altered(&osd, &client, |request| request[26] ^= 1), forged);
    // An authorizer by who does not have the ticket's key: its first byte.
    let sealed = len - 32;
    let error = altered(&osd, &client, |request| request[sealed] ^= 1);
    assert_eq!(error, forged);
    // A ticket made with what is not the secret.
    let liar = monitor(&world);
    let mut false_secrets = RotatingSecrets::default();
    let never = Timestamp {
        sec: u32::MAX,
        nsec: 0,
    };
    false_secrets.insert(3, key(OTHER_KEY), never);
    liar.set_secrets(OSD, false_secrets);
    let other = admin(&world);
    meet(&other, &liar, EntityType::Mon, Mode::Crc).unwrap();
    let error = shown(&osd, &first(&other), |_| panic!("challenged"));
    assert_eq!(error, forged);
}

#[test]
fn tickets_for_somebody_else() {
    let world = world();
    let (client, osd) = ready(&world);
    // For an MDS.
    let error = altered(&osd, &client, |request| request[9] = 2);
    assert_eq!(error, AuthError::WrongService(2));
    // For what there is not.
    let error = altered(&osd, &client, |request| request[12] = 1);
    assert_eq!(error, AuthError::WrongService(0x0100_0004));
    // Made with a secret that the OSD never had.
    let error = altered(&osd, &client, |request| request[14] = 9);
    assert_eq!(error, AuthError::NoSuchSecret(9));
    // The client's, shown by who said in HELLO that it is an OSD.
    let mut verifier = verify(&osd, OSD);
    let error = AuthError::WrongType {
        announced: OSD,
        proven: "client.admin".parse().unwrap(),
    };
    let request = first(&client);
    assert_eq!(verifier.request(&request, Mode::Crc).unwrap_err(), error);
}

/// Who cannot read the ticket is not the service.
#[test]
fn a_false_service() {
    let world = world();
    let (client, osd) = ready(&world);
    let mut prover = prove(&client, OSD);
    let mut verifier = verify(&osd, EntityType::Client);
    let challenge = more(verifier.request(&prover.request().unwrap(), Mode::Crc));
    let forged = AuthError::ForgedReply;

    let mut asked = prover.clone();
    assert_eq!(asked.more(&[7; 32]).unwrap_err(), forged);

    let admitted = admitted(verifier.more(&prover.more(&challenge).unwrap()).unwrap());
    let global_id = admitted.global_id;
    let done = |global_id, payload: &[u8]| prover.clone().done(global_id, Mode::Crc, payload);
    assert_eq!(done(global_id + 1, &admitted.payload).unwrap_err(), forged);
    let mut payload = admitted.payload.to_vec();
    payload[4] ^= 1;
    assert_eq!(done(global_id, &payload).unwrap_err(), forged);
    // The answer to another authorizer of the same ticket.
    let (_, other) = meet(&client, &osd, OSD, Mode::Crc).unwrap();
    assert_eq!(done(global_id, &other.payload).unwrap_err(), forged);
    done(global_id, &admitted.payload).unwrap();
}

/// Daemons from before 2018 took replayed authorizers; we do not talk to them.
#[test]
fn a_service_that_does_not_challenge() {
    let world = world();
    let (client, osd) = ready(&world);
    let (_, admitted) = meet(&client, &osd, OSD, Mode::Crc).unwrap();
    let mut prover = prove(&client, OSD);
    prover.request().unwrap();
    let error = prover.done(admitted.global_id, Mode::Crc, &admitted.payload);
    assert_eq!(error.unwrap_err(), AuthError::UnexpectedStep);
}

/// What the monitors say that it may do is for the service to read.
#[test]
fn caps_are_handed_up() {
    let world = world();
    let (client, osd) = ready(&world);
    let session_key = key(OTHER_KEY);
    let ticket = Ticket {
        name: "client.admin".parse().unwrap(),
        global_id: client.global_id(),
        created: world.now(),
        expires: world
            .now()
            .saturating_add(std::time::Duration::from_secs(1)),
        caps: Bytes::from_static(b"\x07\0\0\0allow *"),
    };
    let secrets = secrets(&[3], &world);
    let blob = ticket.seal(&session_key, secrets.latest(world.now()).unwrap());
    let grant = Grant {
        service: 4,
        session_key,
        validity: std::time::Duration::from_secs(1),
        blob,
    };
    // As it would come from a monitor.
    let mut out = BytesMut::new();
    Grant::encode_all(&[grant], &key(KEY), None, &mut out);
    let granted = Grant::decode_all(&mut Reader::new(&out), &key(KEY), None).unwrap();
    client.shared.tickets().keep(granted, world.now());
    let (_, admitted) = meet(&client, &osd, OSD, Mode::Crc).unwrap();
    assert_eq!(admitted.caps[4..], b"allow *"[..]);
}

/// What is sealed may be nonsense. That is told in the same words as that it cannot be opened: else who
/// alters a recorded ticket could learn from the answers what is in it.
#[test]
fn nonsense_that_is_sealed() {
    let world = world();
    let (client, osd) = ready(&world);
    let session_key = client
        .shared
        .tickets()
        .get(OSD, world.now())
        .unwrap()
        .session_key
        .clone();
    let request = first(&client);
    for (version, len) in [(1, 17), (2, 0), (2, 16)] {
        let mut out = BytesMut::from(&request[..request.len() - 36]);
        envelope::seal_framed(&session_key, &mut out, |plain| {
            plain.put_u8(version);
            plain.put_bytes(0, len);
        });
        let error = shown(&osd, &out, |_| panic!("challenged"));
        assert_eq!(error, AuthError::ForgedAuthorizer);
    }

    let secrets = secrets(&[3], &world);
    let (_, secret) = secrets.latest(world.now()).unwrap();
    for (version, len) in [(0, 0), (1, 0), (1, 60), (2, 90)] {
        // Up to the number of the secret.
        let mut out = BytesMut::from(&request[..22]);
        envelope::seal_framed(secret, &mut out, |plain| {
            plain.put_u8(version);
            plain.put_bytes(0, len);
        });
        out.put_slice(&request[request.len() - 36..]);
        let error = shown(&osd, &out, |_| panic!("challenged"));
        assert_eq!(error, AuthError::ForgedAuthorizer);
    }
}

/// The same, for every last block of a ticket that makes sense of its padding.
#[test]
fn no_word_tells_of_padding() {
    let world = world();
    let (client, osd) = ready(&world);
    let request = first(&client);
    // The last byte of the last ciphertext block but one, over which decryption finds the padding.
    let at = request.len() - 36 - 17;
    for altered_byte in 1..=u8::MAX {
        let error = altered(&osd, &client, |request| request[at] ^= altered_byte);
        assert_eq!(error, AuthError::ForgedAuthorizer, "{altered_byte:#x}");
    }
}
