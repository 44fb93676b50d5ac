//! [`Plans`]: what becomes of connections yet to be made, planned or by chance. Whoever counts what
//! passes on a connection makes it come true.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use msgr::transport::sim::{Fault, FaultRates, Plan, Side};

use super::chance::Chance;

pub(crate) struct Plans {
    chance: Chance,
    pub(crate) rates: FaultRates,
    by_acceptor: HashMap<SocketAddr, VecDeque<Plan>>,
}

impl Plans {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            chance: Chance(seed),
            rates: FaultRates::default(),
            by_acceptor: HashMap::new(),
        }
    }

    pub(crate) fn add(&mut self, to: SocketAddr, plan: Plan) {
        self.by_acceptor.entry(to).or_default().push_back(plan);
    }

    /// What becomes of the next connection to somebody.
    pub(crate) fn next(&mut self, to: SocketAddr) -> Plan {
        let planned = self.by_acceptor.get_mut(&to).and_then(VecDeque::pop_front);
        planned.unwrap_or_else(|| self.roll())
    }

    /// By chance, at the rates that were set.
    fn roll(&mut self) -> Plan {
        let Self { chance, rates, .. } = self;
        let mut strikes =
            |rate: f64| rate > 0.0 && (chance.below(1 << 20) as f64) < rate * f64::from(1 << 20);
        let struck = [
            rates.refuse,
            rates.ignore,
            rates.accept_then_close,
            rates.cut,
            rates.stall,
            rates.half_open,
            rates.black_hole,
        ];
        let which = struck.into_iter().position(&mut strikes);
        let from = chance.pick(&[Side::Connector, Side::Acceptor]);
        let after = chance.below(rates.within + 1);
        let lasts = Duration::from_micros(chance.below(rates.lasts.as_micros() as u64 + 1));
        match which {
            None => Plan::Accept,
            Some(0) => Plan::Refuse,
            Some(1) => Plan::Ignore,
            Some(2) => Plan::AcceptThenClose,
            Some(3) => Fault::Cut { from, after }.into(),
            Some(4) => Plan::Fault(Fault::Stall {
                from,
                after,
                lasts: Some(lasts),
            }),
            Some(5) => Plan::Fault(Fault::HalfOpen {
                from,
                after,
                late: lasts,
            }),
            Some(_) => Fault::BlackHole { from, after }.into(),
        }
    }
}

/// Takes a fault whose time has come, when so much has passed from each side.
pub(crate) fn due(fault: &mut Option<Fault>, passed: [u64; 2]) -> Option<Fault> {
    let (from, after) = match (*fault)? {
        Fault::Cut { from, after }
        | Fault::Stall { from, after, .. }
        | Fault::HalfOpen { from, after, .. }
        | Fault::BlackHole { from, after }
        | Fault::Crash { from, after, .. } => (from, after),
    };
    fault.take_if(|_| passed[from as usize] >= after)
}
