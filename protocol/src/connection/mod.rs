//! [`Connection`]: one byte stream to one peer, from the banner on.
//!
//! The contract: [`receive`](Connection::receive) bytes, then [`poll`](Connection::poll) until it
//! returns `None`, then [`transmit`](Connection::transmit) into the transport. Nothing here knows
//! sockets, clocks or threads. An error from `poll` is final; what was laid out before it may still
//! be transmitted.

mod acceptor;
mod banner;
mod connector;
mod ready;
mod state;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::config::Config;
use crate::error::{ApiMisuse, Cause, ConnectionError, Malformed, PeerMisbehaved};
use crate::frame::{FrameReader, FrameWriter, Head, Layout, Revision, write_control};
use crate::message::Message;
use crate::peer::Peer;
use crate::policy::Policy;
use crate::wire::{
    self, Control, EntityAddr, EntityAddrVec, EntityType, Keepalive2, Tag, Timestamp,
};

pub use state::State;

/// The most bytes of answers that a peer may leave unread before it is given up.
/// (To stop reading instead could leave both ends waiting for each other.)
const CONTROL_BACKLOG: usize = 1 << 20;

/// What [`Connection::poll`] has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // Messages are the rule; boxing them would allocate.
pub enum Event {
    /// The handshake is complete: [`Connection::peer`] is known and messages flow.
    Ready,
    /// The next message, in order.
    Message(Message),
    /// The peer answered the keepalive with this stamp.
    KeepaliveAck(Timestamp),
}

/// One byte stream to one peer.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    role: Role,
    policy: Policy,
    state: State,
    peer: Peer,
    /// Our end of the byte stream.
    local: SocketAddr,
    layout: Layout,
    reader: FrameReader,
    /// Banner and control frames laid out but not transmitted.
    control: BytesMut,
    /// Position in the messenger's sequence of connections.
    global_seq: u64,
    messages: ready::Messages,
}

#[derive(Debug)]
enum Role {
    Connector { target: EntityAddr },
    Acceptor { refused_auth: u32 },
}

impl Connection {
    /// The connector's end: the socket runs from `local` to `remote`, where an entity of type
    /// `kind` with the address `target` is expected.
    pub fn connect(
        config: Arc<Config>,
        target: EntityAddr,
        kind: EntityType,
        (local, remote): (SocketAddr, SocketAddr),
        global_seq: u64,
    ) -> Self {
        let policy = config.policies.of(kind);
        let role = Role::Connector { target };
        let mut peer = Peer::at(remote);
        peer.kind = Some(kind);
        Self::new(
            config,
            role,
            policy,
            State::BannerConnecting,
            peer,
            local,
            global_seq,
        )
    }

    /// The acceptor's end of a socket from `remote` to `local`.
    pub fn accept(
        config: Arc<Config>,
        (local, remote): (SocketAddr, SocketAddr),
        global_seq: u64,
    ) -> Self {
        let role = Role::Acceptor { refused_auth: 0 };
        // Nobody knows yet who connects; HELLO will tell.
        let policy = config.policies.of(EntityType::Client);
        let peer = Peer::at(remote);
        Self::new(
            config,
            role,
            policy,
            State::BannerAccepting,
            peer,
            local,
            global_seq,
        )
    }

    fn new(
        config: Arc<Config>,
        role: Role,
        policy: Policy,
        state: State,
        peer: Peer,
        local: SocketAddr,
        global_seq: u64,
    ) -> Self {
        let layout = Layout {
            revision: Revision::Rev1,
            data_crc: config.data_crc,
        };
        let reader = FrameReader::new(layout, config.limits);
        let mut control = BytesMut::new();
        banner::write(config.banner, &mut control);
        let messages = ready::Messages::default();
        Self {
            config,
            role,
            policy,
            state,
            peer,
            local,
            layout,
            reader,
            control,
            global_seq,
            messages,
        }
    }

    /// How far the connection has come.
    pub fn state(&self) -> State {
        self.state
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
        self.local = local;
    }

    /// The next received bytes.
    pub fn receive(&mut self, bytes: Bytes) {
        self.reader.push(bytes);
    }

    /// How many bytes of the segment being received are still to come; 0 between segments.
    pub fn missing(&self) -> usize {
        self.reader.missing()
    }

    /// Whether the stream, as far as it was received, ends within a frame.
    pub fn is_mid_frame(&self) -> bool {
        self.reader.is_mid_frame()
    }

