//! One side of a captured session, played to a [`Connection`] that stands in for the other.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use msgr_protocol::auth::AuthNone;
use msgr_protocol::compression::Algorithm;
use msgr_protocol::wire::{
    AuthBadMethod, AuthDone, AuthRequest, AuthSignature, ClientIdent, Control, Hello, Keepalive2,
    Keepalive2Ack, Reader, ServerIdent, Tag, ident_flags,
};
use msgr_protocol::{
    AuthName, Cause, Config, Connection, ConnectionError, EntityName, EntityType, Event,
    FeaturePair, Features, Message, Opening, PeerMisbehaved, PerPeer, Policy, State,
};

use super::{agreed, find, frames, handshake, message, stream, write_frame, written};

/// The captured connections without authentication.
const SESSIONS: [&str; 5] = [
    "mon-crc-none.0",
    "rados-crc-none.0",
    "rados-crc-none.1",
    "rados-crc-none.2",
    "rados-crc-none.3",
];

/// Both sides of a captured connection, and what they said about themselves.
pub(super) struct Session {
    pub(super) client: Vec<u8>,
    pub(super) server: Vec<u8>,
    pub(super) client_hello: Hello,
    pub(super) server_hello: Hello,
    pub(super) request: AuthRequest,
    pub(super) client_ident: ClientIdent,
    pub(super) server_ident: ServerIdent,
}

impl Session {
    pub(super) fn new(name: &str) -> Self {
        let client = stream(&format!("{name}.client"));
        let server = stream(&format!("{name}.server"));
        Self {
            client_hello: find(&client),
            server_hello: find(&server),
            request: find(&client),
            client_ident: find(&client),
            server_ident: find(&server),
            client,
            server,
        }
    }

    /// Where the sockets were: the client's, the server's.
    fn sockets(&self) -> (SocketAddr, SocketAddr) {
        let seen = |hello: &Hello| hello.peer_addr.socket.unwrap();
        (seen(&self.server_hello), seen(&self.client_hello))
    }

    /// The name and global id in the request.
    fn claim(&self) -> (AuthName, u64) {
        let mut reader = Reader::new(&self.request.payload[1..]);
        let name = AuthName::decode(&mut reader).unwrap();
        (name, reader.u64("global id").unwrap())
    }

    /// By what either compresses: for OSDs, as Ceph does.
    fn algorithms(&self) -> PerPeer<Vec<Algorithm>> {
        let asked = frames(&self.client).iter().find_map(agreed);
        PerPeer::new(Vec::new()).with(EntityType::Osd, asked.into_iter().collect())
    }

    /// The client as it was.
    pub(super) fn connector(&self) -> Connection {
        let ident = &self.client_ident;
        let name = EntityName {
            kind: self.client_hello.entity_type,
            num: ident.gid,
        };
        let mut config = Config::new(name, Policy::LOSSY_CLIENT);
        let (name, global_id) = self.claim();
        config.auth = Arc::new(AuthNone::new(name).with_global_id(global_id));
        config.compression.algorithms = self.algorithms();
        config.nonce = ident.addrs.iter().next().unwrap().nonce;
        config.features = FeaturePair {
            supported: ident.supported,
            required: ident.required,
        };
        let kind = self.server_hello.entity_type;
        Connection::connect(
            Arc::new(config),
            ident.target,
            kind,
            self.sockets(),
            opening(ident.global_seq),
        )
    }

    /// The server as it was.
    pub(super) fn acceptor(&self) -> Connection {
        let ident = &self.server_ident;
        let name = EntityName {
            kind: self.server_hello.entity_type,
            num: ident.gid,
        };
        let mut config = Config::new(name, Policy::STATELESS_SERVER);
        config.compression.algorithms = self.algorithms();
        config.addrs = ident.addrs.clone();
        config.features = FeaturePair {
            supported: ident.supported,
            required: ident.required,
        };
        let (client, server) = self.sockets();
        Connection::accept(
            Arc::new(config),
            (server, client),
            opening(ident.global_seq),
        )
    }
}

fn opening(global_seq: u64) -> Opening {
    Opening {
        global_seq,
        cookie: 1,
    }
}

/// What is told of a stream: the events, and the messages that some of them tell of.
pub(super) type Told = (Vec<Event>, Vec<Message>);

/// Feeds the stream in pieces of `size` bytes.
pub(super) fn play(
    connection: &mut Connection,
    stream: &[u8],
    size: usize,
) -> Result<Told, ConnectionError> {
    let (mut events, mut messages) = Told::default();
    for piece in stream.chunks(size) {
        connection.receive(Bytes::copy_from_slice(piece));
        while let Some(event) = connection.poll()? {
            if event == Event::Message {
                messages.push(connection.take_message());
            }
            events.push(event);
        }
    }
    Ok((events, messages))
}

