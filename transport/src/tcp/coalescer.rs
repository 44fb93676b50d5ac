//! [`Coalescer`]: puts segments of a burst that continue each other together, so that TCP takes them
//! in as one (what Linux calls generic receive offload). Holds a segment only until the next one is
//! looked at, or the burst is over.

use std::ops::Range;
use std::sync::Arc;

use super::Frame;
use super::phy::Incoming;
use super::segment::Segment;
use crate::ConnId;

/// The most bytes that become one packet.
const MOST: usize = 32 << 10;

pub(super) struct Coalescer<F> {
    held: Option<Held<F>>,
    /// Where segments are put together. smoltcp has a look at it, nobody else has it then.
    together: Arc<Vec<u8>>,
}

struct Held<F> {
    conn: ConnId,
    segment: Segment,
    frame: F,
    packet: Range<usize>,
    /// Whether others have been put behind it, in `together`.
    is_together: bool,
}

impl<F: Frame> Default for Coalescer<F> {
    fn default() -> Self {
        Self {
            held: None,
            together: Arc::new(Vec::new()),
        }
    }
}

impl<F: Frame> Coalescer<F> {
    /// Puts a segment behind the one that is held, if it continues that.
    pub(super) fn append(&mut self, segment: &Segment, packet: &[u8]) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        let fits = held.segment.headers_len() + held.segment.len() + segment.len() <= MOST;
        if !fits || !held.segment.is_continued_by(segment) {
            return false;
        }
        let Some(together) = Arc::get_mut(&mut self.together) else {
            return false;
        };
        if !held.is_together {
            held.is_together = true;
            together.clear();
            together.extend_from_slice(&held.frame[held.packet.clone()]);
        }
        together.extend_from_slice(&packet[segment.headers_len()..]);
        held.segment.absorb(segment);
        true
    }

    /// Holds a segment. There must be none.
    pub(super) fn hold(&mut self, conn: ConnId, segment: Segment, frame: F, packet: Range<usize>) {
        self.held = Some(Held {
            conn,
            segment,
            frame,
            packet,
            is_together: false,
        });
    }

    /// What is held, and for whom.
    pub(super) fn held(&mut self) -> Option<(ConnId, Segment, &mut [u8])> {
        let held = self.held.as_mut()?;
        let packet = if held.is_together {
            let together = Arc::get_mut(&mut self.together)?;
            held.segment.write_whole(together);
            together
        } else {
            &mut held.frame[held.packet.clone()]
        };
        Some((held.conn, held.segment, packet))
    }

    /// Lets go of what is held, for smoltcp.
    pub(super) fn take(&mut self) -> Option<Incoming<F>> {
        let held = self.held.take()?;
        Some(if held.is_together {
            Incoming::Together(Arc::clone(&self.together))
        } else {
            Incoming::Frame(held.frame, held.packet)
        })
    }
}
