//! [`Receiver`]: the half of a connection that receives. Puts segments in order, and knows what the peer
//! is to be told, and when.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::super::segment::{Options, SACKS};
use super::super::time::Time;
use super::is_before;

/// The most pieces behind gaps that are kept. More are thrown away, and sent again.
const MOST_PIECES: usize = 1024;
/// Segments that change nothing are not answered more often than this.
const ANSWERS: Duration = Duration::from_millis(5);

/// When what has arrived is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Never,
    /// With whatever is sent until then.
    At(Time),
    /// At the end of this turn.
    Now,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    /// The number of the next byte (RCV.NXT of RFC 9293, section 3.3.1).
    next: u32,
    /// The end of the window, as the peer knows it.
    window_end: u32,
    /// By how much windows are scaled for it, and the longest there is.
    shift: u8,
    capacity: u32,
    /// The longest segment of the peer's, in bytes, as far as we know.
    mss: u32,
    /// Bytes in order that their owner has not taken yet.
    unread: u32,
    /// Bytes behind gaps, in order, none of them twice.
    pieces: Vec<(u32, Bytes)>,
    /// What has arrived last behind a gap.
    latest: Option<u32>,
    /// What has arrived twice (RFC 2883).
    repeated: Option<(u32, u32)>,
    knows_scale: bool,
    knows_sack: bool,
    /// Where the peer's bytes end, if it has said so.
    end: Option<u32>,
    pub(super) has_ended: bool,
    due: Due,
    /// How much has arrived since the last acknowledgement.
    unacknowledged: u32,
    answered_at: Option<Time>,
}

