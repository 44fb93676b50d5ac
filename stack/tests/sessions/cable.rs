//! [`Cables`]: what befalls connections of userspace TCP on an in-process wire. The faults are the
//! simulated network's, but where that counts bytes, these count frames: TCP sends in one frame what
//! it likes, and sends again what is lost.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use msgr::transport::sim::{Fault, FaultRates, Plan, Side};
use msgr::transport::tcp::wire::{WireFrame, WirePort};
use msgr::transport::tcp::{BURST, Device, DeviceCaps, DeviceCounters};
use msgr::transport::{Cost, Park};

use super::plans::{Plans, due};
use super::segment::{Segment, reset};

/// The cables of all hosts on a wire.
#[derive(Clone)]
pub(crate) struct Cables(Rc<RefCell<Tangle>>);

struct Tangle {
    plans: Plans,
    /// By connector and acceptor.
    streams: BTreeMap<(SocketAddr, SocketAddr), Stream>,
    /// Frames that arrive by themselves: for whom and when, in order.
    posted: BTreeMap<(IpAddr, Instant, u64), Vec<u8>>,
    posts: u64,
    struck: u64,
    now: Option<Instant>,
}

/// A connection, as far as its frames tell. What is by [`Side`] has the connector's first.
struct Stream {
    /// A frame from each side, for the addresses.
    heads: [Option<Segment>; 2],
    /// The sequence number behind what has gone through.
    next: [u32; 2],
    /// How many frames have gone through since both ends are up.
    frames: [u64; 2],
    /// Who says no more.
    ended: [bool; 2],
    fault: Option<Fault>,
    fate: Fate,
}

/// What becomes of a stream's frames.
#[derive(Clone, Copy)]
enum Fate {
    Arrive,
    /// None arrives, and whoever sends one is told that the connection is gone.
    Reset,
    Vanish,
    /// Those of one side vanish, for a while.
    Stall(Side, Option<Instant>),
    /// Those of one side arrive so much later, the others vanish.
    Late(Side, Duration),
}

impl Cables {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Tangle {
            plans: Plans::new(seed),
            streams: BTreeMap::new(),
            posted: BTreeMap::new(),
            posts: 0,
            struck: 0,
            now: None,
        })))
    }

    /// A cable from the port to the host at `ip`.
    pub(crate) fn plug(&self, port: WirePort, ip: IpAddr) -> Cable {
        Cable {
            port,
            ip,
            outgoing: Vec::new(),
            cables: self.clone(),
        }
    }

    pub(crate) fn plan(&self, to: SocketAddr, plan: Plan) {
        self.0.borrow_mut().plans.add(to, plan);
    }

    pub(crate) fn set_faults(&self, rates: FaultRates) {
        self.0.borrow_mut().plans.rates = rates;
    }

    pub(crate) fn faults(&self) -> u64 {
        self.0.borrow().struck
    }

    /// Those of which nobody has said or been told that they have ended.
    pub(crate) fn connections(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let tangle = self.0.borrow();
        let streams = tangle.streams.iter();
        let open = streams.filter(|(_, stream)| stream.is_open());
        open.map(|(ends, _)| *ends).collect()
    }

    pub(crate) fn inject(&self, ends: (SocketAddr, SocketAddr), fault: Fault) -> bool {
        let mut tangle = self.0.borrow_mut();
        let now = tangle.now;
        let Some(stream) = tangle.streams.get_mut(&ends) else {
            return false;
        };
        stream.fault = Some(fault);
        if let (Some(fault), Some(now)) = (due(&mut stream.fault, stream.frames), now) {
            tangle.strike(ends, fault, now);
        }
        true
    }

    pub(crate) fn release(&self, ends: (SocketAddr, SocketAddr)) -> bool {
        let mut tangle = self.0.borrow_mut();
        let stream = tangle.streams.get_mut(&ends);
        stream.is_some_and(|stream| {
            if let Fate::Stall(..) = stream.fate {
                stream.fate = Fate::Arrive;
            }
            true
        })
    }
}

impl Stream {
    fn new(plan: Plan) -> Self {
        let (fault, fate) = match plan {
            Plan::Accept => (None, Fate::Arrive),
            Plan::Refuse => (None, Fate::Reset),
            Plan::Ignore => (None, Fate::Vanish),
            Plan::AcceptThenClose => {
                let (from, after) = (Side::Acceptor, 0);
                (Some(Fault::Cut { from, after }), Fate::Arrive)
            }
            Plan::Fault(fault) => (Some(fault), Fate::Arrive),
        };
        Self {
            heads: [None; 2],
            next: [0; 2],
            frames: [0; 2],
            ended: [false; 2],
            fault,
            fate,
        }
    }

    fn is_open(&self) -> bool {
        self.heads[1].is_some() && self.ended != [true; 2] && !matches!(self.fate, Fate::Reset)
    }

    /// What tells one side that the connection is gone.
    fn reset(&self, to: Side) -> Option<Vec<u8>> {
        let head = self.heads[to as usize]?;
        let (seq, ack) = (self.next[to.other() as usize], self.next[to as usize]);
        Some(reset(&head, seq, ack))
    }

    fn goes_through(&mut self, side: usize, segment: &Segment) {
        self.heads[side] = Some(*segment);
        self.next[side] = segment.end();
        self.frames[side] += u64::from(!segment.syn);
        self.ended[side] |= segment.fin;
        if segment.rst {
            self.ended = [true; 2];
        }
    }
}

impl Tangle {
    fn post(&mut self, to: IpAddr, at: Instant, frame: Vec<u8>) {
        self.posts += 1;
        self.posted.insert((to, at, self.posts), frame);
    }

