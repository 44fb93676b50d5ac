//! What processes are connected by: the simulated network, userspace TCP on an in-process wire, the
//! host's loopback, or an RDMA device.

use std::net::SocketAddr;
use std::time::Duration;

use msgr::transport::rdma::Setup;
use msgr::transport::sim::{Chop, Fault, FaultRates, Latency, Plan, SimConfig, SimNetwork};
use msgr::transport::tcp::wire::{Wire, WireConfig, WireFaults};

use super::cable::Cables;
use super::fabric::{Fabric, OFFER};
use super::hosts::Hosts;
use super::world::World;

pub(crate) enum Net {
    Sim(SimNetwork),
    /// Userspace TCP on an in-process wire, in virtual time.
    Wire(Wire, Cables),
    /// The kernel's, in real time.
    Loopback,
    /// Queue pairs on devices that are not there, in virtual time.
    Fabric(Fabric),
    /// Queue pairs of the devices in a guest of `ci/rdma-guest`, in real time.
    Rdma(Hosts, Setup),
}

/// A network in virtual time, which a test is to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Virtual {
    Simulated,
    /// The same, with connections in secure mode.
    Secure,
    UserspaceTcp,
    /// Without devices.
    Rdma,
}

/// How many bytes of a conversation of small messages are about a frame.
const FRAME: u64 = 50;
/// And a send, of which several frames may become one.
const SEND: u64 = 100;

impl Virtual {
    /// A world on this network, as far as it can be like `config`: what is cut into pieces there is
    /// cut by the MTU here, what is slow is overtaken, and where anything goes wrong by chance, so do
    /// frames.
    pub(crate) fn world(self, seed: u64, config: SimConfig) -> World {
        if self == Self::Simulated {
            return World::simulated(seed, config);
        }
        if self == Self::Secure {
            // Handshakes are about twice as long.
            let within = config.faults.within * 2;
            let faults = FaultRates {
                within,
                ..config.faults
            };
            return World::secure(seed, SimConfig { faults, ..config });
        }
        let within = |divisor| FaultRates {
            within: config.faults.within / divisor,
            ..config.faults
        };
        if self == Self::Rdma {
            let world = World::fabric(seed);
            world.network().set_faults(within(SEND));
            return world;
        }
        let Latency {
            least,
            slow_one_in,
            slow,
            ..
        } = config.latency;
        let rate = if config.faults == FaultRates::default() {
            0.0
        } else {
            0.005
        };
        let faults = WireFaults {
            loss: rate,
            duplicate: rate,
            corrupt: rate / 5.0,
            reorder: if slow_one_in == 0 {
                0.0
            } else {
                1.0 / f64::from(slow_one_in)
            },
            reorder_by: slow,
        };
        let mtu = match config.chop {
            Chop::Whole | Chop::At(_) => 1500,
            Chop::Every(len) | Chop::Random(len) => (len + 200).min(1500),
        };
        let wire = WireConfig {
            mtu,
            latency: least,
            faults,
            seed,
            ..WireConfig::default()
        };
        let mut world = World::userspace_tcp(seed, wire);
        world.window = Some(config.window);
        world.network().set_faults(within(FRAME));
        world
    }

    /// Where to break a stream: after so many bytes, or after so many frames.
    pub(crate) fn places(
        self,
        bytes: impl Iterator<Item = u64>,
        frames: impl Iterator<Item = u64>,
    ) -> impl Iterator<Item = u64> {
        let (bytes, frames) = match self {
            Self::Simulated | Self::Secure => (Some(bytes), None),
            Self::UserspaceTcp | Self::Rdma => (None, Some(frames)),
        };
        let frames = frames.into_iter().flatten();
        bytes.into_iter().flatten().chain(frames)
    }

    /// The most bytes in one frame.
    pub(crate) fn frame(self) -> u64 {
        match self {
            Self::Simulated | Self::Secure => 1,
            Self::UserspaceTcp => 1448,
            Self::Rdma => OFFER as u64,
        }
    }

    /// How much more a connection takes than the window that it is given: userspace TCP queues a
    /// mebibyte in front of that.
    pub(crate) fn depth(self) -> usize {
        match self {
            Self::Simulated | Self::Secure => 1,
            Self::UserspaceTcp | Self::Rdma => 128,
        }
    }
}

