//! [`Setup`]: who the two nodes are, and how much happens to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use msgr_protocol::auth::AuthNone;
use msgr_protocol::{Config, EntityAddr, EntityAddrVec, EntityName, EntityType, Policy};

/// One of the two nodes.
#[derive(Debug)]
pub(crate) struct NodeSetup {
    pub(crate) config: Arc<Config>,
    pub(crate) policy: Policy,
    /// Where it connects from.
    pub(crate) socket: SocketAddr,
    /// Its own address, if the other one can connect to it.
    pub(crate) addr: EntityAddr,
}

/// How much happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// How many messages each application sends.
    pub(crate) messages: u8,
    /// How many faults happen at most.
    pub(crate) faults: u8,
    /// On how many streams, which one end has left, something may still be under way to the other.
    pub(crate) late: usize,
    /// How often a session is connected again, without being reset: worlds behind that are not
    /// looked at.
    pub(crate) reconnects: u64,
}

/// Who the two nodes are, and how much happens to them.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) nodes: [NodeSetup; 2],
    pub(crate) bounds: Bounds,
}

impl Setup {
    /// `policies` are how A treats B, and how B treats A. B has the higher address.
    pub(crate) fn new(policies: [Policy; 2], bounds: Bounds) -> Self {
        let server = policies[1].server;
        let node = |number: u8| {
            let policy = policies[usize::from(number)];
            let kind = if server && number == 0 {
                EntityType::Client
            } else {
                EntityType::Osd
            };
            let num = i64::from(number);
            let mut config = Config::new(EntityName { kind, num }, policy);
            let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, number + 1));
            let addr = EntityAddr::msgr2(SocketAddr::new(ip, 6800), u32::from(number) + 1);
            config.nonce = u32::from(number) + 1;
            config.auth = Arc::new(AuthNone::new(config.name.into()).with_global_id(7));
            if kind == EntityType::Osd {
                config.addrs = EntityAddrVec::from(addr);
            }
            NodeSetup {
                config: Arc::new(config),
                policy,
                socket: SocketAddr::new(ip, 40000),
                addr,
            }
        };
        Self {
            nodes: [0, 1].map(node),
            bounds,
        }
    }
}