/// What the receiver of a stream must be told: that it is ready, then every message and answer.
pub(super) fn expected(stream: &[u8]) -> Told {
    let (mut events, mut messages) = (vec![Event::Ready], Vec::new());
    for frame in frames(stream) {
        match frame.tag {
            Tag::Message => {
                events.push(Event::Message);
                messages.push(message(frame));
            }
            Tag::Keepalive2Ack => {
                let ack = Keepalive2Ack::decode(&frame.segments[0].contiguous()).unwrap();
                events.push(Event::KeepaliveAck(ack.stamp));
            }
            _ => {}
        }
    }
    (events, messages)
}

pub(super) fn transmitted(connection: &mut Connection) -> Vec<u8> {
    written(|writer| connection.transmit(writer, usize::MAX))
}

/// Plays one side of every session to what `other_end` makes: in pieces of every size it must tell
/// the same, and answer with the same bytes.
fn play_sessions(
    side: fn(&Session) -> &[u8],
    other_end: fn(&Session) -> Connection,
    answers: fn(&Session) -> BytesMut,
) {
    for name in SESSIONS {
        let session = Session::new(name);
        let stream = side(&session);
        let (expected, answers) = (expected(stream), answers(&session));
        for size in (1..=64).chain([stream.len()]) {
            let mut connection = other_end(&session);
            let told = play(&mut connection, stream, size).unwrap();
            assert_eq!(told, expected, "{name} in pieces of {size}");
            assert_eq!(connection.state(), State::Ready);
            assert!(!connection.is_mid_frame());
            assert_eq!(transmitted(&mut connection), answers, "{name} by {size}");
        }
    }
}

#[test]
fn what_servers_sent_makes_a_connector_ready() {
    play_sessions(
        |session| &session.server,
        Session::connector,
        |session| {
            let ident = ClientIdent {
                // Our sessions are lossy, and have no cookie; two of the captured ones were not.
                flags: ident_flags::LOSSY,
                cookie: 0,
                ..session.client_ident.clone()
            };
            // The rest is what Ceph's own client sent, byte for byte.
            handshake!(
                session.client_hello,
                session.request,
                AuthSignature([0; 32]),
                ident
            )
        },
    );
}

#[test]
fn what_clients_sent_makes_an_acceptor_ready() {
    play_sessions(
        |session| &session.client,
        Session::acceptor,
        |session| {
            let done = AuthDone {
                // Who claims no id is given one, and our numbers are not that monitor's.
                global_id: match session.claim() {
                    (_, 0) => session.server_ident.global_seq,
                    (_, claimed) => claimed,
                },
                ..find(&session.server)
            };
            // The rest is what Ceph's own daemon sent, byte for byte.
            let mut out = handshake!(
                session.server_hello,
                done,
                AuthSignature([0; 32]),
                session.server_ident
            );
            for frame in frames(&session.client) {
                if frame.tag == Tag::Keepalive2 {
                    let stamp = Keepalive2::decode(&frame.segments[0].contiguous());
                    let Keepalive2 { stamp } = stamp.unwrap();
                    write_frame(&Keepalive2Ack { stamp }, &mut out);
                }
            }
            out
        },
    );
}

#[test]
fn what_is_known_of_a_captured_peer() {
    let session = Session::new("rados-crc-none.3");
    let mut connector = session.connector();
    play(&mut connector, &session.server, usize::MAX).unwrap();
    let peer = connector.peer();
    assert_eq!(peer.to_string(), "osd.0 at 127.0.0.1:6800");
    assert_eq!(
        peer.addrs.to_string(),
        "[v2:127.0.0.1:6800/2616,v1:127.0.0.1:6801/2616]"
    );
    assert_eq!(peer.features, Features(0x3f01_cfbd_fffd_ffff));
    assert!(peer.lossy);

    let mut acceptor = session.acceptor();
    play(&mut acceptor, &session.client, usize::MAX).unwrap();
    let peer = acceptor.peer();
    assert_eq!(peer.to_string(), "client.4112 at 127.0.0.1:52518");
    assert_eq!(peer.addrs.to_string(), "any:127.0.0.1:0/3999933066");
    assert_eq!(peer.global_id, 4112);
    assert!(peer.lossy);
}

/// The sessions with authentication end where they ask for it.
#[test]
fn cephx_is_refused_by_name() {
    let session = Session::new("rados-crc-none.2");
    let mut connector = session.connector();
    let error = play(&mut connector, &stream("rados-crc-cephx.2.server"), 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mon at 127.0.0.1:3300: unexpected AUTH_REPLY_MORE frame (in state AUTH_CONNECTING)"
    );

    let mut acceptor = session.acceptor();
    let error = play(&mut acceptor, &stream("rados-crc-cephx.2.client"), 1).unwrap_err();
    let unexpected = PeerMisbehaved::UnexpectedFrame(Tag::AuthRequestMore);
    assert_eq!(error.cause, Cause::from(unexpected));
    assert_eq!(error.state, State::AuthAccepting);
    let refused: AuthBadMethod = find(&transmitted(&mut acceptor));
    assert_eq!((refused.method, refused.result), (2, -95));
}
