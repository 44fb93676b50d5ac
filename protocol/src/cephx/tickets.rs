//! [`Tickets`]: what the monitors have given us.

use std::collections::HashMap;

use super::CryptoKey;
use super::ticket::{Grant, TicketBlob};
use crate::auth::AuthError;
use crate::wire::{EntityType, Timestamp};

/// A ticket, what proves that it is ours, and for how long.
#[derive(Debug, Clone)]
pub(super) struct HeldTicket {
    pub(super) session_key: CryptoKey,
    pub(super) blob: TicketBlob,
    renew_after: Timestamp,
    expires: Timestamp,
}

/// What we ask monitors for, unless told otherwise. They grant what they see fit.
const WANTED: u32 = EntityType::Mon as u32
    | EntityType::Mds as u32
    | EntityType::Osd as u32
    | EntityType::Mgr as u32
    | EntityType::Auth as u32;

/// Our global id and tickets.
#[derive(Debug)]
pub(super) struct Tickets {
    /// 0 before the first login.
    pub(super) global_id: u64,
    /// A bit for each service that a ticket is asked for. Never 0, which some monitors do not survive.
    pub(super) wanted: u32,
    held: HashMap<EntityType, HeldTicket>,
}

impl Default for Tickets {
    fn default() -> Self {
        Self {
            global_id: 0,
            wanted: WANTED,
            held: HashMap::new(),
        }
    }
}

impl Tickets {
    /// Keeps what was granted at `now`. Services that we know nothing of are left out.
    pub(super) fn keep(&mut self, grants: Vec<Grant>, now: Timestamp) {
        for grant in grants {
            let Ok(service) = EntityType::from_number(grant.service.into()) else {
                continue;
            };
            let held = HeldTicket {
                session_key: grant.session_key,
                blob: grant.blob,
                renew_after: now.saturating_add(grant.validity / 4 * 3),
                expires: now.saturating_add(grant.validity),
            };
            self.held.insert(service, held);
        }
    }

    /// The ticket by which monitors know us again.
    pub(super) fn own(&self) -> Option<&HeldTicket> {
        self.held.get(&EntityType::Auth)
    }

    /// A ticket that is good at `now`.
    pub(super) fn get(
        &self,
        service: EntityType,
        now: Timestamp,
    ) -> Result<&HeldTicket, AuthError> {
        let held = self
            .held
            .get(&service)
            .ok_or(AuthError::NoTicket(service))?;
        if now < held.expires {
            Ok(held)
        } else {
            Err(AuthError::TicketExpired)
        }
    }

    /// Whether a ticket has passed three quarters of its validity, or there is none yet.
    pub(super) fn need_renewal(&self, now: Timestamp) -> bool {
        self.own().is_none() || self.held.values().any(|held| held.renew_after <= now)
    }
}
