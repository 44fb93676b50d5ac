//! Peers that say in correct frames what they must not, or who are not those that we want.

use bytes::Bytes;

use super::script::{
    End, auth_request, client_ident, feed, frame, raw_frame, server_config, server_ident, target,
    transmitted,
};
use crate::auth::AuthError;
use crate::connection::{Event, State};
use crate::error::{Malformed, PeerIncompatible, PeerMisbehaved};
use crate::frame::Revision;
use crate::wire::{
    self, AddrType, AuthBadMethod, AuthDone, AuthRequest, AuthSignature, ClientIdent, EntityAddr,
    EntityAddrVec, EntityType, Hello, ServerIdent, Tag,
};

#[test]
fn wrong_signatures() {
    let mut signature = [0; 32];
    signature[31] = 1;
    for (end, state) in [
        (End::Connector, State::SignConnecting),
        (End::Acceptor, State::SignAccepting),
    ] {
        let wire = frame(&AuthSignature(signature));
        let cause = PeerMisbehaved::WrongSignature;
        end.refuses(
            || end.reach(state),
            &wire,
            cause,
            "wrong handshake signature",
        );
    }
}

#[test]
fn another_kind_of_entity_than_the_one_dialled() {
    let hello = frame(&Hello {
        entity_type: EntityType::Mon,
        peer_addr: target(),
    });
    End::Connector.refuses(
        || End::Connector.reach(State::HelloConnecting),
        &hello,
        PeerIncompatible::WrongEntityType {
            dialled: EntityType::Osd,
            answered: EntityType::Mon,
        },
        "dialled an entity of type osd, mon answered",
    );
}

#[test]
fn an_entity_of_no_known_kind() {
    for (end, state) in [
        (End::Connector, State::HelloConnecting),
        (End::Acceptor, State::HelloAccepting),
    ] {
        let mut payload = end.sound(Tag::Hello);
        payload[0] = 3;
        let cause = Malformed::Payload {
            tag: Tag::Hello,
            source: wire::Malformed::UnknownValue {
                what: "entity type",
                value: 3,
            },
        };
        end.refuses(
            || end.reach(state),
            &raw_frame(Revision::Rev1, Tag::Hello, &payload),
            cause,
            "bad HELLO frame: entity type: unknown value 3",
        );
    }
}

#[test]
fn an_acceptor_that_refuses_our_method() {
    let wire = frame(&AuthBadMethod {
        method: 1,
        result: -95,
        allowed_methods: vec![2],
        allowed_modes: vec![2, 1],
    });
    End::Connector.refuses(
        || End::Connector.reach(State::AuthConnecting),
        &wire,
        PeerIncompatible::AuthRefused {
            method: 1,
            result: -95,
            allowed_methods: vec![2],
            allowed_modes: vec![2, 1],
        },
        "authentication method 1 refused with -95; the peer allows methods [2], modes [2, 1]",
    );
}

#[test]
fn a_mode_that_we_did_not_offer() {
    for mode in [0, 2, u32::MAX] {
        let wire = frame(&AuthDone {
            global_id: 1,
            con_mode: mode,
            payload: Bytes::new(),
        });
        End::Connector.refuses(
            || End::Connector.reach(State::AuthConnecting),
            &wire,
            PeerMisbehaved::UnofferedMode(mode),
            &format!("connection mode {mode}, which was not offered"),
        );
    }
}

/// Every request that we cannot grant is answered with what we would; the fifth is one too many.
#[test]
fn methods_and_modes_that_we_refuse() {
    let requests = [
        AuthRequest {
            method: 2,
            ..auth_request()
        },
        AuthRequest {
            preferred_modes: vec![2],
            ..auth_request()
        },
        AuthRequest {
            preferred_modes: Vec::new(),
            ..auth_request()
        },
        AuthRequest {
            method: 0,
            ..auth_request()
        },
    ];
    let refused_as_often_as_allowed = || {
        let mut connection = End::Acceptor.reach(State::AuthAccepting);
        for request in &requests {
            let told = feed(&mut connection, &frame(request)).unwrap();
            assert_eq!(
                told,
                [Event::AuthRefused(Box::new(AuthError::Method(
                    request.method
                )))]
            );
            assert_eq!(connection.state(), State::AuthAccepting);
            let refusal = AuthBadMethod {
                method: request.method,
                result: -95,
                allowed_methods: vec![1],
                allowed_modes: vec![1],
            };
            assert_eq!(transmitted(&mut connection), frame(&refusal));
        }
        connection
    };
    let mut connection = refused_as_often_as_allowed();
    feed(&mut connection, &frame(&auth_request())).unwrap();
    assert_eq!(connection.state(), State::SignAccepting);

    End::Acceptor.refuses(
        refused_as_often_as_allowed,
        &frame(&requests[0]),
        PeerMisbehaved::TooManyAuthAttempts(5),
        "not authenticated in 5 attempts",
    );
}

/// An identity is right only in all its parts: type, address, port and nonce.
fn almost_target() -> [EntityAddr; 4] {
    let other = |text: &str| EntityAddr::msgr2(text.parse().unwrap(), 30);
    [
        EntityAddr {
            kind: AddrType::Legacy,
            ..target()
        },
        EntityAddr {
            nonce: 31,
            ..target()
        },
        other("10.0.0.3:6801"),
        other("10.0.0.4:6800"),
    ]
}

#[test]
fn somebody_who_dialled_another_address() {
    for dialled in almost_target() {
        let ident = ClientIdent {
            target: dialled,
            ..client_ident()
        };
        End::Acceptor.refuses(
            || End::Acceptor.reach(State::SessionAccepting),
            &frame(&ident),
            PeerMisbehaved::WrongTarget {
                target: dialled,
                ours: Box::new(target().into()),
            },
            &format!("the peer dialled {dialled}, we are v2:10.0.0.3:6800/30"),
        );
    }
    // Who is not bound anywhere cannot have been dialled.
    let mut config = server_config();
    config.addrs = EntityAddrVec::default();
    End::Acceptor.refuses(
        || End::Acceptor.reach_as(config.clone(), Revision::Rev1, State::SessionAccepting),
        &frame(&client_ident()),
        PeerMisbehaved::WrongTarget {
            target: target(),
            ours: Box::new(EntityAddr::any("10.0.0.3:0".parse().unwrap(), 30).into()),
        },
        "the peer dialled v2:10.0.0.3:6800/30, we are any:10.0.0.3:0/30",
    );
}

#[test]
fn somebody_else_at_the_address_that_we_dialled() {
    let nobody = EntityAddrVec::default();
    let others = almost_target().into_iter().collect();
    for addrs in [nobody, others] {
        let ident = ServerIdent {
            addrs: addrs.clone(),
            ..server_ident()
        };
        let text = format!("dialled v2:10.0.0.3:6800/30, the peer is {addrs}");
        End::Connector.refuses(
            || End::Connector.reach(State::SessionConnecting),
            &frame(&ident),
            PeerMisbehaved::WrongIdentity {
                target: target(),
                theirs: Box::new(addrs),
            },
            &text,
        );
    }
}

#[test]
fn a_client_without_an_address() {
    let ident = ClientIdent {
        addrs: EntityAddrVec::default(),
        ..client_ident()
    };
    End::Acceptor.refuses(
        || End::Acceptor.reach(State::SessionAccepting),
        &frame(&ident),
        Malformed::Payload {
            tag: Tag::ClientIdent,
            source: wire::Malformed::Empty {
                what: "own addresses",
            },
        },
        "bad CLIENT_IDENT frame: own addresses: empty",
    );
}
