//! [`Connection`]: a session with one peer, and the byte stream that it uses at the moment.
//!
//! The contract: [`receive`](Connection::receive) bytes, then [`poll`](Connection::poll) until it
//! returns `None`, then [`transmit`](Connection::transmit) into the transport. Nothing here knows
//! sockets, clocks, threads or chance. An error from `poll` ends the stream; what was laid out
//! before it may still be transmitted.
//!
//! When a stream has ended, [`disconnect`](Connection::disconnect) tells what becomes of the
//! session. One that lives on gets its next stream by [`reconnect`](Connection::reconnect), or from
//! a peer that came by itself: see [`meet`](Connection::meet).

mod acceptor;
mod banner;
mod compression;
mod connector;
mod handshake;
mod input;
mod lifecycle;
mod meeting;
mod messages;
mod out_queue;
mod output;
mod places;
mod ready;
mod session;
mod state;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;

use crate::auth::{AuthError, ConnectionSecret};
use crate::config::Config;
use crate::error::{Cause, Malformed};
use crate::frame::{self, Assembler, End, FrameReader, Layout, Revision};
use crate::message::Header;
use crate::peer::Peer;
use crate::policy::Policy;
use crate::wire::{self, Control, EntityAddr, EntityAddrVec, EntityType, Tag, Timestamp};

use handshake::Handshake;
use messages::Messages;
use session::{Request, Session};

pub use lifecycle::AfterFault;
pub use meeting::Meeting;
pub use out_queue::Ticket;
pub use state::State;

/// What [`Connection::poll`] has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The handshake is complete: [`Connection::peer`] is known and messages flow.
    Ready,
    /// Acceptor: the peer asks for a session. Find the one that there is with it, by
    /// [`Peer::addrs`], and let them [`meet`](Connection::meet).
    SessionRequested,
    /// Connector: the peer forgot the session. What was queued is dropped, and the handshake goes
    /// on to open a new one.
    RemoteReset,
    /// Connector: the peer saw a later place of ours. Take one behind `above` and
    /// [`retry`](Connection::retry).
    RetryGlobal {
        /// The place that the peer saw.
        above: u64,
    },
    /// Connector: a connection of the peer's is coming; this stream is of no use any more.
    Wait,
    /// The next message, in order: [take it](Connection::take_message). (It is not in here because
    /// moving a message costs about as much as reading it.)
    Message,
    /// Acceptor: the peer was told that it is not let in like that. It may try again.
    AuthRefused(Box<AuthError>),
    /// The peer answered the keepalive with this stamp.
    KeepaliveAck(Timestamp),
}

/// What a messenger gives an attempt to open or resume a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The next place in the messenger's sequence of connections.
    pub global_seq: u64,
    /// A random number, not 0: this end's name for the session, if the attempt opens one.
    pub cookie: u64,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SessionCounts {
    /// How often it was connected again.
    pub connect_seq: u64,
    /// The sequence number of the last message transmitted.
    pub sent: u64,
    /// The sequence number of the last message received.
    pub received: u64,
    /// Messages that wait to be transmitted.
    pub queued: usize,
    /// Messages transmitted that wait to be acknowledged.
    pub unacknowledged: usize,
}

/// A session with one peer, and the byte stream that it uses at the moment.
#[derive(Debug, Clone)]
pub struct Connection {
    config: Arc<Config>,
    policy: Policy,
    peer: Peer,
    /// What we dialled.
    target: Option<EntityAddr>,
    stream: Stream,
    session: Session,
    messages: Messages,
    /// A question that waits for a stream.
    keepalive: Option<Timestamp>,
}

/// One byte stream, from the banner on.
#[derive(Debug, Clone)]
struct Stream {
    role: Role,
    state: State,
    /// The state in which an error ended it.
    failed_in: Option<State>,
    /// Our end.
    local: SocketAddr,
    assembler: Assembler,
    reader: FrameReader,
    /// Until the stream is authenticated.
    handshake: Option<Box<Handshake>>,
    /// Banner and control frames laid out but not transmitted.
    control: BytesMut,
    /// The size of what was laid out last, in bytes.
    laid_out: usize,
    opening: Opening,
    /// What the peer asks for, until it is answered.
    request: Option<Request>,
    /// Whether both banners offer to negotiate compression.
    offers_compression: bool,
    /// Whether the message being received was admitted.
    admitted: bool,
    /// Whether it was admitted once more, as large as it is uncompressed.
    admitted_whole: bool,
    /// Of the message that was received last.
    header: Header,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Connector { target: EntityAddr },
    Acceptor,
}

