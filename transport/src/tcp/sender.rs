//! [`Sender`]: when something counts as lost, and how much may be on the way. It stands between the
//! peer's acknowledgements and smoltcp, which sends the first unacknowledged segment once more when
//! it has seen three duplicate acknowledgements (RFC 5681, section 3.2) and knows no more than
//! that. So this is what it is told:
//!
//! - the window of the peer, cut to what the network takes ([`Congestion`]);
//! - duplicate acknowledgements of our own making, whenever that segment is to be sent once more:
//!   when selective acknowledgements (RFC 6675) show that it is lost, when an acknowledgement stops
//!   short of what was on the way then (RFC 6582), and when none has come for so long that it
//!   should have (RFC 8985, section 7).

use std::time::{Duration, Instant};

use super::congestion::{Congestion, LEAST_SEGMENT};
use super::segment::{Acknowledgement, Segment, TCP_HEADER_LEN};

/// So many segments behind a missing one make it a lost one (RFC 6675, section 2).
const DUPLICATES: u32 = 3;
/// The least time that an acknowledgement is waited for before a segment is sent once more.
const LEAST_PATIENCE: Duration = Duration::from_millis(1);
/// The same for a lone segment, which the peer may acknowledge late on purpose (RFC 8985, section 7.2):
/// one of our kind after 2 ms. Who takes longer gets it twice.
const LEAST_PATIENCE_ALONE: Duration = Duration::from_millis(5);
/// And the most, which is also how late it may be found out that a peer makes no progress.
const MOST_PATIENCE: Duration = Duration::from_secs(5);
/// And how long while no round trip has been timed yet (RFC 6298, section 2.1).
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// What has become of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// The first segment that is not acknowledged is to be sent once more.
    Lost,
    /// The peer has not acknowledged anything for too long.
    Stalled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Open,
    /// What was on the way when a loss was found ends here.
    Recovery(u32),
    /// smoltcp's timer has expired, and it sends everything again, up to here.
    Timeout(u32),
}

#[derive(Debug, Default)]
pub(super) struct Sender {
    /// The first byte that is not acknowledged, and the end of all that was ever sent (SND.UNA and
    /// SND.NXT of RFC 9293, section 3.3.1).
    unacknowledged: u32,
    sent_up_to: Option<u32>,
    /// The peer's window, and by how much it is scaled (RFC 7323, section 2).
    window: u16,
    shift: u8,
    /// The window that smoltcp was told last, scaled.
    told: u16,
    mode: Mode,
    congestion: Congestion,
    /// The end of what was sent when as much as possible was on the way.
    filled_up_to: Option<u32>,
    /// How many segments have arrived behind the missing one, by the acknowledgements, and how many
    /// bytes, by the most that one of them said.
    duplicates: u32,
    sacked: u32,
    /// In microseconds (RFC 6298), if there is one.
    round_trip: Option<(u32, u32)>,
    /// The end of a segment whose round trip is being timed, and when it was sent.
    timed: Option<(u32, Instant)>,
    /// When the first segment that is not acknowledged is sent once more.
    probe_at: Option<Instant>,
    /// How often it was, since the last acknowledgement.
    probes: u8,
    /// Since when there has been something on the way, and nothing was acknowledged.
    waiting_since: Option<Instant>,
    /// Whether what is sent once more now is so by our doing.
    insisting: bool,
    /// Whether a byte has been sent to a peer without room, to find out whether it has some now.
    has_probed_window: bool,
    /// Whether smoltcp's timer has expired just now.
    timed_out: bool,
    /// The peer's sequence number of what the caller reads next.
    read_up_to: u32,
    /// What has been acknowledged to the peer by what smoltcp has just sent.
    acknowledged: Option<u32>,
}

fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