/// A network in virtual time, on which faults can be planned and injected as [`SimNetwork`] says. On
/// userspace TCP they come after so many frames, not bytes.
pub(crate) enum Network<'a> {
    Sim(&'a SimNetwork),
    Wire(&'a Cables),
    Fabric(&'a Fabric),
}

impl Network<'_> {
    pub(crate) fn plan(&self, to: SocketAddr, plan: impl Into<Plan>) {
        match self {
            Self::Sim(network) => network.plan(to, plan),
            Self::Wire(cables) => cables.plan(to, plan.into()),
            Self::Fabric(fabric) => fabric.plan(to, plan.into()),
        }
    }

    pub(crate) fn inject(&self, from: SocketAddr, to: SocketAddr, fault: Fault) -> bool {
        match self {
            Self::Sim(network) => network.inject(from, to, fault),
            Self::Wire(cables) => cables.inject((from, to), fault),
            Self::Fabric(fabric) => fabric.inject((from, to), fault),
        }
    }

    pub(crate) fn release(&self, from: SocketAddr, to: SocketAddr) -> bool {
        match self {
            Self::Sim(network) => network.release(from, to),
            Self::Wire(cables) => cables.release((from, to)),
            Self::Fabric(fabric) => fabric.release((from, to)),
        }
    }

    pub(crate) fn connections(&self) -> Vec<(SocketAddr, SocketAddr)> {
        match self {
            Self::Sim(network) => network.connections(),
            Self::Wire(cables) => cables.connections(),
            Self::Fabric(fabric) => fabric.connections(),
        }
    }

    pub(crate) fn set_faults(&self, rates: FaultRates) {
        match self {
            Self::Sim(network) => network.set_faults(rates),
            Self::Wire(cables) => cables.set_faults(rates),
            Self::Fabric(fabric) => fabric.set_faults(rates),
        }
    }

    pub(crate) fn faults(&self) -> u64 {
        match self {
            Self::Sim(network) => network.faults(),
            Self::Wire(cables) => cables.faults(),
            Self::Fabric(fabric) => fabric.faults(),
        }
    }
}

/// A network on which everything takes ten microseconds.
pub(crate) fn quick() -> SimConfig {
    SimConfig {
        latency: Latency::fixed(Duration::from_micros(10)),
        ..SimConfig::default()
    }
}

/// A scenario that is a test on the simulator, another one on userspace TCP, one on real sockets and
/// one on an RDMA device.
macro_rules! all_networks {
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
            fn simulated_in_secure_mode() {
                for seed in 0..3 {
                    scenario(&mut World::secure(seed, msgr::transport::sim::SimConfig::default()));
                }
            }

            #[test]
            fn on_userspace_tcp() {
                scenario(&mut World::userspace_tcp(1, msgr::transport::tcp::wire::WireConfig::default()));
            }

            #[test]
            fn on_rdma_without_devices() {
                scenario(&mut World::fabric(1));
            }

            #[test]
            fn on_sockets() {
                scenario(&mut World::loopback(1));
            }

            #[test]
            #[ignore = "needs an RDMA device"]
            fn on_rdma() {
                scenario(&mut World::rdma(1));
            }

            #[test]
            #[ignore = "needs an RDMA device"]
            fn on_rdma_as_ceph_does() {
                scenario(&mut World::rdma_as_ceph_does(1));
            }
        }
    };
}
pub(crate) use all_networks;

/// A test that needs virtual time or faults at a certain place, on the simulator and on userspace TCP.
macro_rules! virtual_networks {
    ($(#[$doc:meta])* fn $name:ident($on:ident: Virtual) $body:block) => {
        mod $name {
            use super::*;

            $(#[$doc])*
            fn scenario($on: Virtual) $body

            #[test]
            fn simulated() {
                scenario(Virtual::Simulated);
            }

            #[test]
            fn simulated_in_secure_mode() {
                scenario(Virtual::Secure);
            }

            #[test]
            fn on_userspace_tcp() {
                scenario(Virtual::UserspaceTcp);
            }

            #[test]
            fn on_rdma_without_devices() {
                scenario(Virtual::Rdma);
            }
        }
    };
}
pub(crate) use virtual_networks;
