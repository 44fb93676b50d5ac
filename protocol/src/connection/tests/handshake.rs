//! From the banner to READY, both ends.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::pair::{Chop, Pair};
use super::script::{
    End, auth_request, client_config, client_ident, client_socket, feed, frame, layout, numbered,
    opening, server_config, server_ident, server_socket, session_reconnect, target, transmitted,
};
use crate::auth::AuthNone;
use crate::config::{Config, PerPeer};
use crate::connection::{Connection, Event, State};
use crate::frame::{FrameReader, Layout, Limits, Revision};
use crate::peer::Peer;
use crate::policy::Policy;
use crate::wire::{
    AuthDone, ClientIdent, Control, EntityAddr, EntityAddrVec, EntityName, EntityType, Features,
    Mode, ServerIdent, SessionReset, Tag, features,
};

fn with_revision(mut config: Config, revision: Revision) -> Config {
    config.banner.supported = match revision {
        Revision::Rev0 => Features::default(),
        Revision::Rev1 => features::REVISION_1,
    };
    config
}

/// The names of the frames, `banner` for a banner.
fn names(layout: Layout, mut sent: &[u8]) -> String {
    let mut names = Vec::new();
    if sent.starts_with(b"ceph v2\n") {
        names.push("banner");
        sent = &sent[26..];
    }
    let mut reader = FrameReader::new(layout, Limits::default());
    reader.push(Bytes::copy_from_slice(sent));
    while let Some(frame) = reader.next_frame().unwrap() {
        names.push(frame.tag.name());
    }
    assert!(!reader.is_mid_frame());
    names.join(" ")
}

#[test]
fn both_ends_become_ready_and_know_each_other() {
    use Revision::{Rev0, Rev1};
    for (client, server, common) in [
        (Rev1, Rev1, Rev1),
        (Rev1, Rev0, Rev0),
        (Rev0, Rev1, Rev0),
        (Rev0, Rev0, Rev0),
    ] {
        let client = with_revision(client_config(), client);
        let server = with_revision(server_config(), server);
        let Pair { client, server } = Pair::ready(client, server);
        for side in [&client, &server] {
            assert_eq!(side.connection.state(), State::Ready);
            assert_eq!(side.connection.stream.assembler.layout().revision, common);
            assert!(!side.connection.is_mid_frame());
            assert!(!side.connection.wants_transmit());
        }
        let known_to_client = Peer {
            socket: server_socket(),
            kind: Some(EntityType::Osd),
            name: Some(EntityName {
                kind: EntityType::Osd,
                num: 3,
            }),
            addrs: target().into(),
            global_id: 4112,
            principal: None,
            mode: Some(Mode::Crc),
            compression: None,
            features: features::SUPPORTED,
            lossy: true,
        };
        assert_eq!(*client.connection.peer(), known_to_client);
        assert_eq!(client.connection.policy(), Policy::LOSSY_CLIENT);
        let known_to_server = Peer {
            socket: client_socket(),
            kind: Some(EntityType::Client),
            name: Some(EntityName {
                kind: EntityType::Client,
                num: 7,
            }),
            addrs: "any:10.0.0.7:0/70".parse().unwrap(),
            global_id: 4112,
            principal: None,
            mode: Some(Mode::Crc),
            compression: None,
            features: features::SUPPORTED,
            lossy: true,
        };
        assert_eq!(*server.connection.peer(), known_to_server);
        assert_eq!(server.connection.policy(), Policy::STATELESS_SERVER);
    }
}

#[test]
fn three_round_trips_and_not_one_more() {
    for revision in [Revision::Rev0, Revision::Rev1] {
        let layout = layout(revision);
        let mut pair = Pair::new(client_config(), with_revision(server_config(), revision));
        // Messages that are there from the start go as soon as each end is ready.
        pair.client.connection.send(numbered(0)).unwrap();
        pair.server.connection.send(numbered(0)).unwrap();
        let flights: [[&str; 2]; 8] = [
            ["banner", "banner"],
            ["HELLO", "HELLO"],
            ["AUTH_REQUEST", ""],
            ["", "AUTH_DONE AUTH_SIGNATURE"],
            ["AUTH_SIGNATURE CLIENT_IDENT", ""],
            ["", "SERVER_IDENT MESSAGE"],
            ["MESSAGE", ""],
            ["", ""],
        ];
        let state = |pair: &Pair| {
            let Pair { client, server } = pair;
            [client.connection.state(), server.connection.state()]
        };
        let states = [
            [State::HelloConnecting, State::HelloAccepting],
            [State::AuthConnecting, State::AuthAccepting],
            [State::AuthConnecting, State::SignAccepting],
            [State::SessionConnecting, State::SignAccepting],
            [State::SessionConnecting, State::Ready],
            [State::Ready, State::Ready],
            [State::Ready, State::Ready],
            [State::Ready, State::Ready],
        ];
        assert_eq!(
            state(&pair),
            [State::BannerConnecting, State::BannerAccepting]
        );
        for (expected, then) in flights.into_iter().zip(states) {
            let sent = pair.flight(Chop::WHOLE);
            assert_eq!(sent.map(|sent| names(layout, &sent)), expected);
            assert_eq!(state(&pair), then, "after {expected:?}");
        }
    }
}

