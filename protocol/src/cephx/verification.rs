//! [`Verification`]: the acceptor's half of an exchange, which the first byte tells the kind of.

use std::sync::Arc;

use super::monitor::LoginCheck;
use super::service::AuthorizerCheck;
use super::{AUTH_MODE_AUTHORIZER, AUTH_MODE_MON, Shared};
use crate::auth::{AuthError, Verdict, Verifier};
use crate::wire::{EntityType, Malformed, Mode};

/// An exchange under way.
#[derive(Debug, Clone)]
pub(super) enum Verification {
    /// Nobody has said anything.
    Begun {
        shared: Arc<Shared>,
        from: EntityType,
    },
    Login(LoginCheck),
    Authorizer(AuthorizerCheck),
    /// It had its chance.
    Over,
}

impl Verifier for Verification {
    fn request(&mut self, payload: &[u8], mode: Mode) -> Result<Verdict, AuthError> {
        let Self::Begun { shared, from } = std::mem::replace(self, Self::Over) else {
            return Err(AuthError::UnexpectedStep);
        };
        let challenge = match payload.first() {
            Some(&AUTH_MODE_MON) if shared.serves_logins() => {
                let (check, challenge) = LoginCheck::challenge(shared, from, mode, payload)?;
                *self = Self::Login(check);
                challenge
            }
            Some(&AUTH_MODE_MON) => return Err(AuthError::NotTaken("logins")),
            Some(&AUTH_MODE_AUTHORIZER) => {
                let (check, challenge) = AuthorizerCheck::challenge(shared, from, mode, payload)?;
                *self = Self::Authorizer(check);
                challenge
            }
            Some(&value) => {
                let what = "auth mode";
                let value = value.into();
                return Err(Malformed::UnknownValue { what, value }.into());
            }
            None => {
                return Err(Malformed::Empty {
                    what: "auth payload",
                }
                .into());
            }
        };
        Ok(Verdict::More(challenge))
    }

    fn more(&mut self, payload: &[u8]) -> Result<Verdict, AuthError> {
        match std::mem::replace(self, Self::Over) {
            Self::Login(check) => check.answer(payload),
            Self::Authorizer(check) => check.answer(payload),
            Self::Begun { .. } | Self::Over => Err(AuthError::UnexpectedStep),
        }
    }
}
