//! Logins, and how they end.

use super::*;
use crate::wire::Malformed;

const MON: EntityType = EntityType::Mon;

#[test]
fn both_ends_agree() {
    for mode in BOTH_MODES {
        let world = world();
        let (client, monitor) = (admin(&world), monitor(&world));
        assert_eq!(client.global_id(), 0);
        let (secrets, admitted) = meet(&client, &monitor, MON, mode).unwrap();
        assert_eq!(bytes(&secrets), bytes(&admitted.secrets));
        assert_eq!(secrets.connection.is_some(), mode == Mode::Secure);
        assert_eq!(admitted.name.unwrap().to_string(), "client.admin");
        assert_eq!(client.global_id(), admitted.global_id);
        assert_ne!(admitted.global_id, 0);
        assert!(i64::try_from(admitted.global_id).is_ok());
    }
}

/// The ticket of the last login shows that the global id is ours; the ticket itself is encrypted then.
#[test]
fn who_comes_again_is_known() {
    let world = world();
    let (client, monitor) = (admin(&world), monitor(&world));
    let (first, admitted) = meet(&client, &monitor, MON, Mode::Secure).unwrap();
    let (second, again) = meet(&client, &monitor, MON, Mode::Secure).unwrap();
    assert_eq!(again.global_id, admitted.global_id);
    assert_ne!(bytes(&first), bytes(&second));
    assert!(again.payload.len() > admitted.payload.len());
    let (_, third) = meet(&client, &monitor, MON, Mode::Crc).unwrap();
    assert_eq!(third.global_id, admitted.global_id);
    meet(&client, &monitor, EntityType::Osd, Mode::Crc).unwrap();
}

/// Two logins at the same time: either's ticket is replaced by whoever ends last.
#[test]
fn logins_may_overlap() {
    let world = world();
    let (client, monitor) = (admin(&world), monitor(&world));
    let global_id = meet(&client, &monitor, MON, Mode::Crc).unwrap().1.global_id;
    let mut ends: Vec<_> = (0..2)
        .map(|_| (prove(&client, MON), verify(&monitor, EntityType::Client)))
        .collect();
    let answers: Vec<_> = ends
        .iter_mut()
        .map(|(prover, verifier)| {
            let request = prover.request().unwrap();
            let challenge = more(verifier.request(&request, Mode::Crc));
            prover.more(&challenge).unwrap()
        })
        .collect();
    for ((prover, verifier), answer) in ends.iter_mut().zip(answers) {
        let admitted = admitted(verifier.more(&answer).unwrap());
        assert_eq!(admitted.global_id, global_id);
        prover
            .done(global_id, Mode::Crc, &admitted.payload)
            .unwrap();
    }
    meet(&client, &monitor, EntityType::Osd, Mode::Crc).unwrap();
}

/// A monitor that never saw us gives us a new id, whatever we claim.
#[test]
fn an_id_is_not_taken_over() {
    let world = world();
    let (client, other) = (admin(&world), admin(&world));
    let monitor = monitor(&world);
    let global_id = meet(&client, &monitor, MON, Mode::Crc).unwrap().1.global_id;
    other.shared.tickets().global_id = global_id;
    let (_, admitted) = meet(&other, &monitor, MON, Mode::Crc).unwrap();
    assert_ne!(admitted.global_id, global_id);
    assert_eq!(other.global_id(), admitted.global_id);
    // Its ticket is for its own id, not for ours.
    other.shared.tickets().global_id = global_id;
    let (_, admitted) = meet(&other, &monitor, MON, Mode::Crc).unwrap();
    assert_ne!(admitted.global_id, global_id);
    // Nor is a ticket that has expired.
    world.pass(72 * 3600);
    let (_, admitted) = meet(&client, &monitor, MON, Mode::Crc).unwrap();
    assert_ne!(admitted.global_id, global_id);
}

#[test]
fn tickets_are_renewed_in_time() {
    let world = world();
    let (client, monitor) = (admin(&world), monitor(&world));
    assert!(client.needs_renewal(world.now()));
    meet(&client, &monitor, MON, Mode::Crc).unwrap();
    assert!(!client.needs_renewal(world.now()));
    // A ticket for a service is good for an hour.
    world.pass(45 * 60 - 1);
    assert!(!client.needs_renewal(world.now()));
    world.pass(1);
    assert!(client.needs_renewal(world.now()));
    meet(&client, &monitor, EntityType::Osd, Mode::Crc).unwrap();
    meet(&client, &monitor, MON, Mode::Crc).unwrap();
    assert!(!client.needs_renewal(world.now()));
}

