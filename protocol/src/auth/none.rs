//! Authentication method `none`: both ends say who they are, and nobody checks.
//!
//! Source: `AuthNoneClientHandler` and `AuthNoneAuthorizer` in Ceph's `src/auth/none/`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    AUTH_MODE_AUTHORIZER, AUTH_MODE_MON, Admitted, AuthError, Authenticator, Prover, Secrets,
    Verdict, Verifier, method,
};
use crate::wire::{AuthName, EntityType, Mode, Reader};

/// Says who we are, and believes what peers say.
#[derive(Debug)]
pub struct AuthNone {
    name: AuthName,
    /// The id that a monitor gave us, 0 for none yet.
    global_id: Arc<AtomicU64>,
    accepts: bool,
}

impl AuthNone {
    /// Says that we are `name`.
    pub fn new(name: AuthName) -> Self {
        Self {
            name,
            global_id: Arc::default(),
            accepts: true,
        }
    }

    /// The same, with the id that a monitor gave us.
    #[must_use]
    pub fn with_global_id(self, global_id: u64) -> Self {
        self.global_id.store(global_id, Ordering::Relaxed);
        self
    }

    /// The same, but peers do not get in like that.
    #[must_use]
    pub fn for_connecting_only(mut self) -> Self {
        self.accepts = false;
        self
    }
}

impl Authenticator for AuthNone {
    fn name(&self) -> &AuthName {
        &self.name
    }

    fn offers(&self, _: EntityType) -> Vec<u32> {
        vec![method::NONE]
    }

    fn prove(&self, _: u32, to: EntityType) -> Result<Box<dyn Prover>, AuthError> {
        Ok(Box::new(NoneProver {
            name: self.name.clone(),
            at_monitor: to == EntityType::Mon,
            global_id: Arc::clone(&self.global_id),
        }))
    }

    fn accepts(&self, _: EntityType) -> Vec<u32> {
        self.accepts.then_some(method::NONE).into_iter().collect()
    }

    fn verify(&self, _: u32, _: EntityType) -> Result<Box<dyn Verifier>, AuthError> {
        Ok(Box::new(NoneVerifier))
    }
}

#[derive(Debug, Clone)]
struct NoneProver {
    name: AuthName,
    at_monitor: bool,
    global_id: Arc<AtomicU64>,
}

impl Prover for NoneProver {
    fn request(&mut self) -> Result<Bytes, AuthError> {
        let mut payload = BytesMut::new();
        payload.put_u8(if self.at_monitor {
            AUTH_MODE_MON
        } else {
            AUTH_MODE_AUTHORIZER
        });
        self.name.encode(&mut payload);
        payload.put_u64_le(self.global_id.load(Ordering::Relaxed));
        Ok(payload.freeze())
    }

    fn more(&mut self, _: &[u8]) -> Result<Bytes, AuthError> {
        Err(AuthError::UnexpectedStep)
    }

    fn done(&mut self, global_id: u64, _: Mode, _: &[u8]) -> Result<Secrets, AuthError> {
        if self.at_monitor {
            self.global_id.store(global_id, Ordering::Relaxed);
        }
        Ok(Secrets::default())
    }
}

#[derive(Debug, Clone)]
struct NoneVerifier;

impl Verifier for NoneVerifier {
    /// An empty request claims nothing.
    fn request(&mut self, payload: &[u8], _: Mode) -> Result<Verdict, AuthError> {
        let mut global_id = 0;
        if !payload.is_empty() {
            let mut reader = Reader::new(payload);
            reader.u8("auth mode")?;
            AuthName::decode(&mut reader)?;
            global_id = reader.u64("global id")?;
        }
        Ok(Verdict::Done(Admitted {
            global_id,
            name: None,
            caps: Bytes::new(),
            payload: Bytes::new(),
            secrets: Secrets::default(),
        }))
    }

    fn more(&mut self, _: &[u8]) -> Result<Verdict, AuthError> {
        Err(AuthError::UnexpectedStep)
    }
}
