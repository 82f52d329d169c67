//! How much memory the keyspace takes.
//!
//! Exact where it matters: the slab knows the bytes of its live entries, tables those of their
//! segments and directories, and every change of a value adds the difference that it makes. Not
//! counted are free places in pages that are partly used, and the global allocator's rounding.
#![forbid(unsafe_code)]

use super::{Database, Keyspace};
use crate::value;

/// Segments of tables that settle in a slice: each takes some microseconds.
const SETTLED_AT_ONCE: usize = 64;

/// What a key whose hash has fields with deadlines takes in the two orders of `fields`, about.
const FIELD_DEADLINE_BYTES: usize = 128;

impl Keyspace {
    /// Many keys are put in from now on, and nobody waits for a step: tables may take more memory and
    /// longer steps, until they have [settled](Self::settle_slice).
    pub fn begin_filling(&mut self) {
        self.databases.iter_mut().for_each(|database| database.table.begin_loading());
    }

    /// The many keys are in: gives some of the memory back that is too much, in well below half a
    /// millisecond. Answers whether more is left to do; does nothing if nothing is.
    pub fn settle_slice(&mut self) -> bool {
        let mut tables = self.databases.iter_mut().map(|database| &mut database.table);
        tables.any(|table| table.settle_slice(SETTLED_AT_ONCE))
    }

    /// Bytes that keys and values of `database` take.
    #[inline]
    pub fn database_bytes(&self, database: usize) -> usize {
        let Database { table, objects } = &self.databases[database];
        table.used_bytes() + objects.bytes + objects.due.len() * FIELD_DEADLINE_BYTES
    }

    /// Bytes that keys and values of all databases take.
    pub fn used_bytes(&self) -> usize {
        (0..self.databases.len()).map(|database| self.database_bytes(database)).sum()
    }

    /// Bytes that the value of `key` takes outside its entry: 0 for what is small, or not there. Looks
    /// at the key without counting or noting anything, whether or not its deadline has passed.
    pub fn outside_bytes(&self, database: usize, key: &[u8]) -> usize {
        let table = &self.databases[database].table;
        table.get(table.hash(key), key).map_or(0, |entry| value::outside_bytes(&entry.body()))
    }

    /// Bytes of `database` that are neither keys nor values: buckets and the directory.
    pub fn structure_bytes(&self, database: usize) -> usize {
        self.databases[database].table.structure_bytes()
    }

    /// Bytes of what is remembered of clients: keys that they have read.
    pub fn client_table_bytes(&self) -> usize {
        self.events.tracking.memory_bytes()
    }

    /// Bytes of what was removed and is not freed yet, as far as they are known.
    pub fn garbage_bytes(&self) -> usize {
        self.aside.garbage.bytes()
    }
}
