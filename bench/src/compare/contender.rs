//! [`Contender`]: what is compared, and [`Meter`]: how every contender measures itself.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::case::{Case, Kind};

/// A client and a server on a core each, set up once; between its turns neither runs.
pub(super) trait Contender {
    /// The name in the table.
    fn name(&self) -> &str;

    /// Keeps `case.depth` requests under way for `duration`, and checks every reply.
    ///
    /// # Errors
    /// A reply is missing, late, out of order or of the wrong length; the connection broke.
    fn run(&mut self, case: Case, duration: Duration) -> anyhow::Result<Sample>;

    /// Ends what goes on in the background. There are no turns after this.
    fn finish(&mut self) {}
}

/// After a turn's end, what is under way may take this long before something must be wrong.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// What one turn has shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// All replies, those of the warm-up included.
    pub(super) replies: u64,
    /// In the case's [unit](Kind::unit).
    pub(super) figure: f64,
}

/// Counts and times the replies of one turn.
///
/// The first tenth of the time is for warming up; what is answered after the end is not counted,
/// because the pipeline runs empty then. On a host that stands still for a whole turn, the turn
/// goes on until there is something to count.
#[derive(Debug)]
pub(super) struct Meter {
    case: Case,
    warm: Instant,
    until: Instant,
    replies: u64,
    /// The first and the last reply that matter, and how many came after the first.
    first: Option<Instant>,
    last: Instant,
    counted: u64,
    /// Of round trips only, where the last reply is when the next request was sent.
    latency_ns: Histogram<u64>,
}

impl Meter {
    pub(super) fn new(case: Case, now: Instant, duration: Duration) -> Self {
        Self {
            case,
            warm: now + duration / 10,
            until: now + duration,
            replies: 0,
            first: None,
            last: now,
            counted: 0,
            latency_ns: Histogram::new_with_bounds(1, 60_000_000_000, 3)
                .expect("3 digits are within what it can do"),
        }
    }

    /// Whether no more requests are to be sent.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until && self.counted > 0
    }

    /// A reply was there at `now`.
    pub(super) fn reply(&mut self, now: Instant) {
        self.replies += 1;
        match self.first {
            None if now < self.warm => {}
            None => {
                self.first = Some(now);
                self.last = now;
            }
            // What came with the first one began before it.
            Some(first) if now > first && !self.is_over(now) => {
                self.counted += 1;
                if self.case.kind == Kind::RoundTrip {
                    let trip = (now - self.last).as_nanos() as u64;
                    self.latency_ns.saturating_record(trip);
                }
                self.last = now;
            }
            Some(_) => {}
        }
    }

    /// What the turn has shown, once it is over.
    pub(super) fn sample(&self) -> Sample {
        let seconds = self
            .first
            .map_or(0.0, |first| (self.last - first).as_secs_f64());
        let per_second = self.counted as f64 / seconds;
        let figure = match self.case.kind {
            Kind::RoundTrip => self.latency_ns.value_at_quantile(0.5) as f64 / 1e3,
            Kind::Rate => per_second / 1e3,
            Kind::Bulk => per_second * self.case.size as f64 / 1e9,
        };
        Sample {
            replies: self.replies,
            figure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(kind: Kind, size: usize) -> (Meter, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let depth = 2;
        let meter = Meter::new(
            Case { kind, size, depth },
            start,
            Duration::from_millis(100),
        );
        (meter, move |millis| start + Duration::from_millis(millis))
    }

    #[test]
    fn the_warm_up_and_the_end_do_not_count() {
        let (mut meter, at) = meter(Kind::Rate, 64);
        for millis in [1, 2, 3, 10, 20, 30, 60, 101, 200] {
            meter.reply(at(millis));
        }
        // 20, 30 and 60: three replies in 50 ms.
        let sample = meter.sample();
        assert_eq!(sample.replies, 9);
        assert!((sample.figure - 0.06).abs() < 1e-9, "{sample:?}");
        assert!(!meter.is_over(at(99)) && meter.is_over(at(100)));
    }

    #[test]
    fn bulk_is_told_in_bytes_and_round_trips_by_their_median() {
        let (mut bulk, at) = meter(Kind::Bulk, 1 << 20);
        for millis in [10, 20, 30] {
            bulk.reply(at(millis));
        }
        let expected = 2.0 * f64::from(1 << 20) / 0.02 / 1e9;
        assert!((bulk.sample().figure - expected).abs() < 1e-9);

        let (mut trips, at) = meter(Kind::RoundTrip, 64);
        for millis in [10, 11, 12, 50] {
            trips.reply(at(millis));
        }
        let figure = trips.sample().figure;
        assert!((figure - 1000.0).abs() < 1.0, "{figure}");
    }

    #[test]
    fn what_comes_with_the_first_reply_is_not_counted() {
        let (mut meter, at) = meter(Kind::Rate, 64);
        for millis in [20, 20, 20, 30, 30] {
            meter.reply(at(millis));
        }
        let figure = meter.sample().figure;
        assert!((figure - 0.2).abs() < 1e-9, "{figure}");
    }

    #[test]
    fn a_turn_in_which_the_host_stood_still_goes_on() {
        let (mut meter, at) = meter(Kind::Rate, 64);
        meter.reply(at(500));
        assert!(!meter.is_over(at(500)));
        meter.reply(at(510));
        assert!(meter.is_over(at(510)));
        meter.reply(at(520));
        let Sample { replies, figure } = meter.sample();
        assert!(replies == 3 && (figure - 0.1).abs() < 1e-9, "{figure}");
    }
}
