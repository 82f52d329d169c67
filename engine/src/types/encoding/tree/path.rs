//! Places to write to, and the ways to them.
//!
//! A large tree lies outside the caches but for its upper nodes, so what a search waits for is the
//! memory of leaves. Therefore a way ends by asking for all of a leaf that the search in it will read,
//! which the bounds and counts above say without a look at the leaf; and a caller that needs several
//! leaves finds the ways to all of them ([`Approach`], [`Tree::approach_score`]) before it reads any.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use super::{
    super::{
        order::{ByHash, ByScore, score_tag},
        page::{Page, Record, interpolate, lower_bound_near},
    },
    Child, Edge, Node, Order, Tree, search,
};

/// How far from its guess a slot is asked for: nearly always it is nearer.
const NEAR_SLOTS: usize = 6;

/// The place of a record: the child taken in each inner node, then the slot in the leaf. Valid until
/// the tree is changed.
#[derive(Clone, Debug)]
pub struct Path {
    pub(super) steps: SmallVec<[u16; 8]>,
    pub(super) slot: usize,
    pub(super) edge: Edge,
}

/// The way to a leaf.
#[derive(Debug)]
struct Way<'a> {
    steps: SmallVec<[u16; 8]>,
    /// Whether nothing stands before the leaf.
    is_first: bool,
    /// Whether nothing stands behind it.
    is_last: bool,
    page: &'a Page,
}

impl Way<'_> {
    /// The place of `slot` in the leaf.
    #[inline]
    fn at(self, slot: usize) -> Path {
        let edge = if self.is_last && slot == self.page.len() {
            Edge::Back
        } else if self.is_first && slot == 0 {
            Edge::Front
        } else {
            Edge::Inside
        };
        Path { steps: self.steps, slot, edge }
    }
}

impl<O: Order> Tree<O> {
    /// Goes down from the root; `choose` takes a child of each inner node. Answers also how many records
    /// the leaf has, without a look at it.
    #[inline]
    fn way(&self, mut choose: impl FnMut(&[Child<O>]) -> usize) -> (Way<'_>, usize) {
        let (mut steps, mut is_first, mut is_last) = (SmallVec::new(), true, true);
        let (mut node, mut count) = (&self.root, self.len);
        loop {
            match node {
                Node::Leaf(page) => return (Way { steps, is_first, is_last, page }, count),
                Node::Inner(inner) => {
                    let index = choose(&inner.children);
                    steps.push(index as u16);
                    is_first &= index == 0;
                    is_last &= index + 1 == inner.children.len();
                    let child = &inner.children[index];
                    (node, count) = (&child.node, child.count);
                }
            }
        }
    }
}

/// The way to the leaf where a hash stands or would stand, which has been asked for.
#[derive(Debug)]
pub struct Approach<'a, const HEAD: usize> {
    tree: &'a Tree<ByHash<HEAD>>,
    way: Way<'a>,
    hash: u32,
    /// About where in the leaf.
    guess: usize,
}

impl<const HEAD: usize> Tree<ByHash<HEAD>> {
    /// The way to where `hash` is looked for.
    #[inline]
    pub fn approach(&self, hash: u32) -> Approach<'_, HEAD> {
        // The hashes below a node are spread evenly between the bounds on either side of it.
        let (mut low, mut high) = (0, u32::MAX);
        let (way, count) = self.way(|children| {
            let index = first_with(children, hash, low, high);
            if index > 0 {
                low = children[index].bound;
            }
            if let Some(next) = children.get(index + 1) {
                high = next.bound;
            }
            index
        });
        let guess = interpolate(hash, low, high, count);
        let far = guess.saturating_add(NEAR_SLOTS).min(count);
        way.page.prefetch::<ByHash<HEAD>>(guess.saturating_sub(NEAR_SLOTS), far);
        Approach { tree: self, way, hash, guess }
    }

    /// The place of the record with `hash` for which `is` holds, and the record; or the place to insert
    /// one.
    #[inline]
    pub fn find(&self, hash: u32, is: impl Fn(&Record<'_>) -> bool) -> (Path, Option<Record<'_>>) {
        self.approach(hash).find(is)
    }
}

/// The first child that can hold `hash`, where hashes lie between `low` and `high`. Equal hashes may
/// reach over several children.
#[inline]
pub(super) fn first_with<const HEAD: usize>(
    children: &[Child<ByHash<HEAD>>],
    hash: u32,
    low: u32,
    high: u32,
) -> usize {
    let bounds = &children[1..];
    let guess = interpolate(hash, low, high, children.len());
    lower_bound_near(bounds.len(), guess, |index| bounds[index].bound < hash)
}

impl<'a, const HEAD: usize> Approach<'a, HEAD> {
    /// What [`Tree::find`] finds.
    #[inline]
    pub fn find(self, is: impl Fn(&Record<'_>) -> bool) -> (Path, Option<Record<'a>>) {
        let Self { tree, way, hash, guess } = self;
        let page = way.page;
        let first = page.lower_bound(hash, guess);
        let mut slot = first;
        while slot < page.len() {
            if page.tag(slot) != hash {
                return (way.at(first), None);
            }
            let record = page.record::<ByHash<HEAD>>(slot);
            if is(&record) {
                return (way.at(slot), Some(record));
            }
            slot += 1;
        }
        if way.is_last {
            return (way.at(first), None);
        }
        // Records with this hash may go on in the next leaf.
        match tree.find_behind(hash, is) {
            Some((path, record)) => (path, Some(record)),
            None => (way.at(first), None),
        }
    }
}

/// The way to the leaf where a member with a score stands or would stand, which has been asked for.
#[derive(Debug)]
pub struct ScoreApproach<'a, 'm> {
    way: Way<'a>,
    score: f64,
    member: &'m [u8],
}

impl Tree<ByScore> {
    /// The way to where `member` with `score` is looked for.
    #[inline]
    pub fn approach_score<'m>(&self, score: f64, member: &'m [u8]) -> ScoreApproach<'_, 'm> {
        let (way, count) = self.way(|children| {
            children[1..].partition_point(|child| child.bound.is_below(score, member))
        });
        way.page.prefetch::<ByScore>(0, count);
        ScoreApproach { way, score, member }
    }

    /// The place of `member`, which is there with `score`.
    #[inline]
    pub fn member_path(&self, score: f64, member: &[u8]) -> Path {
        let way = self.approach_score(score, member).way;
        let slots = way.page.slots_of(score_tag(score));
        if slots.end == way.page.len() && !way.is_last {
            // Perhaps it equals the bound, and stands on its right.
            return self.seek_member(score, member).path();
        }
        if slots.len() == 1 {
            return way.at(slots.start);
        }
        let slot = search::partition(way.page, slots, &search::is_below(score, member));
        way.at(slot)
    }
}

impl ScoreApproach<'_, '_> {
    /// The place to insert the member, which is not there, with the score: on the left of a bound that
    /// is not below it, where searches will look.
    #[inline]
    pub fn insertion(self) -> Path {
        let slots = self.way.page.slots_of(score_tag(self.score));
        let below = search::is_below(self.score, self.member);
        let slot = search::partition(self.way.page, slots, &below);
        self.way.at(slot)
    }
}
