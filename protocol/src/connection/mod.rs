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
mod lifecycle;
mod meeting;
mod messages;
mod out_queue;
mod places;
mod ready;
mod session;
mod state;
#[cfg(test)]
mod tests;

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::auth::{AuthError, ConnectionSecret};
use crate::config::Config;
use crate::error::{ApiMisuse, Cause, ConnectionError, Malformed, PeerMisbehaved};
use crate::frame::{
    self, Assembler, End, FrameReader, FrameWriter, Head, Layout, Revision, TxQueue, write_control,
};
use crate::message::{Header, Message};
use crate::peer::Peer;
use crate::policy::Policy;
use crate::wire::{self, Ack, Control, EntityAddr, EntityAddrVec, EntityType, Tag, Timestamp};

use handshake::Handshake;
use messages::Messages;
use session::{Request, Session};

pub use lifecycle::AfterFault;
pub use meeting::Meeting;
pub use out_queue::Ticket;
pub use state::State;

/// The most bytes of answers that a peer may leave unread before it is given up.
/// (To stop reading instead could leave both ends waiting for each other.)
const CONTROL_BACKLOG: usize = 1 << 20;

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

    /// The next received bytes.
    pub fn receive(&mut self, bytes: Bytes) {
        if self.stream.failed_in.is_none() {
            if let Some(handshake) = &mut self.stream.handshake {
                handshake.received(&bytes);
            }
            self.stream.reader.push(bytes);
        }
    }

    /// How many bytes of the segment being received are still to come; 0 between segments.
    pub fn missing(&self) -> usize {
        self.stream.reader.missing()
    }

    /// Whether the stream, as far as it was received, ends within a frame.
    pub fn is_mid_frame(&self) -> bool {
        self.stream.reader.is_mid_frame()
    }

    /// Takes in frames until there is something to tell. `None`: receive more bytes first.
    ///
    /// # Errors
    /// The stream cannot go on; every later call returns `None`.
    pub fn poll(&mut self) -> Result<Option<Event>, ConnectionError> {
        self.poll_admitting(&mut |_| true)
    }

    /// As [`poll`](Self::poll), but asks `admit` before each message whether there is room for so
    /// many payload bytes. If not, the result is `None`, and the next call asks again.
    ///
    /// A compressed message is asked for twice: with its compressed length, then, once these bytes
    /// are there, with the length that it has in their place.
    ///
    /// # Errors
    /// As for [`poll`](Self::poll).
    #[inline]
    pub fn poll_admitting(
        &mut self,
        admit: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Event>, ConnectionError> {
        // Nothing has come since the last call, and the stream can still be sent on.
        if !self.stream.reader.is_mid_frame() && !self.stream.assembler.is_exhausted() {
            return Ok(None);
        }
        self.take_in(admit).map_err(|cause| self.fail(cause))
    }

    /// The message that [`Event::Message`] told of, to be taken before the next poll.
    pub fn take_message(&mut self) -> Message {
        let mut message = Message::default();
        self.take_message_into(&mut message);
        message
    }

    /// The same, put into a message without payloads.
    #[inline]
    pub fn take_message_into(&mut self, message: &mut Message) {
        let payloads = self.stream.reader.rest();
        message.fill(mem::take(&mut self.stream.header), payloads);
    }

    #[cold]
    fn fail(&mut self, cause: Cause) -> ConnectionError {
        let state = mem::replace(&mut self.stream.state, State::Closed);
        self.stream.failed_in = Some(state);
        self.stream.handshake = None;
        ConnectionError {
            peer: Box::new(self.peer.clone()),
            state,
            cause,
        }
    }

    fn take_in(&mut self, admit: &mut dyn FnMut(usize) -> bool) -> Result<Option<Event>, Cause> {
        if matches!(
            self.stream.state,
            State::BannerConnecting | State::BannerAccepting
        ) && !self.take_banner()?
        {
            return Ok(None);
        }
        self.stream.check_handshake(self.config.limits.handshake)?;
        while !self.is_paused() {
            let reader = &mut self.stream.reader;
            let Some(tag) = reader.next_tag().map_err(Malformed::from)? else {
                break;
            };
            // Before the frame is collected: who has not said who it is must not fill our memory.
            let state = self.stream.state;
            let usual = state == State::Ready && tag == Tag::Message;
            if !usual && !state.expects().contains(&tag) {
                return Err(PeerMisbehaved::UnexpectedFrame(tag).into());
            }
            if tag == Tag::Message && !self.stream.admitted {
                if !admit(reader.payload_len()) {
                    break;
                }
                self.stream.admitted = true;
            }
            if tag == Tag::Message && reader.is_compressed() && !self.stream.admitted_whole {
                // Only now that it is here can be known how large it is.
                let len = reader.uncompressed_payload_len();
                let Some(len) = len.map_err(Malformed::from)? else {
                    break;
                };
                if !admit(len) {
                    break;
                }
                self.stream.admitted_whole = true;
            }
            let Some(head) = reader.next_head().map_err(Malformed::from)? else {
                break;
            };
            if head.tag == Tag::Message {
                self.stream.admitted = false;
                self.stream.admitted_whole = false;
                let header = messages::header(self.stream.reader.first())?;
                if self.messages.receive(&header, head.aborted)? {
                    self.stream.header = header;
                    return Ok(Some(Event::Message));
                }
                *self.stream.reader.rest() = Default::default();
            } else if let Some(event) = self.control_frame(head)? {
                return Ok(Some(event));
            } else if self.stream.control.len() > CONTROL_BACKLOG {
                let bytes = self.stream.control.len();
                return Err(PeerMisbehaved::UnreadAnswers { bytes }.into());
            }
        }
        if self.stream.assembler.is_exhausted() && !self.is_paused() {
            return Err(Cause::OutOfNonces);
        }
        Ok(None)
    }

    #[cold]
    fn take_banner(&mut self) -> Result<bool, Cause> {
        let Some(theirs) = banner::read(&mut self.stream.reader)? else {
            return Ok(false);
        };
        self.agree_on_features(theirs)?;
        self.hello();
        Ok(true)
    }

    /// Whether the next frame must wait: there is no stream, or the peer's request is not answered.
    fn is_paused(&self) -> bool {
        self.stream.request.is_some()
            || matches!(
                self.stream.state,
                State::StartConnect | State::Standby | State::Wait | State::Closed
            )
    }

    #[inline(never)]
    fn control_frame(&mut self, head: Head) -> Result<Option<Event>, Cause> {
        let Head { tag, aborted } = head;
        if aborted {
            return Err(PeerMisbehaved::AbortedFrame(tag).into());
        }
        let payload = self.stream.reader.take_first();
        if self.stream.state == State::Ready {
            return self.established_frame(tag, &payload);
        }
        match self.stream.role {
            Role::Connector { target } => self.connector_frame(tag, &payload, target),
            Role::Acceptor => self.acceptor_frame(tag, &payload),
        }
    }

    /// Queues a message; it gets its sequence number when it is transmitted.
    ///
    /// # Errors
    /// [`ApiMisuse::PayloadTooLong`]; nothing is queued.
    #[inline]
    pub fn send(&mut self, mut message: Message) -> Result<(), ApiMisuse> {
        self.queue(&mut message, None)
    }

    /// Queues a message, which is taken out of `message`; with a ticket, [`cancel`](Self::cancel) can take
    /// it back. (To move a message costs about as much as to send it.)
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    #[inline]
    pub fn queue(
        &mut self,
        message: &mut Message,
        ticket: Option<Ticket>,
    ) -> Result<(), ApiMisuse> {
        messages::check(message, &self.config.limits)?;
        self.messages.queue(message, ticket);
        Ok(())
    }

    /// Queues a message that [`cancel`](Self::cancel) can take back by its ticket.
    ///
    /// # Errors
    /// [`ApiMisuse::PayloadTooLong`]; nothing is queued.
    pub fn send_cancellable(
        &mut self,
        mut message: Message,
        ticket: Ticket,
    ) -> Result<(), ApiMisuse> {
        self.queue(&mut message, Some(ticket))
    }

    /// All that was laid out has left, and can be taken back no more.
    pub fn landed(&mut self) {
        self.messages.landed();
    }

    /// Takes a message back; if it was laid out already, by an aborted frame in `unsent`, which holds
    /// what the transport has not taken yet. Returns whether the peer will not see it.
    pub fn cancel(&mut self, ticket: Ticket, unsent: &mut TxQueue) -> bool {
        let Stream {
            assembler,
            laid_out,
            ..
        } = &self.stream;
        self.messages
            .cancel(ticket, assembler.layout(), *laid_out, unsent)
    }

    /// The memory, in bytes, that messages hold which wait to be transmitted or acknowledged.
    pub fn queued(&self) -> usize {
        self.messages.held_bytes()
    }

    /// How far the session has come.
    pub fn counts(&self) -> SessionCounts {
        let (queued, unacknowledged) = self.messages.counts();
        SessionCounts {
            connect_seq: self.session.connect_seq,
            sent: self.messages.out_seq(),
            received: self.messages.in_seq(),
            queued,
            unacknowledged,
        }
    }

    /// How many messages were sent again since the last call.
    pub fn take_replayed(&mut self) -> u64 {
        mem::take(&mut self.messages.replayed)
    }

    /// Whether all messages were transmitted and, on a lossless session, acknowledged.
    pub fn is_settled(&self) -> bool {
        self.messages.is_settled()
    }

    /// Whether [`transmit`](Self::transmit) has anything to do.
    pub fn wants_transmit(&self) -> bool {
        !self.stream.control.is_empty()
            || (self.stream.state == State::Ready
                && (!self.messages.is_empty() || self.messages.ack_due().is_some()))
    }

    /// Lays out what is due: control frames, then messages until `budget` bytes are reached, and an
    /// acknowledgement if no message carries it. Nothing of what was laid out before may wait any
    /// more.
    pub fn transmit(&mut self, writer: &mut FrameWriter<'_>, budget: usize) {
        let mut written = self.stream.control.len();
        if written > 0 {
            writer.raw(&self.stream.control);
            self.stream.control.clear();
        }
        self.messages.landed();
        if self.stream.state == State::Ready {
            while written < budget {
                let assembler = &mut self.stream.assembler;
                let Some(len) = self.messages.transmit(written, assembler, writer) else {
                    break;
                };
                written += len;
            }
            if let Some(seq) = self.messages.ack_due() {
                self.messages.ack_told(seq);
                self.control(&Ack { seq });
                writer.raw(&self.stream.control);
                written += self.stream.control.len();
                self.stream.control.clear();
            }
        }
        self.stream.laid_out = written;
        writer.finish();
    }

    fn control<C: Control>(&mut self, frame: &C) {
        let mut payload = BytesMut::new();
        frame.encode(&mut payload);
        let control = &mut self.stream.control;
        let before = control.len();
        write_control(&mut self.stream.assembler, C::TAG, &payload, control);
        if let Some(handshake) = &mut self.stream.handshake {
            handshake.sent(&control[before..]);
        }
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