impl Stream {
    fn new(config: &Config, role: Role, local: SocketAddr, opening: Opening) -> Self {
        let layout = Layout {
            revision: Revision::Rev1,
            data_crc: config.data_crc,
        };
        let mut control = BytesMut::new();
        banner::write(config.banner(), &mut control);
        let mut handshake = Handshake::new();
        handshake.sent(&control);
        Self {
            role,
            state: match role {
                Role::Connector { .. } => State::BannerConnecting,
                Role::Acceptor => State::BannerAccepting,
            },
            failed_in: None,
            local,
            assembler: layout.into(),
            reader: FrameReader::new(layout, config.limits),
            handshake: Some(Box::new(handshake)),
            control,
            laid_out: 0,
            opening,
            request: None,
            offers_compression: false,
            admitted: false,
            admitted_whole: false,
            header: Header::default(),
        }
    }

    /// From the next frame on, either way, frames are sealed with the secret that both ends got by
    /// authentication.
    fn secure(&mut self, secret: &ConnectionSecret) {
        let end = match self.role {
            Role::Connector { .. } => End::Connector,
            Role::Acceptor => End::Acceptor,
        };
        let revision = self.assembler.layout().revision;
        let (sealer, opener) = frame::secure(secret, end, revision);
        self.assembler.secure(sealer);
        self.reader.secure(opener);
    }
}

impl Connection {
    /// The connector's end: the socket runs from `local` to `remote`, where an entity of type
    /// `kind` with the address `target` is expected.
    pub fn connect(
        config: Arc<Config>,
        target: EntityAddr,
        kind: EntityType,
        (local, remote): (SocketAddr, SocketAddr),
        opening: Opening,
    ) -> Self {
        let policy = *config.policies.of(kind);
        let mut peer = Peer::at(remote);
        peer.kind = Some(kind);
        let stream = Stream::new(&config, Role::Connector { target }, local, opening);
        let mut connection = Self::new(config, policy, peer, stream);
        connection.target = Some(target);
        connection.session.global_seq = opening.global_seq;
        connection
    }

    /// The acceptor's end of a socket from `remote` to `local`.
    pub fn accept(
        config: Arc<Config>,
        (local, remote): (SocketAddr, SocketAddr),
        opening: Opening,
    ) -> Self {
        // Nobody knows yet who connects; HELLO will tell.
        let policy = *config.policies.of(EntityType::Client);
        let stream = Stream::new(&config, Role::Acceptor, local, opening);
        Self::new(config, policy, Peer::at(remote), stream)
    }

    fn new(config: Arc<Config>, policy: Policy, peer: Peer, stream: Stream) -> Self {
        Self {
            config,
            policy,
            peer,
            target: None,
            stream,
            session: Session::default(),
            messages: Messages::default(),
            keepalive: None,
        }
    }

    /// How far the connection has come.
    pub fn state(&self) -> State {
        self.stream.state
    }

    /// What is known about the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// How this peer is treated.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Our end of the byte stream, known once a connector's is up.
    pub fn set_local(&mut self, local: SocketAddr) {
        self.stream.local = local;
    }

    /// Our addresses as this peer sees them: where we are bound to any address, the one that the
    /// peer reached; if we are not bound, where it sees us, without a port.
    fn our_addrs(&self) -> EntityAddrVec {
        let ip = self.stream.local.ip();
        if self.config.addrs.is_empty() {
            let here = SocketAddr::new(ip, 0);
            return EntityAddr::any(here, self.config.nonce).into();
        }
        let addrs = self.config.addrs.iter();
        addrs.map(|addr| addr.with_ip_if_unspecified(ip)).collect()
    }
}

fn decode<C: Control>(payload: &[u8]) -> Result<C, Cause> {
    C::decode(payload).map_err(|source| payload_error(C::TAG, source))
}

fn payload_error(tag: Tag, source: wire::Malformed) -> Cause {
    Malformed::Payload { tag, source }.into()
}
