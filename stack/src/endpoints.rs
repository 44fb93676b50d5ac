//! [`Endpoints`]: which parts of a program share a messenger, and so its connections.
//!
//! Only users with the same credentials and the same binding do; how messengers work is none of
//! this module's business.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use msgr_protocol::{AuthName, Config, EntityAddr, EntityName};
use msgr_transport::{OpenError, Transport};

use crate::dispatcher::Dispatcher;
use crate::error::BindError;
use crate::messenger::Messenger;
use crate::settings::Settings;

/// The endpoints of a program: the one place where its parts get their messengers, so that two
/// that may share one do. Clones are handles to the same.
///
/// | a user with | and the same credentials | and others |
/// |---|---|---|
/// | the address of a bound endpoint | shares it | is refused |
/// | another address, or port 0 | gets its own | gets its own |
/// | no address | shares the one that is not bound | gets its own |
///
/// Port 0 stands for a port of one's own. Which one that is, [`Endpoint::addr`] tells, and who
/// then asks for exactly that address shares it. An address is the same only if its nonce is.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    open: Arc<Mutex<Vec<Open>>>,
}

impl Endpoints {
    /// No endpoint is open yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The endpoint of whom `settings.protocol` names, bound to `at` or to nothing: the one that is
    /// open, or a new one. What is bound also [originates](Settings::connect_from_bound) its
    /// connections from there.
    ///
    /// `transport` and `dispatcher` make a new messenger, as in [`Messenger::start`], and are not called
    /// for one that is there. Users that share it thus live with the first one's settings and
    /// transport, and share its dispatcher: all callbacks, also about connections that others asked
    /// for, go there.
    ///
    /// Waits for other calls, and for the reactors of a new messenger.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn open<O, D>(
        &self,
        mut settings: Settings,
        at: Option<EntityAddr>,
        transport: O,
        dispatcher: impl FnMut(usize) -> D,
    ) -> Result<Endpoint, EndpointError>
    where
        O: Fn() -> Result<Box<dyn Transport>, OpenError> + Clone + Send + 'static,
        D: Dispatcher + 'static,
    {
        let who = Credentials::of(&settings.protocol);
        let mut all = self.lock();
        all.retain(|open| open.shared.strong_count() > 0);
        let mut same = all.iter().filter(|open| open.addr == at && open.who == who);
        if let Some(shared) = same.find_map(|open| open.shared.upgrade()) {
            return Ok(Endpoint { shared });
        }
        if let Some(at) = at {
            let is_there = |open: &&Open| open.addr.is_some_and(|addr| addr.socket == at.socket);
            if let Some(other) = all.iter().find(is_there) {
                let holder = other.who.name;
                return Err(EndpointError::Taken { at, holder });
            }
        }
        settings.connect_from_bound = at.is_some();
        let mut shared = Shared {
            messenger: Messenger::start(settings, transport, dispatcher)?,
            addr: None,
        };
        shared.addr = at.map(|at| shared.messenger.bind(at)).transpose()?;
        let shared = Arc::new(shared);
        all.push(Open {
            who,
            addr: shared.addr,
            shared: Arc::downgrade(&shared),
        });
        Ok(Endpoint { shared })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint that has users.
#[derive(Debug)]
struct Open {
    who: Credentials,
    addr: Option<EntityAddr>,
    shared: Weak<Shared>,
}

/// A user's hold on a messenger that it may share with others. When the last one is dropped, the
/// messenger is [shut down](Messenger::shutdown), clones of it included; so the last one must not
/// be dropped in a callback, and its dispatcher must not hold one.
///
/// To shut the messenger down by hand is to do so for everybody.
#[derive(Debug, Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

impl Endpoint {
    /// Where it is bound, with the real port; `None` if it is not.
    pub fn addr(&self) -> Option<EntityAddr> {
        self.shared.addr
    }
}

impl Deref for Endpoint {
    type Target = Messenger;

    fn deref(&self) -> &Messenger {
        &self.shared.messenger
    }
}

/// What the users of an endpoint have in common.
#[derive(Debug)]
struct Shared {
    messenger: Messenger,
    addr: Option<EntityAddr>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.messenger.shutdown();
    }
}

/// Who a user is to its peers.
#[derive(Debug, PartialEq, Eq)]
struct Credentials {
    name: EntityName,
    auth_name: AuthName,
}

impl Credentials {
    fn of(config: &Config) -> Self {
        Self {
            name: config.name,
            auth_name: config.auth.name().clone(),
        }
    }
}

/// An endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The messenger did not start.
    #[error(transparent)]
    Start(#[from] OpenError),
    /// It could not be bound; somebody outside of these endpoints may have the address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Another user has that IP address and port, with other credentials or another nonce.
    #[error("cannot bind to {at}: it is taken by {holder}")]
    Taken {
        /// What was asked for.
        at: EntityAddr,
        /// Who it is.
        holder: EntityName,
    },
}
