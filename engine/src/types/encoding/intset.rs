//! Intset: a small set of integers, sorted and packed.
//!
//! All integers have the width that the widest needs: 2, 4 or 8 bytes, noted in the first byte. As
//! in Redis the width only grows; a set that lost its widest member keeps it.
//!
//! Invariants: the integers ascend strictly; the length is one more than a multiple of the width.
#![forbid(unsafe_code)]

/// A sorted, packed set of integers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intset {
    /// The width, then the integers, little-endian.
    bytes: Vec<u8>,
}

/// The bytes given are not an intset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed intset")]
pub struct MalformedIntset;

impl Default for Intset {
    fn default() -> Self {
        Self::new()
    }
}

impl Intset {
    /// The empty set.
    pub fn new() -> Self {
        Self { bytes: vec![2] }
    }

    /// An intset out of bytes that [`Self::raw`] once gave.
    ///
    /// # Errors
    ///
    /// Bytes that break the invariants.
    pub fn from_raw(bytes: Vec<u8>) -> Result<Self, MalformedIntset> {
        match bytes.first() {
            Some(width @ (2 | 4 | 8)) if (bytes.len() - 1).is_multiple_of(usize::from(*width)) => {}
            _ => return Err(MalformedIntset),
        }
        let set = Self { bytes };
        let ascends = (1..set.len()).all(|index| set.at(index - 1) < set.at(index));
        if ascends { Ok(set) } else { Err(MalformedIntset) }
    }

    /// An intset out of bytes that [`Self::raw`] gave and that never left this process.
    pub fn from_trusted(bytes: &[u8]) -> Self {
        debug_assert!(Self::from_raw(bytes.to_vec()).is_ok());
        Self { bytes: bytes.to_vec() }
    }

    /// The packed bytes.
    pub fn raw(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of members.
    #[inline]
    pub fn len(&self) -> usize {
        (self.bytes.len() - 1) / self.width()
    }

    /// Whether there is no member.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == 1
    }

    /// Bytes of memory behind the pointer.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// The member at `index` in ascending order.
    pub fn get(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| self.at(index))
    }

    /// Whether `int` is a member.
    #[inline]
    pub fn contains(&self, int: i64) -> bool {
        self.search(int).is_ok()
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + '_ {
        (0..self.len()).map(|index| self.at(index))
    }

    /// Adds `int`; whether it was new.
    pub fn insert(&mut self, int: i64) -> bool {
        let Err(index) = self.search(int) else { return false };
        if width_of(int) > self.width() {
            self.widen(width_of(int));
        }
        let (width, end) = (self.width(), self.bytes.len());
        let offset = 1 + index * width;
        self.bytes.reserve_exact(width);
        self.bytes.resize(end + width, 0);
        self.bytes.copy_within(offset..end, offset + width);
        self.bytes[offset..offset + width].copy_from_slice(&int.to_le_bytes()[..width]);
        true
    }

    /// Removes `int`; whether it was there.
    pub fn remove(&mut self, int: i64) -> bool {
        let found = self.search(int);
        if let Ok(index) = found {
            let (width, offset) = (self.width(), 1 + index * self.width());
            self.bytes.drain(offset..offset + width);
        }
        found.is_ok()
    }

    #[inline]
    fn width(&self) -> usize {
        usize::from(self.bytes[0])
    }

    #[inline]
    fn at(&self, index: usize) -> i64 {
        let width = self.width();
        super::element::int_from_bytes(&self.bytes[1 + index * width..][..width])
    }

    /// The index of `int`, or where it would stand.
    fn search(&self, int: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.at(middle).cmp(&int) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    fn widen(&mut self, width: usize) {
        let mut bytes = Vec::with_capacity(1 + (self.len() + 1) * width);
        bytes.push(width as u8);
        for int in self.iter() {
            bytes.extend_from_slice(&int.to_le_bytes()[..width]);
        }
        self.bytes = bytes;
    }
}

fn width_of(int: i64) -> usize {
    if i16::try_from(int).is_ok() {
        2
    } else if i32::try_from(int).is_ok() {
        4
    } else {
        8
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn int() -> impl Strategy<Value = i64> {
        prop_oneof![4 => -20_i64..20, 1 => -70_000_i64..70_000, 1 => any::<i64>()]
    }

    proptest! {
        #[test]
        fn an_intset_matches_an_ordered_set(ops in vec((any::<bool>(), int()), 1..100)) {
            let (mut set, mut model) = (Intset::new(), BTreeSet::new());
            for (add, int) in ops {
                if add {
                    prop_assert_eq!(set.insert(int), model.insert(int));
                } else {
                    prop_assert_eq!(set.remove(int), model.remove(&int));
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.contains(int), model.contains(&int));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!(Intset::from_raw(set.raw().to_vec()), Ok(set.clone()));
        }

        #[test]
        fn hostile_bytes_are_refused_or_sorted(bytes in vec(any::<u8>(), 0..40)) {
            if let Ok(set) = Intset::from_raw(bytes) {
                prop_assert!(set.iter().is_sorted());
            }
        }
    }

    #[test]
    fn width_grows_with_the_widest_member() {
        let mut set = Intset::new();
        set.insert(1);
        assert_eq!(set.raw().len(), 1 + 2);
        set.insert(1 << 20);
        assert_eq!(set.raw().len(), 1 + 2 * 4);
        set.insert(i64::MIN);
        assert_eq!(set.raw().len(), 1 + 3 * 8);
        assert_eq!(set.get(0), Some(i64::MIN));
        assert_eq!(set.get(3), None);
    }
}