    /// Takes in frames until there is something to tell. `None`: receive more bytes first.
    ///
    /// # Errors
    /// The connection cannot go on; every later call returns `None`.
    pub fn poll(&mut self) -> Result<Option<Event>, ConnectionError> {
        match self.take_in() {
            Ok(event) => Ok(event),
            Err(cause) => {
                let state = std::mem::replace(&mut self.state, State::Closed);
                Err(ConnectionError {
                    peer: Box::new(self.peer.clone()),
                    state,
                    cause,
                })
            }
        }
    }

    fn take_in(&mut self) -> Result<Option<Event>, Cause> {
        if matches!(self.state, State::BannerConnecting | State::BannerAccepting) {
            let Some(theirs) = banner::read(&mut self.reader)? else {
                return Ok(None);
            };
            self.agree_on_features(theirs)?;
            self.hello();
        }
        while self.state != State::Closed {
            let tag = self.reader.next_tag().map_err(Malformed::from)?;
            let Some(tag) = tag else { break };
            // Before the frame is collected: who has not said who it is must not fill our memory.
            if !self.state.expects().contains(&tag) {
                return Err(PeerMisbehaved::UnexpectedFrame(tag).into());
            }
            let head = self.reader.next_head().map_err(Malformed::from)?;
            let Some(head) = head else { break };
            if head.tag == Tag::Message {
                let message = self.messages.receive(head.aborted, &mut self.reader)?;
                if let Some(message) = message {
                    return Ok(Some(Event::Message(message)));
                }
            } else if let Some(event) = self.control_frame(head)? {
                return Ok(Some(event));
            } else if self.control.len() > CONTROL_BACKLOG {
                let bytes = self.control.len();
                return Err(PeerMisbehaved::UnreadAnswers { bytes }.into());
            }
        }
        Ok(None)
    }

    fn control_frame(&mut self, head: Head) -> Result<Option<Event>, Cause> {
        let Head { tag, aborted } = head;
        if aborted {
            return Err(PeerMisbehaved::AbortedFrame(tag).into());
        }
        let payload = self.reader.take_first();
        if self.state == State::Ready {
            return self.established_frame(tag, &payload);
        }
        match self.role {
            Role::Connector { target } => self.connector_frame(tag, &payload, target)?,
            Role::Acceptor { .. } => self.acceptor_frame(tag, &payload)?,
        }
        Ok((self.state == State::Ready).then_some(Event::Ready))
    }

    /// Queues a message; it gets its sequence number when it is transmitted.
    ///
    /// # Errors
    /// [`ApiMisuse::PayloadTooLong`]; nothing is queued.
    pub fn send(&mut self, message: Message) -> Result<(), ApiMisuse> {
        self.messages.queue(message, &self.config.limits)
    }

    /// Asks the peer for a sign of life; it echoes `stamp`.
    pub fn keepalive(&mut self, stamp: Timestamp) {
        if self.state == State::Ready {
            self.control(&Keepalive2 { stamp });
        }
    }

    /// The memory, in bytes, that messages waiting to be transmitted hold.
    pub fn queued(&self) -> usize {
        self.messages.queued()
    }

    /// Whether [`transmit`](Self::transmit) has anything to do.
    pub fn wants_transmit(&self) -> bool {
        !self.control.is_empty() || (self.state == State::Ready && !self.messages.is_empty())
    }

    /// Lays out what is due: control frames, then messages until `budget` bytes are reached.
    pub fn transmit(&mut self, writer: &mut FrameWriter<'_>, budget: usize) {
        let mut written = self.control.len();
        if written > 0 {
            writer.raw(&self.control);
            self.control.clear();
        }
        if self.state == State::Ready {
            while written < budget {
                let Some(len) = self.messages.transmit(self.layout, writer) else {
                    break;
                };
                written += len;
            }
        }
        writer.finish();
    }

    fn control<C: Control>(&mut self, frame: &C) {
        let mut payload = BytesMut::new();
        frame.encode(&mut payload);
        write_control(self.layout, C::TAG, &payload, &mut self.control);
    }

    /// Our addresses as this peer sees them: where we are bound to any address, the one that the
    /// peer reached.
    fn our_addrs(&self) -> EntityAddrVec {
        self.config
            .addrs
            .iter()
            .map(|addr| addr.with_ip_if_unspecified(self.local.ip()))
            .collect()
    }
}

fn decode<C: Control>(payload: &[u8]) -> Result<C, Cause> {
    C::decode(payload).map_err(|source| payload_error(C::TAG, source))
}

fn payload_error(tag: Tag, source: wire::Malformed) -> Cause {
    Malformed::Payload { tag, source }.into()
}