    fn strike(&mut self, ends: (SocketAddr, SocketAddr), fault: Fault, now: Instant) {
        self.struck += 1;
        let Some(stream) = self.streams.get_mut(&ends) else {
            return;
        };
        let hosts = [ends.0.ip(), ends.1.ip()];
        stream.fate = match fault {
            Fault::Cut { .. } => Fate::Reset,
            Fault::Stall { from, lasts, .. } => Fate::Stall(from, lasts.map(|lasts| now + lasts)),
            Fault::HalfOpen { from, late, .. } => Fate::Late(from, late),
            Fault::BlackHole { .. } => Fate::Vanish,
            Fault::Crash { .. } => panic!("hosts crash by `World::kill`"),
        };
        let told: &[(Side, Duration)] = match fault {
            Fault::Cut { .. } => &[
                (Side::Connector, Duration::ZERO),
                (Side::Acceptor, Duration::ZERO),
            ],
            Fault::HalfOpen { from, late, .. } => &[(from, Duration::ZERO), (from.other(), late)],
            _ => &[],
        };
        for (side, late) in told {
            if let Some(frame) = self.streams[&ends].reset(*side) {
                self.post(hosts[*side as usize], now + *late, frame);
            }
        }
    }

    /// Whether a frame arrives, at once and by the wire.
    fn arrives(&mut self, frame: &[u8], now: Instant) -> bool {
        self.now = Some(now);
        let Some(segment) = Segment::parse(frame) else {
            return true;
        };
        let (from, to) = (segment.source, segment.destination);
        let (ends, side) = if self.streams.contains_key(&(to, from)) && !segment.opens() {
            ((to, from), Side::Acceptor)
        } else {
            ((from, to), Side::Connector)
        };
        if segment.opens() {
            let known = self.streams.get(&ends);
            if known.is_none_or(|stream| stream.next[0] != segment.end()) {
                let plan = self.plans.next(to);
                self.struck += u64::from(!matches!(plan, Plan::Accept | Plan::Fault(_)));
                let mut stream = Stream::new(plan);
                stream.next[0] = segment.end();
                self.streams.insert(ends, stream);
            }
        }
        let Some(stream) = self.streams.get_mut(&ends) else {
            return true;
        };
        if !segment.syn
            && let Some(fault) = due(&mut stream.fault, stream.frames)
        {
            self.strike(ends, fault, now);
        }
        let stream = self.streams.get_mut(&ends).expect("it was there");
        if let Fate::Stall(_, Some(end)) = stream.fate
            && now >= end
        {
            stream.fate = Fate::Arrive;
        }
        match stream.fate {
            Fate::Stall(stalled, _) if stalled == side => false,
            Fate::Arrive | Fate::Stall(..) => {
                stream.goes_through(side as usize, &segment);
                true
            }
            Fate::Vanish => false,
            Fate::Reset => {
                if !segment.rst {
                    let answer = reset(&segment, segment.ack, segment.end());
                    self.post(from.ip(), now, answer);
                }
                false
            }
            Fate::Late(late, by) => {
                if late == side {
                    self.post(to.ip(), now + by, frame.to_vec());
                }
                false
            }
        }
    }
}

/// The cable between a host and its port.
pub(crate) struct Cable {
    port: WirePort,
    ip: IpAddr,
    outgoing: Vec<WireFrame>,
    cables: Cables,
}

impl Cable {
    /// When something arrives here next by itself.
    fn next_post(&self) -> Option<(IpAddr, Instant, u64)> {
        let tangle = self.cables.0.borrow();
        let mut posted = tangle.posted.keys();
        posted.find(|(to, ..)| *to == self.ip).copied()
    }
}

impl Device for Cable {
    type Frame = WireFrame;

    fn name(&self) -> &'static str {
        self.port.name()
    }

    fn caps(&self) -> DeviceCaps {
        self.port.caps()
    }

    fn receive(&mut self, now: Instant, frames: &mut Vec<WireFrame>) {
        self.cables.0.borrow_mut().now = Some(now);
        self.port.receive(now, frames);
        while let Some(post) = self.next_post()
            && post.1 <= now
        {
            let bytes = self.cables.0.borrow_mut().posted.remove(&post);
            let bytes = bytes.unwrap_or_default();
            if let Some(mut frame) = self.port.allocate(bytes.len()) {
                frame.copy_from_slice(&bytes);
                frames.push(frame);
            }
        }
    }

    fn allocate(&mut self, len: usize) -> Option<WireFrame> {
        self.may_transmit().then(|| self.port.allocate(len))?
    }

    fn may_transmit(&mut self) -> bool {
        self.outgoing.len() < BURST && self.port.may_transmit()
    }

    fn transmit(&mut self, frame: WireFrame) {
        self.outgoing.push(frame);
    }

    fn flush(&mut self, now: Instant) {
        for frame in self.outgoing.drain(..) {
            if self.cables.0.borrow_mut().arrives(&frame, now) {
                self.port.transmit(frame);
            }
        }
        self.port.flush(now);
    }

    fn next_timeout(&self) -> Option<Instant> {
        let post = self.next_post().map(|(_, at, _)| at);
        self.port.next_timeout().into_iter().chain(post).min()
    }

    fn park(&mut self) -> Park<'_> {
        self.port.park()
    }

    fn unpark(&mut self) {
        self.port.unpark();
    }

    fn cost(&self) -> Cost {
        self.port.cost()
    }

    fn counters(&mut self) -> DeviceCounters {
        self.port.counters()
    }
}