impl Sender {
    /// Takes note of a segment of the peer's, whose checksum is right, and changes its window to
    /// what smoltcp is to know of it.
    pub(super) fn on_segment(
        &mut self,
        segment: &Segment,
        packet: &mut [u8],
        now: Instant,
    ) -> Verdict {
        let Some(ack) = segment.acknowledgement() else {
            return Verdict::Fine;
        };
        self.time_round_trip(ack.number, now);
        let flight = self.flight();
        let advanced = ack.number.wrapping_sub(self.unacknowledged);
        let mut verdict = Verdict::Fine;
        let repeats = advanced == 0 && segment.is_empty();
        if self.has_probed_window && advanced == flight + 1 {
            self.sent_up_to = Some(ack.number);
            self.unacknowledged = ack.number;
        } else if (1..=flight).contains(&advanced) {
            verdict = self.on_advance(ack.number, advanced, flight, now);
        } else if repeats && flight > 0 {
            let sacked = segment.sacked(packet);
            if sacked > 0 || ack.window == self.window {
                verdict = self.on_duplicate(sacked, flight);
            }
        }
        let had_room = std::mem::replace(&mut self.window, ack.window) > 0;
        if ack.window == 0 {
            // smoltcp asks such a peer again and again, and gives up if it does not answer.
            self.probe_at = None;
            self.waiting_since = None;
        } else if !had_room && self.flight() > 0 {
            self.wait(now);
        }
        if ack.window > 0 {
            self.has_probed_window = false;
        }
        let mut told = self.tolerable(ack.window);
        // Of those that change nothing, smoltcp is not to count any by itself.
        if repeats && told == self.told && told > 1 {
            told -= 1;
        }
        self.told = told;
        segment.rewrite_window(packet, told);
        verdict
    }

    fn on_advance(&mut self, ack: u32, advanced: u32, flight: u32, now: Instant) -> Verdict {
        self.unacknowledged = ack;
        self.duplicates = 0;
        let was_probed = std::mem::take(&mut self.probes) > 0;
        (self.probe_at, self.waiting_since) = (None, None);
        if flight > advanced {
            self.wait(now);
        }
        match self.mode {
            Mode::Recovery(end) if is_before(ack, end) => {
                self.congestion.deflate(advanced);
                self.sacked = self.sacked.saturating_sub(advanced);
                return Verdict::Lost;
            }
            Mode::Recovery(_) => self.mode = Mode::Open,
            Mode::Timeout(end) => {
                if !is_before(ack, end) {
                    self.mode = Mode::Open;
                }
                self.congestion.on_ack(advanced);
            }
            // Only what was sent once more has got there: what was sent behind it has not.
            Mode::Open
                if was_probed && advanced < flight && advanced <= self.congestion.segment() =>
            {
                self.recover(flight - advanced, 0);
                return Verdict::Lost;
            }
            // Whoever has not used what he was allowed has not found out whether that was too much.
            Mode::Open if self.filled_up_to.is_some() => self.congestion.on_ack(advanced),
            Mode::Open => {}
        }
        if self.mode == Mode::Open {
            self.congestion.on_recovered();
        }
        self.filled_up_to = self.filled_up_to.filter(|end| is_before(ack, *end));
        Verdict::Fine
    }

    /// From now on an acknowledgement is due.
    fn wait(&mut self, now: Instant) {
        self.probe_at = Some(now + self.patience());
        self.waiting_since.get_or_insert(now);
    }

    fn on_duplicate(&mut self, sacked: u32, flight: u32) -> Verdict {
        self.duplicates += 1;
        match self.mode {
            // The peer may have taken in many segments at once.
            Mode::Recovery(_) => {
                let more = sacked.saturating_sub(self.sacked);
                self.sacked = self.sacked.max(sacked);
                self.congestion.inflate(more.max(self.congestion.segment()));
            }
            Mode::Open => {
                let behind = self
                    .duplicates
                    .max(sacked.div_ceil(self.congestion.segment()));
                if behind >= DUPLICATES {
                    self.recover(flight, sacked);
                    return Verdict::Lost;
                }
            }
            Mode::Timeout(_) => {}
        }
        Verdict::Fine
    }

