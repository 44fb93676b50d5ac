//! [`Received`]: a message on loan from its connection's budget.

use std::ops::{Deref, DerefMut};

use msgr_protocol::{Connection, Message};

use crate::budget::Charge;

/// A received message. It counts against [`Budgets`](crate::Budgets) until it is dropped or
/// [taken out](Self::into_message).
#[derive(Debug)]
pub struct Received {
    message: Message,
    charge: Option<Charge>,
}

impl Received {
    #[inline]
    pub(crate) fn new(message: Message, charge: Option<Charge>) -> Self {
        Self { message, charge }
    }

    /// Becomes what a connection has received, with the room that was made for it.
    #[inline]
    pub(crate) fn fill(&mut self, connection: &mut Connection, charge: &mut Option<Charge>) {
        connection.take_message_into(&mut self.message);
        self.charge = charge.take();
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
