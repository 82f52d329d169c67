//! Key hashes: one keyed 64-bit hash per key, computed once per command.
//!
//! Why keyed: a client that could predict the hash could pile its keys onto one bucket. The server draws
//! the key, a shard's seed, at its start; a fixed seed makes tests and simulations replay exactly.
//!
//! How the bits are used (see `segment.rs`): the top bits choose the directory entry, the next
//! sixteen are kept in the slot, the lowest eight are the fingerprint.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

/// The hash of a key under one table's seed. Hashes of different tables do not mix unless both
/// were made from the same [`Seed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyHash(pub(super) u64);

impl KeyHash {
    /// The raw 64 bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The fingerprint kept in the bucket: the low byte, with 0 (which means "empty") mapped to 1.
    #[inline]
    pub(super) fn fingerprint(self) -> u8 {
        fingerprint(self.0)
    }
}

#[inline]
pub(super) fn fingerprint(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// The secret that keys a table's hash. Tables made from the same seed hash alike, so that one hash
/// serves all databases of a shard.
#[derive(Clone)]
pub struct Seed(Kind);

#[derive(Clone)]
enum Kind {
    Keyed(RandomState),
    /// A hash of the test's choosing, to force collisions.
    #[cfg(test)]
    Fixed(fn(&[u8]) -> u64),
}

impl Seed {
    /// The seed that 64 bits determine, and only as secret as they are: with a number drawn by the
    /// operating system fit for a server, with a fixed one for tests, simulations and benches.
    pub fn fixed(seed: u64) -> Self {
        let spread = |n: u64| seed.wrapping_add(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(Kind::Keyed(RandomState::with_seeds(spread(1), spread(2), spread(3), spread(4))))
    }

    #[cfg(test)]
    pub(super) fn from_fn(hash: fn(&[u8]) -> u64) -> Self {
        Self(Kind::Fixed(hash))
    }

    /// The hash of `key` under this seed.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        match &self.0 {
            Kind::Keyed(state) => {
                let mut hasher = state.build_hasher();
                hasher.write(key);
                KeyHash(hasher.finish())
            }
            #[cfg(test)]
            Kind::Fixed(hash) => KeyHash(hash(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_hash_alike_and_others_do_not() {
        let (a, b, c) = (Seed::fixed(1), Seed::fixed(1), Seed::fixed(2));
        assert_eq!(a.hash(b"key"), b.hash(b"key"));
        assert_ne!(a.hash(b"key"), c.hash(b"key"));
        assert_ne!(a.hash(b"key"), a.hash(b"kez"));
    }

    #[test]
    fn fingerprints_are_never_the_mark_of_an_empty_slot() {
        assert_eq!(KeyHash(0xff00).fingerprint(), 1);
        assert_eq!(KeyHash(0xff07).fingerprint(), 7);
    }
}
