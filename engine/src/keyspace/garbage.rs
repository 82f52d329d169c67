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
    /// Databases, each with the bytes that it counts for until it is freed.
    databases: Vec<(Drain<Object>, usize)>,
    /// Parts of collections, likewise.
    nodes: Vec<(types::Garbage, usize)>,
    /// The sum of these bytes.
    bytes: usize,
    /// Values that have waited here and are freed.
    freed: u64,
}

impl Garbage {
    /// Frees an object of `bytes` bytes, now or later.
    #[inline]
    pub(super) fn add_object(&mut self, object: Object, bytes: usize) {
        self.bytes += add_nodes(&mut self.nodes, object.into_garbage(), bytes);
    }

    /// Frees what was cut off a collection, now or later. How much that is nobody has counted.
    pub(super) fn add_nodes(&mut self, nodes: types::Garbage) {
        add_nodes(&mut self.nodes, nodes, 0);
    }

    /// Frees a database of `bytes` bytes later.
    pub(super) fn add_database(&mut self, database: Drain<Object>, bytes: usize) {
        self.databases.push((database, bytes));
        self.bytes += bytes;
    }

    /// Bytes of what waits, as far as they are known; those of a part of it go when all of that part
    /// is freed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.nodes.is_empty()
    }

    /// Values that wait, and values that have waited and are freed. Of a flushed database those count
    /// that are more than an entry.
    pub(super) fn counts(&self) -> (u64, u64) {
        ((self.nodes.len() + self.databases.len()) as u64, self.freed)
    }

    /// Frees a slice, which takes about a tenth of a millisecond.
    pub(super) fn free_slice(&mut self) {
        if let Some((nodes, bytes)) = self.nodes.last_mut() {
            if nodes.free_slice(NODES_A_SLICE) {
                self.bytes -= *bytes;
                self.nodes.pop();
                self.freed += 1;
            }
        } else if let Some((database, bytes)) = self.databases.last_mut() {
            let waiting = &mut self.nodes;
            // The objects' bytes are among those of the database.
            let sink = |object: Box<Object>| _ = add_nodes(waiting, object.into_garbage(), 0);
            if database.free(ENTRIES_A_SLICE, sink) {
                self.bytes -= *bytes;
                self.databases.pop();
            }
        }
    }
}

/// Frees nodes that stand for `bytes` bytes, or lets them wait; answers how many bytes wait.
fn add_nodes(
    waiting: &mut Vec<(types::Garbage, usize)>,
    mut nodes: types::Garbage,
    bytes: usize,
) -> usize {
    if nodes.is_empty() || nodes.free_slice(NODES_AT_ONCE) {
        return 0;
    }
    waiting.push((nodes, bytes));
    bytes
}
