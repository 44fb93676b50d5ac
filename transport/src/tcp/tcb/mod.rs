//! [`Tcb`]: one TCP connection (RFC 9293), as a value: segments in, segments out. It knows no packets,
//! devices or other connections, and is told what time it is.

mod outgoing;
mod output;
mod receiver;
mod round_trip;
mod scoreboard;
mod sender;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::config::TcpConfig;
use super::segment::{Ends, Header, Headers, Options, Segment, Template, flags};
use super::time::Time;

pub(super) use self::outgoing::Outgoing;
pub(super) use self::output::Output;
use self::receiver::Receiver;
use self::sender::{FIRST_PATIENCE, Sender};

/// How long what is left of a connection may still be on the way after its end: twice a second, the
/// longest that a segment lives in a data centre (RFC 9293, section 3.4.1, has two minutes).
const TIME_WAIT: Duration = Duration::from_secs(2);

/// Whether a sequence number comes before another (RFC 9293, section 3.4).
fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both ends have said all.
    InOrder,
    Reset,
    TimedOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    SynSent,
    SynReceived,
    Synchronized,
    /// All is said; the peer may not have heard the last of it until then.
    TimeWait(Time),
    Closed(Ended),
}

/// Our SYN: how often it was sent, when first, and when it is sent again.
#[derive(Debug, Clone, Copy, Default)]
struct Attempt {
    sent: u8,
    first: Option<Time>,
    again: Option<Time>,
}

#[derive(Debug)]
struct Halves {
    sender: Sender,
    receiver: Receiver,
}

#[derive(Debug)]
pub(super) struct Tcb {
    pub(super) ends: Ends,
    template: Template,
    /// The number of our SYN.
    initial: u32,
    /// The longest segment of ours, and all that may be on the way.
    mss: u16,
    window: usize,
    stage: Stage,
    attempt: Attempt,
    /// Once the peer's SYN has come.
    halves: Option<Halves>,
    /// When the peer has been heard of last, and when it was asked to say something.
    heard_at: Time,
    asked_at: Option<Time>,
    /// Whether it is to be asked.
    asks: bool,
    /// Whether our end went out before the peer's came.
    ended_first: bool,
}

impl Tcb {
    /// A connection that we ask for. Its first byte has the number after `initial`, its segments are
    /// at most `mss` bytes long, and `window` may be on the way in each direction.
    pub(super) fn connect(ends: Ends, initial: u32, mss: u16, window: usize, now: Time) -> Self {
        Self {
            ends,
            template: Template::new(&ends),
            initial,
            mss,
            window,
            stage: Stage::SynSent,
            attempt: Attempt::default(),
            halves: None,
            heard_at: now,
            asked_at: None,
            asks: false,
            ended_first: false,
        }
    }

    /// A connection that a peer has asked for with this segment.
    pub(super) fn accept(
        (segment, options): (&Segment, &Options),
        initial: u32,
        mss: u16,
        window: usize,
        now: Time,
    ) -> Self {
        let mut tcb = Self::connect(segment.ends, initial, mss, window, now);
        tcb.on_syn(segment, options);
        tcb.stage = Stage::SynReceived;
        tcb
    }

    pub(super) fn is_synchronized(&self) -> bool {
        !matches!(self.stage, Stage::SynSent | Stage::SynReceived)
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        match self.stage {
            Stage::Closed(how) => Some(how),
            _ => None,
        }
    }

    /// Whether all is said, and only what is still on the way is waited for.
    pub(super) fn is_in_time_wait(&self) -> bool {
        matches!(self.stage, Stage::TimeWait(_))
    }

    /// Whether the peer has everything, our end too, and has not ended yet.
    pub(super) fn waits_for_end(&self) -> bool {
        let halves = self.halves.as_ref();
        halves.is_some_and(|halves| halves.sender.end_has_arrived() && !halves.receiver.has_ended)
    }

    /// Whether nothing more will arrive.
    pub(super) fn has_all(&self) -> bool {
        let halves = self.halves.as_ref();
        self.ended().is_some() || halves.is_some_and(|halves| halves.receiver.has_ended)
    }

    /// What is to be sent. Nothing before the peer's SYN has come.
    pub(super) fn queue(&mut self) -> Option<&mut Outgoing> {
        self.halves.as_mut().map(|halves| &mut halves.sender.queue)
    }

