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

#[cfg(test)]
mod tests {
    use std::ops::{Deref, DerefMut};

    use smoltcp::wire::TcpControl;

    use super::super::cut::tests::{cut, packet};
    use super::*;

    struct Plain(Vec<u8>);

    impl Deref for Plain {
        type Target = [u8];

        fn deref(&self) -> &[u8] {
            &self.0
        }
    }

    impl DerefMut for Plain {
        fn deref_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }

    impl Frame for Plain {}

    /// Holds the first packet and offers the others. How many were taken.
    fn offer(coalescer: &mut Coalescer<Plain>, packets: &[Vec<u8>]) -> usize {
        let segment = |packet: &[u8]| Segment::peek(packet).expect("TCP");
        let (first, others) = packets.split_first().expect("one");
        let all = 0..first.len();
        let conn = ConnId::from_u64(1);
        coalescer.hold(conn, segment(first), Plain(first.clone()), all);
        let others = others.iter();
        others
            .take_while(|packet| coalescer.append(&segment(packet), packet))
            .count()
    }

    #[test]
    fn what_was_cut_is_put_together_again() {
        let payload: Vec<u8> = (0..9999u32).map(|at| (at * 7 / 3) as u8).collect();
        let long = packet(TcpControl::None, &payload);
        let mut coalescer = Coalescer::default();
        // Its memory is used again.
        for size in [1460, 3000, 9999] {
            let packets = cut(&long, size);
            assert_eq!(offer(&mut coalescer, &packets), packets.len() - 1);
            let (_, segment, whole) = coalescer.held().expect("something");
            // That of TCP is not written: everybody's was right.
            let checksum = segment.ip_header_len + 16;
            whole[checksum..checksum + 2].copy_from_slice(&long[checksum..checksum + 2]);
            assert!(*whole == long[..], "not what was cut into {size}");
            assert_eq!(Segment::peek(whole), Some(segment));
            assert!(coalescer.take().is_some());
            assert!(coalescer.held().is_none());
        }
    }

    #[test]
    fn others_are_left_alone() {
        let payload = [7; 4000];
        let of = |control| cut(&packet(control, &payload), 1000);
        let (plain, ending) = (of(TcpControl::None), of(TcpControl::Fin));
        let mut coalescer = Coalescer::default();
        let gap = [plain[0].clone(), plain[2].clone()];
        assert_eq!(offer(&mut coalescer, &gap), 0);
        let again = [plain[1].clone(), plain[1].clone()];
        assert_eq!(offer(&mut coalescer, &again), 0);
        assert_eq!(offer(&mut coalescer, &ending), 2, "but for the last");
        let mut other = plain.clone();
        // Of another port.
        other[1][21] ^= 1;
        assert_eq!(offer(&mut coalescer, &other), 0);
    }
}
