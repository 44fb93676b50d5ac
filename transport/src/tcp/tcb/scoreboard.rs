//! [`Scoreboard`]: what is on the way, what of it has arrived, and what must have been lost (RFC 6675;
//! by time as RFC 8985, RACK: what was sent well before something that has arrived).

use std::collections::VecDeque;
use std::time::Duration;

use super::super::time::Time;
use super::is_before;

/// The most runs that are told apart. A peer that acknowledges a byte here and a byte there is not
/// believed any more then.
const MOST_RUNS: usize = 2048;
/// So many segments behind a missing one make it a lost one (RFC 6675, section 2).
const DUPLICATES: u32 = 3;

/// What was sent at one time, and has fared alike since.
#[derive(Debug, Clone, Copy)]
struct Run {
    from: u32,
    up_to: u32,
    at: Time,
    state: State,
    /// Whether it was sent more than once.
    again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    OnTheWay,
    /// It was acknowledged selectively.
    Arrived,
    /// It is to be sent once more.
    Lost,
}

impl Run {
    fn len(&self) -> u32 {
        self.up_to.wrapping_sub(self.from)
    }
}

/// What an acknowledgement has brought.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub(super) any: bool,
    /// How long that took of which it is known.
    pub(super) round_trip: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Scoreboard {
    /// All from the first byte that is not acknowledged to the last that was sent.
    runs: VecDeque<Run>,
    /// How many bytes have arrived, or are lost.
    arrived: u32,
    lost: u32,
    /// What was sent last of all that has arrived: when, and the end of it.
    latest: Option<(Time, u32)>,
    /// How long that took.
    took: Duration,
    /// The end of what has arrived.
    furthest: Option<u32>,
    /// Whether segments have overtaken each other.
    reorders: bool,
    /// The shortest round trip so far.
    least: Duration,
    /// When something may turn out to be lost.
    due: Option<Time>,
}

impl Default for Scoreboard {
    fn default() -> Self {
        Self {
            runs: VecDeque::new(),
            arrived: 0,
            lost: 0,
            latest: None,
            took: Duration::ZERO,
            furthest: None,
            reorders: false,
            least: Duration::MAX,
            due: None,
        }
    }
}

impl Scoreboard {
    /// When [`judge`](Self::judge) may find something.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// How many bytes are under way, as far as is known.
    pub(super) fn under_way(&self, flight: u32) -> u32 {
        flight - self.arrived - self.lost
    }

    pub(super) fn has_lost(&self) -> bool {
        self.lost > 0
    }

    /// The next that is to be sent once more.
    pub(super) fn lost(&self) -> Option<(u32, u32)> {
        if self.lost == 0 {
            return None;
        }
        let mut runs = self.runs.iter();
        let run = runs.find(|run| run.state == State::Lost)?;
        Some((run.from, run.len()))
    }

    /// The last that was sent and has not arrived.
    pub(super) fn last(&self) -> Option<(u32, u32)> {
        let mut runs = self.runs.iter().rev();
        let run = runs.find(|run| run.state != State::Arrived)?;
        Some((run.from, run.len()))
    }

    /// Something is sent for the first time.
    pub(super) fn on_sent(&mut self, from: u32, up_to: u32, now: Time) {
        if let Some(last) = self.runs.back_mut()
            && (last.at, last.up_to, last.state, last.again) == (now, from, State::OnTheWay, false)
        {
            last.up_to = up_to;
            return;
        }
        self.runs.push_back(Run {
            from,
            up_to,
            at: now,
            state: State::OnTheWay,
            again: false,
        });
    }

    /// Something is sent once more.
    pub(super) fn on_sent_again(&mut self, from: u32, up_to: u32, now: Time) {
        self.split(from);
        self.split(up_to);
        let mut runs = self.runs.iter_mut();
        if let Some(run) = runs.find(|run| run.from == from && run.state != State::Arrived) {
            if run.state == State::Lost {
                self.lost -= run.len();
            }
            (run.state, run.at, run.again) = (State::OnTheWay, now, true);
        }
    }

    /// All before `ack` has arrived.
    pub(super) fn acknowledge(&mut self, ack: u32, now: Time, delivered: &mut Delivered) {
        self.split(ack);
        while let Some(run) = self
            .runs
            .front()
            .filter(|run| is_before(run.from, ack))
            .copied()
        {
            self.runs.pop_front();
            match run.state {
                State::Arrived => self.arrived -= run.len(),
                state => {
                    if state == State::Lost {
                        self.lost -= run.len();
                    }
                    self.on_delivered(&run, now, delivered);
                }
            }
        }
        // Numbers come around; what is behind everything says nothing any more.
        self.furthest = self.furthest.filter(|end| is_before(ack, *end));
        if self.runs.is_empty() {
            (self.latest, self.due) = (None, None);
        }
    }

