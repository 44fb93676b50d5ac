//! [`Sender`]: the half of a connection that sends. What leaves next, how much may be on the way, and what
//! is done about what gets lost.

use std::time::Duration;

use super::super::congestion::Congestion;
use super::super::segment::{Options, SACKS, Segment, flags};
use super::super::time::Time;
use super::outgoing::Outgoing;
use super::round_trip::RoundTrip;
use super::scoreboard::{Delivered, Scoreboard};
use super::{Output, is_before};

/// The least time that an acknowledgement is waited for before a segment is sent once more.
const LEAST_PATIENCE: Duration = Duration::from_millis(1);
/// The same for a lone segment, which the peer may acknowledge late on purpose (RFC 8985, section 7.2):
/// one of our kind after 2 ms. Who takes longer gets it twice.
const LEAST_PATIENCE_ALONE: Duration = Duration::from_millis(5);
/// And the most, which is also how late it may be found out that a peer makes no progress.
const MOST_PATIENCE: Duration = Duration::from_secs(5);
/// The same while the peer has no room, and says so whenever it is asked.
const MOST_PATIENCE_SHUT: Duration = Duration::from_secs(10);
/// And how long while no round trip has been timed yet. A fifth of what RFC 6298, section 2.1, says: as
/// Linux's shortest later on, for networks whose round trips are well below that.
pub(super) const FIRST_PATIENCE: Duration = Duration::from_millis(200);
/// Segments are not made shorter than this many bytes because a peer says so: headers would be most of it.
const LEAST_MSS: u32 = 64;
/// So many acknowledgements that say nothing new tell a loss, if the peer has no other way to.
const DUPLICATES: u8 = 3;

/// Our own end of the stream of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    /// It is to follow the last byte, or has been sent.
    Due,
    /// It is acknowledged.
    Arrived,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Something is lost. What was on the way when that was found ends here.
    Recovery(u32),
    /// All that was on the way, up to here, is sent once more.
    TimedOut(u32),
}

#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) queue: Outgoing,
    /// The first byte that is not acknowledged, and the end of all that was ever sent (SND.UNA and
    /// SND.NXT of RFC 9293, section 3.3.1).
    unacknowledged: u32,
    next: u32,
    /// What the peer has room for ends here, and the most room that it ever had.
    window_end: u32,
    most_window: u32,
    /// The segment that said so (SND.WL1 and SND.WL2).
    said_by: (u32, u32),
    /// By how much its windows are scaled.
    shift: u8,
    knows_sack: bool,
    end: End,
    scoreboard: Scoreboard,
    congestion: Congestion,
    round_trip: RoundTrip,
    mode: Mode,
    /// The end of what was sent when as much as possible was on the way.
    filled_up_to: Option<u32>,
    duplicates: u8,
    /// When something is done if no acknowledgement comes; how often it was, since the last.
    timer: Option<Time>,
    expired: u8,
    /// Whether the last segment is to be sent once more, to hear what has arrived.
    probes: bool,
    /// Whether the first that is lost is to be sent once more however much is on the way (RFC 6675,
    /// section 5, step 4.3).
    insists: bool,
    /// Since when there has been something on the way, and nothing was acknowledged.
    waiting_since: Option<Time>,
}

impl Sender {
    /// Whose first byte has the number `first`, to a peer whose SYN this was. `mss` is the longest
    /// segment of ours, `most` all that may ever be on the way.
    pub(super) fn new(first: u32, syn: &Segment, options: &Options, mss: u32, most: usize) -> Self {
        // What nobody needs to say that he takes (RFC 9293, section 3.7.1).
        let default = if syn.ends.local.is_ipv6() { 1220 } else { 536 };
        let mss = u32::from(options.mss.unwrap_or(default))
            .max(LEAST_MSS)
            .min(mss);
        // Only those of other segments are scaled.
        let window = u32::from(syn.window);
        Self {
            queue: Outgoing::default(),
            unacknowledged: first,
            next: first,
            window_end: first.wrapping_add(window),
            most_window: window,
            said_by: (syn.seq, first),
            shift: options.window_scale.unwrap_or(0).min(14),
            knows_sack: options.sack_permitted,
            end: End::NotYet,
            scoreboard: Scoreboard::default(),
            congestion: Congestion::new(mss, u32::try_from(most).unwrap_or(u32::MAX)),
            round_trip: RoundTrip::default(),
            mode: Mode::Open,
            filled_up_to: None,
            duplicates: 0,
            timer: None,
            expired: 0,
            probes: false,
            insists: false,
            waiting_since: None,
        }
    }

