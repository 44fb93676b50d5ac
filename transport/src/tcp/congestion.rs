//! [`Congestion`]: how much may be on the way. Additive increase and multiplicative decrease, by
//! CUBIC's numbers where CUBIC (RFC 9438) is as fast as Reno: on paths as short as a data centre's.

/// What is left of the window after a loss (RFC 9438, section 4.6): 7 / 10.
const DECREASE: (u64, u64) = (7, 10);
/// By how much it grows in a round trip, in segments, so that it gets as much of a shared path as
/// Reno (RFC 9438, section 4.3): 9 / 17, but 1 once it is as large as it was before the loss.
const INCREASE: (u64, u64) = (9, 17);
/// The first window, in segments and in bytes (RFC 6928, section 2).
const INITIAL_SEGMENTS: u32 = 10;
const INITIAL_BYTES: u32 = 14_600;

#[derive(Debug)]
pub(super) struct Congestion {
    /// In bytes, as all here.
    window: u32,
    /// Below this it doubles in a round trip (slow start).
    threshold: u32,
    /// How large it was at the last loss.
    before: u32,
    /// Acknowledged since it has grown last.
    acknowledged: u32,
    segment: u32,
    most: u32,
}

impl Congestion {
    /// For segments of at most `segment` bytes and never more than `most` bytes on the way.
    pub(super) fn new(segment: u32, most: u32) -> Self {
        let initial = (INITIAL_SEGMENTS * segment).min(INITIAL_BYTES.max(2 * segment));
        Self {
            window: initial.min(most.max(segment)),
            threshold: u32::MAX,
            before: u32::MAX,
            acknowledged: 0,
            segment,
            most: most.max(2 * segment),
        }
    }

    /// The most bytes that may be on the way.
    pub(super) fn window(&self) -> u32 {
        self.window
    }

    /// The length of a full segment.
    pub(super) fn segment(&self) -> u32 {
        self.segment
    }

    /// New bytes were acknowledged, while as many as possible were on the way.
    pub(super) fn on_ack(&mut self, bytes: u32) {
        if self.window < self.threshold {
            let room = self.threshold - self.window;
            self.grow(bytes.min(room));
            return;
        }
        self.acknowledged = self.acknowledged.saturating_add(bytes);
        if self.acknowledged >= self.window {
            self.acknowledged -= self.window;
            let (numerator, denominator) = if self.window < self.before {
                INCREASE
            } else {
                (1, 1)
            };
            self.grow(part(self.segment, numerator, denominator));
        }
    }

    /// Something was lost while `flight` bytes were on the way.
    pub(super) fn on_loss(&mut self, flight: u32) {
        self.before = self.window;
        let (numerator, denominator) = DECREASE;
        self.threshold = part(flight, numerator, denominator).max(2 * self.segment);
        self.window = self.threshold;
        self.acknowledged = 0;
    }

    /// All that was on the way may have been lost (RFC 5681, section 3.1).
    pub(super) fn on_timeout(&mut self, flight: u32) {
        self.on_loss(flight);
        self.window = self.segment;
    }

    fn grow(&mut self, bytes: u32) {
        self.window = self.window.saturating_add(bytes).min(self.most);
    }
}

fn part(of: u32, numerator: u64, denominator: u64) -> u32 {
    (u64::from(of) * numerator / denominator) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u32 = 1000;

    /// A round trip in which all that was allowed is acknowledged. By how much the window has grown.
    fn round_trip(congestion: &mut Congestion) -> u32 {
        let before = congestion.window();
        for _ in 0..before / SEGMENT {
            congestion.on_ack(SEGMENT);
        }
        congestion.window() - before
    }

    #[test]
    fn it_doubles_then_creeps_then_grows_as_reno() {
        let mut congestion = Congestion::new(SEGMENT, 1 << 20);
        assert_eq!(congestion.window(), 10 * SEGMENT);
        assert_eq!(round_trip(&mut congestion), 10 * SEGMENT);
        assert_eq!(round_trip(&mut congestion), 20 * SEGMENT);

        congestion.on_loss(40 * SEGMENT);
        assert_eq!(congestion.window(), 28 * SEGMENT);
        let mut trips = 0;
        while congestion.window() < 40 * SEGMENT {
            let grown = round_trip(&mut congestion);
            assert!(grown <= SEGMENT * 9 / 17, "{grown}");
            trips += 1;
        }
        assert!((22..26).contains(&trips), "{trips}");
        round_trip(&mut congestion);
        assert_eq!(round_trip(&mut congestion), SEGMENT);

        congestion.on_timeout(congestion.window());
        assert_eq!(congestion.window(), SEGMENT);
        assert_eq!(round_trip(&mut congestion), SEGMENT);
    }
}
