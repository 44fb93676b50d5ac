//! [`Outgoing`]: the bytes of a connection that the peer has not acknowledged yet, on the way or not.

use crate::TxQueue;
use crate::send_queue::SendQueue;

/// What was queued to be sent, from the first byte that is not acknowledged on. Nothing is copied
/// before it is put into a frame, and it is put there from here again if that is lost.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queue: SendQueue,
    /// How many bytes may leave: what was queued since the last flush may not.
    flushed: usize,
    /// Where what was asked for last ended: a segment of the queue, and how far into the queue that
    /// begins.
    cursor: (usize, usize),
}

impl Outgoing {
    /// Moves segments from `queue` into our own while there is room; returns how many bytes.
    pub(crate) fn take(&mut self, queue: &mut TxQueue) -> usize {
        self.queue.take(queue)
    }

    /// Has all that is queued leave.
    pub(crate) fn flush(&mut self) {
        self.flushed = self.queue.len();
    }

    /// How many bytes may leave, or have left.
    pub(crate) fn len(&self) -> usize {
        self.flushed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Hands the bytes of a range to `sink`, in order and in pieces.
    pub(crate) fn read(&mut self, from: usize, mut len: usize, mut sink: impl FnMut(&[u8])) {
        let (mut index, mut start) = self.cursor;
        if from < start {
            (index, start) = (0, 0);
        }
        while let Some(segment) = self.queue.segments().get(index) {
            let skipped = (from.saturating_sub(start)).min(segment.len());
            let piece = &segment[skipped..];
            let piece = &piece[..piece.len().min(len)];
            sink(piece);
            len -= piece.len();
            if len == 0 {
                break;
            }
            index += 1;
            start += segment.len();
        }
        debug_assert_eq!(len, 0, "more than there is");
        self.cursor = (index, start);
    }

    /// Drops so many bytes from the front: they are acknowledged.
    pub(crate) fn advance(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let before = self.queue.segments().len();
        self.queue.advance(bytes);
        self.flushed -= bytes;
        let (index, start) = self.cursor;
        let gone = before - self.queue.segments().len();
        // A segment of which a part is gone begins at the front.
        self.cursor = match index.checked_sub(gone) {
            Some(index) => (index, start.saturating_sub(bytes)),
            None => (0, 0),
        };
    }

    /// Drops all but so many bytes at the front.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.queue.truncate(len);
        self.flushed = self.queue.len();
    }

    /// Whether word of room is due.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    /// Whether word of room is due now; the answer is yes once.
    pub(crate) fn take_room(&mut self) -> bool {
        self.queue.take_room()
    }

    /// Nobody waits for room any more.
    pub(crate) fn forget_room(&mut self) {
        self.queue.forget_room();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Whatever is read again, and whatever is acknowledged meanwhile, is what was queued.
    #[test]
    fn any_part_can_be_read_again() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut outgoing = Outgoing::default();
        let (mut queued, mut gone) = (0u32, 0usize);
        for _ in 0..20_000 {
            if outgoing.len() < 1000 {
                let len = random.u32(1..200);
                let bytes: Vec<u8> = (queued..queued + len)
                    .map(|at| (at * 7 / 5) as u8)
                    .collect();
                queued += len;
                let mut queue = TxQueue::from([Bytes::from(bytes)]);
                outgoing.take(&mut queue);
                outgoing.flush();
                continue;
            }
            let from = random.usize(..outgoing.len());
            let len = random.usize(..=outgoing.len() - from);
            let mut read = Vec::new();
            outgoing.read(from, len, |piece| read.extend_from_slice(piece));
            let expected = gone + from..gone + from + len;
            let expected: Vec<u8> = expected.map(|at| (at as u32 * 7 / 5) as u8).collect();
            assert_eq!(read, expected);
            let acknowledged = random.usize(..=300);
            outgoing.advance(acknowledged);
            gone += acknowledged;
        }
    }
}