/// Only what is wanted is granted, and a login by itself always.
#[test]
fn tickets_as_wanted() {
    let world = world();
    let monitor = monitor(&world);
    let client = admin(&world).with_wanted(&[EntityType::Mds]);
    meet(&client, &monitor, MON, Mode::Crc).unwrap();
    assert_eq!(
        meet(&client, &monitor, EntityType::Osd, Mode::Crc).unwrap_err(),
        AuthError::NoTicket(EntityType::Osd)
    );
    assert_eq!(client.shared.tickets().wanted, 0x22);
}

/// Where there is no monitor: a server with a keyring. Nothing of it is kept for others.
#[test]
fn a_login_at_a_service() {
    let world = world();
    let (client, server) = (admin(&world), monitor(&world));
    for mode in BOTH_MODES {
        let (secrets, admitted) = meet(&client, &server, EntityType::Osd, mode).unwrap();
        assert_eq!(bytes(&secrets), bytes(&admitted.secrets));
        assert_eq!(client.global_id(), 0);
    }
    assert!(client.shared.tickets().own().is_none());
}

#[test]
fn wrong_key_and_unknown_name() {
    let world = world();
    let monitor = monitor(&world);
    let refused = |name: &str, with: &str| {
        let client = Cephx::client(name.parse().unwrap(), key(with), world.clone());
        meet(&client, &monitor, MON, Mode::Secure).unwrap_err()
    };
    assert_eq!(refused("client.admin", OTHER_KEY), AuthError::WrongKey);
    let nobody = "client.nobody".parse().unwrap();
    assert_eq!(
        refused("client.nobody", KEY),
        AuthError::UnknownName(nobody)
    );
    // It has the key of an OSD, and said in HELLO that it is a client.
    let error = AuthError::WrongType {
        announced: EntityType::Client,
        proven: "osd.3".parse().unwrap(),
    };
    assert_eq!(refused("osd.3", OTHER_KEY), error);
}

/// Until the proof, a name that is not known looks like any other.
#[test]
fn names_are_not_told() {
    let world = world();
    let monitor = monitor(&world);
    let nobody = Cephx::client("client.nobody".parse().unwrap(), key(KEY), world.clone());
    let mut lens = Vec::new();
    for client in [nobody, admin(&world)] {
        let mut verifier = verify(&monitor, EntityType::Client);
        let request = prove(&client, MON).request().unwrap();
        lens.push(more(verifier.request(&request, Mode::Crc)).len());
    }
    assert_eq!(lens, [9, 9]);
}

/// A monitor that does not have our key cannot pass for one that does.
#[test]
fn a_false_monitor() {
    let world = world();
    let text = format!("[client.admin]\nkey = {OTHER_KEY}");
    let false_monitor =
        Cephx::server("mon.a".parse().unwrap(), world.clone()).with_keyring(text.parse().unwrap());
    let liar = Cephx::client(
        "client.admin".parse().unwrap(),
        key(OTHER_KEY),
        world.clone(),
    );
    let (_, admitted) = meet(&liar, &false_monitor, MON, Mode::Crc).unwrap();

    let client = admin(&world);
    let mut prover = prove(&client, MON);
    prover.request().unwrap();
    prover.more(&[1; 9]).unwrap();
    let error = prover.done(1, Mode::Crc, &admitted.payload).unwrap_err();
    assert_eq!(error, AuthError::WrongKey);
    assert_eq!(client.global_id(), 0, "nothing is kept");
}

/// What the monitor made for a connection in one mode is no use in the other.
#[test]
fn the_secret_is_as_long_as_the_mode_says() {
    let length = AuthError::Malformed(Malformed::UnknownValue {
        what: "length of the connection secret",
        value: 64,
    });
    for (said, meant, expected) in [
        (Mode::Crc, Mode::Secure, AuthError::NoSecret),
        (Mode::Secure, Mode::Crc, length),
    ] {
        let world = world();
        let (client, monitor) = (admin(&world), monitor(&world));
        let (mut prover, mut verifier) =
            (prove(&client, MON), verify(&monitor, EntityType::Client));
        let challenge = more(verifier.request(&prover.request().unwrap(), said));
        let admitted = admitted(verifier.more(&prover.more(&challenge).unwrap()).unwrap());
        let error = prover.done(admitted.global_id, meant, &admitted.payload);
        assert_eq!(error.unwrap_err(), expected);
    }
}

