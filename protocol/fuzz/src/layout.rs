//! The layout of frames, written down a second time, in one piece and from the specification: what
//! the incremental reader and the writer are compared with.

use std::iter;
use std::ops::Range;

use msgr_protocol::frame::{FrameError, Layout, Limits, MAX_SEGMENTS, PREAMBLE_LEN, Revision};
use msgr_protocol::wire::Tag;

const FLAGS: usize = 26;
const PREAMBLE_CRC: usize = 28;
const ALIGNMENTS: [u16; MAX_SEGMENTS] = [8, 8, 8, 4096];
const EMPTY_CRC: u32 = u32::MAX;

fn crc32c(register: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!register, data)
}

fn le32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn epilogue_len(layout: Layout, segments: usize) -> usize {
    match (layout.revision, segments) {
        (Revision::Rev0, _) => 17,
        (Revision::Rev1, 1) => 0,
        (Revision::Rev1, _) => 13,
    }
}

/// The size of a frame with one segment of `len` bytes, in bytes.
pub(super) fn control_len(layout: Layout, len: usize) -> usize {
    let first_crc = match layout.revision {
        Revision::Rev1 if len > 0 => 4,
        _ => 0,
    };
    PREAMBLE_LEN + len + first_crc + epilogue_len(layout, 1)
}

/// A frame with right checksums, and with these segments even if no frame may have them.
pub(super) fn lay_out(layout: Layout, tag: u8, segments: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = vec![0; PREAMBLE_LEN];
    wire[0] = tag;
    wire[1] = segments.len() as u8;
    for (i, (segment, alignment)) in segments.iter().zip(ALIGNMENTS).enumerate() {
        let at = 2 + 6 * i;
        wire[at..at + 4].copy_from_slice(&(segment.len() as u32).to_le_bytes());
        wire[at + 4..at + 6].copy_from_slice(&alignment.to_le_bytes());
    }
    seal(&mut wire);
    let mut crcs = Vec::new();
    for (i, segment) in segments.iter().enumerate() {
        wire.extend(segment);
        let crc = if layout.data_crc {
            crc32c(EMPTY_CRC, segment)
        } else {
            0
        };
        if layout.revision == Revision::Rev0 || i > 0 {
            crcs.extend(crc.to_le_bytes());
        } else if !segment.is_empty() {
            wire.extend(crc.to_le_bytes());
        }
    }
    let epilogue = epilogue_len(layout, segments.len());
    if epilogue > 0 {
        wire.push(match layout.revision {
            Revision::Rev0 => 0,
            Revision::Rev1 => 0x0e,
        });
        crcs.resize(epilogue - 1, 0);
        wire.extend(crcs);
    }
    wire
}

/// Makes the checksum of a changed preamble right again.
pub(super) fn seal(wire: &mut [u8]) {
    let crc = crc32c(0, &wire[..PREAMBLE_CRC]);
    wire[PREAMBLE_CRC..PREAMBLE_LEN].copy_from_slice(&crc.to_le_bytes());
}

/// A frame that must be accepted.
pub(super) struct Parsed<'a> {
    pub(super) tag: Tag,
    /// One to four.
    pub(super) segments: Vec<&'a [u8]>,
    pub(super) aborted: bool,
    /// All of it.
    pub(super) wire: &'a [u8],
}

/// What the start of a stream is.
pub(super) enum Start<'a> {
    Frame(Parsed<'a>),
    /// A frame of this type begins; so many bytes of the segment that has begun are missing.
    Partial {
        tag: Option<Tag>,
        missing: usize,
    },
    /// No frame, for any of these reasons.
    Refused(Vec<FrameError>),
}

pub(super) fn parse<'a>(layout: Layout, limits: &Limits, stream: &'a [u8]) -> Start<'a> {
    let Some(preamble) = stream.get(..PREAMBLE_LEN) else {
        return Start::Partial {
            tag: None,
            missing: 0,
        };
    };
    let (tag, count) = match preamble_faults(preamble, limits) {
        Ok(known) => known,
        Err(faults) => return Start::Refused(faults),
    };
    let partial = |missing| Start::Partial {
        tag: Some(tag),
        missing,
    };
    let mut at = PREAMBLE_LEN;
    let mut segments: Vec<&[u8]> = Vec::new();
    for i in 0..count {
        let len = le32(&preamble[2 + 6 * i..][..4]) as usize;
        let Some(segment) = stream.get(at..at + len) else {
            return partial(at + len - stream.len());
        };
        at += len;
        segments.push(segment);
        if layout.revision == Revision::Rev1 && i == 0 && len > 0 {
            let Some(crc) = stream.get(at..at + 4) else {
                return partial(0);
            };
            at += 4;
            if let Some(fault) = segment_fault(layout, 0, segment, crc) {
                return Start::Refused(vec![fault]);
            }
        }
    }
    let Some(epilogue) = stream.get(at..at + epilogue_len(layout, count)) else {
        return partial(0);
    };
    let aborted = match epilogue_faults(layout, &segments, epilogue) {
        Ok(aborted) => aborted,
        Err(faults) => return Start::Refused(faults),
    };
    Start::Frame(Parsed {
        tag,
        segments,
        aborted,
        wire: &stream[..at + epilogue.len()],
    })
}

