//! The way out: messages are queued, and laid out with whatever else is due.

use std::mem;

use bytes::BytesMut;

use super::{Connection, SessionCounts, State, Stream, Ticket, messages};
use crate::error::ApiMisuse;
use crate::frame::{FrameWriter, TxQueue, write_control};
use crate::message::Message;
use crate::wire::{Ack, Control};

impl Connection {
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

    pub(super) fn control<C: Control>(&mut self, frame: &C) {
        let mut payload = BytesMut::new();
        frame.encode(&mut payload);
        let control = &mut self.stream.control;
        let before = control.len();
        write_control(&mut self.stream.assembler, C::TAG, &payload, control);
        if let Some(handshake) = &mut self.stream.handshake {
            handshake.sent(&control[before..]);
        }
    }
}
