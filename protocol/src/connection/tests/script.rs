//! One [`Connection`] whose peer is a script: bytes laid out by hand, correct up to a given state.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::auth::{AuthNone, method};
use crate::config::{Config, FeaturePair};
use crate::connection::{Connection, Event, Meeting, Opening, State};
use crate::error::{Cause, ConnectionError};
use crate::frame::{FrameWriter, HeapBlocks, Layout, Revision, TxQueue, write_control};
use crate::message::Message;
use crate::policy::Policy;
use crate::wire::{
    Ack, AuthBadMethod, AuthDone, AuthReplyMore, AuthRequest, AuthRequestMore, AuthSignature,
    ClientIdent, CompressionDone, CompressionRequest, Control, EntityAddr, EntityName, EntityType,
    Features, Hello, IdentMissingFeatures, Keepalive2, Keepalive2Ack, Mode, ServerIdent,
    SessionReconnect, SessionReconnectOk, SessionReset, SessionRetry, SessionRetryGlobal, Tag,
    Timestamp, Wait, features, ident_flags,
};

pub(super) const STAMP: Timestamp = Timestamp { sec: 1, nsec: 2 };

/// `client.7` connects from here, at a nonce of 70.
pub(super) fn client_socket() -> SocketAddr {
    "10.0.0.7:40000".parse().unwrap()
}

/// `osd.3` listens here, at a nonce of 30.
pub(super) fn server_socket() -> SocketAddr {
    "10.0.0.3:6800".parse().unwrap()
}

pub(super) fn target() -> EntityAddr {
    EntityAddr::msgr2(server_socket(), 30)
}

pub(super) fn client_config() -> Config {
    let name = EntityName {
        kind: EntityType::Client,
        num: 7,
    };
    let mut config = Config::new(name, Policy::LOSSY_CLIENT);
    config.nonce = 70;
    config.auth = Arc::new(AuthNone::new(name.into()).with_global_id(4112));
    config
}

pub(super) fn server_config() -> Config {
    let name = EntityName {
        kind: EntityType::Osd,
        num: 3,
    };
    let mut config = Config::new(name, Policy::STATELESS_SERVER);
    config.nonce = 30;
    config.addrs = target().into();
    config
}

/// The cookie is told from the place.
pub(super) fn opening(global_seq: u64) -> Opening {
    Opening {
        global_seq,
        cookie: 0xc0de_0000 + global_seq,
    }
}

pub(super) fn connector(config: Config) -> Connection {
    let sockets = (client_socket(), server_socket());
    Connection::connect(
        Arc::new(config),
        target(),
        EntityType::Osd,
        sockets,
        opening(1),
    )
}

pub(super) fn acceptor(config: Config) -> Connection {
    Connection::accept(
        Arc::new(config),
        (server_socket(), client_socket()),
        opening(2),
    )
}

pub(super) fn layout(revision: Revision) -> Layout {
    Layout {
        revision,
        data_crc: true,
    }
}

pub(super) fn banner(supported: Features, required: Features) -> Vec<u8> {
    let mut out = BytesMut::new();
    let features = FeaturePair {
        supported,
        required,
    };
    crate::connection::banner::write(features, &mut out);
    out.into()
}

pub(super) fn payload<C: Control>(frame: &C) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out.into()
}

/// A frame of one segment, whatever is in it.
pub(super) fn raw_frame(revision: Revision, tag: Tag, segment: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write_control(&mut layout(revision).into(), tag, segment, &mut out);
    out.into()
}

pub(super) fn frame<C: Control>(frame: &C) -> Vec<u8> {
    raw_frame(Revision::Rev1, C::TAG, &payload(frame))
}

/// A message as it is, sequence number included.
pub(super) fn message_frame(revision: Revision, message: &Message) -> Vec<u8> {
    let payloads = [&message.front, &message.middle, &message.data];
    written(|writer| {
        writer.frame(
            &mut layout(revision).into(),
            Tag::Message,
            &message.header.encode(),
            payloads,
        );
        writer.finish();
    })
}

fn written(write: impl FnOnce(&mut FrameWriter<'_>)) -> Vec<u8> {
    let (mut block, mut blocks, mut queue) = (BytesMut::new(), HeapBlocks, TxQueue::new());
    write(&mut FrameWriter::new(
        usize::MAX,
        &mut block,
        &mut blocks,
        &mut queue,
    ));
    queue.make_contiguous().concat()
}

/// All that the connection has to send, up to `budget` bytes of messages.
pub(super) fn transmitted_within(connection: &mut Connection, budget: usize) -> Vec<u8> {
    written(|writer| connection.transmit(writer, budget))
}

pub(super) fn transmitted(connection: &mut Connection) -> Vec<u8> {
    transmitted_within(connection, usize::MAX)
}

/// What a connection has told: its events, and the messages that some of them told of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) events: Vec<Event>,
    pub(super) messages: Vec<Message>,
}

impl Told {
    pub(super) fn extend(&mut self, later: Self) {
        self.events.extend(later.events);
        self.messages.extend(later.messages);
    }
}

