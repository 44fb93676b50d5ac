//! One run of `msgr ping`: what was sent, what came back, and what was wrong with it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use hdrhistogram::Histogram;
use msgr::{Context, Totals};
use msgr_protocol::{Message, Payload, Timestamp};

use crate::session::print_faults;

/// The messages' type and sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) kind: u16,
    pub(super) front: usize,
    pub(super) middle: usize,
    pub(super) data: usize,
}

/// The state of one run. Message `n` has tid `n`, from 1.
#[derive(Debug)]
pub(super) struct Run {
    shape: Shape,
    count: u64,
    in_flight: u32,
    /// End the session after so many replies; never if 0.
    close_every: u64,
    /// Every payload is a window of these bytes, at a place that depends on the tid: a payload
    /// that belongs to another message is noticed too.
    pattern: Bytes,
    /// The last tid sent.
    last_sent: u64,
    /// The last tid answered in order.
    last_answered: u64,
    /// When those under way were sent.
    sent_at: VecDeque<Instant>,
    closes: u64,
    sent: u64,
    received: u64,
    duplicates: u64,
    out_of_order: u64,
    corrupt: u64,
    bytes: u64,
    latency_ns: Histogram<u64>,
}

/// Latencies beyond this many nanoseconds (a minute) are counted as this.
const LONGEST_NS: u64 = 60_000_000_000;

/// A prime, so that neighbouring messages, and those a window apart, differ.
const PATTERN_SHIFTS: usize = 251;

impl Run {
    pub(super) fn new(shape: Shape, count: u64, in_flight: u32, close_every: u64) -> Self {
        let longest = shape.front.max(shape.middle).max(shape.data);
        let pattern: Vec<u8> = (0..longest + 3 * PATTERN_SHIFTS)
            .map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8)
            .collect();
        Self {
            shape,
            count,
            in_flight,
            close_every,
            pattern: pattern.into(),
            last_sent: 0,
            last_answered: 0,
            sent_at: VecDeque::with_capacity(in_flight as usize),
            closes: 0,
            sent: 0,
            received: 0,
            duplicates: 0,
            out_of_order: 0,
            corrupt: 0,
            bytes: 0,
            latency_ns: Histogram::new_with_bounds(1, LONGEST_NS, 3)
                .expect("3 digits are within what it can do"),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.last_answered == self.count
    }

    pub(super) fn violations(&self) -> u64 {
        self.duplicates + self.out_of_order + self.corrupt
    }

    fn window(&self, tid: u64, part: usize, len: usize) -> Bytes {
        let at = part * PATTERN_SHIFTS + (tid % PATTERN_SHIFTS as u64) as usize;
        self.pattern.slice(at..at + len)
    }

    fn message(&self, tid: u64) -> Message {
        let mut message = Message::new(self.shape.kind);
        message.header.tid = tid;
        message.front = self.window(tid, 0, self.shape.front).into();
        message.middle = self.window(tid, 1, self.shape.middle).into();
        message.data = self.window(tid, 2, self.shape.data).into();
        message
    }

    /// A new session begins: what was not answered in the last one is lost, and sent again.
    pub(super) fn begin(&mut self) {
        self.last_sent = self.last_answered;
        self.sent_at.clear();
    }

    /// The tid whose reply ends the session.
    fn last_in_session(&self) -> u64 {
        match self.close_every {
            0 => self.count,
            every => every.saturating_mul(self.closes + 1).min(self.count),
        }
    }

    /// Whether everything that this session is for has been answered.
    pub(super) fn is_session_over(&self) -> bool {
        self.last_answered == self.last_in_session()
    }

    /// What the server is asked at the end of a session, different each time.
    pub(super) fn last_question(&self) -> Timestamp {
        Timestamp {
            sec: self.closes as u32 + 1,
            nsec: 0,
        }
    }

    /// The session is closed: the next one is for what comes then.
    pub(super) fn close(&mut self) {
        self.closes += 1;
    }

    /// Sends as many as may be under way, or as the peer takes: the next reply goes on from there.
    pub(super) fn fill(&mut self, context: &mut Context<'_>) {
        let until = self.last_answered + u64::from(self.in_flight);
        while self.last_sent < until.min(self.last_in_session()) {
            if context.send(self.message(self.last_sent + 1)).is_err() {
                break;
            }
            self.last_sent += 1;
            self.sent += 1;
            self.sent_at.push_back(Instant::now());
        }
    }

    pub(super) fn reply(&mut self, reply: &Message) {
        self.received += 1;
        self.bytes += reply.payload_len() as u64;
        let tid = reply.header.tid;
        if tid <= self.last_answered {
            self.duplicates += 1;
            return;
        }
        if tid != self.last_answered + 1 {
            self.out_of_order += 1;
            return;
        }
        self.last_answered = tid;
        if let Some(sent) = self.sent_at.pop_front() {
            self.latency_ns
                .saturating_record(sent.elapsed().as_nanos() as u64);
        }
        let intact = reply.header.kind == self.shape.kind
            && is(&reply.front, &self.window(tid, 0, self.shape.front))
            && is(&reply.middle, &self.window(tid, 1, self.shape.middle))
            && is(&reply.data, &self.window(tid, 2, self.shape.data));
        self.corrupt += u64::from(!intact);
    }

    pub(super) fn print(&self, seconds: f64, totals: &Totals, seed: Option<u64>, json: bool) {
        let micros = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        // A lossy session is not connected again, but has a successor.
        let sessions = totals.connected + totals.accepted;
        let reconnects = totals.reconnects + sessions.saturating_sub(1 + self.closes);
        if !json {
            println!(
                "{} sent, {} received in {seconds:.3} s: {} duplicate, {} out of order, \
                 {} corrupt; closed {} times",
                self.sent,
                self.received,
                self.duplicates,
                self.out_of_order,
                self.corrupt,
                self.closes
            );
            print_faults(totals, reconnects, seed);
            println!(
                "round trip in us: p50 {:.1}, p90 {:.1}, p99 {:.1}, max {:.1}",
                micros(0.5),
                micros(0.9),
                micros(0.99),
                micros(1.0)
            );
            return;
        }
        let result = serde_json::json!({
            "sent": self.sent,
            "received": self.received,
            "duplicates": self.duplicates,
            "out_of_order": self.out_of_order,
            "corrupt": self.corrupt,
            "closes": self.closes,
            "reconnects": reconnects,
            "resets": totals.resets,
            "remote_resets": totals.remote_resets,
            "replays": totals.replayed,
            "interruptions": totals.interruptions,
            "seed": seed,
            "latency_us": {
                "p50": micros(0.5), "p90": micros(0.9), "p99": micros(0.99), "max": micros(1.0),
            },
            "bytes": self.bytes,
            "seconds": seconds,
        });
        println!("{result}");
    }
}

fn is(payload: &Payload, expected: &[u8]) -> bool {
    payload.len() == expected.len() && *payload.contiguous() == *expected
}
