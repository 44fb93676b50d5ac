//! [`Messages`]: a session's messages, queued, sent and received, and their sequence numbers.
//!
//! A lossless session keeps what it sent until the peer has acknowledged it, and sends it again
//! over the next stream, under the numbers that it has: whatever the peer received of it, on which
//! stream ever, it knows a number's second coming.

use std::collections::VecDeque;

use super::out_queue::{OutQueue, Outgoing, Ticket};
use crate::error::{ApiMisuse, Cause, Malformed, PeerMisbehaved};
use bytes::Bytes;

use crate::frame::{Assembler, FrameWriter, Layout, Limits, Position, TxQueue, abort};
use crate::message::{Header, Message};
use crate::payload::Payload;
use crate::wire::Tag;

#[derive(Debug, Clone, Default)]
pub(super) struct Messages {
    out: OutQueue,
    /// Numbered and not acknowledged, in order; only if `keep`.
    sent: VecDeque<Box<Outgoing>>,
    /// How many of `sent` were transmitted on this stream.
    transmitted: usize,
    /// Payload bytes in `sent`.
    sent_bytes: usize,
    /// Whether messages are kept until they are acknowledged.
    pub(super) keep: bool,
    /// The last sequence number given out.
    out_seq: u64,
    /// The last sequence number that the peer acknowledged.
    acked_seq: u64,
    /// The last sequence number received.
    in_seq: u64,
    /// The last sequence number that the peer knows we received.
    told_seq: u64,
    /// How many messages were sent again.
    pub(super) replayed: u64,
    /// Messages with a ticket that were laid out last.
    flights: Vec<Flight>,
}

/// A message that was laid out and can be taken back while it has not left.
#[derive(Debug, Clone)]
struct Flight {
    ticket: Ticket,
    /// Where its frame begins in what was laid out with it, in bytes.
    at: usize,
    len: usize,
    message: Message,
}

impl Messages {
    #[inline]
    pub(super) fn queue(&mut self, message: &mut Message, ticket: Option<Ticket>) {
        self.out.push(message, ticket);
    }