    /// The longest segment that may be sent, in bytes.
    pub(super) fn mss(&self) -> u16 {
        let sender = self.halves.as_ref().map(|halves| halves.sender.mss());
        sender.map_or(self.mss, |mss| mss as u16)
    }

    /// Drops what has never been sent.
    pub(super) fn discard_unsent(&mut self) {
        if let Some(halves) = &mut self.halves {
            halves.sender.discard_unsent();
        }
    }

    /// Our end follows what is queued.
    pub(super) fn end(&mut self) {
        if let Some(halves) = &mut self.halves {
            halves.sender.end();
        }
    }

    /// Closes it. What the peer is to be told, if it may know of the connection.
    pub(super) fn reset(&mut self) -> Option<Header> {
        let knows = self.attempt.sent > 0 && !matches!(self.stage, Stage::Closed(_));
        let header = knows.then(|| {
            let next = self.halves.as_ref().map(|halves| halves.sender.next());
            self.header(&Output {
                seq: next.unwrap_or(self.initial.wrapping_add(1)),
                flags: flags::RST,
                offset: 0,
                len: 0,
            })
        });
        self.stage = Stage::Closed(Ended::Reset);
        header
    }

    /// Takes in a segment. `deliver` gets bytes in order. Returns what is answered to who seems to know
    /// of another connection.
    pub(super) fn on_segment(
        &mut self,
        segment: &Segment,
        (options, payload): (&Options, &[u8]),
        config: &TcpConfig,
        now: Time,
        mut deliver: impl FnMut(&[u8]),
    ) -> Option<Header> {
        let Some(Halves { sender, receiver }) = &mut self.halves else {
            return self.on_answer(segment, options, now);
        };
        let delayed_until = now + config.ack_delay;
        // Most segments bring the bytes that are expected next, and tell nothing that is not known.
        if self.stage == Stage::Synchronized
            && segment.flags == flags::ACK
            && options.sacks[0].is_none()
            && sender.has_heard(segment)
            && receiver.on_expected(segment.seq, payload, delayed_until, &mut deliver)
        {
            self.heard_at = now;
            return None;
        }
        let mut segment = *segment;
        let is_second = self.stage == Stage::SynReceived
            && segment.has(flags::SYN)
            && segment.seq.wrapping_add(1) == receiver.next();
        if is_second {
            if !segment.has(flags::ACK) {
                // It has not got our answer.
                self.attempt.again = Some(now);
                return None;
            }
            // Our SYNs have crossed, and this is the answer to ours (RFC 9293, section 3.5).
            segment.seq = receiver.next();
        }
        // Source of what follows: RFC 9293, section 3.10.7.4.
        if !receiver.accepts(segment.seq, segment.len()) {
            if segment.seq.wrapping_add(1) == receiver.next() {
                // It asks whether we are there.
                self.heard_at = now;
            }
            if !segment.has(flags::RST) {
                receiver.answer(segment.seq, segment.len(), now);
            }
            if segment.has(flags::FIN) && self.is_in_time_wait() {
                self.stage = Stage::TimeWait(now + TIME_WAIT);
            }
            return None;
        }
        if segment.has(flags::RST) {
            if segment.seq == receiver.next() {
                self.stage = Stage::Closed(Ended::Reset);
            } else {
                receiver.answer(segment.seq, 0, now);
            }
            return None;
        }
        if segment.has(flags::SYN) && !is_second {
            receiver.answer(segment.seq, 0, now);
            return None;
        }
        if !segment.has(flags::ACK) {
            return None;
        }
        if self.stage == Stage::SynReceived {
            if segment.ack != sender.next() {
                return Header::reset(&segment);
            }
            self.stage = Stage::Synchronized;
            if let (1, Some(first)) = (self.attempt.sent, self.attempt.first) {
                sender.on_handshake(now.since(first));
            }
        }
        if !sender.on_acknowledgement(&segment, options, now) {
            receiver.answer(segment.seq, 0, now);
            return None;
        }
        self.heard_at = now;
        if !receiver.has_ended {
            if !payload.is_empty() {
                receiver.on_bytes(segment.seq, payload, delayed_until, deliver);
            }
            if segment.has(flags::FIN) {
                receiver.on_end(segment.seq.wrapping_add(payload.len() as u32));
            }
            receiver.take_end();
        }
        if sender.end_has_arrived() && receiver.has_ended && self.stage == Stage::Synchronized {
            self.stage = if self.ended_first {
                Stage::TimeWait(now + TIME_WAIT)
            } else {
                Stage::Closed(Ended::InOrder)
            };
        }
        None
    }

