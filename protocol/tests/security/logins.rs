//! Logins at a monitor, with keys.

use std::sync::Arc;

use msgr_protocol::auth::{AnyOf, AuthError, AuthNone, Authenticator, method};
use msgr_protocol::cephx::{Cephx, CryptoKey};
use msgr_protocol::{
    Cause, EntityAddr, EntityType, Message, Mode, PeerIncompatible, PeerMisbehaved, Timestamp,
};

use crate::cast::{CLIENT_NAME, Cast, config, monitor_addr};
use crate::link::{ACCEPTOR, CONNECTOR, Link};

const BOTH: [Mode; 2] = [Mode::Secure, Mode::Crc];

fn to_monitor(
    client: Arc<dyn Authenticator>,
    wanted: &[Mode],
    cast: &Cast,
    granted: &[Mode],
) -> Link {
    let addr: EntityAddr = monitor_addr();
    let mut link = Link::new(
        config(EntityType::Client, None, client, wanted),
        config(EntityType::Mon, Some(addr), cast.monitor.clone(), granted),
        addr,
    );
    link.run();
    link
}

/// What the connector is told by an acceptor that does not let it in.
fn refusal(link: &Link) -> (u32, i32, Vec<u32>, Vec<u32>) {
    assert!(!link.ends[ACCEPTOR].ready && !link.ends[CONNECTOR].ready);
    let Some(Cause::PeerIncompatible(PeerIncompatible::AuthRefused {
        method,
        result,
        allowed_methods,
        allowed_modes,
    })) = &link.ends[CONNECTOR].error
    else {
        panic!("{:?}", link.ends[CONNECTOR].error);
    };
    (
        *method,
        *result,
        allowed_methods.clone(),
        allowed_modes.clone(),
    )
}

/// The first of the connector's modes that the acceptor grants.
#[test]
fn modes_are_agreed_on_and_messages_flow() {
    use Mode::{Crc, Secure};
    for (wanted, granted, agreed) in [
        (&[Crc][..], &[Crc][..], Crc),
        (&[Secure], &[Secure], Secure),
        (&[Secure, Crc], &[Crc, Secure], Secure),
        (&[Crc, Secure], &[Secure, Crc], Crc),
        (&[Secure, Crc], &[Crc], Crc),
    ] {
        let cast = Cast::new();
        let mut link = to_monitor(cast.client.clone(), wanted, &cast, granted);
        assert!(link.are_ready(), "{:?}", link.ends[CONNECTOR].error);
        for end in &link.ends {
            assert_eq!(end.connection.peer().mode, Some(agreed));
            assert_eq!(end.connection.peer().global_id, cast.client.global_id());
        }
        let principal = link.ends[ACCEPTOR].connection.peer().principal.clone();
        assert_eq!(principal.unwrap().name.to_string(), CLIENT_NAME);

        let mut message = Message::new(9);
        message.front = vec![1; 100].into();
        message.data = vec![2; 5000].into();
        for end in &mut link.ends {
            end.connection.send(message.clone()).unwrap();
        }
        let stamp = Timestamp { sec: 5, nsec: 6 };
        link.ends[CONNECTOR].connection.keepalive(stamp);
        link.run();
        for end in &link.ends {
            let [received] = end.messages.as_slice() else {
                panic!("one message");
            };
            assert_eq!(received.data.contiguous(), message.data.contiguous());
        }
        assert_eq!(link.ends[CONNECTOR].acks, [stamp]);
    }
}

#[test]
fn modes_that_are_not_granted() {
    let cast = Cast::new();
    let link = to_monitor(cast.client.clone(), &[Mode::Secure], &cast, &[Mode::Crc]);
    assert_eq!(refusal(&link), (2, -95, vec![2], vec![1]));
    let link = to_monitor(cast.client.clone(), &[Mode::Crc], &cast, &[Mode::Secure]);
    assert_eq!(refusal(&link), (2, -95, vec![2], vec![2]));
}

/// Nobody who listens can tell one from the other.
#[test]
fn unknown_names_and_wrong_keys() {
    let cast = Cast::new();
    let key = || CryptoKey::new(b"some other key..", Timestamp::default());
    let admit = |name: &str| {
        let client = Cephx::client(name.parse().unwrap(), key(), cast.world.clone());
        to_monitor(Arc::new(client), &BOTH, &cast, &BOTH)
    };
    for (name, error) in [
        (CLIENT_NAME, AuthError::WrongKey),
        (
            "client.ford",
            AuthError::UnknownName("client.ford".parse().unwrap()),
        ),
    ] {
        let link = admit(name);
        assert_eq!(refusal(&link), (2, -13, vec![2], vec![2, 1]));
        assert_eq!(link.ends[ACCEPTOR].refused, [error]);
    }
}

#[test]
fn another_method_is_tried_if_the_peer_allows_it() {
    let cast = Cast::new();
    let none: Arc<dyn Authenticator> = Arc::new(AuthNone::new(CLIENT_NAME.parse().unwrap()));
    let link = to_monitor(none.clone(), &[Mode::Crc], &cast, &[Mode::Crc]);
    assert_eq!(
        refusal(&link),
        (method::NONE, -95, vec![method::CEPHX], vec![1])
    );

    let either = AnyOf::new(none, vec![cast.client.clone()]);
    let link = to_monitor(Arc::new(either), &BOTH, &cast, &BOTH);
    assert!(link.are_ready());
    assert_eq!(
        link.ends[ACCEPTOR].refused,
        [AuthError::Method(method::NONE)]
    );
    assert!(link.ends[ACCEPTOR].connection.peer().principal.is_some());
}

#[test]
fn without_a_key_nothing_is_encrypted() {
    let none = || Arc::new(AuthNone::new(CLIENT_NAME.parse().unwrap()));
    let addr = monitor_addr();
    let connect = |modes: &[Mode]| {
        let mut link = Link::new(
            config(EntityType::Client, None, none(), modes),
            config(EntityType::Mon, Some(addr), none(), &BOTH),
            addr,
        );
        link.run();
        link
    };
    let cause = PeerIncompatible::CannotAuthenticate(AuthError::NothingInCommon);
    let link = connect(&[Mode::Secure]);
    assert_eq!(link.ends[CONNECTOR].error, Some(cause.into()));
    let link = connect(&BOTH);
    assert_eq!(link.ends[CONNECTOR].connection.peer().mode, Some(Mode::Crc));
}

#[test]
fn a_handshake_without_end() {
    let cast = Cast::new();
    let addr = monitor_addr();
    let mut acceptor = config(EntityType::Mon, Some(addr), cast.monitor.clone(), &BOTH);
    acceptor.limits.handshake = 300;
    let client = config(EntityType::Client, None, cast.client.clone(), &BOTH);
    let mut link = Link::new(client.clone(), acceptor.clone(), addr);
    link.run();
    assert!(link.are_ready(), "{:?}", link.ends[ACCEPTOR].error);
    acceptor.limits.handshake = 200;
    let mut link = Link::new(client, acceptor, addr);
    link.run();
    let Some(Cause::PeerMisbehaved(PeerMisbehaved::HandshakeTooLong { bytes, limit: 200 })) =
        link.ends[ACCEPTOR].error
    else {
        panic!("{:?}", link.ends[ACCEPTOR].error);
    };
    assert!(bytes > 200);
}
