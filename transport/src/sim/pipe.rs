//! [`Pipe`]: one direction of a connection, from what was sent to what arrives.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;

use super::fault::Effect;
use super::{Chop, Latency};
use crate::TxQueue;

/// What travels.
#[derive(Debug)]
pub(super) enum Parcel {
    /// An attempt to connect.
    Attempt,
    /// The acceptor's answer.
    Welcome,
    /// The other answer.
    Refusal,
    /// Bytes in order, in one piece.
    Bytes(Bytes),
    /// There is nothing more.
    Fin,
    /// There is nothing more, and nobody there.
    Reset,
}

impl fmt::Display for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempt => "an attempt",
            Self::Welcome => "a welcome",
            Self::Refusal => "a refusal",
            Self::Bytes(bytes) => return write!(f, "{} bytes", bytes.len()),
            Self::Fin => "the end",
            Self::Reset => "a reset",
        })
    }
}

/// What comes out at the far end.
#[derive(Debug)]
pub(super) enum Arrival {
    Parcel(Parcel),
    Effect(Effect),
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    chop: Chop,
    window: usize,
    /// Sent and not flushed.
    staged: Vec<Bytes>,
    /// Whether the last send fell short and room was not announced since.
    pub(super) starved: bool,
    /// How many bytes of the window are in use.
    held: usize,
    /// How many bytes have been flushed, ever.
    flushed: u64,
    /// What is under way, by the time at which it arrives. Times never descend.
    wire: VecDeque<(Duration, Parcel)>,
    /// How many bytes have arrived, ever.
    arrived: u64,
    /// What happens after so many bytes, in ascending order.
    triggers: VecDeque<(u64, Effect)>,
    pub(super) stalled: bool,
    /// Whether nothing more may be put in, or come out if it is.
    shut: bool,
}

impl Pipe {
    pub(super) fn new(chop: Chop, window: usize) -> Self {
        Self {
            chop,
            window,
            staged: Vec::new(),
            starved: false,
            held: 0,
            flushed: 0,
            wire: VecDeque::new(),
            arrived: 0,
            triggers: VecDeque::new(),
            stalled: false,
            shut: false,
        }
    }

    /// Whether the sender waits for room that there is.
    pub(super) fn owes_room(&self) -> bool {
        self.starved && self.held < self.window
    }

    /// Takes what there is room for, and returns how many bytes.
    pub(super) fn stage(&mut self, queue: &mut TxQueue) -> usize {
        let before = self.held;
        while let Some(front) = queue.front_mut() {
            let len = front.len().min(self.window - self.held);
            if len == 0 && !front.is_empty() {
                break;
            }
            if len > 0 {
                self.held += len;
                self.staged.push(front.split_to(len));
            }
            if front.is_empty() {
                queue.pop_front();
            }
        }
        self.starved = !queue.is_empty();
        self.held - before
    }

    /// Gives back the room of bytes that the receiver has got.
    pub(super) fn give_back(&mut self, len: usize) {
        self.held -= len;
    }

    /// The pieces of everything staged.
    pub(super) fn take_pieces(&mut self, rng: &mut Rng) -> Vec<Bytes> {
        let len = self.staged.iter().map(Bytes::len).sum();
        let mut rest = BytesMut::with_capacity(len);
        for segment in self.staged.drain(..) {
            rest.extend_from_slice(&segment);
        }
        let mut rest = rest.freeze();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let piece = rest.split_to(self.piece(rng).min(rest.len()));
            self.flushed += piece.len() as u64;
            pieces.push(piece);
        }
        pieces
    }

    /// How many bytes the next piece may have.
    fn piece(&self, rng: &mut Rng) -> usize {
        match &self.chop {
            Chop::Whole => usize::MAX,
            Chop::Every(len) => (*len).max(1),
            Chop::Random(most) => rng.usize(1..=(*most).max(1)),
            Chop::At(offsets) => {
                let next = offsets.partition_point(|&at| at <= self.flushed);
                offsets
                    .get(next)
                    .map_or(usize::MAX, |at| (at - self.flushed) as usize)
            }
        }
    }

    pub(super) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Puts a parcel on its way. Returns when it arrives, unless nothing does that did not before.
    pub(super) fn post(
        &mut self,
        parcel: Parcel,
        now: Duration,
        latency: &Latency,
        rng: &mut Rng,
    ) -> Option<Duration> {
        if self.shut {
            return None;
        }
        self.shut = matches!(parcel, Parcel::Fin | Parcel::Reset | Parcel::Refusal);
        let last = self.wire.back().map_or(Duration::ZERO, |&(at, _)| at);
        let at = last.max(now + latency.sample(rng));
        let together = !self.wire.is_empty() && at == last;
        self.wire.push_back((at, parcel));
        (!together).then_some(at)
    }

    /// What comes out by `now`, one thing at a time. Triggers count once both ends are up.
    pub(super) fn next(&mut self, now: Duration, established: bool) -> Option<Arrival> {
        if self.stalled {
            return None;
        }
        let mut most = u64::MAX;
        if established && let Some(&(after, effect)) = self.triggers.front() {
            if after <= self.arrived {
                self.triggers.pop_front();
                return Some(Arrival::Effect(effect));
            }
            most = after - self.arrived;
        }
        let (at, parcel) = self.wire.front_mut()?;
        if *at > now {
            return None;
        }
        if let Parcel::Bytes(bytes) = parcel
            && bytes.len() as u64 > most
        {
            let head = bytes.split_to(most as usize);
            self.arrived += most;
            return Some(Arrival::Parcel(Parcel::Bytes(head)));
        }
        let (_, parcel) = self.wire.pop_front()?;
        if let Parcel::Bytes(bytes) = &parcel {
            self.arrived += bytes.len() as u64;
        }
        Some(Arrival::Parcel(parcel))
    }

    /// Lets `effect` happen once so many bytes have arrived.
    pub(super) fn arm(&mut self, after: u64, effect: Effect) {
        let at = self.triggers.partition_point(|&(other, _)| other <= after);
        self.triggers.insert(at, (after, effect));
    }

    /// Lets everything under way arrive later, and returns when it now does.
    pub(super) fn delay(&mut self, late: Duration) -> Vec<Duration> {
        let later = self.wire.iter_mut().map(|(at, _)| {
            *at += late;
            *at
        });
        later.collect()
    }

    /// Lets nothing more in. What is under way still arrives.
    pub(super) fn shut(&mut self) {
        self.staged.clear();
        self.shut = true;
    }

    /// Loses what is under way and everything to come.
    pub(super) fn swallow(&mut self) {
        self.wire.clear();
        self.triggers.clear();
        self.shut();
    }
}
