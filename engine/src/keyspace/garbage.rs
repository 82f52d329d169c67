//! What was removed and is yet to be freed.
//!
//! A key, or a whole database, is gone the moment it is removed; freeing its memory may take long.
//! What is small is freed at once, the rest waits here and goes in slices, between commands.
//!
//! Invariant: one call, whichever, frees at most some hundreds of allocations.
#![forbid(unsafe_code)]

use super::table::Drain;
use crate::{types, value::Object};

/// Entries' worth of work in one slice on a flushed database: 50 to 100 µs.
const ENTRIES_A_SLICE: usize = 1_000;
/// Nodes of collections freed in one slice: about as long.
const NODES_A_SLICE: usize = 500;
/// Nodes of a collection that are freed at once, which is as quick as to let them wait.
const NODES_AT_ONCE: usize = 16;

/// What waits to be freed.
#[derive(Default)]
pub(super) struct Garbage {
    databases: Vec<Drain<Object>>,
    nodes: Vec<types::Garbage>,
}

impl Garbage {
    /// Frees an object, now or later.
    #[inline]
    pub(super) fn add_object(&mut self, object: Object) {
        add_nodes(&mut self.nodes, object.into_garbage());
    }

    /// Frees what was cut off a collection, now or later.
    pub(super) fn add_nodes(&mut self, nodes: types::Garbage) {
        add_nodes(&mut self.nodes, nodes);
    }

    /// Frees a database later.
    pub(super) fn add_database(&mut self, database: Drain<Object>) {
        self.databases.push(database);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.nodes.is_empty()
    }

    /// Frees a slice, which takes about a tenth of a millisecond.
    pub(super) fn free_slice(&mut self) {
        if let Some(nodes) = self.nodes.last_mut() {
            if nodes.free_slice(NODES_A_SLICE) {
                self.nodes.pop();
            }
        } else if let Some(database) = self.databases.last_mut() {
            let waiting = &mut self.nodes;
            if database.free(ENTRIES_A_SLICE, |object| add_nodes(waiting, object.into_garbage())) {
                self.databases.pop();
            }
        }
    }
}

fn add_nodes(waiting: &mut Vec<types::Garbage>, mut nodes: types::Garbage) {
    if !nodes.is_empty() && !nodes.free_slice(NODES_AT_ONCE) {
        waiting.push(nodes);
    }
}