#[test]
fn neither_end_waits_for_the_other_with_banner_and_hello() {
    for end in End::BOTH {
        let mut connection = end.connection(end.config());
        let banner = transmitted(&mut connection);
        assert_eq!(
            banner,
            *b"ceph v2\n\x10\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        );
        // The banner of the peer is enough; an acceptor need not hear HELLO first.
        feed(&mut connection, &banner).unwrap();
        let hello = transmitted(&mut connection);
        assert_eq!(names(connection.stream.assembler.layout(), &hello), "HELLO");
    }
}

/// The first frame of its kind among all that one end sent.
fn sent<C: Control>(sent: &[u8]) -> C {
    let mut reader = FrameReader::new(layout(Revision::Rev1), Limits::default());
    reader.push(Bytes::copy_from_slice(&sent[26..]));
    let mut frames = std::iter::from_fn(|| reader.next_frame().unwrap());
    let frame = frames.find(|frame| frame.tag == C::TAG).unwrap();
    C::decode(&frame.segments[0].contiguous()).unwrap()
}

#[test]
fn cut_anywhere_the_handshake_is_the_same() {
    for revision in [Revision::Rev0, Revision::Rev1] {
        let start = || {
            let mut pair = Pair::new(with_revision(client_config(), revision), server_config());
            for side in [&mut pair.client, &mut pair.server] {
                let mut message = numbered(0);
                message.front = vec![1; 33].into();
                message.data = vec![2; 77].into();
                side.connection.send(message).unwrap();
            }
            pair
        };
        let mut whole = start();
        let bytes = whole.settle(Chop::WHOLE);
        let longest = bytes.iter().map(Vec::len).max().unwrap();
        assert!(
            longest > 400,
            "{longest} bytes are no handshake with a message"
        );
        assert_eq!(whole.client.events.len(), 2);
        let sizes = (1..=longest).map(Chop::Every);
        for chop in sizes.chain((1..longest).map(Chop::At)) {
            let mut pair = start();
            assert_eq!(pair.settle(chop), bytes, "{chop:?}");
            for (side, whole) in [(&pair.client, &whole.client), (&pair.server, &whole.server)] {
                assert_eq!(side.events, whole.events, "{chop:?}");
                assert_eq!(side.connection.peer(), whole.connection.peer());
                assert_eq!(side.error.as_ref().map(ToString::to_string), None);
            }
        }
    }
}

#[test]
fn who_claims_no_global_id_is_given_one() {
    let mut config = client_config();
    config.auth = Arc::new(AuthNone::new(config.name.into()));
    let pair = Pair::ready(config, server_config());
    for side in [&pair.client, &pair.server] {
        // The server's place in its sequence of connections: nobody else has that.
        assert_eq!(side.connection.peer().global_id, 2);
    }
}

#[test]
fn the_id_is_the_one_that_the_acceptor_says() {
    let mut connection = End::Connector.reach(State::AuthConnecting);
    let done = AuthDone {
        global_id: 99,
        con_mode: 1,
        payload: Bytes::from_static(b"of the method"),
    };
    feed(&mut connection, &frame(&done)).unwrap();
    assert_eq!(connection.peer().global_id, 99);
}

#[test]
fn the_crc_mode_need_not_be_the_preferred_one() {
    let mut connection = End::Acceptor.reach(State::AuthAccepting);
    let mut request = auth_request();
    request.preferred_modes = vec![2, 7, 1];
    feed(&mut connection, &frame(&request)).unwrap();
    assert_eq!(connection.state(), State::SignAccepting);
}

/// Two ends whose sockets are at `client` and `server`, as far as each knows its own.
fn at(
    (client, client_config): (&str, Config),
    (server, server_config): (&str, Config),
    [seen_client, dialled]: [&str; 2],
) -> Pair {
    let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
    let mut pair = Pair::new(client_config.clone(), server_config.clone());
    pair.client.connection = Connection::connect(
        Arc::new(client_config),
        EntityAddr::msgr2(socket(dialled), 30),
        EntityType::Osd,
        (socket(client), socket(dialled)),
        opening(1),
    );
    pair.server.connection = Connection::accept(
        Arc::new(server_config),
        (socket(server), socket(seen_client)),
        opening(2),
    );
    pair
}

#[test]
fn addresses_are_those_that_the_peer_sees() {
    let bound = |mut config: Config, addrs: &str| {
        config.addrs = addrs.parse().unwrap();
        config
    };
    for (client, server, sockets, idents) in [
        // A client that is bound to nothing, and does not know its address.
        (
            ("0.0.0.0:0", bound(client_config(), "[]")),
            (
                "10.0.0.3:6800",
                bound(server_config(), "v2:10.0.0.3:6800/30"),
            ),
            ["10.0.0.7:40000", "10.0.0.3:6800"],
            ["any:10.0.0.7:0/70", "v2:10.0.0.3:6800/30"],
        ),
        // Behind an address translator.
        (
            ("192.168.0.2:40000", bound(client_config(), "[]")),
            (
                "10.0.0.3:6800",
                bound(server_config(), "v2:10.0.0.3:6800/30"),
            ),
            ["10.0.0.7:1234", "10.0.0.3:6800"],
            ["any:10.0.0.7:0/70", "v2:10.0.0.3:6800/30"],
        ),
        // Both bound to all addresses of their hosts: each is the address that the other one uses.
        (
            (
                "0.0.0.0:40000",
                bound(client_config(), "v2:0.0.0.0:6900/70"),
            ),
            (
                "10.0.0.3:6800",
                bound(server_config(), "v2:0.0.0.0:6800/30"),
            ),
            ["10.0.0.7:40000", "10.0.0.3:6800"],
            ["v2:10.0.0.7:6900/70", "v2:10.0.0.3:6800/30"],
        ),
        // IPv6, and a second address for version 1.
        (
            ("[::]:0", bound(client_config(), "[]")),
            (
                "[fd00::3]:6800",
                bound(server_config(), "[v2:[::]:6800/30,v1:[::]:6801/30]"),
            ),
            ["[fd00::7]:40000", "[fd00::3]:6800"],
            [
                "any:[fd00::7]:0/70",
                "[v2:[fd00::3]:6800/30,v1:[fd00::3]:6801/30]",
            ],
        ),
    ] {
        let mut pair = at(client, server, sockets);
        let [from_client, from_server] = pair.settle(Chop::WHOLE);
        assert_eq!(pair.client.events, [Event::Ready]);
        assert_eq!(pair.server.events, [Event::Ready]);
        let ident: ClientIdent = sent(&from_client);
        assert_eq!(ident.addrs.to_string(), idents[0]);
        assert_eq!(pair.server.connection.peer().addrs, ident.addrs);
        let ident: ServerIdent = sent(&from_server);
        assert_eq!(ident.addrs.to_string(), idents[1]);
        assert_eq!(pair.client.connection.peer().addrs, ident.addrs);
    }
}

#[test]
fn idents_say_what_we_are() {
    let mut pair = Pair::new(client_config(), server_config());
    let [from_client, from_server] = pair.settle(Chop::WHOLE);
    assert_eq!(sent::<ClientIdent>(&from_client), client_ident());
    assert_eq!(sent::<ServerIdent>(&from_server), server_ident());
}

#[test]
fn a_policy_is_that_for_the_kind_of_peer() {
    let lossless = Policy::STATEFUL_SERVER;
    let mut server = server_config();
    server.policies = PerPeer::new(Policy::STATELESS_SERVER).with(EntityType::Osd, lossless);
    let mut peer_osd = client_config();
    peer_osd.name.kind = EntityType::Osd;
    peer_osd.policies = PerPeer::new(Policy::LOSSLESS_CLIENT);
    let policy_for = |client| {
        Pair::ready(client, server.clone())
            .server
            .connection
            .policy()
    };
    assert_eq!(policy_for(client_config()), Policy::STATELESS_SERVER);
    assert_eq!(policy_for(peer_osd), lossless);
}

#[test]
fn the_server_decides_whether_the_session_is_lossy() {
    let lossless = PerPeer::new(Policy::LOSSLESS_CLIENT);
    for (server_policy, lossy) in [(None, true), (Some(lossless.clone()), false)] {
        let mut client = client_config();
        client.policies = lossless.clone();
        let mut server = server_config();
        if let Some(policies) = server_policy {
            server.policies = policies;
        }
        let pair = Pair::ready(client, server);
        let (client, server) = (&pair.client.connection, &pair.server.connection);
        assert!(!server.peer().lossy, "what the client said");
        assert_eq!(client.peer().lossy, lossy, "what the server said");
        assert_eq!(client.policy().lossy, lossy, "what holds");
    }
}

#[test]
fn a_session_that_nobody_has_any_more_is_opened_anew() {
    let mut connection = End::Acceptor.reach(State::SessionAccepting);
    for _ in 0..2 {
        let reconnect = frame(&session_reconnect());
        assert_eq!(feed(&mut connection, &reconnect).unwrap(), []);
        let reset = frame(&SessionReset { full: true });
        assert_eq!(transmitted(&mut connection), reset);
        assert_eq!(connection.state(), State::SessionAccepting);
    }
    let ident = frame(&client_ident());
    assert_eq!(feed(&mut connection, &ident).unwrap(), [Event::Ready]);
    assert_eq!(
        names(
            connection.stream.assembler.layout(),
            &transmitted(&mut connection)
        ),
        Tag::ServerIdent.name()
    );
    assert_eq!(
        connection.peer().addrs,
        EntityAddrVec::from(EntityAddr::any("10.0.0.7:0".parse().unwrap(), 70))
    );
}
