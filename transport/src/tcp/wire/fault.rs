//! [`WireFaults`]: what may befall a frame on its way, by chance.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::frame::{Raw, Spares};
use super::later;

/// How often things go wrong. Each rate is the probability, from 0 to 1, that it befalls a frame
/// on its way to one port. A frame that is lost suffers nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WireFaults {
    /// It does not arrive.
    pub loss: f64,
    /// It arrives twice. Each of the two may be late or damaged.
    pub duplicate: f64,
    /// It arrives later, after those that were sent behind it.
    pub reorder: f64,
    /// By how much later, at most a day.
    pub reorder_by: Duration,
    /// One of its bits, anywhere in it, is flipped.
    pub corrupt: f64,
}

impl Default for WireFaults {
    /// Nothing goes wrong; if it did, frames would be a millisecond late.
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(1),
            corrupt: 0.0,
        }
    }
}

/// How many frames something has befallen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireFaultCounts {
    /// Those that did not arrive. Those that found no room at the port are not among them.
    pub lost: u64,
    /// Those that arrived twice.
    pub duplicated: u64,
    /// Those that were delayed.
    pub reordered: u64,
    /// Those that were damaged.
    pub corrupted: u64,
}

/// What goes wrong, and has gone wrong.
#[derive(Debug)]
pub(super) struct Weather {
    rng: Rng,
    pub(super) faults: WireFaults,
    pub(super) counts: WireFaultCounts,
}

impl Weather {
    pub(super) fn new(seed: u64, faults: WireFaults) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            faults,
            counts: WireFaultCounts::default(),
        }
    }

    /// Whether anything goes wrong.
    pub(super) fn is_foul(&self) -> bool {
        let faults = &self.faults;
        [
            faults.loss,
            faults.duplicate,
            faults.reorder,
            faults.corrupt,
        ]
        .into_iter()
        .any(|rate| rate > 0.0)
    }

    /// What arrives of `frames`, which it empties, and when, if all goes well at `at`.
    pub(super) fn suffer(
        &mut self,
        frames: &mut Vec<Raw>,
        at: Instant,
        spares: &mut Spares,
    ) -> Vec<(Instant, Raw)> {
        let mut arriving = Vec::with_capacity(frames.len());
        for frame in frames.drain(..) {
            if self.strikes(self.faults.loss) {
                self.counts.lost += 1;
                spares.give(frame.buffer);
                continue;
            }
            if self.strikes(self.faults.duplicate) {
                self.counts.duplicated += 1;
                let copy = spares.copy(&frame);
                arriving.push(self.arrive(copy, at));
            }
            arriving.push(self.arrive(frame, at));
        }
        arriving
    }

    fn arrive(&mut self, mut frame: Raw, mut at: Instant) -> (Instant, Raw) {
        if self.strikes(self.faults.reorder) {
            self.counts.reordered += 1;
            at = later(at, self.faults.reorder_by);
        }
        if self.strikes(self.faults.corrupt) {
            self.counts.corrupted += 1;
            let bit = self.rng.usize(..frame.len * 8);
            frame.bytes_mut()[bit / 8] ^= 1 << (bit % 8);
        }
        (at, frame)
    }

    fn strikes(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.rng.f64() < rate
    }
}
