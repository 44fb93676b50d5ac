//! The way in: received bytes become frames, and these become [`Event`]s.

use std::mem;

use bytes::Bytes;

use super::{Connection, Event, Role, State, banner, messages};
use crate::error::{Cause, ConnectionError, Malformed, PeerMisbehaved};
use crate::frame::Head;
use crate::message::Message;
use crate::wire::Tag;

/// The most bytes of answers that a peer may leave unread before it is given up.
/// (To stop reading instead could leave both ends waiting for each other.)
pub(super) const CONTROL_BACKLOG: usize = 1 << 20;

impl Connection {
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
    pub(super) fn fail(&mut self, cause: Cause) -> ConnectionError {
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
}
