//! [`Received`]: a message on loan from its connection's budget.

use std::ops::{Deref, DerefMut};

use msgr_protocol::Message;

use crate::budget::Charge;

/// A received message. It counts against [`Budgets`](crate::Budgets) until it is dropped or
/// [taken out](Self::into_message).
#[derive(Debug)]
pub struct Received {
    message: Message,
    charge: Option<Charge>,
}

impl Received {
    pub(crate) fn new(message: Message, charge: Option<Charge>) -> Self {
        Self { message, charge }
    }

    /// The message without its charge, for who sends it on or accounts for it otherwise.
    #[inline]
    pub fn into_message(self) -> Message {
        drop(self.charge);
        self.message
    }
}

impl Deref for Received {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl DerefMut for Received {
    fn deref_mut(&mut self) -> &mut Message {
        &mut self.message
    }
}
