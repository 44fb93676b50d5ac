//! [`Step`]: how far the connector's half of an exchange is.

use crate::auth::AuthError;

/// What has happened. The login at a monitor and the authorizer have the same steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Begun,
    /// We said who we are.
    Requested,
    /// We answered the challenge.
    Answered,
    /// The peer took our answer.
    Over,
}

impl Step {
    /// Goes on, if `from` is where we are.
    pub(super) fn advance(&mut self, from: Self, to: Self) -> Result<(), AuthError> {
        if *self != from {
            return Err(AuthError::UnexpectedStep);
        }
        *self = to;
        Ok(())
    }
}