    /// The longest segment, in bytes.
    pub(super) fn mss(&self) -> u32 {
        self.congestion.segment()
    }

    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// How many sequence numbers are on the way.
    fn flight(&self) -> u32 {
        self.next.wrapping_sub(self.unacknowledged)
    }

    /// How many bytes have never been sent.
    fn unsent(&self) -> u32 {
        let queued = self.queue.len() as u32;
        queued.saturating_sub(self.flight())
    }

    /// Drops what has never been sent.
    pub(super) fn discard_unsent(&mut self) {
        self.queue.truncate(self.flight() as usize);
    }

    /// Whether the peer has no room at all.
    fn is_shut(&self) -> bool {
        !is_before(self.unacknowledged, self.window_end)
    }

    /// From now on, our end follows what is queued.
    pub(super) fn end(&mut self) {
        if self.end == End::NotYet {
            self.end = End::Due;
        }
    }

    /// Whether our end has gone out.
    pub(super) fn has_ended(&self) -> bool {
        self.end_has_arrived() || self.flight() > self.queue.len() as u32
    }

    /// Whether the peer has acknowledged it.
    pub(super) fn end_has_arrived(&self) -> bool {
        self.end == End::Arrived
    }

    /// The SYN took so long to be acknowledged.
    pub(super) fn on_handshake(&mut self, took: Duration) {
        self.round_trip.on_sample(took);
    }

    /// Whether a segment acknowledges and allows what the last one did.
    pub(super) fn has_heard(&self, segment: &Segment) -> bool {
        let window_end = segment.ack.wrapping_add(self.scaled(segment));
        segment.ack == self.unacknowledged && window_end == self.window_end && !self.is_shut()
    }

    /// Takes an acknowledgement in. False if it is for what was never sent.
    pub(super) fn on_acknowledgement(
        &mut self,
        segment: &Segment,
        options: &Options,
        now: Time,
    ) -> bool {
        let flight = self.flight();
        let advanced = segment.ack.wrapping_sub(self.unacknowledged);
        let is_old = is_before(segment.ack, self.unacknowledged);
        // Older ones than can be on the way are made up (RFC 5961, section 5).
        let is_too_old = is_old && advanced.wrapping_neg() > self.most_window.max(u16::MAX.into());
        if !is_old && advanced > flight || is_too_old {
            return false;
        }
        let mut delivered = Delivered::default();
        if !is_old && advanced > 0 {
            self.on_advance(advanced, now, &mut delivered);
        }
        if options.sacks[0].is_some() {
            self.take_sacks(options.sacks, now, &mut delivered);
        }
        if let Some(took) = delivered.round_trip {
            self.round_trip.on_sample(took);
        }
        let was_shut = self.is_shut();
        let is_same = !self.take_window(segment);
        if delivered.any {
            self.judge(now);
        } else if !self.knows_sack && advanced == 0 && flight > 0 && segment.len() == 0 && is_same {
            self.duplicates = self.duplicates.saturating_add(1);
            if self.duplicates == DUPLICATES {
                self.lose_first();
            }
        }
        if self.is_shut() {
            // Such a peer has all the time that it wants, as long as it answers.
            self.waiting_since = None;
        } else if was_shut {
            (self.expired, self.timer) = (0, None);
        }
        self.arm(now);
        true
    }

    fn on_advance(&mut self, advanced: u32, now: Time, delivered: &mut Delivered) {
        let ack = self.unacknowledged.wrapping_add(advanced);
        self.scoreboard.acknowledge(ack, now, delivered);
        let queued = self.queue.len() as u32;
        if advanced > queued {
            self.end = End::Arrived;
        }
        self.queue.advance(advanced.min(queued) as usize);
        if is_before(self.window_end, ack) {
            self.window_end = ack;
        }
        self.unacknowledged = ack;
        (self.expired, self.duplicates, self.probes) = (0, 0, false);
        (self.timer, self.waiting_since) = (None, None);
        match self.mode {
            Mode::Recovery(end) if is_before(ack, end) => {
                if !self.knows_sack {
                    // What follows is missing, too (RFC 6582, section 3.2).
                    self.scoreboard.lose_first(self.mss());
                    self.insists = true;
                }
            }
            Mode::TimedOut(end) if is_before(ack, end) => self.congestion.on_ack(advanced),
            Mode::Recovery(_) | Mode::TimedOut(_) => self.mode = Mode::Open,
            // Whoever has not used what he was allowed has not found out whether that was too much.
            Mode::Open if self.filled_up_to.is_some() => self.congestion.on_ack(advanced),
            Mode::Open => {}
        }
        self.filled_up_to = self.filled_up_to.filter(|end| is_before(ack, *end));
    }