/// A login is bound to the challenge: what was sent once is no use again.
#[test]
fn a_replayed_proof() {
    let world = world();
    let (client, monitor) = (admin(&world), monitor(&world));
    let mut prover = prove(&client, MON);
    let mut verifier = verify(&monitor, EntityType::Client);
    let request = prover.request().unwrap();
    let challenge = more(verifier.request(&request, Mode::Crc));
    let answer = prover.more(&challenge).unwrap();
    verifier.more(&answer).unwrap();

    let mut verifier = verify(&monitor, EntityType::Client);
    more(verifier.request(&request, Mode::Crc));
    assert_eq!(verifier.more(&answer).unwrap_err(), AuthError::WrongKey);
}

#[test]
fn steps_out_of_turn() {
    let world = world();
    let (client, monitor) = (admin(&world), monitor(&world));
    let out_of_turn = AuthError::UnexpectedStep;

    let mut prover = prove(&client, MON);
    assert_eq!(prover.more(&[1; 9]).unwrap_err(), out_of_turn);
    let request = prover.request().unwrap();
    assert_eq!(prover.request().unwrap_err(), out_of_turn);
    // Admitted without a challenge.
    let done = prover.done(1, Mode::Crc, &[]);
    assert_eq!(done.unwrap_err(), out_of_turn);

    let mut verifier = verify(&monitor, EntityType::Client);
    assert_eq!(verifier.more(&[]).unwrap_err(), out_of_turn);
    let mut verifier = verify(&monitor, EntityType::Client);
    let challenge = more(verifier.request(&request, Mode::Crc));
    let mut again = verifier.clone();
    let error = again.request(&request, Mode::Crc).unwrap_err();
    assert_eq!(error, out_of_turn);
    // One guess for each challenge.
    verifier.more(&[0; 40]).unwrap_err();
    let answer = prover.more(&challenge).unwrap();
    assert_eq!(verifier.more(&answer).unwrap_err(), out_of_turn);
}

#[test]
fn who_offers_and_accepts_what() {
    let world = world();
    let (client, monitor) = (admin(&world), monitor(&world));
    assert_eq!(client.offers(MON), [method::CEPHX]);
    assert!(client.accepts(EntityType::Client).is_empty());
    assert!(monitor.offers(MON).is_empty());
    assert_eq!(monitor.accepts(EntityType::Client), [method::CEPHX]);
    let error = monitor.prove(method::CEPHX, MON).unwrap_err();
    assert_eq!(error, AuthError::NoKey);
    let error = client.prove(1, MON).unwrap_err();
    assert_eq!(error, AuthError::Method(1));
    let error = monitor.verify(4, EntityType::Client).unwrap_err();
    assert_eq!(error, AuthError::Method(4));
    let mut verifier = verify(&osd(&world), EntityType::Client);
    let request = prove(&client, MON).request().unwrap();
    let error = verifier.request(&request, Mode::Crc).unwrap_err();
    assert_eq!(error, AuthError::NotTaken("logins"));
}

/// In no state of an exchange does Debug output show what is secret.
#[test]
fn nothing_secret_is_shown() {
    let world = world();
    let (client, monitor) = (admin(&world), monitor(&world));
    let mut shown = Vec::new();
    for to in [MON, EntityType::Osd] {
        let (mut prover, mut verifier) = (prove(&client, to), verify(&monitor, EntityType::Client));
        shown.push(format!("{prover:?} {verifier:?}"));
        let challenge = more(verifier.request(&prover.request().unwrap(), Mode::Secure));
        shown.push(format!("{prover:?} {verifier:?}"));
        let admitted = admitted(verifier.more(&prover.more(&challenge).unwrap()).unwrap());
        let secrets = prover
            .done(admitted.global_id, Mode::Secure, &admitted.payload)
            .unwrap();
        shown.push(format!("{prover:?} {verifier:?} {admitted:?} {client:?}"));
        for secret in [bytes(&secrets).0, &bytes(&secrets).1.unwrap()[..]] {
            let list = format!("{secret:?}");
            assert!(!shown.concat().contains(&list[1..list.len() - 1]));
        }
    }
    shown.push(format!("{monitor:?}"));
    let shown = shown.concat();
    assert!(
        !shown.contains("51, 101, 156, 102"),
        "the key's first bytes"
    );
    assert!(!shown.contains("3, 3, 3, 3"), "the OSDs' secret");
    assert!(shown.contains("[secret]"));
}