impl Deref for Told {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        &self.events
    }
}

impl<const N: usize> PartialEq<[Event; N]> for Told {
    fn eq(&self, events: &[Event; N]) -> bool {
        self.events == events
    }
}

/// Hands over `bytes` and takes in what they say.
pub(super) fn feed(connection: &mut Connection, bytes: &[u8]) -> Result<Told, ConnectionError> {
    connection.receive(Bytes::copy_from_slice(bytes));
    let mut told = Told::default();
    while let Some(event) = connection.poll()? {
        match event {
            // Here nobody has a session already.
            Event::SessionRequested => {
                if connection.meet(None, 3)? == Meeting::Opened {
                    told.events.push(Event::Ready);
                }
            }
            event => {
                if event == Event::Message {
                    told.messages.push(connection.take_message());
                }
                told.events.push(event);
            }
        }
    }
    Ok(told)
}

/// What a connection asks room for in one poll, if it gets it for the first `admitted` times.
pub(super) fn asks(connection: &mut Connection, admitted: usize) -> (Vec<usize>, Option<Event>) {
    let mut asked = Vec::new();
    let admit = &mut |len| {
        asked.push(len);
        asked.len() <= admitted
    };
    let told = connection.poll_admitting(admit).unwrap();
    (asked, told)
}

/// The payload of a correct frame of each type; of a message its header.
pub(super) fn sound(tag: Tag) -> Vec<u8> {
    match tag {
        Tag::Hello => payload(&Hello {
            entity_type: EntityType::Client,
            peer_addr: target(),
        }),
        Tag::AuthRequest => payload(&auth_request()),
        Tag::AuthBadMethod => payload(&AuthBadMethod {
            method: 1,
            result: -13,
            allowed_methods: vec![2],
            allowed_modes: vec![1, 2],
        }),
        Tag::AuthReplyMore => payload(&AuthReplyMore(Bytes::from_static(b"more"))),
        Tag::AuthRequestMore => payload(&AuthRequestMore(Bytes::from_static(b"more"))),
        Tag::AuthDone => payload(&AuthDone {
            global_id: 4112,
            con_mode: Mode::Crc as u32,
            payload: Bytes::from_static(b"ignored"),
        }),
        Tag::AuthSignature => payload(&AuthSignature([0; 32])),
        Tag::ClientIdent => payload(&client_ident()),
        Tag::ServerIdent => payload(&server_ident()),
        Tag::IdentMissingFeatures => payload(&IdentMissingFeatures {
            features: Features(1 << 62),
        }),
        Tag::SessionReconnect => payload(&session_reconnect()),
        Tag::SessionReset => payload(&SessionReset { full: true }),
        Tag::SessionRetry => payload(&SessionRetry { connect_seq: 1 }),
        Tag::SessionRetryGlobal => payload(&SessionRetryGlobal { global_seq: 1 }),
        Tag::SessionReconnectOk => payload(&SessionReconnectOk { msg_seq: 1 }),
        Tag::Wait => payload(&Wait),
        Tag::Message => numbered(1).header.encode().to_vec(),
        Tag::Keepalive2 => payload(&Keepalive2 { stamp: STAMP }),
        Tag::Keepalive2Ack => payload(&Keepalive2Ack { stamp: STAMP }),
        Tag::Ack => payload(&Ack { seq: 1 }),
        Tag::CompressionRequest => payload(&CompressionRequest {
            is_compress: false,
            preferred_methods: vec![1],
        }),
        Tag::CompressionDone => payload(&CompressionDone {
            is_compress: false,
            method: 0,
        }),
    }
}

pub(super) fn auth_request() -> AuthRequest {
    AuthRequest {
        method: method::NONE,
        preferred_modes: vec![Mode::Secure as u32, Mode::Crc as u32],
        payload: {
            let prover = client_config().auth.prove(method::NONE, EntityType::Osd);
            prover.unwrap().request().unwrap()
        },
    }
}

pub(super) fn client_ident() -> ClientIdent {
    ClientIdent {
        addrs: EntityAddr::any("10.0.0.7:0".parse().unwrap(), 70).into(),
        target: target(),
        gid: 7,
        global_seq: 1,
        supported: features::SUPPORTED,
        required: features::MSG_ADDR2,
        flags: ident_flags::LOSSY,
        cookie: 0,
    }
}

pub(super) fn server_ident() -> ServerIdent {
    ServerIdent {
        addrs: target().into(),
        gid: 3,
        global_seq: 2,
        supported: features::SUPPORTED,
        required: features::MSG_ADDR2,
        flags: ident_flags::LOSSY,
        cookie: 0,
    }
}

pub(super) fn session_reconnect() -> SessionReconnect {
    SessionReconnect {
        addrs: client_ident().addrs,
        client_cookie: 1,
        server_cookie: 2,
        global_seq: 1,
        connect_seq: 1,
        msg_seq: 0,
    }
}

/// A small message with this sequence number.
pub(super) fn numbered(seq: u64) -> Message {
    let mut message = Message::new(42);
    message.header.seq = seq;
    message
}

