//! [`Opener`]: what opens the frames of one direction, piece by piece as they come in.

use std::fmt;

use bytes::Buf;
use msgr_gcm::{KEY_LEN, TAG_LEN};

use super::landing::Landing;
use super::{HEAD_LEN, INLINE_LEN, MAX_SEGMENTS, Nonce, PREAMBLE_LEN, Plain, padded, records};
use crate::frame::input::Input;
use crate::frame::{FrameError, Limits, Preamble, Revision, late_status};
use crate::payload::Payload;

/// Opens the frames that one end of a connection receives.
///
/// Records are opened as their bytes come in, while these are still in the cache. What was opened
/// stays in here until the record's tag has come and matches.
#[derive(Clone)]
pub struct Opener {
    cipher: msgr_gcm::Opener,
    nonce: Nonce,
    landing: Landing,
    /// Those of the frame that were not begun yet.
    records: [Option<Plain>; 2],
    /// The one being opened.
    record: Option<Record>,
    /// The first byte of the frame's epilogue.
    status: Option<u8>,
}

#[derive(Clone, Copy)]
struct Record {
    plain: Plain,
    /// How much of it is still to come, without the tag, in bytes.
    missing: usize,
    /// How much of it was dealt out to segments, in bytes.
    dealt: usize,
}

impl fmt::Debug for Opener {
    /// Nothing secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

impl Opener {
    pub(super) fn new(key: &[u8; KEY_LEN], nonce: Nonce) -> Self {
        Self {
            cipher: msgr_gcm::Opener::new(key),
            nonce,
            landing: Landing::default(),
            records: [None; 2],
            record: None,
            status: None,
        }
    }

    /// The next frame's preamble, if that much has come, and what there is in its record of the
    /// first segment. In revision 0 nobody has vouched for the preamble yet: it decides what is
    /// collected, within `limits`, and nothing else before the tag has come.
    pub(in crate::frame) fn preamble(
        &mut self,
        input: &mut Input,
        limits: &Limits,
        first: &mut Vec<u8>,
    ) -> Result<Option<Preamble>, FrameError> {
        let revision = self.nonce.revision();
        let preamble = match revision {
            Revision::Rev0 => {
                let Some(wire) = input.take_array::<PREAMBLE_LEN>() else {
                    return Ok(None);
                };
                self.start()?;
                let out = self.landing.make_room(PREAMBLE_LEN);
                self.cipher.update(&wire, out);
                let preamble = Preamble::decode(out.first_chunk().expect("32 bytes"), limits);
                out.clear();
                first.clear();
                preamble?
            }
            Revision::Rev1 => {
                let Some(wire) = input.take_array::<{ HEAD_LEN + TAG_LEN }>() else {
                    return Ok(None);
                };
                self.start()?;
                let (sealed, tag) = wire.split_at(HEAD_LEN);
                let out = self.landing.make_room(HEAD_LEN);
                self.cipher.update(sealed, out);
                self.cipher
                    .finish(tag.first_chunk().expect("16 bytes"))
                    .map_err(|_| FrameError::TagMismatch)?;
                let preamble = Preamble::decode(out.first_chunk().expect("80 bytes"), limits)?;
                let inline = preamble.segment_len(0).min(INLINE_LEN);
                first.clear();
                first.extend_from_slice(&out[PREAMBLE_LEN..][..inline]);
                out.clear();
                preamble
            }
        };
        self.records = records(&preamble, revision);
        if revision == Revision::Rev0 {
            // It goes on in the record that the preamble began.
            let plain = self.records[1].take().expect("always there");
            self.record = Some(self.begin(plain));
        }
        self.status = None;
        Ok(Some(preamble))
    }

    /// Opens what has come of the frame's records; returns whether that is all of them.
    pub(in crate::frame) fn receive(
        &mut self,
        input: &mut Input,
        first: &mut Vec<u8>,
        rest: &mut [Payload; MAX_SEGMENTS - 1],
    ) -> Result<bool, FrameError> {
        loop {
            let record = match self.record.take() {
                Some(record) => Some(record),
                None => self.next_record()?,
            };
            let Some(mut record) = record else {
                return Ok(true);
            };
            if !self.receive_record(&mut record, input, first, rest)? {
                self.record = Some(record);
                return Ok(false);
            }
        }
    }

    /// The same for one record.
    fn receive_record(
        &mut self,
        record: &mut Record,
        input: &mut Input,
        first: &mut Vec<u8>,
        rest: &mut [Payload; MAX_SEGMENTS - 1],
    ) -> Result<bool, FrameError> {
        while record.missing > 0 {
            let block = &mut self.landing.block;
            let room = block.capacity() - block.len();
            let Some(sealed) = input.front(record.missing.min(room)) else {
                return Ok(false);
            };
            let len = sealed.len();
            self.cipher.update(sealed, block);
            input.advance(len);
            record.missing -= len;
            if len == room && record.missing > 0 {
                self.deal(record, first, rest);
                self.landing.make_room(record.missing);
            }
        }
        let Some(tag) = input.take_array() else {
            return Ok(false);
        };
        if self.cipher.finish(&tag).is_err() {
            // Whoever reads on in spite of the error shall not find anything.
            self.landing.block.clear();
            *rest = Default::default();
            return Err(FrameError::TagMismatch);
        }
        self.deal(record, first, rest);
        Ok(true)
    }

    /// Whether the sender gave up on the frame that was received.
    pub(in crate::frame) fn is_aborted(&self) -> Result<bool, FrameError> {
        self.status.map_or(Ok(false), |status| {
            late_status::is_aborted(self.nonce.revision(), status)
                .ok_or(FrameError::LateStatus(status))
        })
    }

    /// Passes over nonces.
    #[cfg(test)]
    pub(super) fn skip(&mut self, nonces: u64) {
        self.nonce.skip(nonces);
    }

    fn start(&mut self) -> Result<(), FrameError> {
        let nonce = self.nonce.next().ok_or(FrameError::NoncesExhausted)?;
        self.cipher.start(&nonce);
        Ok(())
    }

    fn next_record(&mut self) -> Result<Option<Record>, FrameError> {
        let Some(plain) = self.records.iter_mut().find_map(Option::take) else {
            return Ok(None);
        };
        self.start()?;
        Ok(Some(self.begin(plain)))
    }

    fn begin(&mut self, plain: Plain) -> Record {
        let missing = plain.len();
        self.landing.make_room(missing);
        Record {
            plain,
            missing,
            dealt: 0,
        }
    }

    /// Deals out what was opened to the segments that it belongs to.
    fn deal(
        &mut self,
        record: &mut Record,
        first: &mut Vec<u8>,
        rest: &mut [Payload; MAX_SEGMENTS - 1],
    ) {
        let block = &mut self.landing.block;
        let dealt = &mut record.dealt;
        let mut at = 0;
        for (segment, len) in record.plain.parts.into_iter().enumerate() {
            let n = (at + len).saturating_sub(*dealt).min(block.len());
            if n > 0 {
                match segment {
                    0 => {
                        first.extend_from_slice(&block[..n]);
                        block.advance(n);
                    }
                    _ => rest[segment - 1].push(block.split_to(n).freeze()),
                }
                *dealt += n;
            }
            at += padded(len);
            let padding = at.saturating_sub(*dealt).min(block.len());
            block.advance(padding);
            *dealt += padding;
        }
        if *dealt == at {
            self.status = self.status.or(block.first().copied());
        }
        *dealt += block.len();
        block.clear();
    }
}
