//! [`Fault`]: what may befall a connection, planned or by chance.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fastrand::Rng;

use super::pipe::Parcel;
use super::world::{Due, LinkId, World};
use crate::CloseReason;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The end that connected.
    Connector,
    /// The end that accepted.
    Acceptor,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Connector, Self::Acceptor];

    /// The other end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Connector => Self::Acceptor,
            Self::Acceptor => Self::Connector,
        }
    }
}

/// What befalls an established connection, as soon as exactly `after` bytes from one side have
/// arrived at the other: with 0, as soon as both ends are up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both ends are reset, and all further bytes are lost.
    Cut {
        /// Whose bytes count.
        from: Side,
        /// How many of them arrive.
        after: u64,
    },
    /// Nothing from that side arrives until [`SimNetwork::release`](super::SimNetwork::release),
    /// or for some time.
    Stall {
        /// Whose bytes count, and stop.
        from: Side,
        /// How many of them arrive.
        after: u64,
        /// For how long; unset means until released.
        lasts: Option<Duration>,
    },
    /// That side is reset, while the other goes on to receive, late, what was under way, and
    /// hears of the end only then: a half-open connection (RFC 9293, section 3.5.1).
    HalfOpen {
        /// Whose bytes count, and who is reset.
        from: Side,
        /// How many of them arrive before.
        after: u64,
        /// By how much longer the rest takes.
        late: Duration,
    },
    /// Nothing arrives any more, either way, and nobody is told.
    BlackHole {
        /// Whose bytes count.
        from: Side,
        /// How many of them arrive.
        after: u64,
    },
    /// The host that receives the bytes crashes.
    Crash {
        /// Whose bytes count; the other side crashes.
        from: Side,
        /// How many of them arrive.
        after: u64,
        /// What its peers notice.
        how: Crash,
    },
}

impl Fault {
    /// Whose bytes count, how many, and what happens then.
    pub(super) fn trigger(self) -> (Side, u64, Effect) {
        match self {
            Self::Cut { from, after } => (from, after, Effect::Cut),
            Self::Stall { from, after, lasts } => (from, after, Effect::Stall(lasts)),
            Self::HalfOpen { from, after, late } => (from, after, Effect::HalfOpen(late)),
            Self::BlackHole { from, after } => (from, after, Effect::BlackHole),
            Self::Crash { from, after, how } => (from, after, Effect::Crash(how)),
        }
    }
}

/// What a [`Fault`] does when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Cut,
    Stall(Option<Duration>),
    HalfOpen(Duration),
    BlackHole,
    Crash(Crash),
}

/// What the peers of a crashed host notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Its connections are reset: a process was killed.
    Reset,
    /// Nothing at all: a host lost power.
    Silent,
}

/// What becomes of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// It goes well.
    Accept,
    /// It is refused, whether or not somebody listens.
    Refuse,
    /// It is never answered.
    Ignore,
    /// It is accepted and closed at once: the connector sees the peer close, the acceptor a reset.
    AcceptThenClose,
    /// It goes well at first.
    Fault(Fault),
}

impl From<Fault> for Plan {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// How often things go wrong. Each rate is the probability, from 0 to 1, that it befalls a
/// connection to which nothing before it in this list has happened and for which nothing is
/// planned. Which side it strikes is by chance too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultRates {
    /// [`Plan::Refuse`].
    pub refuse: f64,
    /// [`Plan::Ignore`].
    pub ignore: f64,
    /// [`Plan::AcceptThenClose`].
    pub accept_then_close: f64,
    /// [`Fault::Cut`].
    pub cut: f64,
    /// [`Fault::Stall`].
    pub stall: f64,
    /// [`Fault::HalfOpen`].
    pub half_open: f64,
    /// [`Fault::BlackHole`].
    pub black_hole: f64,
    /// [`Fault::Crash`], half of them silent.
    pub crash: f64,
    /// Faults strike after at most so many bytes.
    pub within: u64,
    /// Stalls last, and half-open connections are late, by at most this.
    pub lasts: Duration,
}

impl Default for FaultRates {
    /// Nothing goes wrong; if it did, within 64 KiB and for at most a second.
    fn default() -> Self {
        Self {
            refuse: 0.0,
            ignore: 0.0,
            accept_then_close: 0.0,
            cut: 0.0,
            stall: 0.0,
            half_open: 0.0,
            black_hole: 0.0,
            crash: 0.0,
            within: 64 << 10,
            lasts: Duration::from_secs(1),
        }
    }
}

