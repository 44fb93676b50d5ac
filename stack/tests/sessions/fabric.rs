//! [`Fabric`]: RDMA without devices, in virtual time, and what befalls connections on it. The faults
//! are the simulated network's, but where that counts bytes, these count work requests.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use msgr::transport::rdma::fake::{Answer, Ends, FakeDevice, Meddler, Passage};
use msgr::transport::rdma::{Rdma, RdmaConfig};
use msgr::transport::sim::{Fault, FaultRates, Plan, Side};

use super::plans::{Plans, due};

/// What an offer brings at most, in bytes.
pub(crate) const OFFER: usize = 64 << 10;

#[derive(Clone)]
pub(crate) struct Fabric {
    device: Rc<FakeDevice>,
    tangle: Arc<Mutex<Tangle>>,
}

struct Tangle {
    plans: Plans,
    streams: BTreeMap<Ends, Stream>,
    /// Who learns later that nothing passes any more.
    late: Vec<(Instant, Ends, Side)>,
    struck: u64,
    now: Instant,
    /// Whether what was sent arrives, which is between two turns.
    arrives: bool,
}

#[derive(Default)]
struct Stream {
    fault: Option<Fault>,
    /// How many work requests have passed from each side.
    passed: [u64; 2],
    /// Whose requests wait, and until when, if that is known.
    stalled: Option<(Side, Option<Instant>)>,
}

impl Fabric {
    pub(crate) fn new(seed: u64, now: Instant) -> Self {
        let tangle = Arc::new(Mutex::new(Tangle {
            plans: Plans::new(seed),
            streams: BTreeMap::new(),
            late: Vec::new(),
            struck: 0,
            now,
            arrives: false,
        }));
        let device = FakeDevice::new();
        device.meddle(Meddling(Arc::clone(&tangle)));
        Self {
            device: device.into(),
            tangle,
        }
    }

    pub(crate) fn open() -> Rdma {
        let config = RdmaConfig {
            receive_blocks: 256,
            spare_blocks: 16,
            send_blocks: 64,
            offer_from: 16 << 10,
            landing_size: OFFER,
            // Whoever stalls for some seconds is no reason to give up.
            keepalive: Duration::from_secs(10),
            ..RdmaConfig::default()
        };
        FakeDevice::open(config).expect("nothing is missing")
    }

    pub(crate) fn ip(&self, host: u8) -> IpAddr {
        self.device.address(host)
    }

    pub(crate) fn ip6(&self, host: u8) -> IpAddr {
        self.device.address_v6(host)
    }

    fn tangle(&self) -> MutexGuard<'_, Tangle> {
        self.tangle.lock().expect("nobody panics with it")
    }

    pub(crate) fn plan(&self, to: SocketAddr, plan: Plan) {
        self.tangle().plans.add(to, plan);
    }

    pub(crate) fn set_faults(&self, rates: FaultRates) {
        self.tangle().plans.rates = rates;
    }

    pub(crate) fn faults(&self) -> u64 {
        self.tangle().struck
    }

    pub(crate) fn connections(&self) -> Vec<Ends> {
        self.device.connections()
    }

    /// What has nothing to wait for befalls the connection as soon as anything is to pass.
    pub(crate) fn inject(&self, ends: Ends, fault: Fault) -> bool {
        let is_up = self.connections().contains(&ends);
        if is_up {
            let mut tangle = self.tangle();
            let stream = tangle.streams.entry(ends).or_default();
            stream.fault = Some(fault);
            let fault = due(&mut stream.fault, stream.passed);
            let told = fault.map(|fault| tangle.strike(ends, fault));
            drop(tangle);
            if let Some(Passage::Cut(told)) = told {
                for (side, told) in [Side::Connector, Side::Acceptor].into_iter().zip(told) {
                    if told {
                        self.device.cut(ends, side);
                    }
                }
            }
        }
        is_up
    }

    pub(crate) fn release(&self, ends: Ends) -> bool {
        let mut tangle = self.tangle();
        let stream = tangle.streams.get_mut(&ends);
        stream.is_some_and(|stream| {
            stream.stalled = None;
            true
        })
    }

    /// It is later now.
    pub(crate) fn advance(&self, now: Instant) {
        let due: Vec<_> = {
            let mut tangle = self.tangle();
            (tangle.now, tangle.arrives) = (now, true);
            let late = &mut tangle.late;
            late.extract_if(.., |(at, ..)| *at <= now).collect()
        };
        for (_, ends, side) in due {
            self.device.cut(ends, side);
        }
        self.device.step();
        self.tangle().arrives = false;
    }

    /// When something happens by itself next.
    pub(crate) fn next_event_time(&self) -> Option<Instant> {
        let tangle = self.tangle();
        let streams = tangle.streams.values();
        let stalls = streams.filter_map(|stream| stream.stalled.and_then(|(_, until)| until));
        let late = tangle.late.iter().map(|(at, ..)| *at);
        late.chain(stalls).filter(|at| *at > tangle.now).min()
    }
}

impl Tangle {
    fn strike(&mut self, ends: Ends, fault: Fault) -> Passage {
        self.struck += 1;
        match fault {
            Fault::Cut { .. } => Passage::Cut([true; 2]),
            Fault::BlackHole { .. } => Passage::Cut([false; 2]),
            Fault::HalfOpen { from, late, .. } => {
                self.late.push((self.now + late, ends, from.other()));
                Passage::Cut([from == Side::Connector, from == Side::Acceptor])
            }
            Fault::Stall { from, lasts, .. } => {
                let until = lasts.map(|lasts| self.now + lasts);
                self.streams.entry(ends).or_default().stalled = Some((from, until));
                Passage::Waits
            }
            Fault::Crash { .. } => panic!("hosts crash by `World::kill`"),
        }
    }
}

struct Meddling(Arc<Mutex<Tangle>>);

impl Meddler for Meddling {
    fn connects(&mut self, ends: Ends) -> Answer {
        let mut tangle = self.0.lock().expect("nobody panics with it");
        let plan = tangle.plans.next(ends.1);
        tangle.struck += u64::from(!matches!(plan, Plan::Accept | Plan::Fault(_)));
        let fault = match plan {
            Plan::Refuse => return Answer::Refused,
            Plan::Ignore => return Answer::Never,
            Plan::Accept => None,
            Plan::AcceptThenClose => {
                let (from, after) = (Side::Acceptor, 0);
                Some(Fault::Cut { from, after })
            }
            Plan::Fault(fault) => Some(fault),
        };
        let stream = Stream {
            fault,
            ..Stream::default()
        };
        tangle.streams.insert(ends, stream);
        Answer::Arrives
    }

    fn passes(&mut self, ends: Ends, side: Side) -> Passage {
        let mut tangle = self.0.lock().expect("nobody panics with it");
        if !tangle.arrives {
            return Passage::Waits;
        }
        let now = tangle.now;
        let stream = tangle.streams.entry(ends).or_default();
        if let Some(fault) = due(&mut stream.fault, stream.passed)
            && let cut @ Passage::Cut(_) = tangle.strike(ends, fault)
        {
            return cut;
        }
        let stream = tangle.streams.entry(ends).or_default();
        stream
            .stalled
            .take_if(|(_, until)| until.is_some_and(|until| until <= now));
        if stream.stalled.is_some_and(|(stalled, _)| stalled == side) {
            return Passage::Waits;
        }
        stream.passed[side as usize] += 1;
        Passage::Arrives
    }
}
