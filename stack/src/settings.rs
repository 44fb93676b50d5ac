//! [`Settings`]: how a messenger behaves beyond what its peers see.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use msgr_protocol::{Config, EntityName, Policy};

/// How a messenger behaves. Start from [`Settings::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What peers see of us, and what we take from them.
    pub protocol: Config,
    /// When to give up waiting.
    pub timeouts: Timeouts,
    /// The number of reactors, each with a thread and a transport of its own.
    pub reactors: usize,
    /// The core that each reactor is pinned to; reactors beyond the list run anywhere.
    pub cores: Vec<usize>,
    /// How long an idle reactor polls before it sleeps. Spinning this long costs a tenth in
    /// latency against spinning for ever, sleeping at once more than doubles it.
    pub spin: Duration,
    /// While a connection's unsent messages hold more than this many bytes, further ones are
    /// refused. (To stop reading instead could leave both ends waiting for each other.)
    pub send_backlog: usize,
    /// The number of calls from other threads that may wait for a reactor.
    pub inbox: usize,
}

impl Settings {
    /// The defaults for the entity `name`, with one `policy` for all peers.
    pub fn new(name: EntityName, policy: Policy) -> Self {
        let mut protocol = Config::new(name, policy);
        // Seeded by the system: tells apart messengers that never bind.
        protocol.nonce = RandomState::new().build_hasher().finish() as u32;
        Self {
            protocol,
            timeouts: Timeouts::default(),
            reactors: 1,
            cores: Vec::new(),
            spin: Duration::from_micros(50),
            send_backlog: 128 << 20,
            inbox: 1024,
        }
    }
}

/// When to give up waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start of a connection until it is ready. Ceph's
    /// `ms_connection_ready_timeout`, 10 s.
    pub ready: Duration,
    /// Without any byte received on a ready connection. Ceph's `ms_connection_idle_timeout`,
    /// 900 s.
    pub idle: Duration,
    /// For messages to leave at shutdown. Ceph's `ms_shutdown_timeout`, 120 s.
    pub shutdown: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            ready: Duration::from_secs(10),
            idle: Duration::from_secs(900),
            shutdown: Duration::from_secs(120),
        }
    }
}
