//! [`Messenger`]: the application's handle to its reactors.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use msgr_protocol::{EntityAddr, EntityAddrVec, EntityType, Policy, Ticket};
use msgr_transport::{OpenError, Operation, Transport};

use crate::budget::Budget;
use crate::connection::{Connection, next_ticket};
use crate::dispatcher::Dispatcher;
use crate::dump::ConnectionDump;
use crate::error::{BindError, ConnectError};
use crate::inbox::{Command, Inbox};
use crate::metrics::{Metrics, Totals};
use crate::reactor::Reactor;
use crate::settings::Settings;

/// What a messenger's reactors share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    /// One for each reactor.
    pub(crate) metrics: Box<[Arc<Metrics>]>,
    /// The last place given out in the messenger's sequence of connections.
    global_seq: AtomicU64,
    pub(crate) last_ticket: Arc<AtomicU64>,
    /// Of the whole messenger, and by the peer's type.
    budget: Option<Arc<Budget>>,
    budgets: Vec<(EntityType, Arc<Budget>)>,
}

impl Shared {
    fn new(settings: Settings, reactors: usize) -> Arc<Self> {
        let limits = &settings.budgets;
        let by_type = limits.by_type.iter();
        let by_type = by_type.filter_map(|(kind, limit)| Some((*kind, Budget::new(*limit)?)));
        Arc::new(Self {
            registry: Registry::default(),
            metrics: (0..reactors).map(|_| Arc::default()).collect(),
            global_seq: settings.first_global_seq.into(),
            last_ticket: Arc::default(),
            budget: Budget::new(limits.messenger),
            budgets: by_type.collect(),
            settings,
        })
    }

    /// The next place in the messenger's sequence of connections, behind `above`.
    pub(crate) fn next_global_seq(&self, above: u64) -> u64 {
        self.global_seq.fetch_max(above, Ordering::Relaxed);
        self.global_seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn next_ticket(&self) -> Ticket {
        next_ticket(&self.last_ticket)
    }

    /// The budgets that apply to peers of a type, besides the reactor's own.
    pub(crate) fn budgets(&self, kind: EntityType) -> impl Iterator<Item = Arc<Budget>> {
        let of_type = self.budgets.iter().find(|(of, _)| *of == kind);
        let of_type = of_type.map(|(_, budget)| budget);
        self.budget.iter().chain(of_type).map(Arc::clone)
    }
}

/// The connections that are found by their peer's address: one per peer.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_addr: Mutex<HashMap<EntityAddr, Connection>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<EntityAddr, Connection>> {
        self.by_addr.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection with whom has one of these addresses.
    pub(crate) fn find(&self, addrs: &EntityAddrVec) -> Option<Connection> {
        let by_addr = self.lock();
        addrs.iter().find_map(|addr| by_addr.get(addr).cloned())
    }

    /// Makes `connection` the one with `addr`, if it is with no other already.
    pub(crate) fn insert(&self, addr: EntityAddr, connection: &Connection) {
        if connection.set_key(addr) {
            self.lock().insert(addr, connection.clone());
        }
    }

    pub(crate) fn remove(&self, connection: &Connection) {
        if let Some(key) = connection.key() {
            let mut by_addr = self.lock();
            if by_addr.get(&key).is_some_and(|found| found.is(connection)) {
                by_addr.remove(&key);
            }
        }
    }
}

/// A messenger: an entity's presence on the network. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Messenger {
    shared: Arc<Shared>,
    inboxes: Arc<[Arc<Inbox>]>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    next: Arc<AtomicUsize>,
}

