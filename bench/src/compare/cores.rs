//! [`Cores`]: who runs where.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// The cores for servers and clients; where there is but one, nobody is pinned.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Cores {
    pub(super) server: Option<usize>,
    pub(super) client: Option<usize>,
}

impl Cores {
    /// The first two that this process may use.
    pub(super) fn choose() -> Self {
        let allowed = sched_getaffinity(None).unwrap_or_default();
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        match (allowed.next(), allowed.next()) {
            (server, client @ Some(_)) => Self { server, client },
            _ => Self::default(),
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
