//! The messenger: reactors that drive msgr2 connections over a transport, and handles to them.
//!
//! A [`Messenger`] owns one or more reactors, each a polled loop on a thread of its own with its
//! own transport; a connection belongs to one reactor for life. Applications see a [`Messenger`],
//! [`Connection`] handles that any thread may use, and their own [`Dispatcher`], whose callbacks
//! run on the reactor. What bytes mean is `msgr-protocol`'s business, how they move
//! `msgr-transport`'s.

#![forbid(unsafe_code)]

mod budget;
mod connection;
mod dispatcher;
mod dump;
mod endpoints;
mod error;
mod inbox;
mod messenger;
mod metrics;
mod reactor;
mod received;
mod settings;
mod surroundings;

pub use connection::{Connection, ConnectionId, SendError, SendRefusal};
pub use dispatcher::{Context, Dispatcher};
pub use dump::ConnectionDump;
pub use endpoints::{Endpoint, EndpointError, Endpoints};
pub use error::{BindError, ConnectError, Fault, FaultCause};
pub use messenger::Messenger;
pub use metrics::Totals;
pub use reactor::Reactor;
pub use received::Received;
pub use settings::{Backoff, Budgets, Handshakes, Settings, Timeouts};
pub use surroundings::System;

pub use msgr_protocol as protocol;
pub use msgr_transport as transport;