/// Which end is under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Connector,
    Acceptor,
}

impl End {
    pub(super) const BOTH: [Self; 2] = [Self::Connector, Self::Acceptor];

    /// The states that it goes through.
    pub(super) const fn states(self) -> [State; 6] {
        match self {
            Self::Connector => [
                State::BannerConnecting,
                State::HelloConnecting,
                State::AuthConnecting,
                State::SignConnecting,
                State::SessionConnecting,
                State::Ready,
            ],
            Self::Acceptor => [
                State::BannerAccepting,
                State::HelloAccepting,
                State::AuthAccepting,
                State::SignAccepting,
                State::SessionAccepting,
                State::Ready,
            ],
        }
    }

    /// The frames that take it from each of these states to the next, behind the banner.
    const fn script(self) -> [Tag; 4] {
        match self {
            Self::Connector => [
                Tag::Hello,
                Tag::AuthDone,
                Tag::AuthSignature,
                Tag::ServerIdent,
            ],
            Self::Acceptor => [
                Tag::Hello,
                Tag::AuthRequest,
                Tag::AuthSignature,
                Tag::ClientIdent,
            ],
        }
    }

    /// The payload of the peer's frame `tag`.
    pub(super) fn sound(self, tag: Tag) -> Vec<u8> {
        match (self, tag) {
            (Self::Connector, Tag::Hello) => payload(&Hello {
                entity_type: EntityType::Osd,
                peer_addr: EntityAddr::msgr2(client_socket(), 0),
            }),
            _ => sound(tag),
        }
    }

    pub(super) fn config(self) -> Config {
        match self {
            Self::Connector => client_config(),
            Self::Acceptor => server_config(),
        }
    }

    pub(super) fn connection(self, config: Config) -> Connection {
        match self {
            Self::Connector => connector(config),
            Self::Acceptor => acceptor(config),
        }
    }

    /// A connection that a correct peer has brought to `state`, with nothing left to transmit.
    pub(super) fn reach(self, state: State) -> Connection {
        self.reach_as(self.config(), Revision::Rev1, state)
    }

    /// The same, of a messenger with another configuration, in the revision that the peer wants.
    pub(super) fn reach_as(self, config: Config, revision: Revision, state: State) -> Connection {
        let mut connection = self.connection(config);
        let supported = match revision {
            Revision::Rev0 => Features::default(),
            Revision::Rev1 => features::REVISION_1,
        };
        let banner = banner(supported, Features::default());
        let frames = self
            .script()
            .map(|tag| raw_frame(revision, tag, &self.sound(tag)));
        let steps = [banner].into_iter().chain(frames);
        for (found, bytes) in self.states().into_iter().zip(steps) {
            assert_eq!(connection.state(), found);
            if found == state {
                break;
            }
            feed(&mut connection, &bytes).unwrap();
            transmitted(&mut connection);
        }
        assert_eq!(connection.state(), state);
        connection
    }

    /// How errors name the peer in `state`.
    pub(super) fn peer_name(self, state: State) -> &'static str {
        match (self, state) {
            (Self::Connector, State::Ready) => "osd.3 at 10.0.0.3:6800",
            (Self::Connector, _) => "osd at 10.0.0.3:6800",
            (Self::Acceptor, State::BannerAccepting | State::HelloAccepting) => "10.0.0.7:40000",
            (Self::Acceptor, State::Ready) => "client.7 at 10.0.0.7:40000",
            (Self::Acceptor, _) => "client at 10.0.0.7:40000",
        }
    }

    /// `bytes` must end the connection for `cause`, at once and for good, whether they come in one
    /// piece or byte by byte, and the error must say so.
    #[track_caller]
    pub(super) fn refuses(
        self,
        make: impl Fn() -> Connection,
        bytes: &[u8],
        cause: impl Into<Cause>,
        text: &str,
    ) {
        let cause = cause.into();
        let state = make().state();
        for size in [bytes.len(), 1] {
            let mut connection = make();
            transmitted(&mut connection);
            let mut fed = bytes.chunks(size).map(|piece| feed(&mut connection, piece));
            let error = fed.find_map(Result::err).expect("refused");
            assert_eq!(error.cause, cause);
            assert_eq!(error.state, state);
            assert_eq!(*error.peer, *connection.peer());
            let peer = self.peer_name(state);
            assert_eq!(
                error.to_string(),
                format!("{peer}: {text} (in state {state})")
            );
            is_closed(&mut connection);
        }
    }
}

/// Whatever comes now, nobody is told and nothing is answered.
#[track_caller]
pub(super) fn is_closed(connection: &mut Connection) {
    assert_eq!(connection.state(), State::Closed);
    transmitted(connection);
    for tag in Tag::ALL {
        let more = feed(connection, &raw_frame(Revision::Rev1, *tag, &sound(*tag)));
        assert_eq!(more.unwrap(), []);
    }
    connection.keepalive(STAMP);
    connection.send(numbered(0)).unwrap();
    assert!(!connection.wants_transmit());
    assert_eq!(transmitted(connection), []);
}