    fn recover(&mut self, flight: u32, sacked: u32) {
        self.congestion.on_loss(flight);
        let behind = sacked.max(DUPLICATES * self.congestion.segment());
        self.congestion.inflate(behind);
        self.sacked = sacked;
        self.mode = Mode::Recovery(self.unacknowledged.wrapping_add(flight));
    }

    /// The window that smoltcp may know of.
    fn tolerable(&self, window: u16) -> u16 {
        let offered = u32::from(window) << self.shift;
        let allowed = self.congestion.window();
        if offered <= allowed {
            return window;
        }
        // No segment is cut short by a window of ours.
        let flight = self.flight();
        let more = allowed.saturating_sub(flight);
        let segment = self.congestion.segment();
        let allowed = if more > 0 {
            flight + more - more % segment
        } else {
            allowed
        };
        u16::try_from(allowed >> self.shift)
            .unwrap_or(u16::MAX)
            .max(1)
    }

    /// How many bytes are on the way.
    pub(super) fn flight(&self) -> u32 {
        self.sent_up_to
            .map_or(0, |end| end.wrapping_sub(self.unacknowledged))
    }

    fn time_round_trip(&mut self, ack: u32, now: Instant) {
        let Some((_, sent)) = self.timed.take_if(|(end, _)| !is_before(ack, *end)) else {
            return;
        };
        let sample = u32::try_from(now.saturating_duration_since(sent).as_micros());
        let sample = sample.unwrap_or(u32::MAX);
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2),
            Some((smooth, variation)) => {
                let off = smooth.abs_diff(sample);
                let ewma = |old: u32, new: u32, share: u64| {
                    ((u64::from(old) * (share - 1) + u64::from(new)) / share) as u32
                };
                (ewma(smooth, sample, 8), ewma(variation, off, 4))
            }
        });
    }

    /// How long to wait for an acknowledgement before the first segment is sent once more.
    fn patience(&self) -> Duration {
        let patience = self
            .round_trip
            .map_or(FIRST_PATIENCE, |(smooth, variation)| {
                let smooth = u64::from(smooth);
                Duration::from_micros(smooth + smooth.max(4 * u64::from(variation)))
            });
        let is_alone = self.flight() <= self.congestion.segment();
        let patience = patience.max(if is_alone {
            LEAST_PATIENCE_ALONE
        } else {
            LEAST_PATIENCE
        });
        (patience * (1 << self.probes.min(16))).min(MOST_PATIENCE)
    }

    /// When [`probe`](Self::probe) must be called.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.probe_at
    }

    /// What there is to say when an acknowledgement is overdue. `timeout` is how long that may go
    /// on.
    pub(super) fn probe(&mut self, now: Instant, timeout: Duration) -> Verdict {
        if self.probe_at.is_none_or(|at| now < at) {
            return Verdict::Fine;
        }
        if self
            .waiting_since
            .is_some_and(|since| now >= since + timeout)
        {
            return Verdict::Stalled;
        }
        self.probes = self.probes.saturating_add(1);
        self.probe_at = Some(now + self.patience());
        Verdict::Lost
    }

    /// What smoltcp is told to have it send the first segment once more. The first two change the
    /// window, and so start its count anew; the last three are duplicates.
    pub(super) fn insist(&mut self, recv_queue: usize) -> [Acknowledgement; 5] {
        self.insisting = true;
        let last = self.repeated(recv_queue);
        let window = last.window;
        let other = if window > 1 { window - 1 } else { window + 1 };
        let first = Acknowledgement {
            window: other,
            ..last
        };
        [first, last, last, last, last]
    }

    /// What smoltcp is told to keep it from sending everything again at once after its timer has
    /// expired.
    pub(super) fn confine(&mut self, recv_queue: usize) -> Option<Acknowledgement> {
        std::mem::take(&mut self.timed_out).then(|| self.repeated(recv_queue))
    }

    /// The peer's last acknowledgement, with the window of now.
    fn repeated(&mut self, recv_queue: usize) -> Acknowledgement {
        let acknowledged = self
            .acknowledged
            .map(|number| number.wrapping_sub(recv_queue as u32));
        let read_up_to = acknowledged.unwrap_or(self.read_up_to);
        self.told = self.tolerable(self.window);
        Acknowledgement {
            seq: read_up_to.wrapping_add(recv_queue as u32),
            number: self.unacknowledged,
            window: self.told,
        }
    }

    /// smoltcp has sent what it wanted to; so much waits to be read.
    pub(super) fn on_sent(&mut self, recv_queue: usize) {
        if let Some(acknowledged) = self.acknowledged.take() {
            self.read_up_to = acknowledged.wrapping_sub(recv_queue as u32);
        }
    }

    /// The peer's sequence number of what the caller reads next, once we have acknowledged any.
    pub(super) fn read_up_to(&self) -> u32 {
        self.read_up_to
    }

    /// The caller has taken so many bytes.
    pub(super) fn on_read(&mut self, bytes: usize) {
        self.read_up_to = self.read_up_to.wrapping_add(bytes as u32);
    }

    /// Whether anything has been sent.
    pub(super) fn has_sent(&self) -> bool {
        self.sent_up_to.is_some()
    }

    /// Takes note of a segment of ours. Whether it is numbered as it should be; else, by what number
    /// it should be.
    pub(super) fn on_output(&mut self, segment: &Segment, now: Instant) -> Option<u32> {
        if let Some(ack) = segment.acknowledgement() {
            self.acknowledged = Some(ack.number);
        }
        let end = segment.end();
        if segment.synchronizes() {
            // An answer to a second one may be for the first (RFC 6298, section 3).
            self.timed = self.sent_up_to.is_none().then_some((end, now));
            self.sent_up_to = Some(end);
            self.unacknowledged = end;
            return None;
        }
        if self.told == 0 && !segment.is_empty() {
            self.has_probed_window = true;
            return None;
        }
        let Some(sent) = self.sent_up_to else {
            self.sent_up_to = Some(end);
            self.unacknowledged = segment.seq();
            return None;
        };
        if !is_before(end, sent) {
            self.sent_up_to = Some(end);
            let congestion = &self.congestion;
            if self.flight() + congestion.segment() > congestion.window() {
                self.filled_up_to = Some(end);
            }
        }
        if segment.is_empty() {
            return is_before(end, sent).then_some(sent);
        }
        if is_before(segment.seq(), sent) {
            self.timed = None;
            self.on_repeat(segment, sent, now);
        } else {
            if self.timed.is_none() {
                self.timed = Some((end, now));
            }
            if self.probe_at.is_none() {
                self.wait(now);
            }
        }
        None
    }

    /// A segment of ours that goes out once more.
    fn on_repeat(&mut self, segment: &Segment, sent: u32, now: Instant) {
        if segment.seq() != self.unacknowledged {
            return;
        }
        if !std::mem::take(&mut self.insisting) {
            // By smoltcp's timer.
            let flight = self.flight();
            self.congestion.on_timeout(flight);
            self.mode = Mode::Timeout(sent);
            self.timed_out = true;
        }
        self.wait(now);
    }

    /// The peer's SYN says what segments it takes, and how its window is scaled. Changes that window, too: it
    /// is good for the first flight. `mtu` is ours, `most` all that may ever be on the way.
    pub(super) fn on_syn(
        &mut self,
        segment: &Segment,
        packet: &mut [u8],
        mtu: usize,
        most: usize,
        now: Instant,
    ) {
        if !segment.opens() {
            self.time_round_trip(segment.ack(), now);
        }
        let (size, shift) = segment.announces(packet);
        let ours = mtu.saturating_sub(segment.ip_header_len + TCP_HEADER_LEN);
        let size = size
            .map_or(LEAST_SEGMENT, u32::from)
            .min(ours as u32)
            .max(1);
        self.congestion = Congestion::new(size, u32::try_from(most).unwrap_or(u32::MAX));
        self.shift = shift.unwrap_or(0).min(14);
        let window = u32::from(segment.window()).min(self.congestion.window());
        segment.rewrite_window(packet, window as u16);
        self.window = (segment.window() >> self.shift).max(1);
        self.told = self.window;
    }
}