fn preamble_faults(preamble: &[u8], limits: &Limits) -> Result<(Tag, usize), Vec<FrameError>> {
    let (received, computed) = (
        le32(&preamble[PREAMBLE_CRC..]),
        crc32c(0, &preamble[..PREAMBLE_CRC]),
    );
    if received != computed {
        return Err(vec![FrameError::PreambleCrc { received, computed }]);
    }
    let tag = Tag::try_from(preamble[0]);
    let is_message = tag == Ok(Tag::Message);
    let count = preamble[1];
    let mut faults = Vec::new();
    if let Err(number) = tag {
        faults.push(FrameError::UnknownTag(number));
    }
    let compressed = preamble[FLAGS] & 1 != 0;
    if compressed {
        faults.push(FrameError::Compressed);
    }
    if !(1..=if is_message { 4 } else { 1 }).contains(&count) {
        faults.push(FrameError::SegmentCount(count));
    }
    for segment in 0..MAX_SEGMENTS.min(count.into()) {
        let descriptor = &preamble[2 + 6 * segment..][..6];
        let len = le32(&descriptor[..4]);
        let alignment = u16::from_le_bytes([descriptor[4], descriptor[5]]);
        let limit = match segment {
            1 if is_message => limits.front,
            2 if is_message => limits.middle,
            3 if is_message => limits.data,
            _ => limits.control,
        };
        // What does not get smaller gets a little larger.
        let limit = if compressed {
            limit + limit / 6 + 64
        } else {
            limit
        };
        if len > limit {
            faults.push(FrameError::SegmentTooLong {
                segment,
                len,
                limit,
            });
        }
        if len > 0 && alignment.count_ones() != 1 {
            faults.push(FrameError::Alignment { segment, alignment });
        }
        if len == 0 && segment > 0 && segment + 1 == count.into() {
            faults.push(FrameError::LastSegmentEmpty(count));
        }
    }
    match tag {
        Ok(tag) if faults.is_empty() => Ok((tag, count.into())),
        _ => Err(faults),
    }
}

fn segment_fault(layout: Layout, segment: usize, bytes: &[u8], crc: &[u8]) -> Option<FrameError> {
    let (received, computed) = (le32(crc), crc32c(EMPTY_CRC, bytes));
    (layout.data_crc && received != computed).then_some(FrameError::SegmentCrc {
        segment,
        received,
        computed,
    })
}

/// Whether the frame was aborted, or what is wrong with it.
fn epilogue_faults(
    layout: Layout,
    segments: &[&[u8]],
    epilogue: &[u8],
) -> Result<bool, Vec<FrameError>> {
    let Some((status, crcs)) = epilogue.split_first() else {
        return Ok(false);
    };
    let mut faults: Vec<_> = segments
        .iter()
        .enumerate()
        .skip(first_in_epilogue(layout))
        .zip(crcs.chunks(4))
        .filter_map(|((i, segment), crc)| segment_fault(layout, i, segment, crc))
        .collect();
    let aborted = match (layout.revision, status & 0x0f) {
        (Revision::Rev0, bits) => bits & 1 != 0,
        (Revision::Rev1, bits) => {
            if !matches!(bits, 0x01 | 0x0e) {
                faults.push(FrameError::LateStatus(*status));
            }
            bits == 0x01
        }
    };
    if faults.is_empty() {
        Ok(aborted)
    } else {
        Err(faults)
    }
}

fn first_in_epilogue(layout: Layout) -> usize {
    match layout.revision {
        Revision::Rev0 => 0,
        Revision::Rev1 => 1,
    }
}

/// The bytes of an accepted frame that may be different and still mean the same.
pub(super) fn ignored(layout: Layout, frame: &Parsed<'_>) -> Vec<Range<usize>> {
    let count = frame.segments.len();
    // Alignments are hints. Descriptors of segments that there are not, flags and what is reserved
    // are not looked at, and the checksum covers all that.
    let mut ignored: Vec<_> = iter::once(FLAGS..PREAMBLE_LEN).collect();
    for i in 0..MAX_SEGMENTS {
        let at = 2 + 6 * i;
        ignored.push(if i < count { at + 4 } else { at }..at + 6);
    }
    let end = frame.wire.len();
    let epilogue = end - epilogue_len(layout, count);
    if !layout.data_crc {
        if layout.revision == Revision::Rev1 && !frame.segments[0].is_empty() {
            let at = PREAMBLE_LEN + frame.segments[0].len();
            ignored.push(at..at + 4);
        }
        ignored.push(epilogue..end);
    } else if epilogue < end {
        let used = count - first_in_epilogue(layout);
        ignored.push(epilogue..epilogue + 1);
        ignored.push(epilogue + 1 + 4 * used..end);
    }
    ignored
}
