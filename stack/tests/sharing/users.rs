//! Users of endpoints, and of ports: messengers on threads, over real sockets.

use std::io::ErrorKind;
use std::sync::Arc;

use msgr::protocol::auth::AuthNone;
use msgr::protocol::{EntityAddr, EntityType, PerPeer, Policy};
use msgr::{BindError, Endpoint, EndpointError, Endpoints, Messenger, Settings};

use super::{Log, PATIENCE, Told, Witness, any_port, assert_in_use, message, posix, threaded};

const ALICE: &str = "client.1";
const BOB: &str = "client.2";

fn user(
    endpoints: &Endpoints,
    who: &str,
    at: Option<EntityAddr>,
) -> Result<Endpoint, EndpointError> {
    let mut settings = Settings::new(who.parse().unwrap(), Policy::LOSSY_CLIENT);
    settings.timeouts.ready = PATIENCE;
    endpoints.open(settings, at, posix, |_| Told(Arc::default()))
}

/// Whether a server sees one connection of the two users, or two.
fn share(one: &Endpoint, other: &Endpoint) -> bool {
    let (server, witness) = threaded("osd.0", Policy::STATELESS_SERVER, 1);
    let at = server.bind(any_port()).unwrap();
    let [a, b] = [one, other].map(|user| user.connect(EntityType::Osd, at).unwrap());
    a.send(message(1)).unwrap();
    b.send(message(2)).unwrap();
    witness.wait_for(|log| log.received.len() == 2);
    let accepted = server.totals().accepted;
    assert_eq!(a.is(&b), accepted == 1, "{accepted} connections");
    server.shutdown();
    accepted == 1
}

#[test]
fn users_share_if_credentials_and_binding_are_the_same() {
    let endpoints = Endpoints::new();
    let open = |who, at| user(&endpoints, who, at).unwrap();

    // The same port.
    let bound = open(ALICE, Some(any_port()));
    assert!(share(&bound, &open(ALICE, bound.addr())));
    let error = user(&endpoints, BOB, bound.addr()).unwrap_err();
    let EndpointError::Taken { at, holder } = error else {
        panic!("{error}")
    };
    assert_eq!((Some(at), holder.to_string()), (bound.addr(), ALICE.into()));

    // Different ports.
    assert!(!share(&bound, &open(ALICE, Some(any_port()))));
    assert!(!share(&bound, &open(BOB, Some(any_port()))));

    // One of them unbound, whoever was there first.
    let unbound = open(ALICE, None);
    assert!(!share(&bound, &unbound));
    assert!(!share(&open(ALICE, Some(any_port())), &unbound));
    assert!(!share(&bound, &open(BOB, None)));

    // Both unbound.
    assert!(share(&unbound, &open(ALICE, None)));
    assert!(!share(&unbound, &open(BOB, None)));
}

#[test]
fn credentials_are_the_entity_and_its_name_to_authentication() {
    let endpoints = Endpoints::new();
    let user = |auth_name: &str| {
        let mut settings = Settings::new(ALICE.parse().unwrap(), Policy::LOSSY_CLIENT);
        let name = auth_name.parse().unwrap();
        settings.protocol.auth = Arc::new(AuthNone::new(name));
        endpoints.open(settings, None, posix, |_| Told(Arc::default()))
    };
    let admin = user("client.admin").unwrap();
    assert!(share(&admin, &user("client.admin").unwrap()));
    assert!(!share(&admin, &user("client.guest").unwrap()));
}

#[test]
fn an_endpoint_is_one_address_with_its_nonce() {
    let endpoints = Endpoints::new();
    let bound = user(&endpoints, ALICE, Some(any_port())).unwrap();
    let addr = bound.addr().unwrap();
    assert_ne!(addr.socket.unwrap().port(), 0);
    let nonce = addr.nonce + 1;
    let other = user(&endpoints, ALICE, Some(EntityAddr { nonce, ..addr }));
    assert!(
        matches!(other, Err(EndpointError::Taken { .. })),
        "{other:?}"
    );

    // Somebody who knows nothing of these endpoints has the port.
    let outside = user(&Endpoints::new(), ALICE, Some(addr));
    let Err(EndpointError::Bind(error)) = outside else {
        panic!("{outside:?}")
    };
    assert_in_use(&error);
    let nowhere = EntityAddr::default();
    let nowhere = user(&endpoints, ALICE, Some(nowhere));
    let not_an_endpoint = EndpointError::Bind(BindError::NotAnEndpoint(EntityAddr::default()));
    assert_eq!(
        nowhere.unwrap_err().to_string(),
        not_an_endpoint.to_string()
    );
}

