//! An established connection: messages both ways, acknowledgements, and signs of life.

use super::{Connection, Event, decode};
use crate::error::{Cause, PeerMisbehaved};
use crate::wire::{Ack, Keepalive2, Keepalive2Ack, Tag, Timestamp};

impl Connection {
    /// The handshake is complete.
    pub(super) fn become_ready(&mut self) {
        self.stream.state = super::State::Ready;
        self.session.promised = false;
        self.messages.keep = !self.policy.lossy;
        if let Some(stamp) = self.keepalive.take() {
            self.control(&Keepalive2 { stamp });
        }
    }

    /// Asks the peer for a sign of life; it echoes `stamp`. A lossless session without a stream
    /// keeps the question and is connected for it; a lossy one that is not ready drops it.
    pub fn keepalive(&mut self, stamp: Timestamp) {
        if self.state() == super::State::Ready {
            self.control(&Keepalive2 { stamp });
        } else if !self.policy.lossy {
            self.keepalive = Some(stamp);
        }
    }

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
                let Ack { seq } = decode(payload)?;
                self.messages.acknowledged(seq)?;
                Ok(None)
            }
            other => Err(PeerMisbehaved::UnexpectedFrame(other).into()),
        }
    }
}
