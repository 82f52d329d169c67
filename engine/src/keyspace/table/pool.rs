//! The memory of the segments: one dense array a size, kept dense by moving the last segment into
//! the hole that a freed one leaves.
//!
//! Why: all segments grow alike, so while they step from one size to the next, every page would be
//! left half empty by any allocator that cannot move. A segment can be moved, as only the
//! directory points at it, for the price of copying at most 8 KiB.
//!
//! Invariants:
//! - the segments of a class are numbers 0 to `live - 1`, and each header's `index` is its number;
//! - a class keeps at most one span beyond those its live segments need, none when it is small.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

use super::super::pages::{Pages, Supply};
use super::super::segment::{Header, SIZE_SHARED_MIN, SIZES, Segment, segment_bytes};

/// Spans of the sizes that a small table has, and of those that big ones have by the thousand.
const SPAN_SMALL: usize = 16 << 10;
const SPAN: usize = 256 << 10;
/// A class of this many spans keeps a spare one: so a class that is being left gives all of its spans back.
const SPARE_FROM: usize = 8;

struct Class {
    spans: Vec<Pages>,
    live: usize,
}

pub(super) struct Pool {
    classes: [Class; SIZES.len()],
    supply: Supply,
    /// Bytes of live segments.
    used_bytes: usize,
}

fn class_of(size: usize) -> usize {
    SIZES.iter().position(|&s| s == size).expect("segments only have the sizes listed")
}

fn span_bytes(size: usize) -> usize {
    if size < SIZE_SHARED_MIN { SPAN_SMALL } else { SPAN }
}

impl Pool {
    pub(super) fn new() -> Self {
        let classes = std::array::from_fn(|_| Class { spans: Vec::new(), live: 0 });
        Self { classes, supply: Supply::default(), used_bytes: 0 }
    }

    /// Gets spans as suits a table that is loaded, or no longer.
    pub(super) fn set_loading(&mut self, is_loading: bool) {
        self.supply.set_loading(is_loading);
    }

    /// Bytes of live segments.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// An empty segment with `size` buckets.
    pub(super) fn allocate(&mut self, size: usize, depth: u32, prefix: u64) -> Segment {
        let class = class_of(size);
        let index = self.classes[class].live;
        if self.header(class, index).is_none() {
            let span = self.supply.take(span_bytes(size), 4096);
            self.classes[class].spans.push(span);
        }
        let header = self.header(class, index).expect("a span for it has just been mapped");
        self.classes[class].live += 1;
        self.used_bytes += segment_bytes(size);
        let (index, buckets) = (index as u32, size as u32);
        // SAFETY: number `index` lies inside the span and is nobody's; the memory behind the header
        // is `size` buckets, zero or what earlier segments left there, both valid values.
        unsafe {
            header.write(Header { prefix, index, len: 0, volatile: 0, depth, buckets });
            let segment = Segment::from_header(header);
            segment.reset_buckets();
            segment
        }
    }

    /// Frees a segment. If another had to move to keep the class dense, returns its old and its new
    /// place; the caller must tell the directory.
    ///
    /// # Safety
    /// `segment` is live, and neither it nor the old place of the one that moved is used again.
    pub(super) unsafe fn free(&mut self, segment: Segment) -> Option<(Segment, Segment)> {
        let size = segment.size();
        let class = class_of(size);
        // SAFETY: the segment is live by the caller's promise.
        let index = unsafe { (*segment.header()).index } as usize;
        self.classes[class].live -= 1;
        self.used_bytes -= segment_bytes(size);
        let last = self.classes[class].live;
        let moved = (index != last).then(|| {
            let from = self.header(class, last).expect("live segments lie in mapped spans");
            // SAFETY: both are segments of this size in different places; the target's contents are
            // dead by the caller's promise.
            unsafe {
                let old = Segment::from_header(from);
                let to = segment.header();
                ptr::copy_nonoverlapping::<u8>(
                    from.as_ptr().cast(),
                    to.cast(),
                    segment_bytes(size),
                );
                (*to).index = index as u32;
                (old, Segment::from_header(NonNull::new_unchecked(to)))
            }
        });
        self.trim(class);
        moved
    }

    /// The live segment with the highest number of the largest size, if any is left.
    pub(super) fn last(&self) -> Option<Segment> {
        let class = self.classes.iter().rposition(|class| class.live > 0)?;
        let header = self.header(class, self.classes[class].live - 1)?;
        // SAFETY: number `live - 1` is live.
        Some(unsafe { Segment::from_header(header) })
    }

    /// All live segments.
    pub(super) fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        (0..SIZES.len()).flat_map(move |class| {
            (0..self.classes[class].live).filter_map(move |index| {
                let header = self.header(class, index)?;
                // SAFETY: numbers below `live` are live.
                Some(unsafe { Segment::from_header(header) })
            })
        })
    }

    /// The place of a number, if its span is mapped.
    fn header(&self, class: usize, index: usize) -> Option<NonNull<Header>> {
        let bytes = segment_bytes(SIZES[class]);
        let per_span = span_bytes(SIZES[class]) / bytes;
        let span = self.classes[class].spans.get(index / per_span)?;
        // SAFETY: `index % per_span` segments of `bytes` fit before it in the span.
        Some(unsafe { span.start().add(index % per_span * bytes) }.cast())
    }

    /// Unmaps the spans that are more than one beyond need.
    fn trim(&mut self, class: usize) {
        let size = SIZES[class];
        let per_span = span_bytes(size) / segment_bytes(size);
        let needed = self.classes[class].live.div_ceil(per_span);
        let slack = usize::from(needed >= SPARE_FROM);
        self.classes[class].spans.truncate(needed + slack);
    }
}
