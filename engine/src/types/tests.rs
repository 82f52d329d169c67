//! What HSCAN, SSCAN and ZSCAN promise, while collections grow and shrink under them.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

/// What a walk needs of a collection, whichever it is.
trait Walked {
    fn add(&mut self, member: &[u8], thresholds: &Thresholds);
    fn remove(&mut self, member: &[u8]);
    fn scan(&self, cursor: u64, count: usize, seen: &mut Vec<Vec<u8>>) -> u64;
}

impl Walked for Hash {
    fn add(&mut self, member: &[u8], thresholds: &Thresholds) {
        self.set(member, b"value", thresholds);
    }

    fn remove(&mut self, member: &[u8]) {
        Hash::remove(self, member);
    }

    fn scan(&self, cursor: u64, count: usize, seen: &mut Vec<Vec<u8>>) -> u64 {
        Hash::scan(self, cursor, count, 0, |field, _| seen.push(field.to_vec()))
    }
}

impl Walked for Set {
    fn add(&mut self, member: &[u8], thresholds: &Thresholds) {
        Set::add(self, member, thresholds);
    }

    fn remove(&mut self, member: &[u8]) {
        Set::remove(self, member);
    }

    fn scan(&self, cursor: u64, count: usize, seen: &mut Vec<Vec<u8>>) -> u64 {
        Set::scan(self, cursor, count, |member| seen.push(member.to_vec()))
    }
}

impl Walked for Zset {
    fn add(&mut self, member: &[u8], thresholds: &Thresholds) {
        // The score changes when the member is there.
        let score = self.len() as f64;
        self.set(member, score, thresholds);
    }

    fn remove(&mut self, member: &[u8]) {
        Zset::remove(self, member);
    }

    fn scan(&self, cursor: u64, count: usize, seen: &mut Vec<Vec<u8>>) -> u64 {
        Zset::scan(self, cursor, count, |member, _| seen.push(member.to_vec()))
    }
}

/// What happens between two calls of a walk: so many members from a number on are added or removed.
type Tide = (bool, u32, u32);

fn name(number: u32) -> Vec<u8> {
    format!("{number}").into_bytes()
}

/// Walks once over a collection of the members that stay, multiples of seven, while others come and
/// go; what was seen.
fn walk(collection: &mut dyn Walked, stays: u32, tides: &[Tide], count: usize) -> Vec<Vec<u8>> {
    let thresholds = Thresholds::default();
    let (mut seen, mut cursor, mut tides) = (Vec::new(), 0, tides.iter().cycle());
    (0..stays).for_each(|number| collection.add(&name(7 * number), &thresholds));
    for calls in 0.. {
        assert!(calls < 20_000, "the walk does not end");
        cursor = collection.scan(cursor, count, &mut seen);
        if cursor == 0 {
            break;
        }
        let Some(&(adds, from, width)) = tides.next() else { continue };
        for number in (from..from + width).filter(|number| number % 7 != 0) {
            match adds {
                true => collection.add(&name(number), &thresholds),
                false => collection.remove(&name(number)),
            }
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_walk_sees_all_that_stays_and_nothing_that_never_was(
        stays in prop_oneof![0..40_u32, 100..200_u32],
        tides in vec((any::<bool>(), 0..1_400_u32, 0..100_u32), 1..8),
        count in 5..60_usize,
    ) {
        let thresholds = Thresholds::default();
        let mut collections: [Box<dyn Walked>; 4] = [
            Box::new(Hash::new()),
            Box::new(Zset::new()),
            Box::new(Set::new(b"text", 1, &thresholds)),
            Box::new(Set::new(b"1", 1, &thresholds)),
        ];
        for collection in &mut collections {
            let seen = walk(&mut **collection, stays, &tides, count);
            let seen: BTreeSet<_> = seen.into_iter().collect();
            for number in 0..stays {
                prop_assert!(seen.contains(&name(7 * number)), "{} was missed", 7 * number);
            }
            let most = (7 * stays).max(1_500);
            let known: BTreeSet<_> = (0..most).map(name).collect();
            prop_assert!(seen.is_subset(&known));
        }
    }
}
