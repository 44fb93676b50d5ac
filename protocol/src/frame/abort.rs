//! Takes back a message frame that is partly transmitted: filler goes in place of what has not left
//! yet, and the epilogue says so.
//!
//! Source: msgr2 specification, "Frame format", `FRAME_LATE_FLAG_ABORTED`; what the Linux kernel's
//! `ceph_con_v2_revoke` in `net/ceph/messenger_v2.c` sends.

use bytes::{Buf, Bytes, BytesMut};

use super::{FrameWriter, HeapBlocks, Layout, MAX_SEGMENTS, PREAMBLE_LEN, TxQueue, late_status};
use crate::payload::Payload;
use crate::wire::Tag;

/// Filler, linked as often as it takes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Where a laid out message frame is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// How many bytes of other frames lie before it in the queue.
    pub(crate) before: usize,
    /// How many bytes of it have left the queue.
    pub(crate) taken: usize,
    /// The size of the whole frame in bytes.
    pub(crate) len: usize,
}

/// Aborts the frame of `header` and `payloads` at `at` in `queue`. Every byte keeps its place, and
/// frames around it stay as they are. Returns `false`, and changes nothing, if all of the payload
/// has left, or the frame has no epilogue that could say so.
pub(crate) fn abort(
    queue: &mut TxQueue,
    at: Position,
    layout: Layout,
    header: &[u8],
    payloads: [&Payload; MAX_SEGMENTS - 1],
) -> bool {
    let payload_len: usize = payloads.iter().map(|payload| payload.len()).sum();
    let Some(aborted) = late_status::aborted(layout.revision, payload_len > 0) else {
        return false;
    };
    let head = PREAMBLE_LEN + header.len() + layout.revision.first_crc_len(header.len());
    let mut left = at.taken.saturating_sub(head);
    if left >= payload_len {
        return false;
    }
    let filled = payloads.map(|payload| {
        let kept = left.min(payload.len());
        left -= kept;
        fill(payload, kept)
    });
    let (mut block, mut blocks, mut frame) = (BytesMut::new(), HeapBlocks, TxQueue::new());
    // Payload is linked, however small its slices: what has left of it is dropped right away.
    let mut writer = FrameWriter::new(1, &mut block, &mut blocks, &mut frame);
    let [front, middle, data] = &filled;
    let len = writer.frame_as(
        aborted,
        &mut layout.into(),
        Tag::Message,
        header,
        [front, middle, data],
    );
    writer.finish();
    debug_assert_eq!(len, at.len);

    let mut rest = queue.split_off(0);
    move_bytes(&mut rest, at.before, queue);
    skip_bytes(&mut rest, at.len - at.taken);
    skip_bytes(&mut frame, at.taken);
    queue.append(&mut frame);
    queue.append(&mut rest);
    true
}

/// The first `kept` bytes, and filler for the rest.
fn fill(payload: &Payload, kept: usize) -> Payload {
    let mut filled = Payload::new();
    let mut missing = kept;
    for slice in payload.slices() {
        let n = missing.min(slice.len());
        filled.push(slice.slice(..n));
        missing -= n;
    }
    while filled.len() < payload.len() {
        let n = ZEROS.len().min(payload.len() - filled.len());
        filled.push(Bytes::from_static(&ZEROS[..n]));
    }
    filled
}

fn move_bytes(from: &mut TxQueue, mut n: usize, to: &mut TxQueue) {
    while n > 0
        && let Some(mut slice) = from.pop_front()
    {
        if slice.len() > n {
            to.push_back(slice.split_to(n));
            from.push_front(slice);
            return;
        }
        n -= slice.len();
        to.push_back(slice);
    }
}