    /// So much behind a gap has arrived.
    pub(super) fn arrive(&mut self, from: u32, up_to: u32, now: Time, delivered: &mut Delivered) {
        if self.runs.len() >= MOST_RUNS {
            return;
        }
        self.split(from);
        self.split(up_to);
        for at in 0..self.runs.len() {
            let run = self.runs[at];
            let is_within = !is_before(run.from, from) && !is_before(up_to, run.up_to);
            if !is_within || run.state == State::Arrived {
                continue;
            }
            if run.state == State::Lost {
                self.lost -= run.len();
            }
            self.arrived += run.len();
            self.runs[at].state = State::Arrived;
            self.on_delivered(&run, now, delivered);
        }
    }

    /// Source: RFC 8985, section 6.2, steps 1 to 3.
    fn on_delivered(&mut self, run: &Run, now: Time, delivered: &mut Delivered) {
        delivered.any = true;
        let took = now.since(run.at);
        if run.again {
            // It must have been what was sent before.
            if took < self.least {
                return;
            }
        } else {
            delivered.round_trip = Some(took);
            self.least = self.least.min(took);
            self.reorders |= self.furthest.is_some_and(|end| is_before(run.up_to, end));
        }
        if self.furthest.is_none_or(|end| is_before(end, run.up_to)) {
            self.furthest = Some(run.up_to);
        }
        let is_later = self
            .latest
            .is_none_or(|(at, end)| run.at > at || run.at == at && is_before(end, run.up_to));
        if is_later {
            (self.latest, self.took) = (Some((run.at, run.up_to)), took);
        }
    }

    /// Finds what is lost by what has arrived. Whether there is anything that was not lost before.
    /// Source: RFC 8985, section 6.2, steps 4 and 5.
    pub(super) fn judge(&mut self, now: Time, recovers: bool, segment: u32) -> bool {
        self.due = None;
        let Some((latest, end)) = self.latest else {
            return false;
        };
        let is_clear = recovers || self.arrived >= DUPLICATES * segment;
        let slack = if is_clear && !self.reorders {
            Duration::ZERO
        } else {
            (self.least / 4).max(Duration::from_micros(1))
        };
        let (mut any, mut due) = (false, None::<Time>);
        for run in &mut self.runs {
            let is_earlier = run.at < latest || run.at == latest && is_before(run.from, end);
            if run.state != State::OnTheWay || !is_earlier {
                continue;
            }
            let at = run.at + self.took + slack;
            if at <= now {
                run.state = State::Lost;
                self.lost += run.len();
                any = true;
            } else {
                due = Some(due.map_or(at, |due| due.min(at)));
            }
        }
        self.due = due;
        any
    }

    /// The first segment is lost, by what the peer does not say.
    pub(super) fn lose_first(&mut self, segment: u32) {
        if let Some(first) = self.runs.front() {
            self.split(first.from.wrapping_add(segment.min(first.len())));
        }
        if let Some(first) = self
            .runs
            .front_mut()
            .filter(|run| run.state == State::OnTheWay)
        {
            first.state = State::Lost;
            self.lost += first.len();
        }
    }

    /// Nothing has arrived, whatever the peer said (RFC 2018, section 8).
    pub(super) fn lose_all(&mut self) {
        let (Some(first), Some(last)) = (self.runs.front(), self.runs.back()) else {
            return;
        };
        let all = Run {
            up_to: last.up_to,
            state: State::Lost,
            again: true,
            ..*first
        };
        (self.arrived, self.lost) = (0, all.len());
        (self.latest, self.due) = (None, None);
        self.runs.clear();
        self.runs.push_back(all);
    }

    /// Has a run begin at `number`, if that is within one.
    fn split(&mut self, number: u32) {
        // More often than not it is all of the first.
        if self.runs.front().is_none_or(|run| run.up_to == number) {
            return;
        }
        let index = self
            .runs
            .partition_point(|run| !is_before(number, run.up_to));
        if let Some(run) = self.runs.get_mut(index)
            && is_before(run.from, number)
        {
            let rest = Run {
                from: number,
                ..*run
            };
            run.up_to = number;
            self.runs.insert(index + 1, rest);
        }
    }

    /// Gives back memory that is not needed now.
    pub(super) fn shrink(&mut self) {
        self.runs.shrink_to_fit();
    }
}
