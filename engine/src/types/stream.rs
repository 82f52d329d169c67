//! Streams: entries with ascending ids, and groups of consumers that read them.
//!
//! Entries are fields and values under an id of a time and a number ([`StreamId`]). They lie packed
//! in blocks ([`block`]) in a tree ([`entries`]), and go from the front by whole blocks ([`trim`]).
//! Groups ([`group`]) remember how far they have read and what their consumers have not
//! acknowledged.
//!
//! Cloning a stream captures it in O(1), whatever it holds; freeing it goes in slices.
//!
//! Unlike other collections a stream stays when it is empty: its last id, its groups and what it
//! counts are part of it.
#![forbid(unsafe_code)]

pub mod block;
pub mod entries;
pub mod group;
mod id;
mod lag;
mod shared_map;
#[cfg(test)]
mod tests;
pub mod trim;

pub use block::{Block, BlockLimits, Entry};
pub use entries::Entries;
pub use group::{Consumer, ConsumerId, Group, Pending};
pub use id::{IdText, StreamId};
pub use trim::{Trim, TrimTo};
use triomphe::Arc;

use super::Garbage;
use shared_map::SharedMap;

/// A stream. Cloning captures it in O(1).
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// What was added and not deleted.
    pub entries: Entries,
    groups: SharedMap<Arc<[u8]>, Group>,
    /// Memory of the groups.
    group_bytes: usize,
}

impl Stream {
    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of memory behind the stream.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.entries.memory_bytes() + self.group_bytes
    }

    /// Number of groups.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The group called `name`.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    /// The groups in the order of their names.
    pub fn groups(&self) -> impl Iterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&name[..], group))
    }

    /// Adds `group` under `name`, unless there is one; whether it was added.
    pub fn add_group(&mut self, name: &[u8], group: Group) -> bool {
        let bytes = group.memory_bytes() + name.len();
        let added = self.groups.insert(Arc::from(name), group);
        self.group_bytes += if added { bytes } else { 0 };
        added
    }

    /// Removes a group; what is to be freed of it, if it was there.
    pub fn remove_group(&mut self, name: &[u8]) -> Option<Garbage> {
        let group = self.groups.remove(name)?;
        self.group_bytes -= group.memory_bytes() + name.len();
        Some(group.into_garbage())
    }

    /// Lets `change` work on the group called `name`, with the entries at hand; nothing if there is
    /// none.
    pub fn change_group<R>(
        &mut self,
        name: &[u8],
        change: impl FnOnce(&Entries, &mut Group) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(name)?;
        let before = group.memory_bytes();
        let result = change(&self.entries, group);
        self.group_bytes = self.group_bytes - before + group.memory_bytes();
        Some(result)
    }

    /// The stream's memory, to be freed.
    pub fn into_garbage(self) -> Garbage {
        let mut garbage = self.entries.into_garbage();
        for (_, group) in self.groups.into_owned() {
            garbage.extend(group.into_garbage());
        }
        garbage
    }

    /// Checks the invariants, at the cost of reading everything. For tests.
    ///
    /// # Panics
    ///
    /// When one does not hold.
    pub fn check(&self) {
        self.entries.check();
        let bytes: usize =
            self.groups().map(|(name, group)| name.len() + group.memory_bytes()).sum();
        assert_eq!(bytes, self.group_bytes, "memory is miscounted");
        self.groups().for_each(|(_, group)| group.check());
    }
}