fn skip_bytes(queue: &mut TxQueue, mut n: usize) {
    while n > 0
        && let Some(slice) = queue.front_mut()
    {
        let skipped = n.min(slice.len());
        slice.advance(skipped);
        n -= skipped;
        if slice.is_empty() {
            queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Frame, FrameReader, Limits, Revision};
    use super::*;

    const HEADER: [u8; 41] = [0xaa; 41];

    fn payload(byte: u8, len: usize, slices: usize) -> Payload {
        let mut payload = Payload::new();
        for part in 0..slices {
            let from = len * part / slices;
            let to = len * (part + 1) / slices;
            payload.push(vec![byte; to - from].into());
        }
        payload
    }

    fn read(layout: Layout, stream: &[u8]) -> Vec<Frame> {
        let mut reader = FrameReader::new(layout, Limits::default());
        reader.push(Bytes::copy_from_slice(stream));
        let frames = std::iter::from_fn(|| reader.next_frame().unwrap()).collect();
        assert!(!reader.is_mid_frame());
        frames
    }

    /// Aborts the second of three frames when `gone` bytes of all have left.
    fn abort_at(layout: Layout, link_from: usize, shape: [usize; 3], gone: usize) -> Option<()> {
        let ours = [1, 2, 3].map(|byte| payload(byte, shape[usize::from(byte) - 1], 2));
        let other = payload(9, 100, 1);
        let none = Payload::new();
        let (mut block, mut blocks, mut queue) = (BytesMut::new(), HeapBlocks, TxQueue::new());
        let mut writer = FrameWriter::new(link_from, &mut block, &mut blocks, &mut queue);
        let neighbour = [&other, &none, &none];
        let before = writer.frame(&mut layout.into(), Tag::Message, &HEADER, neighbour);
        let payloads = [&ours[0], &ours[1], &ours[2]];
        let len = writer.frame(&mut layout.into(), Tag::Message, &HEADER, payloads);
        writer.frame(&mut layout.into(), Tag::Message, &HEADER, neighbour);
        writer.finish();
        let all: Vec<u8> = queue.iter().flatten().copied().collect();
        if gone > before + len {
            return None;
        }
        let mut stream = all[..gone].to_vec();
        skip_bytes(&mut queue, gone);
        let at = Position {
            before: before.saturating_sub(gone),
            taken: gone.saturating_sub(before),
            len,
        };
        let untouched = queue.clone();
        let done = abort(&mut queue, at, layout, &HEADER, payloads);
        if !done {
            assert_eq!(queue, untouched);
        }
        stream.extend(queue.iter().flatten());
        assert_eq!(stream.len(), all.len());

        let frames = read(layout, &stream);
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[1].aborted, done);
        let payload_len = shape.iter().sum();
        let head = PREAMBLE_LEN + HEADER.len() + layout.revision.first_crc_len(HEADER.len());
        assert_eq!(done, at.taken < head + payload_len, "as long as it matters");
        assert_eq!(*frames[1].segments[0].contiguous(), HEADER);
        for neighbour in [&frames[0], &frames[2]] {
            assert!(!neighbour.aborted);
            assert_eq!(*neighbour.segments[1].contiguous(), [9; 100]);
        }
        let segments = frames[1].segments[1..].iter();
        let sent: Vec<u8> = segments.flat_map(|s| s.contiguous().into_owned()).collect();
        let real = sent.iter().filter(|byte| **byte != 0).count();
        let expected = if done {
            at.taken.saturating_sub(head)
        } else {
            payload_len
        };
        assert_eq!(real, expected, "what has not left is filler");
        Some(())
    }

    #[test]
    fn a_frame_is_taken_back_wherever_it_is_cut() {
        for revision in [Revision::Rev0, Revision::Rev1] {
            for data_crc in [true, false] {
                let layout = Layout { revision, data_crc };
                for link_from in [1, 50, usize::MAX] {
                    for shape in [[10, 20, 100], [0, 0, 100], [40, 0, 0], [0, 5, 0]] {
                        let cuts = (0..).map_while(|gone| abort_at(layout, link_from, shape, gone));
                        assert!(cuts.count() > 250, "the frame and the one before it");
                    }
                }
            }
        }
    }

    #[test]
    fn filler_costs_no_memory() {
        let layout = Layout {
            revision: Revision::Rev1,
            data_crc: true,
        };
        let data = payload(7, 64 << 20, 1);
        let none = Payload::new();
        let payloads = [&none, &none, &data];
        let (mut block, mut blocks, mut queue) = (BytesMut::new(), HeapBlocks, TxQueue::new());
        let mut writer = FrameWriter::new(4096, &mut block, &mut blocks, &mut queue);
        let len = writer.frame(&mut layout.into(), Tag::Message, &HEADER, payloads);
        writer.finish();
        let at = Position {
            before: 0,
            taken: 0,
            len,
        };
        assert!(abort(&mut queue, at, layout, &HEADER, payloads));
        let own = queue.iter().filter(|slice| slice.len() != ZEROS.len());
        assert!(own.map(Bytes::len).sum::<usize>() < 200);
    }

    #[test]
    fn a_frame_without_an_epilogue_cannot_be_taken_back() {
        let layout = Layout {
            revision: Revision::Rev1,
            data_crc: true,
        };
        let none = Payload::new();
        let at = Position {
            before: 0,
            taken: 0,
            len: 77,
        };
        let mut queue = TxQueue::from([Bytes::from_static(&[1; 77])]);
        assert!(!abort(&mut queue, at, layout, &HEADER, [&none; 3]));
        assert_eq!(queue, [Bytes::from_static(&[1; 77])]);
    }
}
