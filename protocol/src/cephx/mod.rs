//! Authentication method `cephx`: everybody shares a key with the monitors, which give out tickets
//! for everybody else.
//!
//! What lives here is the exchange, in all four roles: a `login` at a `monitor`, an `authorizer`
//! shown to a `service`, with what either takes: keys, tickets, secrets, and the `envelope` in which
//! they are encrypted. How payloads travel is in [`crate::wire`], and when, in the connection.
//!
//! Source: Ceph's `doc/dev/cephx_protocol.rst` and `src/auth/cephx/`.

mod authorizer;
mod envelope;
mod key;
mod keyring;
mod login;
mod monitor;
mod secrets;
mod service;
mod shared;
mod step;
mod ticket;
mod tickets;
mod verification;

use std::sync::Arc;

pub use key::{CryptoKey, ParseKeyError};
pub use keyring::{Keyring, KeyringFault, ParseKeyringError};
pub use secrets::RotatingSecrets;

use authorizer::Authorizer;
use envelope::Plain;
use login::Login;
use shared::Shared;
use verification::Verification;

use crate::auth::{
    AUTH_MODE_AUTHORIZER, AUTH_MODE_MON, AuthError, Authenticator, ConnectionSecret, Prover,
    Surroundings, Verifier, method,
};
use crate::wire::codec::put_blob;
use crate::wire::{AuthName, EntityType, Malformed, Mode, Reader, Timestamp};

/// `CEPHX_GET_AUTH_SESSION_KEY`: the one request there is in a handshake.
const GET_AUTH_SESSION_KEY: u16 = 0x0100;

/// Who we are to cephx, whom we let in, and what monitors gave us: one for a messenger.
///
/// To monitors we show our key. To others we show the ticket that a monitor gave us. Before the
/// first login at a monitor, others are logged in at as well: that is for servers that have a keyring
/// of their own (see [`Self::with_keyring`]), where there is no monitor.
#[derive(Debug)]
pub struct Cephx {
    shared: Arc<Shared>,
}

impl Cephx {
    /// `name`, who has a key.
    pub fn client(name: AuthName, key: CryptoKey, surroundings: Arc<dyn Surroundings>) -> Self {
        Self {
            shared: Arc::new(Shared::new(name, Some(key), surroundings)),
        }
    }

    /// `name`, who can only let others in.
    pub fn server(name: AuthName, surroundings: Arc<dyn Surroundings>) -> Self {
        Self {
            shared: Arc::new(Shared::new(name, None, surroundings)),
        }
    }

    /// Asks monitors for tickets for these services only, rather than for all that there are.
    #[must_use]
    pub fn with_wanted(self, services: &[EntityType]) -> Self {
        let wanted = services.iter().map(|service| ticket::bit(*service));
        self.shared.tickets().wanted = wanted.fold(ticket::bit(EntityType::Auth), |a, b| a | b);
        self
    }

    /// Lets in who has a ticket for `service`, which is what we are. To be called again when the
    /// secrets have changed.
    pub fn set_secrets(&self, service: EntityType, secrets: RotatingSecrets) {
        self.shared.secrets().insert(service, secrets);
    }

    /// As [`Self::set_secrets`].
    #[must_use]
    pub fn with_service(self, service: EntityType, secrets: RotatingSecrets) -> Self {
        self.set_secrets(service, secrets);
        self
    }

    /// Lets in who has a key of this keyring, as monitors do, and grants tickets for the services
    /// whose secrets we have ([`Self::set_secrets`]). May be called again.
    pub fn set_keyring(&self, keyring: Keyring) {
        self.shared.set_keyring(keyring);
    }

    /// As [`Self::set_keyring`].
    #[must_use]
    pub fn with_keyring(self, keyring: Keyring) -> Self {
        self.set_keyring(keyring);
        self
    }

    /// Our global id, which monitors give at the first login; 0 before.
    pub fn global_id(&self) -> u64 {
        self.shared.tickets().global_id
    }

    /// Whether it is time to log in at a monitor: we have not yet, or a ticket has passed three
    /// quarters of its validity.
    pub fn needs_renewal(&self, now: Timestamp) -> bool {
        self.shared.tickets().need_renewal(now)
    }
}

impl Authenticator for Cephx {
    fn name(&self) -> &AuthName {
        &self.shared.name
    }

    fn offers(&self, _to: EntityType) -> Vec<u32> {
        let able = self.shared.key.is_some();
        able.then_some(method::CEPHX).into_iter().collect()
    }

    fn prove(&self, by: u32, to: EntityType) -> Result<Box<dyn Prover>, AuthError> {
        if by != method::CEPHX {
            return Err(AuthError::Method(by));
        }
        let logged_in = self.shared.tickets().own().is_some();
        if to == EntityType::Mon || !logged_in {
            Ok(Box::new(Login::new(self.shared.clone(), to)?))
        } else {
            Ok(Box::new(Authorizer::new(&self.shared, to)?))
        }
    }

    fn accepts(&self, _from: EntityType) -> Vec<u32> {
        let able = self.shared.serves_logins() || !self.shared.secrets().is_empty();
        able.then_some(method::CEPHX).into_iter().collect()
    }

    fn verify(&self, by: u32, from: EntityType) -> Result<Box<dyn Verifier>, AuthError> {
        if by != method::CEPHX {
            return Err(AuthError::Method(by));
        }
        Ok(Box::new(Verification::Begun {
            shared: self.shared.clone(),
            from,
        }))
    }
}

/// Reads the version of a structure. Later ones only add to the end.
fn version(reader: &mut Reader<'_>, what: &'static str, least: u8) -> Result<u8, Malformed> {
    let version = reader.u8(what)?;
    if version < least {
        let value = version.into();
        return Err(Malformed::UnknownValue { what, value });
    }
    Ok(version)
}

/// Reads the only request that there is.
fn expect_request_type(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    const WHAT: &str = "cephx request";
    match reader.u16(WHAT)? {
        GET_AUTH_SESSION_KEY => Ok(()),
        value => Err(Malformed::UnknownValue {
            what: WHAT,
            value: value.into(),
        }),
    }
}

/// Reads the secret of a connection: none in crc mode, 64 bytes in secure mode.
fn connection_secret(
    reader: &mut Reader<'_>,
    mode: Mode,
) -> Result<Option<ConnectionSecret>, AuthError> {
    const WHAT: &str = "connection secret";
    let bytes = reader.blob(WHAT)?;
    let secret = ConnectionSecret::from_slice(bytes);
    match mode {
        Mode::Secure => secret.map(Some).ok_or(AuthError::NoSecret),
        Mode::Crc if bytes.is_empty() => Ok(None),
        Mode::Crc => Err(AuthError::Malformed(Malformed::UnknownValue {
            what: "length of the connection secret",
            value: bytes.len() as u64,
        })),
    }
}

/// Appends what [`connection_secret`] reads.
fn put_connection_secret(plain: &mut Plain, secret: Option<&ConnectionSecret>) {
    let bytes = secret.map_or(&[][..], |secret| secret.bytes());
    put_blob(&mut **plain, bytes);
}

#[cfg(test)]
mod tests;