impl Messenger {
    /// Starts a messenger with `settings.reactors` threads. On each, `open` makes the transport;
    /// `dispatcher` makes what receives the reactor's callbacks, given the reactor's number.
    ///
    /// A session lives on one reactor, and its peer may come back to any of them. So a messenger
    /// with policies for which that matters (all servers and peers but the stateless server) has a
    /// single reactor.
    ///
    /// # Errors
    /// [`OpenError`] of the first transport, inbox or thread that could not be had; of kind
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the policies allow a single reactor only.
    pub fn start<O, D>(
        settings: Settings,
        open: O,
        mut dispatcher: impl FnMut(usize) -> D,
    ) -> Result<Self, OpenError>
    where
        O: Fn() -> Result<Box<dyn Transport>, OpenError> + Clone + Send + 'static,
        D: Dispatcher + 'static,
    {
        let reactors = settings.reactors.max(1);
        let comes_back = |policy: Policy| policy.is_resumed_by_peer() || policy.register_lossy;
        check_reactors(&settings, comes_back).map_err(not_started)?;
        let messenger = Self::new(settings, reactors)?;
        for (number, inbox) in messenger.inboxes.iter().enumerate() {
            let (shared, inbox) = (Arc::clone(&messenger.shared), Arc::clone(inbox));
            let (open, dispatcher) = (open.clone(), Box::new(dispatcher(number)));
            let (started, outcome) = sync_channel(1);
            let run = move || match open() {
                Ok(transport) => {
                    // `start` waits for this.
                    let _ = started.send(Ok(()));
                    Reactor::new(shared, number, inbox, transport, dispatcher).run(number);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            };
            let name = format!("msgr-reactor-{number}");
            let thread = std::thread::Builder::new()
                .name(name)
                .spawn(run)
                .map_err(not_started)?;
            messenger.lock_threads().push(thread);
            match outcome.recv() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    messenger.shutdown();
                    return Err(error);
                }
                Err(_) => unreachable!("a reactor says how it started before anything else"),
            }
        }
        Ok(messenger)
    }

    /// A messenger of one reactor that the caller drives: in a simulation, a benchmark or an event
    /// loop of its own. Use [`Reactor::bind`] there, [`bind`](Self::bind) would wait for ever.
    ///
    /// # Errors
    /// [`OpenError`] if the system has no more descriptors.
    pub fn driven_by_caller(
        settings: Settings,
        transport: Box<dyn Transport>,
        dispatcher: impl Dispatcher + 'static,
    ) -> Result<(Self, Reactor), OpenError> {
        let messenger = Self::new(settings, 1)?;
        let (shared, inbox) = (
            Arc::clone(&messenger.shared),
            Arc::clone(&messenger.inboxes[0]),
        );
        let reactor = Reactor::new(shared, 0, inbox, transport, Box::new(dispatcher));
        Ok((messenger, reactor))
    }

    fn new(settings: Settings, reactors: usize) -> Result<Self, OpenError> {
        let inboxes: Result<_, _> = (0..reactors).map(|_| Inbox::new(settings.inbox)).collect();
        Ok(Self {
            shared: Shared::new(settings, reactors),
            inboxes: inboxes.map_err(not_started)?,
            threads: Arc::default(),
            next: Arc::default(),
        })
    }

    /// Listens at `at` on every reactor, and returns the address with the real port. Peers must
    /// dial exactly this address, its nonce included.
    ///
    /// # Errors
    /// [`BindError`], also for several reactors with a lossless policy: see [`start`](Self::start);
    /// once peers can come to us, this is true of lossless clients too.
    pub fn bind(&self, at: EntityAddr) -> Result<EntityAddr, BindError> {
        check_reactors(&self.shared.settings, Policy::is_registered).map_err(|source| {
            OpenError {
                operation: Operation::Listen,
                address: at.socket,
                ..not_started(source)
            }
        })?;
        let mut at = at;
        for inbox in self.inboxes.iter() {
            let (bound, outcome) = sync_channel(1);
            push(inbox, Command::Bind { at, bound }).map_err(|_| BindError::ShutDown)?;
            at = outcome.recv().map_err(|_| BindError::ShutDown)??;
        }
        Ok(at)
    }

    /// The connection to `target`, an entity of type `kind`: the one there is, or a new one. Does
    /// not wait; messages sent before it is ready are queued. Our own address gives a connection
    /// on which messages are delivered without touching the network.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(
        &self,
        kind: EntityType,
        target: EntityAddr,
    ) -> Result<Connection, ConnectError> {
        if target.socket.is_none() {
            return Err(ConnectError::NotAnEndpoint(target));
        }
        let mut by_addr = self.shared.registry.lock();
        if let Some(connection) = by_addr.get(&target) {
            return Ok(connection.clone());
        }
        let connection = self.open(kind, target, true)?;
        by_addr.insert(target, connection.clone());
        Ok(connection)
    }

    /// A new connection to `target` of the caller's own: nobody else ever gets it from
    /// [`connect`](Self::connect), and it is not found when the peer connects to us.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect_anonymously(
        &self,
        kind: EntityType,
        target: EntityAddr,
    ) -> Result<Connection, ConnectError> {
        if target.socket.is_none() {
            return Err(ConnectError::NotAnEndpoint(target));
        }
        self.open(kind, target, false)
    }

    fn open(
        &self,
        kind: EntityType,
        target: EntityAddr,
        shared: bool,
    ) -> Result<Connection, ConnectError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let inbox = &self.inboxes[turn % self.inboxes.len()];
        let backlog = self.shared.settings.send_backlog;
        let tickets = Arc::clone(&self.shared.last_ticket);
        let connection = Connection::new(Arc::clone(inbox), Some(target), backlog, tickets);
        if shared {
            // Before the reactor can end it.
            connection.set_key(target);
        }
        let command = Command::Connect {
            connection: connection.clone(),
            kind,
            target,
        };
        inbox.push(command).map_err(|_| ConnectError::Unavailable)?;
        Ok(connection)
    }

    /// All connections at this moment. Waits for every reactor; must not be called from a callback,
    /// use [`Reactor::dump`] where the caller drives.
    pub fn dump(&self) -> Vec<ConnectionDump> {
        let mut all = Vec::new();
        for inbox in self.inboxes.iter() {
            let (to, dump) = sync_channel(1);
            if push(inbox, Command::Dump { to }).is_ok()
                && let Ok(dump) = dump.recv()
            {
                all.extend(dump);
            }
        }
        all
    }

    /// What the messenger has done so far.
    pub fn totals(&self) -> Totals {
        self.shared.metrics.iter().map(|one| one.totals()).sum()
    }

    /// Stops listening, sends what is queued, ends all connections and waits for the reactors, at
    /// most [`Timeouts::shutdown`](crate::Timeouts::shutdown). Must not be called from a callback.
    pub fn shutdown(&self) {
        for inbox in self.inboxes.iter() {
            // Closed already: it is shutting down.
            let _ = push(inbox, Command::Shutdown);
        }
        for thread in self.lock_threads().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reactor panicked");
            }
        }
    }

    fn lock_threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for room in the inbox; the command comes back when it is closed.
#[allow(clippy::result_large_err)]
pub(crate) fn push(inbox: &Inbox, mut command: Command) -> Result<(), Command> {
    while let Err(back) = inbox.push(command) {
        if inbox.is_closed() {
            return Err(back);
        }
        command = back;
        std::thread::yield_now();
    }
    Ok(())
}

/// Fails if there are several reactors, and a policy whose sessions must be on the same one.
fn check_reactors(settings: &Settings, on_one: impl Fn(Policy) -> bool) -> io::Result<()> {
    let mut policies = settings.protocol.policies.iter();
    match policies.find(|policy| settings.reactors > 1 && on_one(**policy)) {
        Some(policy) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the policy {policy} needs a messenger with a single reactor"),
        )),
        None => Ok(()),
    }
}

fn not_started(source: impl Into<io::Error>) -> OpenError {
    let source = source.into();
    OpenError {
        transport: "messenger",
        operation: Operation::Start,
        address: None,
        source,
    }
}
