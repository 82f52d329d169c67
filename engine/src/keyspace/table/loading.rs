//! Growth while keys are loaded, when nobody waits for a step and the table only grows.
//!
//! In service a segment grows by four buckets at a time, so that the table is full to nine tenths at any
//! number of keys. Between two splits every entry is so moved some fourteen times, each time into
//! memory that is touched for the first time. A table that is loaded grows *roomily*: segments have
//! their greatest size from the first key on, and split; an entry is moved once or twice in all. When
//! all is loaded the table *settles*: in slices, every segment gets the size that it would have in
//! service.
//!
//! Invariants:
//! - a table that grows roomily never shrinks, so that loading cannot make a segment go back and forth;
//! - settling goes in the order of hashes, which resizing does not change: behind it every segment
//!   has the size of service, and no two buddies are left that would fit into one. What is put in or
//!   taken out meanwhile is as in service.
#![forbid(unsafe_code)]

use super::super::segment::SIZE_MAX;
use super::Table;
use super::resize::{size_for, size_least};

/// How a table grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// As in service: segments as small as their entries allow.
    Tight,
    /// As while loading: segments as large as they can be.
    Roomy,
    /// As in service again; segments from this hash on may still be larger than that.
    Settling(u64),
}

impl Growth {
    /// The size that a segment gets at least when another one was full.
    pub(super) fn size_min(self) -> usize {
        match self {
            Self::Roomy => SIZE_MAX,
            Self::Tight | Self::Settling(_) => 0,
        }
    }
}

impl<T> Table<T> {
    /// Keys are loaded from now on, until the table has [settled](Self::settle_slice).
    pub fn begin_loading(&mut self) {
        self.growth = Growth::Roomy;
        self.storage.slab.set_loading(true);
        self.storage.pool.set_loading(true);
    }

    /// All keys are loaded: gives up to `segments` segments the size of service. Answers whether
    /// some are left.
    pub fn settle_slice(&mut self, segments: usize) -> bool {
        if self.growth == Growth::Roomy {
            self.growth = Growth::Settling(0);
            self.storage.slab.set_loading(false);
        }
        let mut left = segments;
        while let Growth::Settling(at) = self.growth {
            if left == 0 {
                return true;
            }
            left -= 1;
            match u64::try_from(self.settle_at(at)) {
                Ok(next) => self.growth = Growth::Settling(next),
                Err(_) => {
                    self.growth = Growth::Tight;
                    self.storage.pool.set_loading(false);
                }
            }
        }
        false
    }

    /// Settles the segment of the hash `at`; answers where the next one begins.
    fn settle_at(&mut self, at: u64) -> u128 {
        loop {
            let segment = self.directory.segment(at);
            let (depth, header) = (segment.depth(), self.directory.view(at).header);
            let (prefix, len) = (header.prefix, header.len as usize);
            let size = size_for(len, size_least(depth));
            if size < segment.size() {
                self.resize(segment, size);
            }
            // Of two buddies the first one is settled when the second is looked at, and so, if they
            // merge, is the buddy before what they become.
            let is_second = depth > 0 && prefix >> (64 - depth) & 1 == 1;
            if !is_second || !self.merge(self.directory.segment(at), len) {
                return u128::from(prefix) + (1u128 << (64 - depth));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{entry::NewBody, hash::Seed};
    use super::super::Entry;
    use super::*;

    fn put(table: &mut Table<()>, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let key = number.to_le_bytes();
            match table.entry(table.hash(&key), &key) {
                Entry::Vacant(vacant) => drop(vacant.insert(NewBody::Int(0), None)),
                Entry::Occupied(_) => panic!("each number is put in once"),
            }
        }
    }

    fn take_out(table: &mut Table<()>, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let hash = table.hash(&number.to_le_bytes());
            table.get_mut(hash, &number.to_le_bytes()).expect("it was put in").remove();
        }
    }

    fn table(loaded: bool, keys: u32) -> Table<()> {
        let mut table = Table::new(Seed::fixed(5));
        if loaded {
            table.begin_loading();
        }
        put(&mut table, 0..keys);
        table
    }

    #[test]
    fn a_loaded_table_settles_to_the_size_of_one_in_service() {
        for keys in [0, 1, 20, 700, 5_000, 60_000, 90_000] {
            let (mut loaded, served) = (table(true, keys), table(false, keys));
            let roomy = loaded.structure_bytes();
            assert!(roomy <= 24 * keys as usize + (1 << 14), "{roomy} bytes for {keys} keys");
            let mut slices = 1;
            while loaded.settle_slice(3) {
                slices += 1;
                if slices % 10 == 0 {
                    loaded.check();
                }
            }
            loaded.check();
            assert_eq!(loaded.growth, Growth::Tight);
            assert_eq!(loaded.len(), served.len());
            let (settled, usual) = (loaded.structure_bytes(), served.structure_bytes());
            assert!(settled <= usual + usual / 16 + 512, "{keys} keys: {settled}, usually {usual}");
        }
    }

    #[test]
    fn what_was_emptied_while_it_was_loaded_merges_when_it_settles() {
        let mut table = table(true, 50_000);
        let full = table.structure_bytes();
        take_out(&mut table, 500..50_000);
        table.check();
        assert_eq!(table.structure_bytes(), full, "a table that is loaded does not shrink");
        while table.settle_slice(1) {
            table.check();
        }
        assert_eq!(table.len(), 500);
        assert!(table.structure_bytes() < 20_000, "{}", table.structure_bytes());
    }

    #[test]
    fn keys_come_and_go_while_a_table_settles() {
        let mut table = table(true, 30_000);
        for step in 0..20 {
            table.settle_slice(1);
            put(&mut table, 30_000 + step * 500..30_500 + step * 500);
            take_out(&mut table, step * 700..step * 700 + 700);
            table.check();
        }
        while table.settle_slice(1) {}
        table.check();
        assert_eq!(table.len(), 30_000 + 20 * 500 - 20 * 700);
    }
}
