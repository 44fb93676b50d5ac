//! Sessions of whole messengers: every policy, reconnects, races, restarts, on the simulated network
//! in virtual time and, where that makes sense, on real sockets.
//!
//! The scenarios are those that Ceph's own messenger is tested with (`src/test/msgr/test_msgr.cc`
//! and `src/test/crimson/test_messenger.cc`); each test says which one it is.

#![allow(clippy::unwrap_used, clippy::struct_excessive_bools)]
// Processes are numbered from 1, as entities are.
#![allow(clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod basics;
mod budgets;
mod campaign;
mod cancel;
mod chance;
mod congestion;
mod ledger;
mod markdown;
mod policies;
mod races;
mod reconnects;
mod stale;
mod synthetic;
mod thrash;
mod workload;
mod world;

use std::time::Duration;

use msgr::transport::sim::{Latency, SimConfig};

/// A network on which everything takes ten microseconds.
fn quick() -> SimConfig {
    SimConfig {
        latency: Latency::fixed(Duration::from_micros(10)),
        ..SimConfig::default()
    }
}

/// A scenario that is a test on the simulator and another one on real sockets.
macro_rules! both_networks {
    ($(#[$doc:meta])* fn $name:ident($world:ident: &mut World) $body:block) => {
        mod $name {
            use super::*;

            $(#[$doc])*
            fn scenario($world: &mut World) $body

            #[test]
            fn simulated() {
                for seed in 0..20 {
                    scenario(&mut World::simulated(seed, msgr::transport::sim::SimConfig::default()));
                }
            }

            #[test]
            fn on_sockets() {
                scenario(&mut World::loopback(1));
            }
        }
    };
}
use both_networks;
