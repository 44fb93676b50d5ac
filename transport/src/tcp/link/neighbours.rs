//! [`Neighbours`]: which hardware address an IP address has, for how long that holds, and the
//! packets that wait to know it. One state machine for ARP and neighbour discovery: that of RFC
//! 4861, section 7.3, with what RFC 1122, section 2.3.2, asks of ARP. Knows no packet formats.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Mac;
use crate::tcp::hash::Keyed;

/// The most neighbours that are remembered.
pub(super) const CAPACITY: usize = 4096;
/// The most packets that wait for one neighbour.
pub(super) const WAITING_FOR_ONE: usize = 3;
/// The most packets that wait altogether.
pub(super) const WAITING: usize = 256;

/// How often a neighbour is asked before it is given up (`MAX_MULTICAST_SOLICIT` and
/// `MAX_UNICAST_SOLICIT` of RFC 4861, section 10).
const TRIES: u8 = 3;
/// The time between two tries (`RETRANS_TIMER`; RFC 1122, section 2.3.2.1).
const RETRANSMIT: Duration = Duration::from_secs(1);
/// How long a neighbour that has answered is not asked again. With the tries that follow while it
/// is in use, it is forgotten a minute after its last answer.
const CONFIRMED: Duration = Duration::from_secs(57);
/// How long one is believed that has not been asked (`DELAY_FIRST_PROBE_TIME`).
const UNVERIFIED: Duration = Duration::from_secs(5);
/// How long one is left alone that did not answer.
const DOWN: Duration = Duration::from_secs(3);
/// Among how many to look for an idle one when there are too many.
const CANDIDATES: usize = 8;

/// What is known of the way to a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// Frames for it go there.
    Mac(Mac),
    /// It is being asked.
    Pending,
    /// It did not answer.
    Unreachable,
}

/// What a packet says about a neighbour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// Its hardware address, unless it only says that it is there.
    pub(super) mac: Option<Mac>,
    /// Whether it answers us.
    pub(super) solicited: bool,
    /// Whether it holds against what we knew.
    pub(super) overrides: bool,
    /// Whether it is of use although we did not know the neighbour: it is about to talk to us.
    pub(super) introduces: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Everybody is being asked.
    Incomplete {
        asked: u8,
    },
    /// Frames can be sent. If `asked`, it is being asked whether that still holds.
    Known {
        mac: Mac,
        asked: u8,
    },
    Unreachable,
}

struct Neighbour<P> {
    state: State,
    /// When the state ends, or it is time to ask again.
    due: Instant,
    /// Whether anything was sent to it in this state.
    used: bool,
    waiting: VecDeque<P>,
}

impl<P> Neighbour<P> {
    fn was_asked(&self) -> bool {
        match self.state {
            State::Incomplete { asked } | State::Known { asked, .. } => asked > 0,
            State::Unreachable => false,
        }
    }
}

pub(super) struct Neighbours<P> {
    by_address: HashMap<IpAddr, Neighbour<P>, Keyed>,
    /// The `due` of each.
    deadlines: BTreeSet<(Instant, IpAddr)>,
    /// Packets that wait, for all neighbours.
    waiting: usize,
    /// Packets that need wait no longer, and where they go.
    resolved: VecDeque<(Mac, P)>,
}

impl<P> Default for Neighbours<P> {
    fn default() -> Self {
        Self {
            by_address: HashMap::default(),
            deadlines: BTreeSet::new(),
            waiting: 0,
            resolved: VecDeque::new(),
        }
    }
}

impl<P> Neighbours<P> {
    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Where frames for a neighbour go. One that is not known will be asked for by
    /// [`poll`](Self::poll).
    pub(super) fn resolve(&mut self, ip: IpAddr, now: Instant) -> Resolved {
        if let Some(neighbour) = self.by_address.get_mut(&ip) {
            neighbour.used = true;
            return match neighbour.state {
                State::Incomplete { .. } => Resolved::Pending,
                State::Known { mac, .. } => Resolved::Mac(mac),
                State::Unreachable => Resolved::Unreachable,
            };
        }
        if self.by_address.len() >= CAPACITY {
            self.evict();
        }
        self.insert(ip, State::Incomplete { asked: 0 }, now);
        Resolved::Pending
    }

    /// Keeps a packet until its neighbour is known. If there are too many for it the oldest is
    /// dropped (RFC 4861, section 7.2.2), as is one whose neighbour nobody is asking for.
    pub(super) fn enqueue(&mut self, ip: IpAddr, packet: P) {
        let Some(neighbour) = self.by_address.get_mut(&ip) else {
            return;
        };
        match neighbour.state {
            State::Incomplete { .. } => {}
            State::Known { mac, .. } => return self.resolved.push_back((mac, packet)),
            State::Unreachable => return,
        }
        let all = self.waiting + self.resolved.len();
        if neighbour.waiting.len() >= WAITING_FOR_ONE || all >= WAITING {
            if neighbour.waiting.pop_front().is_none() {
                return;
            }
            self.waiting -= 1;
        }
        neighbour.waiting.push_back(packet);
        self.waiting += 1;
    }

