//! One run of `msgr ping`: what was sent, what came back, and what was wrong with it.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use hdrhistogram::Histogram;
use msgr::{Connection, Context, Dispatcher, Fault, Received};
use msgr_protocol::{Message, Payload};

/// The messages' type and sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) kind: u16,
    pub(super) front: usize,
    pub(super) middle: usize,
    pub(super) data: usize,
}

/// What the main thread is told.
#[derive(Debug)]
pub(super) enum News {
    /// Every reply is there, or one was wrong.
    Finished,
    /// The connection broke.
    Lost(Fault),
}

/// The state of one run. Message `n` has tid `n`, from 1.
#[derive(Debug)]
pub(super) struct Run {
    shape: Shape,
    count: u64,
    in_flight: u32,
    /// Every payload is a window of these bytes, at a place that depends on the tid: a payload
    /// that belongs to another message is noticed too.
    pattern: Bytes,
    /// The last tid sent.
    last_sent: u64,
    /// The last tid answered in order.
    last_answered: u64,
    /// When those under way were sent.
    sent_at: VecDeque<Instant>,
    connects: u64,
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
    pub(super) fn new(shape: Shape, count: u64, in_flight: u32) -> Self {
        let longest = shape.front.max(shape.middle).max(shape.data);
        let pattern: Vec<u8> = (0..longest + 3 * PATTERN_SHIFTS)
            .map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8)
            .collect();
        Self {
            shape,
            count,
            in_flight,
            pattern: pattern.into(),
            last_sent: 0,
            last_answered: 0,
            sent_at: VecDeque::with_capacity(in_flight as usize),
            connects: 0,
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

    /// A new connection begins: what was under way on the last one is lost.
    fn begin(&mut self) {
        self.connects += 1;
        self.last_sent = self.last_answered;
        self.sent_at.clear();
    }

    /// Sends as many as may be under way, or as the peer takes: the next reply goes on from there.
    fn fill(&mut self, context: &mut Context<'_>) {
        let until = (self.last_answered + u64::from(self.in_flight)).min(self.count);
        while self.last_sent < until {
            if context.send(self.message(self.last_sent + 1)).is_err() {
                break;
            }
            self.last_sent += 1;
            self.sent += 1;
            self.sent_at.push_back(Instant::now());
        }
    }

    fn reply(&mut self, reply: &Message) {
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

    pub(super) fn print(&self, seconds: f64, json: bool) {
        let micros = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        if !json {
            println!(
                "{} sent, {} received in {seconds:.3} s: {} duplicate, {} out of order, \
                 {} corrupt, {} reconnects",
                self.sent,
                self.received,
                self.duplicates,
                self.out_of_order,
                self.corrupt,
                self.reconnects()
            );
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
            "reconnects": self.reconnects(),
            "latency_us": {
                "p50": micros(0.5), "p90": micros(0.9), "p99": micros(0.99), "max": micros(1.0),
            },
            "bytes": self.bytes,
            "seconds": seconds,
        });
        println!("{result}");
    }

    fn reconnects(&self) -> u64 {
        self.connects.saturating_sub(1)
    }
}

fn is(payload: &Payload, expected: &[u8]) -> bool {
    payload.len() == expected.len() && *payload.contiguous() == *expected
}

/// Keeps the window full and checks what comes back.
pub(super) struct Pinger {
    run: Arc<Mutex<Run>>,
    news: Sender<News>,
}

impl Pinger {
    pub(super) fn new(run: Arc<Mutex<Run>>, news: Sender<News>) -> Self {
        Self { run, news }
    }

    /// Never contended while messages flow: the main thread looks only at the end.
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn go_on(&self, mut run: MutexGuard<'_, Run>, context: &mut Context<'_>) {
        if run.is_complete() || run.violations() > 0 {
            // The main thread may have given up already.
            let _ = self.news.send(News::Finished);
        } else {
            run.fill(context);
        }
    }
}

impl Dispatcher for Pinger {
    fn connected(&mut self, context: &mut Context<'_>) {
        let mut run = self.run();
        run.begin();
        self.go_on(run, context);
    }

    fn message(&mut self, context: &mut Context<'_>, message: Received) {
        let mut run = self.run();
        run.reply(&message);
        self.go_on(run, context);
    }

    fn reset(&mut self, _: &Connection, fault: &Fault) {
        let _ = self.news.send(News::Lost(fault.clone()));
    }
}