impl FaultRates {
    /// What becomes of a connection, by chance.
    pub(super) fn roll(&self, rng: &mut Rng) -> Plan {
        let mut strikes = |rate: f64| rate > 0.0 && rng.f64() < rate;
        if strikes(self.refuse) {
            return Plan::Refuse;
        }
        if strikes(self.ignore) {
            return Plan::Ignore;
        }
        if strikes(self.accept_then_close) {
            return Plan::AcceptThenClose;
        }
        let struck = [
            self.cut,
            self.stall,
            self.half_open,
            self.black_hole,
            self.crash,
        ]
        .into_iter()
        .position(strikes);
        let Some(which) = struck else {
            return Plan::Accept;
        };
        let from = Side::BOTH[usize::from(rng.bool())];
        let after = rng.u64(0..=self.within);
        let some_time = Duration::from_nanos(rng.u64(0..=self.lasts.as_nanos() as u64));
        Plan::Fault(match which {
            0 => Fault::Cut { from, after },
            1 => Fault::Stall {
                from,
                after,
                lasts: Some(some_time),
            },
            2 => Fault::HalfOpen {
                from,
                after,
                late: some_time,
            },
            3 => Fault::BlackHole { from, after },
            _ => Fault::Crash {
                from,
                after,
                how: if rng.bool() {
                    Crash::Reset
                } else {
                    Crash::Silent
                },
            },
        })
    }
}

impl World {
    /// What becomes of the next connection to `to`.
    pub(super) fn plan_for(&mut self, to: SocketAddr) -> Plan {
        let planned = self.plans.get_mut(&to).and_then(VecDeque::pop_front);
        let plan = planned.unwrap_or_else(|| self.config.faults.roll(&mut self.rng));
        // A fault counts when it strikes.
        self.struck += u64::from(!matches!(plan, Plan::Accept | Plan::Fault(_)));
        plan
    }

    /// Lets a fault befall a connection when its time comes, which may be now.
    pub(super) fn arm(&mut self, id: LinkId, fault: Fault) {
        if let Some(link) = self.links.get_mut(id) {
            let (from, after, effect) = fault.trigger();
            link.pipe(from).arm(after, effect);
            self.arrive(id, from);
        }
    }

    /// The established connection between two addresses.
    pub(super) fn find(&self, connector: SocketAddr, acceptor: SocketAddr) -> Option<LinkId> {
        let mut links = self.links.iter().filter(|(_, link)| {
            link.is_established()
                && link.address(Side::Connector) == connector
                && link.address(Side::Acceptor) == acceptor
        });
        links.next().map(|(id, _)| id)
    }

    pub(super) fn befall(&mut self, id: LinkId, from: Side, effect: Effect) {
        self.note(id, from, format_args!("suffers {effect:?} towards"));
        let now = self.now;
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        self.struck += 1;
        match effect {
            Effect::Cut => {
                for side in Side::BOTH {
                    link.pipe(side).swallow();
                    if let Some(end) = link.end(side) {
                        end.sentence(CloseReason::Reset);
                    }
                }
                for side in Side::BOTH {
                    self.list(id, side);
                }
            }
            Effect::BlackHole => {
                for side in Side::BOTH {
                    link.pipe(side).swallow();
                }
            }
            Effect::Stall(lasts) => {
                link.pipe(from).stalled = true;
                if let Some(lasts) = lasts {
                    self.appoint(now + lasts, Due::Release(id, from));
                }
            }
            Effect::HalfOpen(late) => {
                link.pipe(from.other()).swallow();
                if let Some(end) = link.end(from) {
                    end.sentence(CloseReason::Reset);
                }
                self.list(id, from);
                self.post(id, from, Parcel::Reset);
                self.delay(id, from, late);
            }
            Effect::Crash(how) => {
                let ip = link.address(from.other()).ip();
                self.crash(ip, how);
                self.crashed.push(ip);
            }
        }
    }

    /// Lets what is under way from `side` arrive later.
    fn delay(&mut self, id: LinkId, side: Side, late: Duration) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let mut times = link.pipe(side).delay(late);
        times.dedup();
        for at in times {
            self.appoint(at, Due::Arrival(id, side));
        }
    }

    /// Ends a stall of what `side` sends.
    pub(super) fn resume(&mut self, id: LinkId, side: Side) {
        if let Some(link) = self.links.get_mut(id) {
            link.pipe(side).stalled = false;
            self.appoint(self.now, Due::Arrival(id, side));
        }
    }

    pub(super) fn crash(&mut self, ip: IpAddr, how: Crash) {
        let nodes = self.nodes.iter().filter(|(_, node)| node.ip == ip);
        let nodes: Vec<_> = nodes.map(|(id, _)| id).collect();
        for node in nodes {
            self.stop(node, how);
        }
    }
}
