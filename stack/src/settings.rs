//! [`Settings`]: how a messenger behaves beyond what its peers see.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use msgr_protocol::{Config, EntityName, EntityType, Policy};

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
    /// How long to wait between failed attempts to connect a lossless session.
    pub backoff: Backoff,
    /// How much memory received messages may hold.
    pub budgets: Budgets,
    /// Which peers may begin a handshake.
    pub handshakes: Handshakes,
    /// Whether connections originate from the address and port that the messenger is bound to.
    /// Ceph's `ms_bind_before_connect`.
    pub connect_from_bound: bool,
    /// Where places in the sequence of connections begin. A restarted messenger must begin behind
    /// all places that it had before, or its peers take it for a late echo of its former self: by
    /// default this is the time in microseconds.
    pub first_global_seq: u64,
    /// What chance is made of: the cookies that name sessions.
    pub seed: u64,
}

impl Settings {
    /// The defaults for the entity `name`, with one `policy` for all peers.
    pub fn new(name: EntityName, policy: Policy) -> Self {
        let mut protocol = Config::new(name, policy);
        // Seeded by the system: tells apart messengers that never bind.
        let seed = RandomState::new().build_hasher().finish();
        protocol.nonce = seed as u32;
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            protocol,
            timeouts: Timeouts::default(),
            reactors: 1,
            cores: Vec::new(),
            spin: Duration::from_micros(50),
            send_backlog: 128 << 20,
            inbox: 1024,
            backoff: Backoff::default(),
            budgets: Budgets::default(),
            handshakes: Handshakes::default(),
            connect_from_bound: false,
            first_global_seq: since_1970.map_or(0, |time| time.as_micros() as u64),
            seed,
        }
    }
}

/// How long to wait between failed attempts to connect a lossless session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first. Ceph's `ms_initial_backoff`, 0.2 s.
    pub initial: Duration,
    /// Each wait is twice as long as the one before, up to this, which is also how long we wait
    /// for a peer that said its own connection comes. Ceph's `ms_max_backoff`, 15 s.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(200),
            longest: Duration::from_secs(15),
        }
    }
}

/// The most bytes of payload that received messages may hold until the application drops them.
/// Beyond that, connections stop reading in front of their next message; frames that are no
/// messages cost nothing. A connection of whose messages none is held may always receive one, so
/// that no budget is ever too small to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budgets {
    /// Of one reactor. Ceph's `ms_dispatch_throttle_bytes`, 100 MiB.
    pub reactor: usize,
    /// Of the whole messenger; unlimited by default.
    pub messenger: usize,
    /// Of all peers of one type, in addition; unlimited for those not listed.
    pub by_type: Vec<(EntityType, usize)>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            reactor: 100 << 20,
            messenger: usize::MAX,
            by_type: Vec::new(),
        }
    }
}

/// How many handshakes peers may have under way, and how often they may begin one. Beyond that,
/// their connections are closed at once. Each reactor counts by itself; a source is an IPv4
/// address, or the first 64 bits of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshakes {
    /// All at once; 4,096 by default.
    pub open: usize,
    /// Those of one source at once; 1,024 by default.
    pub open_per_source: usize,
    /// The time between two connections from the same source, in the long run; a millisecond by
    /// default.
    pub interval: Duration,
    /// Those that a source may open at once after a rest; 4,096 by default.
    pub burst: u32,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self {
            open: 4096,
            open_per_source: 1024,
            interval: Duration::from_millis(1),
            burst: 4096,
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