    fn take_sacks(
        &mut self,
        mut sacks: [Option<(u32, u32)>; SACKS],
        now: Time,
        delivered: &mut Delivered,
    ) {
        // In their order, or else those before others would seem to have been overtaken.
        sacks.sort_unstable_by_key(|sack| {
            sack.map(|(from, _)| from.wrapping_sub(self.unacknowledged))
        });
        for (from, up_to) in sacks.into_iter().flatten() {
            let is_behind = is_before(self.unacknowledged, from) && is_before(from, up_to);
            if is_behind && !is_before(self.next, up_to) {
                self.scoreboard.arrive(from, up_to, now, delivered);
            }
        }
    }

    /// Whether the segment has changed the window. Source: RFC 9293, section 3.10.7.4.
    fn take_window(&mut self, segment: &Segment) -> bool {
        let (seq, ack) = self.said_by;
        let is_old =
            is_before(segment.seq, seq) || segment.seq == seq && is_before(segment.ack, ack);
        if is_old || is_before(segment.ack, self.unacknowledged) {
            return false;
        }
        self.said_by = (segment.seq, segment.ack);
        let window = self.scaled(segment);
        self.most_window = self.most_window.max(window);
        let end = segment.ack.wrapping_add(window);
        std::mem::replace(&mut self.window_end, end) != end
    }

    /// How many bytes a segment's window is. A SYN's is not scaled (RFC 7323, section 2.2).
    fn scaled(&self, segment: &Segment) -> u32 {
        let shift = if segment.has(flags::SYN) {
            0
        } else {
            self.shift
        };
        u32::from(segment.window) << shift
    }

    /// Finds what is lost.
    fn judge(&mut self, now: Time) {
        let recovers = self.mode != Mode::Open;
        if self.knows_sack && self.scoreboard.judge(now, recovers, self.mss()) {
            self.recover();
        }
    }

    fn lose_first(&mut self) {
        self.scoreboard.lose_first(self.mss());
        self.recover();
    }

    fn recover(&mut self) {
        if self.mode == Mode::Open {
            self.congestion.on_loss(self.flight());
            self.mode = Mode::Recovery(self.next);
            self.insists = true;
        }
    }

    /// What is to be sent next: lost bytes first, a segment at most. `most` is how many bytes may be cut
    /// into segments as they leave.
    pub(super) fn output(&self, most: u32) -> Option<Output> {
        let (mss, flight) = (self.mss(), self.flight());
        let under_way = self.scoreboard.under_way(flight);
        let room = self.congestion.window().saturating_sub(under_way);
        let again = |(from, len): (u32, u32)| self.part(from, len.min(mss));
        if let Some(lost) = self.scoreboard.lost()
            && (room >= mss || under_way == 0 || self.insists)
        {
            return Some(again(lost));
        }
        let unsent = self.unsent();
        let usable = self.window_end.wrapping_sub(self.next);
        let usable = if is_before(self.window_end, self.next) {
            0
        } else {
            usable
        };
        if self.probes && flight > 0 && (unsent == 0 || usable < unsent.min(mss)) {
            // The last of the last that was sent.
            let (from, len) = self.scoreboard.last()?;
            let rest = len.saturating_sub(mss);
            return Some(self.part(from.wrapping_add(rest), len - rest));
        }
        let most = if most > mss { most - most % mss } else { mss };
        let allowed = if self.probes { mss } else { room };
        let mut len = unsent.min(usable).min(most);
        if len > allowed {
            // Segments are not cut short by what is allowed.
            len = allowed - allowed % mss;
        }
        if len < unsent && len > mss {
            len -= len % mss;
        }
        // Silly windows (RFC 9293, section 3.8.6.2.1): not much less than a segment, unless it is all.
        let is_worth_it = len == unsent || len >= mss || len >= self.most_window / 2;
        let is_overdue = flight == 0 && self.expired > 0;
        let has_bytes = len > 0 && (is_worth_it || is_overdue);
        let ends =
            self.end == End::Due && !self.has_ended() && self.queue.len() as u32 == flight + len;
        (has_bytes || ends && len == unsent).then(|| self.part(self.next, len + u32::from(ends)))
    }

