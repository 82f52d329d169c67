//! The keyspace: keys, their entries and deadlines.

mod bucket;
pub mod entry;
pub mod hash;
mod pages;
mod segment;
mod slab;
pub mod table;

pub use entry::{Body, BodyMut, EntryRef, INLINE_MAX, KIND_MAX, LRU_MAX, NewBody, RemovedBody};
pub use hash::{KeyHash, Seed};
pub use table::{CURSOR_BITS, Drain, Entry, EntryMut, Table, VacantEntry, Verdict};