    /// Takes in what follows our SYN. Source: RFC 9293, section 3.10.7.3.
    fn on_answer(&mut self, segment: &Segment, options: &Options, now: Time) -> Option<Header> {
        if self.stage != Stage::SynSent {
            return None;
        }
        let acks = segment.has(flags::ACK);
        let is_ours = self.attempt.sent > 0 && segment.ack == self.initial.wrapping_add(1);
        if acks && !is_ours {
            return Header::reset(segment);
        }
        if segment.has(flags::RST) {
            if acks {
                self.stage = Stage::Closed(Ended::Reset);
            }
            return None;
        }
        if !segment.has(flags::SYN) {
            return None;
        }
        self.on_syn(segment, options);
        self.heard_at = now;
        if !acks {
            // It has asked us, too: both answer.
            self.stage = Stage::SynReceived;
            self.attempt.again = Some(now);
            return None;
        }
        self.stage = Stage::Synchronized;
        let Halves { sender, receiver } = self.halves.as_mut()?;
        if let (1, Some(first)) = (self.attempt.sent, self.attempt.first) {
            sender.on_handshake(now.since(first));
        }
        receiver.answer(segment.seq, 0, now);
        None
    }

    fn on_syn(&mut self, segment: &Segment, options: &Options) {
        let (first, mss) = (self.initial.wrapping_add(1), self.mss.into());
        self.halves = Some(Halves {
            sender: Sender::new(first, segment, options, mss, self.window),
            receiver: Receiver::new(
                segment.seq.wrapping_add(1),
                options,
                mss,
                self.window,
                self.shift(),
            ),
        });
    }

    /// By how much our windows are scaled, if the peer knows how to.
    fn shift(&self) -> u8 {
        let bits = usize::BITS - (self.window >> 16).leading_zeros();
        bits.min(14) as u8
    }

    /// What is to be sent next. `most` is how many bytes may be cut into segments as they leave.
    pub(super) fn output(&self, most: u32, now: Time) -> Option<Output> {
        let plain = |seq, flags| Output {
            seq,
            flags,
            offset: 0,
            len: 0,
        };
        match (self.stage, &self.halves) {
            (Stage::SynSent, _) if self.attempt.again.is_none_or(|at| at <= now) => {
                Some(plain(self.initial, flags::SYN))
            }
            (Stage::SynReceived, _) if self.attempt.again.is_none_or(|at| at <= now) => {
                Some(plain(self.initial, flags::SYN | flags::ACK))
            }
            (Stage::Synchronized | Stage::TimeWait(_), Some(Halves { sender, receiver })) => {
                let answers = receiver.must_answer(now);
                if answers && receiver.has_sacks() {
                    // There is no room for them beside a full segment.
                    return Some(plain(sender.next(), flags::ACK));
                }
                let output = sender.output(most);
                output.or_else(|| {
                    // What the peer has got already makes it answer (RFC 9293, section 3.8.4).
                    let asked = sender.next().wrapping_sub(1);
                    let seq = if self.asks { asked } else { sender.next() };
                    (answers || self.asks).then(|| plain(seq, flags::ACK))
                })
            }
            _ => None,
        }
    }

    /// Whether [`output`](Self::output) may find more, once something was sent.
    pub(super) fn has_more(&self) -> bool {
        let halves = self.halves.as_ref();
        halves.is_some_and(|halves| halves.sender.has_more())
    }

    /// What is put in front of that, as it leaves.
    pub(super) fn headers(&self, output: &Output) -> Headers {
        self.template.fill_in(&self.header(output), output.len)
    }

    /// What that says.
    fn header(&self, output: &Output) -> Header {
        let mut header = Header {
            ends: self.ends,
            flags: output.flags,
            seq: output.seq,
            ack: 0,
            window: self.window.min(u16::MAX.into()) as u16,
            options: Options::default(),
        };
        let receiver = self.halves.as_ref().map(|halves| &halves.receiver);
        if let Some(receiver) = receiver {
            header.flags |= flags::ACK;
            header.ack = receiver.next();
        }
        if output.flags & flags::SYN != 0 {
            let knows = |knows: fn(&Receiver) -> bool| receiver.is_none_or(knows);
            header.options.mss = Some(self.mss);
            header.options.window_scale = knows(Receiver::knows_scale).then(|| self.shift());
            header.options.sack_permitted = knows(Receiver::knows_sack);
        } else if let Some(receiver) = receiver {
            header.window = receiver.window();
            if output.len == 0 && receiver.has_sacks() {
                header.options.sacks = receiver.sacks();
            }
        }
        header
    }