#[test]
fn the_last_user_to_let_go_shuts_the_messenger_down() {
    let (server, witness) = threaded("osd.0", Policy::STATELESS_SERVER, 1);
    let target = server.bind(any_port()).unwrap();
    let endpoints = Endpoints::new();
    // Nobody else has a port there, who could get the one that is let go.
    for at in [Some("v2:127.0.0.8:0/7".parse().unwrap()), None] {
        let first = user(&endpoints, ALICE, at).unwrap();
        let addr = first.addr();
        let second = user(&endpoints.clone(), ALICE, addr).unwrap();
        let connection = first.connect(EntityType::Osd, target).unwrap();
        drop(first);
        connection.send(message(1)).unwrap();
        witness.wait_for(|log| log.received == [1]);
        assert!(!connection.is_closed());

        let messenger = second.clone().clone();
        drop(second);
        assert!(!connection.is_closed(), "a clone is a user too");
        drop(messenger);
        assert!(connection.is_closed());
        witness.wait_for(|log| log.ends.len() == 1);
        witness.note(|log| *log = Log::default());

        // Nobody has it any more.
        let third = user(&endpoints, BOB, addr).unwrap();
        assert_eq!(third.addr(), addr);
        assert_eq!(third.totals().connected, 0);
    }
    server.shutdown();
}

#[test]
fn what_could_not_be_bound_is_shut_down() {
    let endpoints = Endpoints::new();
    let (other, _) = threaded("osd.0", Policy::STATELESS_SERVER, 1);
    let at = other.bind(any_port()).unwrap();
    let witness = Arc::<Witness>::default();
    let settings = Settings::new(ALICE.parse().unwrap(), Policy::LOSSY_CLIENT);
    let opened = endpoints.open(settings, Some(at), posix, |_| Told(Arc::clone(&witness)));
    assert!(matches!(opened, Err(EndpointError::Bind(_))), "{opened:?}");
    assert_eq!(Arc::strong_count(&witness), 1, "its reactor is gone");
    other.shutdown();
}

#[test]
fn peers_that_come_back_need_a_single_reactor() {
    let start = |policies: PerPeer<Policy>, reactors| {
        let mut settings = Settings::new("osd.0".parse().unwrap(), Policy::LOSSY_CLIENT);
        settings.protocol.policies = policies;
        settings.reactors = reactors;
        Messenger::start(settings, posix, |_| Told(Arc::default()))
    };
    let several_may = [
        Policy::LOSSY_CLIENT,
        Policy::STATELESS_SERVER,
        Policy::LOSSLESS_CLIENT,
    ];
    let none = PerPeer::new(Policy::LOSSY_CLIENT);
    for policy in Policy::presets() {
        let for_one_type = none.clone().with(EntityType::Mds, policy);
        for policies in [PerPeer::new(policy), for_one_type] {
            start(policies.clone(), 1).unwrap().shutdown();
            let started = start(policies, 2);
            if several_may.contains(&policy) {
                let messenger = started.unwrap();
                // Who accepts finds its lossless clients again too.
                let bound = messenger.bind(any_port());
                assert_eq!(bound.is_ok(), policy != Policy::LOSSLESS_CLIENT, "{policy}");
                messenger.shutdown();
            } else {
                let error = started.unwrap_err();
                assert_eq!(error.source.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains(&policy.to_string()), "{error}");
            }
        }
    }
}

#[test]
fn a_port_has_one_messenger_however_many_reactors_share_it() {
    for (here, there) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let (first, _) = threaded("osd.0", Policy::STATELESS_SERVER, here);
        let (second, _) = threaded("osd.1", Policy::STATELESS_SERVER, there);
        // Nobody else has a port there, who could get it in between.
        let at = first.bind("v2:127.0.0.10:0/7".parse().unwrap()).unwrap();
        assert_in_use(&second.bind(at).unwrap_err());
        assert_in_use(&second.bind(EntityAddr { nonce: 8, ..at }).unwrap_err());
        first.shutdown();
        assert_eq!(second.bind(at).unwrap(), at);
        second.shutdown();
    }
}

#[test]
fn every_reactor_connects_from_the_bound_port() {
    let (client, _) = threaded("client.1", Policy::LOSSY_CLIENT, 3);
    let from = client.bind(any_port()).unwrap();
    for number in 0..6 {
        let (server, witness) = threaded("osd.0", Policy::STATELESS_SERVER, 1);
        let at = server.bind(any_port()).unwrap();
        let connection = client.connect(EntityType::Osd, at).unwrap();
        connection.send(message(number)).unwrap();
        witness.wait_for(|log| log.received == [number]);
        let peer = witness.log().accepted[0].peer().unwrap();
        assert_eq!(Some(peer.socket), from.socket);
        connection.mark_down();
        server.shutdown();
    }
    client.shutdown();
}
