//! How many entries stand before an id, of all that were ever added.
//!
//! A stream counts what was added, and each group what it has read; the difference is the group's
//! lag. Deleting entries in the middle (XDEL) tears gaps, behind which nobody can tell any more what
//! a count would have been: then, as in Redis, the count is not known until the group has passed the
//! gap.
#![forbid(unsafe_code)]

use super::{StreamId, entries::Entries};

impl Entries {
    /// Whether an entry at or behind `id` was deleted from between others, as far as is known.
    pub(super) fn has_gap_from(&self, id: StreamId) -> bool {
        let deleted = self.max_deleted_id;
        self.len > 0 && deleted != StreamId::MIN && self.first_id <= deleted && id <= deleted
    }

    /// How many of all entries ever added have ids up to `id`, where that can be told: at the ends
    /// of the stream, and before it.
    pub fn count_up_to(&self, id: StreamId) -> Option<u64> {
        if self.added == 0 {
            return Some(0);
        }
        if id == self.last_id || (self.len == 0 && id < self.last_id) {
            return Some(self.added);
        }
        let gone = self.added.wrapping_sub(self.len);
        let gapless = self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id;
        match id.cmp(&self.first_id) {
            _ if id > self.last_id || !gapless => None,
            std::cmp::Ordering::Less => Some(gone),
            std::cmp::Ordering::Equal => Some(gone.wrapping_add(1)),
            std::cmp::Ordering::Greater => None,
        }
    }
}