    /// Whether anything waits to be sent, be it allowed or not.
    pub(super) fn has_more(&self) -> bool {
        let queued = self.queue.len() as u32 + u32::from(self.end == End::Due);
        self.flight() < queued || self.scoreboard.has_lost()
    }

    /// So many numbers of what is queued, as a segment.
    fn part(&self, from: u32, len: u32) -> Output {
        let offset = from.wrapping_sub(self.unacknowledged) as usize;
        let queued = self.queue.len();
        let payload = (len as usize).min(queued - offset);
        let mut flags = flags::ACK;
        if payload < len as usize {
            flags |= flags::FIN;
        }
        if payload > 0 && offset + payload == queued {
            flags |= flags::PSH;
        }
        Output {
            seq: from,
            flags,
            offset,
            len: payload,
        }
    }

    /// That was sent.
    pub(super) fn on_sent(&mut self, output: &Output, now: Time) {
        let end = output.end();
        (self.probes, self.insists) = (false, false);
        if is_before(output.seq, self.next) {
            self.scoreboard.on_sent_again(output.seq, end, now);
        } else {
            self.scoreboard.on_sent(output.seq, end, now);
            self.next = end;
            let under_way = self.scoreboard.under_way(self.flight());
            if under_way + self.mss() > self.congestion.window() {
                self.filled_up_to = Some(end);
            }
        }
        self.waiting_since.get_or_insert(now);
        self.timer = Some(now + self.patience());
    }

    /// How long an acknowledgement is waited for.
    fn patience(&self) -> Duration {
        let is_alone = self.flight() <= self.mss();
        let least = if is_alone {
            LEAST_PATIENCE_ALONE
        } else {
            LEAST_PATIENCE
        };
        let patience = self.round_trip.patience().unwrap_or(FIRST_PATIENCE);
        let most = if self.flight() == 0 {
            MOST_PATIENCE_SHUT
        } else {
            MOST_PATIENCE
        };
        (patience.max(least) * (1 << self.expired.min(16))).min(most)
    }

    /// Sees to it that there is a timer if anything is waited for.
    pub(super) fn arm(&mut self, now: Time) {
        let waits = self.flight() > 0;
        if self.timer.is_none() && (waits || self.unsent() > 0) {
            self.timer = Some(now + self.patience());
        }
        if waits {
            self.waiting_since.get_or_insert(now);
        }
    }

    /// When [`on_timer`](Self::on_timer) must be called.
    pub(super) fn due(&self) -> Option<Time> {
        self.timer.into_iter().chain(self.scoreboard.due()).min()
    }

    /// Whether the peer must be asked whether it has room now. `None` if it has not acknowledged
    /// anything for `timeout`.
    pub(super) fn on_timer(&mut self, now: Time, timeout: Duration) -> Option<bool> {
        if self.scoreboard.due().is_some_and(|due| due <= now) {
            self.judge(now);
        }
        if self.timer.is_none_or(|at| now < at) {
            return Some(false);
        }
        let waited_since = self.waiting_since.filter(|_| self.flight() > 0);
        if waited_since.is_some_and(|since| now >= since + timeout) {
            return None;
        }
        self.expired = self.expired.saturating_add(1);
        self.timer = Some(now + self.patience());
        if self.flight() == 0 {
            // Nothing is on the way because the window is shut, or all but.
            let is_shut = self.unsent() > 0 && self.output(0).is_none();
            if self.unsent() == 0 {
                self.timer = None;
            }
            return Some(is_shut);
        }
        if self.expired == 1 && self.mode == Mode::Open {
            self.probes = true;
        } else {
            self.congestion.on_timeout(self.flight());
            self.mode = Mode::TimedOut(self.next);
            self.scoreboard.lose_all();
        }
        Some(false)
    }

    /// Whether an acknowledgement is due anyway.
    pub(super) fn is_waiting(&self) -> bool {
        self.flight() > 0
    }

    /// Whether everything has been acknowledged.
    pub(super) fn is_at_rest(&self) -> bool {
        self.flight() == 0 && self.queue.is_empty()
    }

    /// Gives back memory that is not needed now.
    pub(super) fn shrink(&mut self) {
        self.scoreboard.shrink();
    }
}
