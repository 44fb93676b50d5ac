//! The connector's end of a connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::driver::OPENING;
use bytes::Bytes;
use msgr_protocol::wire::{
    Ack, AuthBadMethod, AuthDone, AuthReplyMore, AuthSignature, Hello, IdentMissingFeatures,
    Keepalive2, Keepalive2Ack, ServerIdent, SessionReset, Tag, Timestamp, Wait, features,
    ident_flags,
};
use msgr_protocol::{
    Config, Connection, EntityAddr, EntityAddrVec, EntityName, EntityType, Features, Policy, State,
};

use super::driver::{Choices, Side, Volume, run};
use super::input::Input;
use super::script::Template;

/// Connects to a peer that sends whatever the fuzzer likes.
pub fn connector(data: &[u8]) {
    connect(&mut Input::new(data), Volume::Usual);
}

pub(super) fn connect(input: &mut Input<'_>, volume: Volume) {
    let choices = Choices::new(input);
    let name = EntityName {
        kind: EntityType::Client,
        num: 4242,
    };
    let mut config = Config::new(name, Policy::LOSSY_CLIENT);
    choices.configure(&mut config);
    let (to_osd, bound) = choices.side();
    if bound {
        config.addrs = EntityAddr::msgr2(at(6789), 17).into();
    }
    // As in the captures.
    let (kind, target) = if to_osd {
        (EntityType::Osd, EntityAddr::msgr2(at(6800), 2616))
    } else {
        (EntityType::Mon, EntityAddr::msgr2(at(3300), 0))
    };
    let config = Arc::new(config);
    let sockets = (at(50_000), target.socket.expect("given above"));
    let connection = Connection::connect(config.clone(), target, kind, sockets, OPENING);
    let side = Side {
        config,
        templates: templates(kind, target),
        handshake: 0..4,
        legal,
        order: &[
            &[Tag::Hello],
            &[Tag::AuthRequest],
            &[Tag::AuthSignature],
            &[Tag::ClientIdent],
        ],
    };
    run(connection, &side, choices, volume, input);
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn legal(state: State, tag: Tag) -> Option<&'static [State]> {
    Some(match (state, tag) {
        (State::HelloConnecting, Tag::Hello) => &[State::AuthConnecting],
        (State::AuthConnecting, Tag::AuthDone) => &[State::SignConnecting],
        (State::SignConnecting, Tag::AuthSignature) => &[State::SessionConnecting],
        (State::SessionConnecting, Tag::ServerIdent) => &[State::Ready],
        (State::AuthConnecting, Tag::AuthBadMethod | Tag::AuthReplyMore)
        | (State::SessionConnecting, Tag::IdentMissingFeatures | Tag::Wait) => &[],
        _ => return None,
    })
}

fn templates(kind: EntityType, target: EntityAddr) -> Vec<Template> {
    let hello = Hello {
        entity_type: kind,
        peer_addr: EntityAddr::msgr2(at(50_000), 0),
    };
    let auth_done = AuthDone {
        global_id: 4096,
        con_mode: 1,
        payload: Bytes::new(),
    };
    let ident = ServerIdent {
        addrs: [target, EntityAddr::any(at(6789), 5)].into_iter().collect(),
        gid: 3,
        global_seq: 9,
        supported: features::SUPPORTED,
        required: features::MSG_ADDR2,
        flags: ident_flags::LOSSY,
        cookie: 0,
    };
    let stamp = Timestamp { sec: 1, nsec: 2 };
    vec![
        Template::new(&hello, State::AuthConnecting),
        Template::new(&auth_done, State::SignConnecting),
        Template::new(&AuthSignature([0; 32]), State::SessionConnecting),
        Template::new(&ident, State::Ready),
        Template::new(
            &Hello {
                entity_type: EntityType::Mgr,
                ..hello
            },
            State::Closed,
        ),
        Template::new(
            &AuthDone {
                con_mode: 2,
                ..auth_done
            },
            State::Closed,
        ),
        Template::new(&AuthSignature([1; 32]), State::Closed),
        Template::new(
            &ServerIdent {
                addrs: EntityAddrVec::default(),
                ..ident.clone()
            },
            State::Closed,
        ),
        Template::new(
            &ServerIdent {
                supported: Features::default(),
                ..ident.clone()
            },
            State::Closed,
        ),
        Template::new(
            &ServerIdent {
                required: Features(u64::MAX),
                ..ident
            },
            State::Closed,
        ),
        Template::new(
            &AuthBadMethod {
                method: 1,
                result: -95,
                allowed_methods: vec![2],
                allowed_modes: vec![1, 2],
            },
            State::Closed,
        ),
        Template::new(&AuthReplyMore(Bytes::from_static(b"more")), State::Closed),
        Template::new(
            &IdentMissingFeatures {
                features: features::MSG_ADDR2,
            },
            State::Closed,
        ),
        Template::new(&SessionReset { full: true }, State::Closed),
        Template::new(&Wait, State::Closed),
        Template::new(&Keepalive2 { stamp }, None),
        Template::new(&Keepalive2Ack { stamp }, None),
        Template::new(&Ack { seq: 1 }, None),
    ]
}
