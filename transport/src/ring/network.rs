//! [`RingNetwork`]: who listens where in one process, and which connections there are. Used when
//! something opens or ends, and not in between.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::endpoint::Endpoint;
use super::link::{Half, Shut};
use crate::{ListenOptions, Port};

/// The ports to choose from where 0 is asked for: those of Linux (ip(7), `ip_local_port_range`).
const FIRST_PORT: u16 = 32768;
const LAST_PORT: u16 = 60999;

/// The size of a connection, the same in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingConfig {
    /// The most bytes in one descriptor; longer segments are cut.
    pub chunk: usize,
    /// The number of descriptors.
    pub slots: usize,
    /// The most bytes sent and not yet received.
    pub window: usize,
}

impl Default for RingConfig {
    /// 256 descriptors of at most 64 KiB, and 1 MiB in all, so that a stream stays in the cache.
    fn default() -> Self {
        Self {
            chunk: 64 << 10,
            slots: 256,
            window: 1 << 20,
        }
    }
}

/// The addresses of one process: a name space that its [`Ring`](super::Ring)s meet in. Clones
/// share it. An address is only a name here, whatever interfaces the host has.
#[derive(Debug, Clone, Default)]
pub struct RingNetwork {
    config: RingConfig,
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    listeners: HashMap<SocketAddr, Vec<Arc<Listening>>>,
    /// The connections, each by both its names.
    conns: HashSet<Ends>,
    last_port: u16,
}

/// The two addresses of a connection: one's own, then the peer's.
type Ends = (SocketAddr, SocketAddr);

/// The name of a connection, which no other can have until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    names: Arc<Mutex<Names>>,
    ends: Ends,
}

/// A listener, and who waits for it.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) at: SocketAddr,
    endpoint: Arc<Endpoint>,
    backlog: usize,
    waiting: Mutex<VecDeque<Incoming>>,
}

/// A connection that waits to be accepted.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) half: Half,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl RingNetwork {
    /// A network of connections of the given size. Each number counts as at least 1.
    pub fn new(config: RingConfig) -> Self {
        Self {
            config: RingConfig {
                chunk: config.chunk.max(1),
                slots: config.slots.max(1),
                window: config.window.max(1),
            },
            names: Arc::default(),
        }
    }

    pub(super) fn config(&self) -> RingConfig {
        self.config
    }

    pub(super) fn listen(
        &self,
        endpoint: &Arc<Endpoint>,
        mut at: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<Arc<Listening>> {
        let mut names = lock(&self.names);
        if at.port() == 0 {
            at = names.choose_port(at, None)?;
        }
        let there = names.listeners.entry(at).or_default();
        if options.port == Port::Take && !there.is_empty() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listening = Arc::new(Listening {
            at,
            endpoint: Arc::clone(endpoint),
            backlog: options.backlog.max(1) as usize,
            waiting: Mutex::default(),
        });
        there.push(Arc::clone(&listening));
        Ok(listening)
    }

    /// Takes the name away from `listening` and declines whoever still waits.
    pub(super) fn unlisten(&self, listening: &Arc<Listening>) {
        let mut names = lock(&self.names);
        if let Some(there) = names.listeners.get_mut(&listening.at) {
            there.retain(|other| !Arc::ptr_eq(other, listening));
            if there.is_empty() {
                names.listeners.remove(&listening.at);
            }
        }
        drop(names);
        for incoming in listening.take() {
            incoming.half.shut(Shut::Refused);
        }
    }

    /// Connects `from` to whoever listens at `to`. If nobody does, or the backlog is full, the new
    /// end finds itself refused. Returns it with its address, and whether a system call was needed.
    pub(super) fn connect(
        &self,
        from: &Arc<Endpoint>,
        to: SocketAddr,
        local: Option<SocketAddr>,
    ) -> io::Result<(Half, SocketAddr, bool)> {
        let mut names = lock(&self.names);
        let mut local = local.unwrap_or_else(|| SocketAddr::new(to.ip(), 0));
        if local.port() == 0 {
            local = names.choose_port(local, Some(to))?;
        } else if let Some(there) = names.listeners.get(&local)
            && !there.iter().any(|one| Arc::ptr_eq(&one.endpoint, from))
        {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let claim = names.claim((local, to), &self.names)?;
        let there = names.listeners.entry(to).or_default();
        // Those who share a port take turns. Nobody talks to himself.
        let turns = if local == to { 0 } else { there.len() };
        for _ in 0..turns {
            there.rotate_left(1);
            let Some(listening) = there.last() else {
                break;
            };
            let mut waiting = lock(&listening.waiting);
            if waiting.len() < listening.backlog {
                let (ours, theirs) = Half::pair(self.config, from, &listening.endpoint, claim);
                waiting.push_back(Incoming {
                    half: theirs,
                    local: to,
                    remote: local,
                });
                drop(waiting);
                return Ok((ours, local, listening.endpoint.knock()));
            }
        }
        if there.is_empty() {
            names.listeners.remove(&to);
        }
        let (ours, theirs) = Half::pair(self.config, from, from, claim);
        theirs.shut(Shut::Refused);
        Ok((ours, local, false))
    }
}

impl Names {
    /// Enters a new connection.
    fn claim(&mut self, ends: Ends, names: &Arc<Mutex<Self>>) -> io::Result<Claim> {
        if self.conns.contains(&ends) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        self.conns.extend([ends, (ends.1, ends.0)]);
        let names = Arc::clone(names);
        Ok(Claim { names, ends })
    }

    /// `at` with a port where nobody listens and that is not connected to `peer`.
    fn choose_port(&mut self, at: SocketAddr, peer: Option<SocketAddr>) -> io::Result<SocketAddr> {
        for _ in FIRST_PORT..=LAST_PORT {
            self.last_port = match self.last_port {
                last @ FIRST_PORT..LAST_PORT => last + 1,
                _ => FIRST_PORT,
            };
            let chosen = SocketAddr::new(at.ip(), self.last_port);
            let connected = peer.is_some_and(|peer| self.conns.contains(&(chosen, peer)));
            if !connected && !self.listeners.contains_key(&chosen) {
                return Ok(chosen);
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (local, remote) = self.ends;
        let mut names = lock(&self.names);
        names.conns.remove(&(local, remote));
        names.conns.remove(&(remote, local));
    }
}

impl Listening {
    /// Takes out everybody who waits.
    pub(super) fn take(&self) -> VecDeque<Incoming> {
        std::mem::take(&mut *lock(&self.waiting))
    }
}

/// No invariant spans a panic here: what others left behind is as good as ever.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
