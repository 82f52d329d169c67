//! The directory: which segment a hash belongs to, by its top `depth` bits.
//!
//! Doubling and halving are not done in one step: the new array starts as untouched zero pages, a
//! zero word means "ask the old array", and every later resize copies a few words more. So the cost of
//! a change of size is an allocation, whatever the number of segments.
//!
//! Invariants:
//! - every word, new or looked up in the old array, is a live segment of the pool, and a segment of
//!   depth `d` stands in exactly the `2^(depth - d)` words that its prefix covers;
//! - `counts[d]` is the number of segments of depth `d`, and none is deeper than `depth`.
#![allow(unsafe_code)]

use super::super::segment::{DEPTH_MAX, Segment, View, ViewMut};

/// Words copied to a new array at every resize of a segment. As segments must be resized several
/// times each before the directory changes its size again, it is finished long before.
const MIGRATION_STEP: usize = 256;

pub(super) struct Directory {
    depth: u32,
    words: Vec<u64>,
    old: Option<Old>,
    counts: [u32; DEPTH_MAX as usize + 1],
}

/// The array before the last change of size, while the new one is incomplete.
struct Old {
    depth: u32,
    words: Vec<u64>,
    /// The new array has no zeroes before this index.
    done: usize,
}

#[inline]
fn index(hash: u64, depth: u32) -> usize {
    // Two shifts, as one by 64 is not defined for depth 0.
    (hash >> 1 >> (63 - depth)) as usize
}

impl Directory {
    /// A directory whose only segment, of depth 0, is `segment`.
    pub(super) fn new(segment: Segment) -> Self {
        let mut counts = [0; DEPTH_MAX as usize + 1];
        counts[0] = 1;
        Self { depth: 0, words: vec![segment.word()], old: None, counts }
    }

    /// Number of hash bits that index the directory.
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// Bytes of the arrays.
    pub(super) fn bytes(&self) -> usize {
        let old = self.old.as_ref().map_or(0, |old| old.words.len());
        (self.words.len() + old) * size_of::<u64>()
    }

    /// The segment that holds `hash`.
    #[inline]
    pub(super) fn segment(&self, hash: u64) -> Segment {
        // The index has `depth` bits and the array 2^depth words, which the compiler cannot know.
        let word = self.words[index(hash, self.depth)];
        if word == 0 { self.segment_before(hash) } else { Segment::from_word(word) }
    }

    #[cold]
    fn segment_before(&self, hash: u64) -> Segment {
        let old = self.old.as_ref().expect("only a directory in migration has zeroes");
        Segment::from_word(old.words[index(hash, old.depth)])
    }

    /// The segment that holds `hash`, to be read.
    #[inline]
    pub(super) fn view(&self, hash: u64) -> View<'_> {
        // SAFETY: the directory holds live segments only (invariant 1), and who changes one
        // borrows the directory mutably.
        unsafe { self.segment(hash).view() }
    }

    /// The segment that holds `hash`, to be changed.
    #[inline]
    pub(super) fn view_mut(&mut self, hash: u64) -> ViewMut<'_> {
        // SAFETY: as in `view`.
        unsafe { self.segment(hash).view_mut() }
    }

    /// The segment at word `index`, and whether that is the first of its words.
    pub(super) fn at(&self, index: usize) -> (Segment, bool) {
        let hash = if self.depth == 0 { 0 } else { (index as u64) << (64 - self.depth) };
        let segment = self.segment(hash);
        let words = 1usize << (self.depth - segment.depth());
        (segment, index.is_multiple_of(words))
    }

    pub(super) fn words(&self) -> usize {
        self.words.len()
    }

    /// Puts `segment` where its prefix says. Whatever stood there must be all of the same range.
    pub(super) fn set(&mut self, segment: Segment) {
        // SAFETY: callers hand in live segments, fresh from the pool or moved by it.
        let prefix = unsafe { (*segment.header()).prefix };
        let first = index(prefix, self.depth);
        let words = 1usize << (self.depth - segment.depth());
        self.words[first..first + words].fill(segment.word());
    }

    /// Keeps count: one segment of `from` became two of `from + 1`.
    pub(super) fn count_split(&mut self, from: u32) {
        self.counts[from as usize] -= 1;
        self.counts[from as usize + 1] += 2;
    }

    /// Keeps count: two segments of `from` became one of `from - 1`.
    pub(super) fn count_merge(&mut self, from: u32) {
        self.counts[from as usize] -= 2;
        self.counts[from as usize - 1] += 1;
    }

    /// One bit more.
    pub(super) fn double(&mut self) {
        self.migrate(usize::MAX);
        self.change_depth(self.depth + 1);
    }

    /// One bit less, if no segment needs the last two bits: one bit is left as room, so that a
    /// table which breathes does not change its directory all the time.
    pub(super) fn halve_if_sparse(&mut self) {
        let depth = self.depth as usize;
        let sparse = depth > 1 && self.counts[depth] == 0 && self.counts[depth - 1] == 0;
        if sparse && self.old.is_none() {
            self.change_depth(self.depth - 1);
        }
    }

    fn change_depth(&mut self, depth: u32) {
        let words = std::mem::replace(&mut self.words, vec![0; 1 << depth]);
        self.old = Some(Old { depth: self.depth, words, done: 0 });
        self.depth = depth;
        self.migrate(MIGRATION_STEP);
    }

    /// Goes on with a change of size, if one is under way. Every resize of a segment calls this.
    pub(super) fn migrate_step(&mut self) {
        self.migrate(MIGRATION_STEP);
    }

    /// Copies up to `count` more words from the old array, if there is one.
    fn migrate(&mut self, count: usize) {
        let Some(old) = &mut self.old else { return };
        let end = old.done.saturating_add(count).min(self.words.len());
        for at in old.done..end {
            if self.words[at] == 0 {
                // The old index covers the same stretch of hashes, wider or narrower.
                let from = if old.depth < self.depth { at >> 1 } else { at << 1 };
                self.words[at] = old.words[from];
            }
        }
        old.done = end;
        if end == self.words.len() {
            self.old = None;
        }
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        let mut counts = [0; DEPTH_MAX as usize + 1];
        let mut at = 0;
        while at < self.words.len() {
            let (segment, first) = self.at(at);
            assert!(first, "a segment's words begin at a multiple of their number");
            let depth = segment.depth();
            assert!(depth <= self.depth);
            counts[depth as usize] += 1;
            // SAFETY: the directory holds live segments only.
            let view = unsafe { segment.view() };
            assert_eq!((view.header.depth, view.header.buckets as usize), (depth, segment.size()));
            assert_eq!(index(view.header.prefix, self.depth), at);
            let words = 1usize << (self.depth - depth);
            for other in at..at + words {
                assert_eq!(self.at(other).0, segment);
            }
            at += words;
        }
        assert_eq!(counts, self.counts);
    }
}