    /// Whether there is nothing to transmit.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty() && self.transmitted == self.sent.len()
    }

    /// Whether everything has been transmitted and, if that matters, acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        // Ceph does not acknowledge a message that was taken back, until one behind it.
        self.is_empty() && self.sent.iter().all(|sent| sent.taken_back)
    }

    /// Whether the peer is to be told what we have received.
    pub(super) fn ack_due(&self) -> Option<u64> {
        (self.keep && self.in_seq > self.told_seq).then_some(self.in_seq)
    }

    pub(super) fn ack_told(&mut self, seq: u64) {
        self.told_seq = seq;
    }

    /// Whether a message has gone through, either way.
    pub(super) fn is_used(&self) -> bool {
        self.in_seq > 0 || self.acked_seq > 0
    }

    pub(super) fn in_seq(&self) -> u64 {
        self.in_seq
    }

    pub(super) fn out_seq(&self) -> u64 {
        self.out_seq
    }

    /// How many messages are queued, and how many wait to be acknowledged.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.out.len(), self.sent.len())
    }

    pub(super) fn held_bytes(&self) -> usize {
        let count = self.out.len() + self.sent.len();
        self.out.bytes() + self.sent_bytes + count * size_of::<Message>()
    }

    /// What was laid out before has left.
    #[inline]
    pub(super) fn landed(&mut self) {
        if !self.flights.is_empty() {
            self.flights.clear();
        }
    }

    /// Lays out the next message, `at` so many bytes behind the start of what is laid out with it;
    /// returns the size of its frame in bytes.
    pub(super) fn transmit(
        &mut self,
        at: usize,
        assembler: &mut Assembler,
        writer: &mut FrameWriter<'_>,
    ) -> Option<usize> {
        if assembler.is_exhausted() {
            return None;
        }
        if let Some(again) = self.sent.get_mut(self.transmitted) {
            self.transmitted += 1;
            self.replayed += 1;
            self.told_seq = self.in_seq;
            again.message.header.ack_seq = self.in_seq;
            let len = lay_out(again, assembler, writer);
            if assembler.can_abort() {
                remember(&mut self.flights, again, at, len);
            }
            return Some(len);
        }
        let mut outgoing = self.out.pop()?;
        let header = &mut outgoing.message.header;
        self.out_seq += 1;
        header.seq = self.out_seq;
        header.ack_seq = self.in_seq;
        self.told_seq = self.in_seq;
        let len = lay_out(&outgoing, assembler, writer);
        if assembler.can_abort() {
            remember(&mut self.flights, &outgoing, at, len);
        }
        if self.keep {
            self.sent_bytes += outgoing.message.payload_len();
            self.sent.push_back(outgoing);
            self.transmitted += 1;
        } else {
            self.out.recycle(outgoing);
        }
        Some(len)
    }

    /// Takes note of a message with this header. Returns whether it is to be delivered.
    #[inline]
    pub(super) fn receive(&mut self, header: &Header, aborted: bool) -> Result<bool, Cause> {
        self.acknowledged(header.ack_seq)?;
        if header.seq <= self.in_seq {
            // Sent again by a peer that did not know it had arrived.
            return Ok(false);
        }
        if header.seq != self.in_seq + 1 {
            let gap = PeerMisbehaved::SequenceGap {
                last: self.in_seq,
                received: header.seq,
            };
            return Err(gap.into());
        }
        self.in_seq = header.seq;
        // The sender took an aborted message back; its number stays used.
        Ok(!aborted)
    }

    /// The peer has received everything up to `seq`.
    #[inline]
    pub(super) fn acknowledged(&mut self, seq: u64) -> Result<(), PeerMisbehaved> {
        if !self.keep {
            return Ok(());
        }
        if seq > self.out_seq {
            let last = self.out_seq;
            return Err(PeerMisbehaved::AckOfUnsent { seq, last });
        }
        self.acked_seq = seq.max(self.acked_seq);
        while let Some(outgoing) = self.sent.front()
            && outgoing.message.header.seq <= seq
        {
            self.sent_bytes -= outgoing.message.payload_len();
            if let Some(outgoing) = self.sent.pop_front() {
                self.out.recycle(outgoing);
            }
            self.transmitted = self.transmitted.saturating_sub(1);
        }
        Ok(())
    }

    /// Whether a peer may have received everything up to `seq`, and no more.
    pub(super) fn check_resumption(&self, seq: u64) -> Result<(), PeerMisbehaved> {
        let (acked, last) = (self.acked_seq, self.out_seq);
        if seq > last {
            return Err(PeerMisbehaved::AckOfUnsent { seq, last });
        }
        if seq < acked {
            return Err(PeerMisbehaved::AckTakenBack { seq, acked });
        }
        Ok(())
    }

    /// The session goes on over a new stream with a peer that has received everything up to `seq`.
    pub(super) fn resume(&mut self, seq: u64) -> Result<(), PeerMisbehaved> {
        self.check_resumption(seq)?;
        self.acknowledged(seq)?;
        self.transmitted = 0;
        self.flights.clear();
        // The handshake has told it.
        self.told_seq = self.in_seq;
        Ok(())
    }

    /// A new session begins with what the last one has not got through.
    pub(super) fn restart(&mut self) {
        self.sent.retain(|sent| !sent.taken_back);
        self.replayed += self.sent.len() as u64;
        self.out.replay(self.sent.drain(..));
        self.flights.clear();
        self.sent_bytes = 0;
        self.transmitted = 0;
        self.out_seq = 0;
        self.acked_seq = 0;
        self.in_seq = 0;
        self.told_seq = 0;
    }

    /// Drops everything that is not acknowledged. Returns how many messages that were.
    pub(super) fn clear(&mut self) -> usize {
        let dropped = self.out.len() + self.sent.len();
        self.out.clear();
        self.sent.clear();
        self.flights.clear();
        self.sent_bytes = 0;
        self.transmitted = 0;
        dropped
    }

    /// Takes back a message: one that was not numbered yet without a trace, another by an aborted
    /// frame, which keeps its number. `laid_out` is the size of what was laid out last, of which
    /// `unsent` is left.
    pub(super) fn cancel(
        &mut self,
        ticket: Ticket,
        layout: Layout,
        laid_out: usize,
        unsent: &mut TxQueue,
    ) -> bool {
        if self.out.cancel(ticket).is_some() {
            return true;
        }
        let flight = self
            .flights
            .iter()
            .position(|flight| flight.ticket == ticket);
        let waiting = self
            .sent
            .iter()
            .position(|sent| sent.ticket == Some(ticket));
        let done = match (flight, waiting) {
            (Some(flight), _) => {
                let unsent_len: usize = unsent.iter().map(Bytes::len).sum();
                let flight = self.flights.swap_remove(flight);
                flight.abort(layout, laid_out.saturating_sub(unsent_len), unsent)
            }
            // The peer may have received it on an earlier stream: then the number says so.
            (None, Some(waiting)) => waiting >= self.transmitted,
            (None, None) => false,
        };
        if done && let Some(waiting) = waiting {
            let sent = &mut self.sent[waiting];
            self.sent_bytes -= sent.message.payload_len();
            sent.take_back();
            self.sent_bytes += sent.message.payload_len();
        }
        done
    }
}

impl Flight {
    /// Takes the message back, when `taken` bytes of what was laid out have left.
    fn abort(&self, layout: Layout, taken: usize, unsent: &mut TxQueue) -> bool {
        let at = Position {
            before: self.at.saturating_sub(taken),
            taken: taken.saturating_sub(self.at),
            len: self.len,
        };
        let Message {
            header,
            front,
            middle,
            data,
        } = &self.message;
        abort(unsent, at, layout, &header.encode(), [front, middle, data])
    }
}

#[inline]
fn remember(flights: &mut Vec<Flight>, outgoing: &Outgoing, at: usize, len: usize) {
    if let Some(ticket) = outgoing.ticket {
        let message = outgoing.message.clone();
        flights.push(Flight {
            ticket,
            at,
            len,
            message,
        });
    }
}

fn lay_out(outgoing: &Outgoing, assembler: &mut Assembler, writer: &mut FrameWriter<'_>) -> usize {
    let message = &outgoing.message;
    let payloads = [&message.front, &message.middle, &message.data];
    let header = message.header.encode();
    if outgoing.taken_back {
        writer.aborted_message(assembler, &header, &message.front)
    } else {
        writer.frame(assembler, Tag::Message, &header, payloads)
    }
}

/// Parses a message's first segment; later versions may append to it.
pub(super) fn header(segment: &[u8]) -> Result<Header, Malformed> {
    let wire = segment
        .first_chunk()
        .ok_or(Malformed::HeaderLength(segment.len()))?;
    Ok(Header::decode(wire))
}

/// Refuses a message that no peer with our limits would take.
#[inline]
pub(super) fn check(message: &Message, limits: &Limits) -> Result<(), ApiMisuse> {
    let check = |part, payload: &Payload, limit| {
        let len = payload.len();
        if len > limit as usize {
            return Err(ApiMisuse::PayloadTooLong { part, len, limit });
        }
        Ok(())
    };
    check("front", &message.front, limits.front)?;
    check("middle", &message.middle, limits.middle)?;
    check("data", &message.data, limits.data)
}
