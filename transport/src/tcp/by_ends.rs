//! [`ByEnds`]: which connection is between two ends.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::flow::Flow;
use super::hash::Keyed;
use super::segment::Ends;
use crate::slots::Conn;
use crate::{ConnId, Slots};

/// Connections by their ends. Of those it has no copy, so that it is small enough to stay in a
/// cache: it looks at the connection, which whoever looks it up does anyway.
#[derive(Debug, Default)]
pub(super) struct ByEnds {
    keyed: Keyed,
    table: HashTable<ConnId>,
}

impl ByEnds {
    /// The connection between two ends, among `flows`.
    pub(super) fn find(&self, ends: &Ends, flows: &Slots<Conn, Flow>) -> Option<ConnId> {
        let is_it = |id: &ConnId| flows.get(*id).is_some_and(|flow| flow.tcb.ends == *ends);
        self.table.find(self.keyed.hash_one(ends), is_it).copied()
    }

    /// Adds a connection that is among `flows`. There must be no other between the same ends.
    pub(super) fn insert(&mut self, ends: &Ends, id: ConnId, flows: &Slots<Conn, Flow>) {
        let Self { keyed, table } = self;
        let hash = |id: &ConnId| {
            flows
                .get(*id)
                .map_or(0, |flow| keyed.hash_one(flow.tcb.ends))
        };
        table.insert_unique(keyed.hash_one(ends), id, hash);
    }

    /// Removes a connection.
    pub(super) fn remove(&mut self, ends: &Ends, id: ConnId) {
        let hash = self.keyed.hash_one(ends);
        if let Ok(found) = self.table.find_entry(hash, |one| *one == id) {
            found.remove();
        }
    }
}
