//! The acceptor's end of a connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::driver::OPENING;
use bytes::Bytes;
use msgr_protocol::wire::{
    Ack, AuthRequest, AuthSignature, ClientIdent, Hello, Keepalive2, Keepalive2Ack,
    SessionReconnect, Tag, Timestamp, features, ident_flags,
};
use msgr_protocol::{
    Config, Connection, EntityAddr, EntityAddrVec, EntityName, EntityType, Features, Policy, State,
};

use super::driver::{Choices, Side, Volume, run};
use super::input::Input;
use super::script::Template;

const MON_PORT: u16 = 3300;
/// The captures of OSD connections dial this one.
const OSD: (u16, u32) = (6800, 2616);

/// Accepts a connection from a peer that sends whatever the fuzzer likes.
pub fn acceptor(data: &[u8]) {
    accept(&mut Input::new(data), Volume::Usual);
}

pub(super) fn accept(input: &mut Input<'_>, volume: Volume) {
    let choices = Choices::new(input);
    let name = EntityName {
        kind: EntityType::Mon,
        num: 0,
    };
    let mut config = Config::new(name, Policy::STATELESS_SERVER);
    choices.configure(&mut config);
    let (insists, bound_to_any) = choices.side();
    if insists {
        config.banner.required = config.banner.supported;
    }
    let mut mon = at(MON_PORT);
    if bound_to_any {
        mon.set_ip(Ipv4Addr::UNSPECIFIED.into());
    }
    config.addrs = [
        EntityAddr::msgr2(mon, 0),
        EntityAddr::msgr2(at(OSD.0), OSD.1),
    ]
    .into_iter()
    .collect();
    let config = Arc::new(config);
    let connection = Connection::accept(config.clone(), (at(MON_PORT), at(50_000)), OPENING);
    let side = Side {
        config,
        templates: templates(),
        handshake: 0..4,
        legal,
        order: &[
            &[Tag::Hello],
            &[Tag::AuthBadMethod],
            &[Tag::AuthDone],
            &[Tag::AuthSignature],
            &[Tag::IdentMissingFeatures, Tag::SessionReset],
            &[Tag::ServerIdent],
        ],
    };
    run(connection, &side, choices, volume, input);
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn legal(state: State, tag: Tag) -> Option<&'static [State]> {
    Some(match (state, tag) {
        (State::HelloAccepting, Tag::Hello) => &[State::AuthAccepting],
        (State::AuthAccepting, Tag::AuthRequest) => &[State::AuthAccepting, State::SignAccepting],
        (State::SignAccepting, Tag::AuthSignature)
        | (State::SessionAccepting, Tag::SessionReconnect) => &[State::SessionAccepting],
        (State::SessionAccepting, Tag::ClientIdent) => &[State::SessionAccepting, State::Ready],
        _ => return None,
    })
}

fn templates() -> Vec<Template> {
    let addrs = EntityAddrVec::from(EntityAddr::any(at(0), 4711));
    let target = EntityAddr::msgr2(at(MON_PORT), 0);
    let auth_request = AuthRequest {
        method: 1,
        preferred_modes: vec![2, 1],
        payload: Bytes::from_static(b"\x0a\x08\0\0\0\x05\0\0\0admin\0\0\0\0\0\0\0\0"),
    };
    let ident = ClientIdent {
        addrs: addrs.clone(),
        target,
        gid: 4242,
        global_seq: 1,
        supported: features::SUPPORTED,
        required: features::MSG_ADDR2,
        flags: ident_flags::LOSSY,
        cookie: 0,
    };
    let stamp = Timestamp { sec: 1, nsec: 2 };
    vec![
        Template::new(
            &Hello {
                entity_type: EntityType::Client,
                peer_addr: target,
            },
            State::AuthAccepting,
        ),
        Template::new(&auth_request, State::SignAccepting),
        Template::new(&AuthSignature([0; 32]), State::SessionAccepting),
        Template::new(&ident, State::Ready),
        Template::new(
            &AuthRequest {
                method: 2,
                ..auth_request.clone()
            },
            // A refusal, but not for ever.
            None,
        ),
        Template::new(
            &AuthRequest {
                payload: Bytes::new(),
                ..auth_request
            },
            State::SignAccepting,
        ),
        Template::new(&AuthSignature([1; 32]), State::Closed),
        Template::new(
            &ClientIdent {
                supported: Features::default(),
                ..ident.clone()
            },
            State::SessionAccepting,
        ),
        Template::new(
            &ClientIdent {
                target: EntityAddr::msgr2(at(MON_PORT), 1),
                ..ident
            },
            State::Closed,
        ),
        Template::new(
            &SessionReconnect {
                addrs,
                client_cookie: 1,
                server_cookie: 2,
                global_seq: 3,
                connect_seq: 4,
                msg_seq: 5,
            },
            State::SessionAccepting,
        ),
        Template::new(&Keepalive2 { stamp }, None),
        Template::new(&Keepalive2Ack { stamp }, None),
        Template::new(&Ack { seq: 1 }, None),
    ]
}