impl Receiver {
    /// Of a peer whose first byte has the number `first`, and whose SYN had these options.
    pub(super) fn new(first: u32, options: &Options, mss: u32, capacity: usize, shift: u8) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        let mss = options.mss.map_or(mss, |theirs| mss.min(theirs.into()));
        Self {
            next: first,
            window_end: first,
            shift: if options.window_scale.is_some() {
                shift
            } else {
                0
            },
            capacity,
            mss,
            unread: 0,
            pieces: Vec::new(),
            latest: None,
            repeated: None,
            knows_scale: options.window_scale.is_some(),
            knows_sack: options.sack_permitted,
            end: None,
            has_ended: false,
            due: Due::Never,
            unacknowledged: 0,
            answered_at: None,
        }
    }

    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Whether the peer has said that its windows are scaled.
    pub(super) fn knows_scale(&self) -> bool {
        self.knows_scale
    }

    /// Whether it has said that it knows selective acknowledgements.
    pub(super) fn knows_sack(&self) -> bool {
        self.knows_sack
    }

    /// Whether nothing waits.
    pub(super) fn is_at_rest(&self) -> bool {
        self.unread == 0 && self.pieces.is_empty()
    }

    /// Whether there is anything that only a selective acknowledgement says.
    pub(super) fn has_sacks(&self) -> bool {
        self.knows_sack && (!self.pieces.is_empty() || self.repeated.is_some())
    }

    /// The end of what is taken in: never before what the peer was told.
    fn edge(&self) -> u32 {
        let room = self.capacity.saturating_sub(self.unread);
        // As far as can be said.
        let most = u32::from(u16::MAX) << self.shift;
        let edge = self
            .next
            .wrapping_add(room.min(most) >> self.shift << self.shift);
        // Silly windows (RFC 9293, section 3.8.6.2.2): not a little more.
        let least = self.mss.min(self.capacity / 2);
        if is_before(edge, self.window_end.wrapping_add(least)) {
            self.window_end
        } else {
            edge
        }
    }

    /// Whether any of a segment is within the window (RFC 9293, section 3.10.7.4).
    pub(super) fn accepts(&self, seq: u32, len: u32) -> bool {
        let is_within =
            |number: u32| !is_before(number, self.next) && is_before(number, self.edge());
        match len {
            0 => seq == self.next || is_within(seq),
            _ => is_within(seq) || is_within(seq.wrapping_add(len - 1)),
        }
    }

    /// Takes in a segment's bytes if they are those that come next, and nothing else is to be thought of.
    /// Whether they are.
    pub(super) fn on_expected(
        &mut self,
        seq: u32,
        bytes: &[u8],
        delayed_until: Time,
        deliver: &mut impl FnMut(&[u8]),
    ) -> bool {
        let up_to = seq.wrapping_add(bytes.len() as u32);
        let is_expected = seq == self.next
            && is_before(seq, up_to)
            && !is_before(self.window_end, up_to)
            && self.pieces.is_empty()
            && self.end.is_none();
        if is_expected {
            self.pass(bytes, deliver);
            self.acknowledge_by(delayed_until);
        }
        is_expected
    }

    /// Takes in what is within the window of a segment's bytes. `deliver` gets what is in order then.
    pub(super) fn on_bytes(
        &mut self,
        seq: u32,
        bytes: &[u8],
        delayed_until: Time,
        mut deliver: impl FnMut(&[u8]),
    ) {
        let len = bytes.len() as u32;
        let up_to = seq.wrapping_add(len);
        if !is_before(self.next, up_to) {
            if len > 0 {
                (self.repeated, self.due) = (Some((seq, up_to)), Due::Now);
            }
            return;
        }
        let old = if is_before(seq, self.next) {
            self.next.wrapping_sub(seq)
        } else {
            0
        };
        let edge = self.edge();
        let excess = if is_before(edge, up_to) {
            up_to.wrapping_sub(edge).min(len)
        } else {
            0
        };
        let Some(bytes) = bytes.get(old as usize..(len - excess) as usize) else {
            self.due = Due::Now;
            return;
        };
        let seq = seq.wrapping_add(old);
        if seq != self.next {
            self.keep(seq, bytes);
            self.due = Due::Now;
            return;
        }
        self.pass(bytes, &mut deliver);
        if !self.pieces.is_empty() {
            self.due = Due::Now;
            self.close_gap(&mut deliver);
        }
        self.acknowledge_by(delayed_until);
    }

    fn acknowledge_by(&mut self, delayed_until: Time) {
        if self.unacknowledged >= 2 * self.mss {
            self.due = Due::Now;
        } else if self.due == Due::Never {
            self.due = Due::At(delayed_until);
        }
    }

    fn pass(&mut self, bytes: &[u8], deliver: &mut impl FnMut(&[u8])) {
        let len = bytes.len() as u32;
        self.next = self.next.wrapping_add(len);
        self.unread += len;
        self.unacknowledged += len;
        deliver(bytes);
    }

    /// Passes what is not behind a gap any more.
    fn close_gap(&mut self, deliver: &mut impl FnMut(&[u8])) {
        let mut passed = 0;
        while let Some((seq, piece)) = self.pieces.get(passed)
            && !is_before(self.next, *seq)
        {
            let old = self.next.wrapping_sub(*seq) as usize;
            let piece = piece.slice(old.min(piece.len())..);
            passed += 1;
            self.pass(&piece, deliver);
        }
        self.pieces.drain(..passed);
        if self.pieces.is_empty() {
            self.pieces = Vec::new();
            self.latest = None;
        }
    }

    /// Keeps a copy of what is not there yet of some bytes behind a gap.
    fn keep(&mut self, seq: u32, bytes: &[u8]) {
        let up_to = seq.wrapping_add(bytes.len() as u32);
        let end = |(seq, piece): &(u32, Bytes)| seq.wrapping_add(piece.len() as u32);
        let mut at = self
            .pieces
            .partition_point(|piece| !is_before(seq, end(piece)));
        let mut from = seq;
        let mut any = false;
        while is_before(from, up_to) && self.pieces.len() < MOST_PIECES {
            let next = self.pieces.get(at);
            let gap_end = match next {
                Some((start, _)) if is_before(*start, up_to) => *start,
                _ => up_to,
            };
            if is_before(from, gap_end) {
                let within = |number: u32| number.wrapping_sub(seq) as usize;
                let Range { start, end } = within(from)..within(gap_end);
                let piece = Bytes::copy_from_slice(&bytes[start..end]);
                self.pieces.insert(at, (from, piece));
                any = true;
            }
            let Some(piece) = self
                .pieces
                .get(at)
                .filter(|piece| is_before(from, end(piece)))
            else {
                break;
            };
            from = end(piece);
            at += 1;
        }
        self.latest = Some(seq);
        if !any && !is_before(from, up_to) {
            self.repeated = Some((seq, up_to));
        }
    }

    /// The peer's bytes end before this number, it says. Whether they have.
    pub(super) fn on_end(&mut self, at: u32) {
        self.end.get_or_insert(at);
        self.take_end();
    }

    /// Ends if all has arrived.
    pub(super) fn take_end(&mut self) {
        if self.end == Some(self.next) && !self.has_ended {
            self.next = self.next.wrapping_add(1);
            self.has_ended = true;
            self.due = Due::Now;
        }
    }

    /// The owner has taken so many bytes.
    pub(super) fn on_read(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.unread -= bytes as u32;
        // A peer that waits is told when it is worth it.
        let worth = self.capacity.min(u32::from(u16::MAX) << self.shift) / 2;
        let known = self.window_end.wrapping_sub(self.next);
        if known < worth && self.edge().wrapping_sub(self.window_end) >= worth {
            self.due = Due::Now;
        }
    }

    /// Answers a segment that is not acceptable.
    pub(super) fn answer(&mut self, seq: u32, len: u32, now: Time) {
        let is_limited = len == 0 && self.answered_at.is_some_and(|at| now < at + ANSWERS);
        if !is_limited {
            self.answered_at = Some(now);
            self.due = Due::Now;
        }
        if len > 0 && is_before(seq, self.next) {
            let up_to = seq.wrapping_add(len);
            let is_old = is_before(up_to, self.next);
            self.repeated = Some((seq, if is_old { up_to } else { self.next }));
        }
    }

    /// Whether an acknowledgement is to go out by itself.
    pub(super) fn must_answer(&self, now: Time) -> bool {
        match self.due {
            Due::Never => false,
            Due::At(at) => at <= now,
            Due::Now => true,
        }
    }

    /// Whether so much has arrived that the peer is to know before this turn is over.
    pub(super) fn is_pressing(&self) -> bool {
        self.unacknowledged >= self.capacity / 8
    }

    /// When an acknowledgement goes out by itself.
    pub(super) fn due(&self) -> Option<Time> {
        match self.due {
            Due::At(at) => Some(at),
            Due::Never | Due::Now => None,
        }
    }

    /// What a segment that goes out now says of the window: as in the header.
    pub(super) fn window(&self) -> u16 {
        let window = self.edge().wrapping_sub(self.next) >> self.shift;
        window.min(u16::MAX.into()) as u16
    }

    /// A segment that said all this has gone out.
    pub(super) fn on_sent(&mut self) {
        self.window_end = self.edge();
        self.unacknowledged = 0;
        self.due = Due::Never;
        self.repeated = None;
    }

    /// What has arrived behind gaps: where the latest is, then from the end on.
    pub(super) fn sacks(&self) -> [Option<(u32, u32)>; SACKS] {
        let mut sacks = [None; SACKS];
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for (seq, piece) in &self.pieces {
            let up_to = seq.wrapping_add(piece.len() as u32);
            match runs.last_mut() {
                Some(run) if run.1 == *seq => run.1 = up_to,
                _ => runs.push((*seq, up_to)),
            }
        }
        let latest = self.latest.and_then(|latest| {
            let holds = |run: &(u32, u32)| !is_before(latest, run.0) && is_before(latest, run.1);
            runs.iter().position(holds)
        });
        let first = latest.map(|at| runs.remove(at));
        let others = first.into_iter().chain(runs.into_iter().rev());
        for (sack, run) in sacks
            .iter_mut()
            .zip(self.repeated.into_iter().chain(others))
        {
            *sack = Some(run);
        }
        sacks
    }
}