    /// A packet whose neighbour has become known, and where it goes.
    pub(super) fn take_resolved(&mut self) -> Option<(Mac, P)> {
        self.resolved.pop_front()
    }

    /// Takes note of what a neighbour says, if that is of interest (RFC 826, "Packet Reception";
    /// RFC 4861, sections 7.2.3 and 7.2.5). Whether it was.
    pub(super) fn learn(&mut self, ip: IpAddr, claim: Claim, now: Instant) -> bool {
        let Some(neighbour) = self.by_address.get_mut(&ip) else {
            // Whoever fills the table with strangers cannot push out those we talk to.
            let has_room = self.by_address.len() < CAPACITY;
            let Some(mac) = claim.mac.filter(|_| claim.introduces && has_room) else {
                return false;
            };
            self.insert(ip, State::Known { mac, asked: 0 }, now + UNVERIFIED);
            return true;
        };
        let confirmed = claim.solicited && neighbour.was_asked();
        let mac = match neighbour.state {
            State::Incomplete { .. } | State::Unreachable => match claim.mac {
                Some(mac) => mac,
                None => return false,
            },
            State::Known { mac: known, asked } => {
                let mac = claim.mac.unwrap_or(known);
                if mac != known && !claim.overrides {
                    if asked == 0 {
                        let due = neighbour.due.min(now + UNVERIFIED);
                        self.schedule(ip, due);
                    }
                    return true;
                }
                if mac == known && !confirmed {
                    return true;
                }
                mac
            }
        };
        neighbour.state = State::Known { mac, asked: 0 };
        // What waited is a use.
        neighbour.used = !neighbour.waiting.is_empty();
        self.waiting -= neighbour.waiting.len();
        let waited = neighbour.waiting.drain(..);
        self.resolved.extend(waited.map(|packet| (mac, packet)));
        neighbour.waiting = VecDeque::new();
        self.schedule(ip, now + if confirmed { CONFIRMED } else { UNVERIFIED });
        true
    }

    /// Calls `ask` for each neighbour that is to be asked for now, with its last hardware address
    /// if only that is to be asked, and forgets those whose time is over.
    pub(super) fn poll(&mut self, now: Instant, mut ask: impl FnMut(IpAddr, Option<Mac>)) {
        while let Some(&(due, ip)) = self.deadlines.first()
            && due <= now
            && let Some(neighbour) = self.by_address.get_mut(&ip)
        {
            let next = match &mut neighbour.state {
                State::Incomplete { asked } if *asked < TRIES => {
                    *asked += 1;
                    ask(ip, None);
                    RETRANSMIT
                }
                State::Incomplete { .. } => {
                    neighbour.state = State::Unreachable;
                    self.waiting -= neighbour.waiting.len();
                    neighbour.waiting = VecDeque::new();
                    DOWN
                }
                State::Known { mac, asked } if *asked < TRIES && (*asked > 0 || neighbour.used) => {
                    *asked += 1;
                    ask(ip, Some(*mac));
                    RETRANSMIT
                }
                State::Known { .. } | State::Unreachable => {
                    self.remove(ip);
                    continue;
                }
            };
            self.schedule(ip, now + next);
        }
    }

    /// Whether packets wait for any of them.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting > 0
    }

    /// When [`poll`](Self::poll) has something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(due, _)| due)
    }

    fn insert(&mut self, ip: IpAddr, state: State, due: Instant) {
        let neighbour = Neighbour {
            state,
            due,
            used: false,
            waiting: VecDeque::new(),
        };
        self.by_address.insert(ip, neighbour);
        self.deadlines.insert((due, ip));
    }

    fn schedule(&mut self, ip: IpAddr, due: Instant) {
        if let Some(neighbour) = self.by_address.get_mut(&ip) {
            self.deadlines.remove(&(neighbour.due, ip));
            self.deadlines.insert((due, ip));
            neighbour.due = due;
        }
    }

    fn remove(&mut self, ip: IpAddr) {
        if let Some(neighbour) = self.by_address.remove(&ip) {
            self.deadlines.remove(&(neighbour.due, ip));
            self.waiting -= neighbour.waiting.len();
        }
    }

    /// Forgets the one whose time is over soonest, rather one that is not in use.
    fn evict(&mut self) {
        let is_idle = |ip: &IpAddr| {
            let neighbour = self.by_address.get(ip);
            neighbour.is_some_and(|it| !it.used || !matches!(it.state, State::Known { .. }))
        };
        let mut soonest = self.deadlines.iter().take(CANDIDATES).map(|&(_, ip)| ip);
        let victim = soonest.clone().find(is_idle).or_else(|| soonest.next());
        if let Some(ip) = victim {
            self.remove(ip);
        }
    }
}
