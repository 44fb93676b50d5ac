//! An established connection: messages both ways, and signs of life.

use std::collections::VecDeque;
use std::mem;

use super::{Connection, Event, decode};
use crate::error::{ApiMisuse, Cause, Malformed, PeerMisbehaved};
use crate::frame::{FrameReader, FrameWriter, Layout, Limits};
use crate::message::{Header, Message};
use crate::wire::{Ack, Keepalive2, Keepalive2Ack, Tag};

/// Messages to send, and how far both directions have come.
#[derive(Debug, Default)]
pub(super) struct Messages {
    out: VecDeque<Message>,
    /// Payload bytes in `out`.
    out_bytes: usize,
    /// The last sequence number given out.
    out_seq: u64,
    /// The last sequence number received.
    in_seq: u64,
}

impl Messages {
    pub(super) fn queue(&mut self, message: Message, limits: &Limits) -> Result<(), ApiMisuse> {
        for (part, payload, limit) in [
            ("front", &message.front, limits.front),
            ("middle", &message.middle, limits.middle),
            ("data", &message.data, limits.data),
        ] {
            let len = payload.len();
            if len > limit as usize {
                return Err(ApiMisuse::PayloadTooLong { part, len, limit });
            }
        }
        self.out_bytes += message.payload_len();
        self.out.push_back(message);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub(super) fn queued(&self) -> usize {
        self.out_bytes + self.out.len() * size_of::<Message>()
    }

    /// Lays out the next message; returns the size of its frame in bytes.
    pub(super) fn transmit(
        &mut self,
        layout: Layout,
        writer: &mut FrameWriter<'_>,
    ) -> Option<usize> {
        let mut message = self.out.pop_front()?;
        self.out_bytes -= message.payload_len();
        self.out_seq += 1;
        message.header.seq = self.out_seq;
        message.header.ack_seq = self.in_seq;
        let payloads = [&message.front, &message.middle, &message.data];
        Some(writer.frame(layout, Tag::Message, &message.header.encode(), payloads))
    }

    /// Takes a message out of the reader that has a whole frame of it.
    #[inline]
    pub(super) fn receive(
        &mut self,
        aborted: bool,
        reader: &mut FrameReader,
    ) -> Result<Option<Message>, Cause> {
        let header = header(reader.first())?;
        let [front, middle, data] = reader.rest();
        let message = Message {
            header,
            front: mem::take(front),
            middle: mem::take(middle),
            data: mem::take(data),
        };
        if header.seq <= self.in_seq {
            // Sent again by a peer that did not know it had arrived.
            return Ok(None);
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
        Ok(if aborted { None } else { Some(message) })
    }
}

/// Parses a message's first segment; later versions may append to it.
fn header(segment: &[u8]) -> Result<Header, Malformed> {
    let wire = segment
        .first_chunk()
        .ok_or(Malformed::HeaderLength(segment.len()))?;
    Ok(Header::decode(wire))
}

impl Connection {
    pub(super) fn established_frame(
        &mut self,
        tag: Tag,
        payload: &[u8],
    ) -> Result<Option<Event>, Cause> {
        match tag {
            Tag::Keepalive2 => {
                let Keepalive2 { stamp } = decode(payload)?;
                self.control(&Keepalive2Ack { stamp });
                Ok(None)
            }
            Tag::Keepalive2Ack => {
                let Keepalive2Ack { stamp } = decode(payload)?;
                Ok(Some(Event::KeepaliveAck(stamp)))
            }
            Tag::Ack => {
                // Nothing is kept for replay on a lossy connection.
                let Ack { .. } = decode(payload)?;
                Ok(None)
            }
            other => Err(PeerMisbehaved::UnexpectedFrame(other).into()),
        }
    }
}
