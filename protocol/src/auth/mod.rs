//! Authentication: how each end shows the other who it is, and what both know afterwards.
//!
//! [`Authenticator`] is what a messenger brings along; it makes a [`Prover`] for each stream that it
//! connects and a [`Verifier`] for each that it accepts. What both ends sign is in `transcript`. The
//! method `none` is [`AuthNone`]; [`cephx`](crate::cephx) is a module of its own. Frames, states and
//! the choice of a connection mode are not known here.
//!
//! Source: msgr2 specification, "Authentication"; Ceph's `src/auth/AuthClient.h` and `AuthServer.h`.

mod error;
pub(crate) mod key_log;
mod none;
mod secrets;
mod transcript;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dyn_clone::DynClone;

use crate::wire::{AuthName, EntityType, Mode, Timestamp};

pub use error::AuthError;
pub use key_log::KeyLog;
pub use none::AuthNone;
pub use secrets::{ConnectionSecret, SessionKey};
pub(crate) use transcript::{Signatures, Transcript};

/// First byte of a payload for a service, of whatever method: an authorizer.
pub(crate) const AUTH_MODE_AUTHORIZER: u8 = 1;
/// First byte of a payload for a monitor: a login.
pub(crate) const AUTH_MODE_MON: u8 = 10;

/// Authentication methods (`CEPH_AUTH_*` in Ceph's `src/include/ceph_fs.h`).
pub mod method {
    /// Nobody proves anything.
    pub const NONE: u32 = 1;
    /// Keys shared with the monitors, and tickets.
    pub const CEPHX: u32 = 2;
    /// Kerberos.
    pub const GSS: u32 = 4;
}

/// How a messenger shows others who it is, and has them show who they are. Shared by all its
/// connections.
pub trait Authenticator: fmt::Debug + Send + Sync {
    /// Who we are.
    fn name(&self) -> &AuthName;

    /// The methods by which we can show a peer of type `to` who we are, the preferred one first.
    fn offers(&self, to: EntityType) -> Vec<u32>;

    /// Begins to show a peer of type `to` who we are.
    ///
    /// # Errors
    /// What we lack for that.
    fn prove(&self, method: u32, to: EntityType) -> Result<Box<dyn Prover>, AuthError>;

    /// The methods by which a peer of type `from` may show us who it is, the preferred one first.
    fn accepts(&self, from: EntityType) -> Vec<u32>;

    /// Begins to look at what a peer of type `from` has to show.
    ///
    /// # Errors
    /// What we lack for that.
    fn verify(&self, method: u32, from: EntityType) -> Result<Box<dyn Verifier>, AuthError>;
}

/// A connector's side of one authentication.
pub trait Prover: DynClone + fmt::Debug + Send + Sync {
    /// The payload of `AUTH_REQUEST`.
    ///
    /// # Errors
    /// What we lack for that.
    fn request(&mut self) -> Result<Bytes, AuthError>;

    /// The peer wants more (`AUTH_REPLY_MORE`); what it gets (`AUTH_REQUEST_MORE`).
    ///
    /// # Errors
    /// The peer's payload makes no sense.
    fn more(&mut self, payload: &[u8]) -> Result<Bytes, AuthError>;

    /// The peer is content (`AUTH_DONE`).
    ///
    /// # Errors
    /// The peer has not shown that it is who we wanted.
    fn done(&mut self, global_id: u64, mode: Mode, payload: &[u8]) -> Result<Secrets, AuthError>;
}

/// An acceptor's side of one authentication.
pub trait Verifier: DynClone + fmt::Debug + Send + Sync {
    /// Judges `AUTH_REQUEST`; the connection is to have `mode`.
    ///
    /// # Errors
    /// Why the peer is refused.
    fn request(&mut self, payload: &[u8], mode: Mode) -> Result<Verdict, AuthError>;

    /// Judges `AUTH_REQUEST_MORE`.
    ///
    /// # Errors
    /// Why the peer is refused.
    fn more(&mut self, payload: &[u8]) -> Result<Verdict, AuthError>;
}

dyn_clone::clone_trait_object!(Prover);
dyn_clone::clone_trait_object!(Verifier);

/// What an acceptor thinks of its peer.
#[derive(Debug)]
pub enum Verdict {
    /// It must show more: the payload of `AUTH_REPLY_MORE`.
    More(Bytes),
    /// It may come in.
    Done(Admitted),
}

/// A peer that may come in.
#[derive(Debug)]
pub struct Admitted {
    /// Its id; 0 if it has none yet and any unused one will do.
    pub global_id: u64,
    /// Who it is, if it has proved that.
    pub name: Option<AuthName>,
    /// What it may do, as encoded by whoever issued its ticket; opaque here.
    pub caps: Bytes,
    /// The payload of `AUTH_DONE`.
    pub payload: Bytes,
    /// What both ends know now.
    pub secrets: Secrets,
}

/// What both ends of an authenticated connection know, and nobody else.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// Signs the handshake; none where nobody proved anything.
    pub session_key: Option<SessionKey>,
    /// Encrypts the frames, in [`Mode::Secure`].
    pub connection: Option<ConnectionSecret>,
}

/// What authentication takes from outside: this crate knows no clock and no chance.
pub trait Surroundings: fmt::Debug + Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;

    /// Fills `bytes` with what nobody can guess.
    fn fill_random(&self, bytes: &mut [u8]);
}

/// Several authenticators as one: each is asked in turn, the preferred one first.
#[derive(Debug, Clone)]
pub struct AnyOf {
    first: Arc<dyn Authenticator>,
    others: Vec<Arc<dyn Authenticator>>,
}

impl AnyOf {
    /// `first`, then `others`. The name is that of `first`.
    pub fn new(first: Arc<dyn Authenticator>, others: Vec<Arc<dyn Authenticator>>) -> Self {
        Self { first, others }
    }

    fn iter(&self) -> impl Iterator<Item = &dyn Authenticator> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .map(|one| &**one)
    }
}

impl Authenticator for AnyOf {
    fn name(&self) -> &AuthName {
        self.first.name()
    }

    fn offers(&self, to: EntityType) -> Vec<u32> {
        self.iter().flat_map(|one| one.offers(to)).collect()
    }

    fn prove(&self, method: u32, to: EntityType) -> Result<Box<dyn Prover>, AuthError> {
        let mut able = self.iter().filter(|one| one.offers(to).contains(&method));
        able.next()
            .map_or(Err(AuthError::Method(method)), |one| one.prove(method, to))
    }

    fn accepts(&self, from: EntityType) -> Vec<u32> {
        self.iter().flat_map(|one| one.accepts(from)).collect()
    }

    fn verify(&self, method: u32, from: EntityType) -> Result<Box<dyn Verifier>, AuthError> {
        let mut able = self
            .iter()
            .filter(|one| one.accepts(from).contains(&method));
        able.next().map_or(Err(AuthError::Method(method)), |one| {
            one.verify(method, from)
        })
    }
}