    /// That was sent.
    pub(super) fn on_sent(&mut self, output: &Output, now: Time) {
        if output.flags & flags::SYN != 0 {
            let attempt = &mut self.attempt;
            let patience = FIRST_PATIENCE * (1 << attempt.sent.min(5));
            attempt.sent = attempt.sent.saturating_add(1);
            attempt.first.get_or_insert(now);
            attempt.again = Some(now + patience);
        } else if let Some(Halves { sender, receiver }) = &mut self.halves {
            if output.end() != output.seq {
                self.ended_first |= output.flags & flags::FIN != 0 && !receiver.has_ended;
                sender.on_sent(output, now);
            } else if output.seq != sender.next() {
                (self.asks, self.asked_at) = (false, Some(now));
            }
            receiver.on_sent();
        }
    }

    /// The owner has taken so many of the bytes that were delivered.
    pub(super) fn on_read(&mut self, bytes: usize) {
        if let Some(halves) = &mut self.halves {
            halves.receiver.on_read(bytes);
        }
    }

    /// Whether the peer is to hear of what has arrived before this turn is over.
    pub(super) fn is_pressing(&self) -> bool {
        let halves = self.halves.as_ref();
        halves.is_some_and(|halves| halves.receiver.is_pressing())
    }

    /// Sees to it that what waits for the peer does not wait for ever.
    pub(super) fn arm(&mut self, now: Time) {
        if self.stage == Stage::Synchronized
            && let Some(halves) = &mut self.halves
        {
            halves.sender.arm(now);
        }
    }

    /// When [`on_timer`](Self::on_timer) must be called.
    pub(super) fn due(&self, config: &TcpConfig) -> Option<Time> {
        match (self.stage, &self.halves) {
            (Stage::SynSent | Stage::SynReceived, _) => self.attempt.again,
            (Stage::Synchronized, Some(Halves { sender, receiver })) => {
                let asked_at = self.asked_at.unwrap_or(self.heard_at);
                let asks_at = self.heard_at.max(asked_at) + config.keep_alive;
                let asks_at = Some(asks_at).filter(|_| !sender.is_waiting());
                let all = [sender.due(), receiver.due(), asks_at];
                all.into_iter().flatten().min()
            }
            (Stage::TimeWait(until), _) => Some(until),
            _ => None,
        }
    }

    /// Does what is due. Returns what a peer is told that is given up.
    pub(super) fn on_timer(&mut self, config: &TcpConfig, now: Time) -> Option<Header> {
        let is_over = |since: Option<Time>| since.is_some_and(|at| now >= at + config.timeout);
        let is_lost = match (self.stage, &mut self.halves) {
            (Stage::SynSent | Stage::SynReceived, _) => is_over(self.attempt.first),
            (Stage::Synchronized, Some(Halves { sender, .. })) => {
                let verdict = sender.on_timer(now, config.timeout);
                let last = self
                    .asked_at
                    .map_or(self.heard_at, |at| at.max(self.heard_at));
                let is_asked = self.asked_at.is_some_and(|asked| asked > self.heard_at);
                if sender.is_waiting() {
                    verdict.is_none()
                } else {
                    self.asks |= verdict == Some(true) || now >= last + config.keep_alive;
                    is_asked && is_over(Some(self.heard_at))
                }
            }
            (Stage::TimeWait(until), _) => {
                if until <= now {
                    self.stage = Stage::Closed(Ended::InOrder);
                }
                false
            }
            _ => false,
        };
        if !is_lost {
            return None;
        }
        let reset = self.reset();
        self.stage = Stage::Closed(Ended::TimedOut);
        reset
    }

    /// Whether nothing waits on either side.
    pub(super) fn is_at_rest(&self) -> bool {
        let halves = self.halves.as_ref();
        halves.is_none_or(|halves| halves.sender.is_at_rest() && halves.receiver.is_at_rest())
    }

    /// When the peer has been heard of last.
    pub(super) fn heard_at(&self) -> Time {
        self.heard_at
    }

    /// Gives back memory that is not needed now.
    pub(super) fn shrink(&mut self) {
        if let Some(halves) = &mut self.halves {
            halves.sender.shrink();
        }
    }
}
