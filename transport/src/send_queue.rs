//! [`SendQueue`]: what a connection was given to send and has not got rid of yet.

use bytes::{Buf, Bytes};

use crate::TxQueue;

/// Segments in order, within a window of bytes. What does not fit waits at the caller's, who is owed
/// word of room then.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    segments: TxQueue,
    bytes: usize,
    owes_room: bool,
}

impl SendQueue {
    /// The number of bytes one connection holds beside what its socket does: enough to fill the
    /// socket's buffer from, little enough to bound the memory of a slow peer.
    pub(crate) const WINDOW: usize = 1 << 20;

    /// Moves segments from `queue` into our own while there is room; returns how many bytes.
    pub(crate) fn take(&mut self, queue: &mut TxQueue) -> usize {
        let room = Self::WINDOW - self.bytes;
        let mut taken = 0;
        if self.segments.is_empty() {
            let offered = queue.iter().map(Bytes::len).sum();
            if offered <= room {
                std::mem::swap(&mut self.segments, queue);
                taken = offered;
            }
        }
        while let Some(segment) = queue.front_mut() {
            if segment.len() > room - taken {
                if taken < room {
                    self.segments.push_back(segment.split_to(room - taken));
                    taken = room;
                }
                self.owes_room = true;
                break;
            }
            taken += segment.len();
            self.segments.extend(queue.pop_front());
        }
        self.bytes += taken;
        taken
    }

    pub(crate) fn segments(&self) -> &TxQueue {
        &self.segments
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Drops so many bytes from the front: they are sent.
    pub(crate) fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while let Some(segment) = self.segments.front_mut() {
            if segment.len() > sent {
                segment.advance(sent);
                break;
            }
            sent -= segment.len();
            self.segments.pop_front();
        }
    }

    /// Drops all but so many bytes at the front.
    pub(crate) fn truncate(&mut self, len: usize) {
        while self.bytes > len
            && let Some(mut last) = self.segments.pop_back()
        {
            let kept = last.len().saturating_sub(self.bytes - len);
            self.bytes -= last.len() - kept;
            if kept > 0 {
                last.truncate(kept);
                self.segments.push_back(last);
            }
        }
    }

    /// Drops everything. Nobody is owed anything any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether word of room is due.
    pub(crate) fn has_room(&self) -> bool {
        self.owes_room && self.bytes <= Self::WINDOW / 2
    }

    /// Whether word of room is due now; the answer is yes once.
    pub(crate) fn take_room(&mut self) -> bool {
        let room = self.has_room();
        self.owes_room &= !room;
        room
    }

    /// Nobody waits for room any more.
    pub(crate) fn forget_room(&mut self) {
        self.owes_room = false;
    }
}
