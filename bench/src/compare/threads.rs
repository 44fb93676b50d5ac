//! [`Threads`]: where the two ends run, and how they wait.

use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// How the threads of every contender's two ends run.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Threads {
    /// The cores for servers and clients; where there is but one, nobody is pinned.
    pub(super) server: Option<usize>,
    pub(super) client: Option<usize>,
    /// How long whoever has nothing to do looks for more before it sleeps.
    pub(super) spin: Duration,
}

impl Threads {
    /// On the first two cores that this process may use.
    pub(super) fn choose(spin: Duration) -> Self {
        let allowed = sched_getaffinity(None).unwrap_or_default();
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        match (allowed.next(), allowed.next()) {
            (server, client @ Some(_)) => Self {
                server,
                client,
                spin,
            },
            _ => Self {
                spin,
                ..Self::default()
            },
        }
    }
}

/// Keeps the calling thread on a core. Best effort: a container may take cores away at any time.
pub(super) fn pin_to(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(error) = sched_setaffinity(None, &cores) {
        tracing::warn!("cannot pin a thread to core {core}: {error}");
    }
}
