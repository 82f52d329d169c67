//! Trees against naive models, captures among them.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::types::encoding::{
    Element,
    element::with_body,
    order::{ByHash, ByIndex, ByScore, Order, score_of, score_tag},
    page::NewRecord,
};

/// Checks the invariants of the whole tree.
fn check<O: Order>(tree: &Tree<O>) {
    fn sums<O: Order>(
        node: &Node<O>,
        depth: usize,
        leaves_at: &mut Option<usize>,
    ) -> (usize, usize) {
        match node {
            Node::Leaf(page) => {
                assert_eq!(*leaves_at.get_or_insert(depth), depth, "leaves have one depth");
                (page.len(), page.memory_bytes())
            }
            Node::Inner(inner) => {
                assert!((1..=CHILDREN_MAX).contains(&inner.children.len()));
                assert!(inner.children.capacity() * size_of::<Child<O>>() <= 4096);
                let mut count = 0;
                for child in &inner.children {
                    let below = sums(&child.node, depth + 1, leaves_at);
                    assert_eq!((child.count, child.bytes), below);
                    assert!(child.count > 0, "no node is empty");
                    count += child.count;
                }
                (count, inner.bytes())
            }
        }
    }
    assert_eq!((tree.len, tree.bytes), sums(&tree.root, 0, &mut None));
}

/// Number of nodes, and how many of them `other` holds too.
fn nodes<O: Order>(tree: &Tree<O>, other: &Tree<O>) -> (usize, usize) {
    fn all<'a, O: Order>(node: &'a Node<O>, out: &mut Vec<&'a Node<O>>) {
        out.push(node);
        if let Node::Inner(inner) = node {
            inner.children.iter().for_each(|child| all(&child.node, out));
        }
    }
    let same = |a: &Node<O>, b: &Node<O>| match (a, b) {
        (Node::Leaf(a), Node::Leaf(b)) => a.same(b),
        (Node::Inner(a), Node::Inner(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    all(&tree.root, &mut ours);
    all(&other.root, &mut theirs);
    let shared = ours.iter().filter(|node| theirs.iter().any(|other| same(node, other))).count();
    (ours.len(), shared)
}

fn texts<O: Order>(tree: &Tree<O>) -> Vec<Vec<u8>> {
    tree.iter().map(|record| record.body.to_vec()).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Insert(prop::sample::Index, Vec<u8>),
    /// Many at once, so that trees grow deep.
    Fill(prop::sample::Index, usize),
    Replace(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index),
    /// So many at an end.
    Push(End, usize),
    Pop(End, usize),
    RemoveRange(prop::sample::Index, prop::sample::Index),
    Capture,
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..30), 1 => vec(any::<u8>(), 200..600)]
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    let end = || prop_oneof![Just(End::Front), Just(End::Back)];
    prop_oneof![
        4 => (index(), text()).prop_map(|(at, text)| Op::Insert(at, text)),
        3 => (index(), 1..2000_usize).prop_map(|(at, count)| Op::Fill(at, count)),
        2 => (index(), text()).prop_map(|(at, text)| Op::Replace(at, text)),
        3 => index().prop_map(Op::Remove),
        3 => (end(), 1..1000_usize).prop_map(|(end, count)| Op::Push(end, count)),
        3 => (end(), 1..1500_usize).prop_map(|(end, count)| Op::Pop(end, count)),
        2 => (index(), index()).prop_map(|(from, to)| Op::RemoveRange(from, to)),
        1 => Just(Op::Capture),
    ]
}

fn insert(tree: &mut Tree<ByIndex>, at: usize, text: &[u8]) {
    let path = tree.seek(at).path();
    with_body(text, |body| {
        tree.insert(&path, &NewRecord { tag: 0, head: &[], body });
    });
}

fn push(tree: &mut Tree<ByIndex>, model: &mut Vec<Vec<u8>>, end: End, number: usize) {
    let text = vec![b'p'; number % 37];
    tree.push(end, &NewRecord { tag: 0, head: &[], body: Element::Bytes(&text) });
    let at = if end == End::Front { 0 } else { model.len() };
    model.insert(at, text);
}

fn pop(tree: &mut Tree<ByIndex>, model: &mut Vec<Vec<u8>>, end: End) {
    let popped = tree.pop(end, |record| record.body.to_vec());
    let expected = match end {
        _ if model.is_empty() => None,
        End::Front => Some(model.remove(0)),
        End::Back => model.pop(),
    };
    assert_eq!(popped, expected);
}

fn run(tree: &mut Tree<ByIndex>, model: &mut Vec<Vec<u8>>, op: &Op) {
    match op {
        Op::Insert(at, text) => {
            let at = at.index(model.len() + 1);
            insert(tree, at, text);
            model.insert(at, text.clone());
        }
        Op::Fill(at, count) => {
            let at = at.index(model.len() + 1);
            let fill = (0..*count).map(|number| format!("filler {number}").into_bytes());
            for (number, text) in fill.clone().enumerate() {
                insert(tree, at + number, &text);
            }
            model.splice(at..at, fill);
        }
        Op::Replace(at, text) if !model.is_empty() => {
            let at = at.index(model.len());
            let path = tree.seek(at).path();
            with_body(text, |body| {
                tree.replace(&path, &NewRecord { tag: 0, head: &[], body });
            });
            model[at] = text.clone();
        }
        Op::Remove(at) if !model.is_empty() => {
            let at = at.index(model.len());
            let path = tree.seek(at).path();
            tree.remove(&path);
            model.remove(at);
        }
        Op::Push(end, count) => (0..*count).for_each(|number| push(tree, model, *end, number)),
        Op::Pop(end, count) => (0..*count).for_each(|_| pop(tree, model, *end)),
        Op::RemoveRange(from, to) => {
            let (from, to) = (from.index(model.len() + 1), to.index(model.len() + 1));
            let mut garbage = tree.remove_range(from.min(to), from.max(to));
            while !garbage.free_slice(3) {}
            model.drain(from.min(to)..from.max(to));
        }
        Op::Replace(..) | Op::Remove(_) | Op::Capture => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tree_by_index_matches_a_vector(ops in vec(op(), 1..40)) {
        let (mut tree, mut model) = (Tree::<ByIndex>::new(), Vec::new());
        let mut captured = Vec::new();
        for op in &ops {
            if matches!(op, Op::Capture) {
                captured.push((tree.clone(), model.clone()));
            }
            run(&mut tree, &mut model, op);
            check(&tree);
            prop_assert_eq!(tree.len(), model.len());
        }
        prop_assert_eq!(texts(&tree), model.clone());
        let mut back: Vec<_> = tree.seek_end().backward().map(|r| r.body.to_vec()).collect();
        back.reverse();
        prop_assert_eq!(&back, &model);
        for index in (0..model.len()).step_by(7) {
            prop_assert_eq!(tree.seek(index).index(), index);
            let text = tree.get(index).map(|record| record.body.to_vec());
            prop_assert_eq!(text.as_ref(), Some(&model[index]));
        }
        for (tree, model) in captured {
            check(&tree);
            prop_assert_eq!(texts(&tree), model);
        }
    }

    /// Few hashes, so that equal ones fill several leaves.
    #[test]
    fn a_tree_by_hash_matches_a_map(
        ops in vec((any::<bool>(), 0..6_u32, 0..400_u32), 1..3000)
    ) {
        let (mut tree, mut model) = (Tree::<ByHash<0>>::new(), BTreeMap::new());
        for (add, hash, number) in ops {
            let text = format!("a member with a name of some length {number}").into_bytes();
            let (path, record) = tree.find(hash, |record| record.body.is(&text));
            let found = record.is_some();
            prop_assert_eq!(found, model.contains_key(&(hash, number)));
            match (found, add) {
                (false, true) => {
                    let record = NewRecord { tag: hash, head: &[], body: Element::Bytes(&text) };
                    tree.insert(&path, &record);
                    model.insert((hash, number), text);
                }
                (true, false) => {
                    tree.remove(&path);
                    model.remove(&(hash, number));
                }
                _ => {}
            }
        }
        check(&tree);
        let mut all = texts(&tree);
        all.sort();
        let mut expected: Vec<_> = model.values().cloned().collect();
        expected.sort();
        prop_assert_eq!(all, expected);
        for hash in 0..7 {
            let below = model.keys().filter(|key| key.0 < hash).count();
            prop_assert_eq!(tree.seek_hash(hash).index(), below);
        }
    }

    #[test]
    fn a_tree_by_score_matches_an_ordered_set(
        ops in vec((any::<bool>(), -3..3_i32, 0..300_u32), 1..3000)
    ) {
        let (mut tree, mut model) = (Tree::<ByScore>::new(), std::collections::BTreeSet::new());
        for (add, score, number) in ops {
            let text = format!("member:{number:08}").into_bytes();
            let cursor = tree.seek_member(f64::from(score), &text);
            let found = cursor.record().is_some_and(|r| r.body.is(&text) && score_of(&r) == f64::from(score));
            prop_assert_eq!(found, model.contains(&(score, text.clone())));
            drop(cursor);
            if add && !found {
                let path = tree.approach_score(f64::from(score), &text).insertion();
                let head = f64::from(score).to_le_bytes();
                tree.insert(&path, &NewRecord { tag: score_tag(f64::from(score)), head: &head, body: Element::Bytes(&text) });
                model.insert((score, text));
            } else if !add && found {
                let path = tree.member_path(f64::from(score), &text);
                tree.remove(&path);
                model.remove(&(score, text));
            }
        }
        check(&tree);
        let all: Vec<_> = tree.iter().map(|r| (score_of(&r) as i32, r.body.to_vec())).collect();
        prop_assert!(all.iter().eq(model.iter()));
        for (rank, (score, text)) in model.iter().enumerate() {
            prop_assert_eq!(tree.seek_member(f64::from(*score), text).index(), rank);
        }
        for score in -4..4 {
            let below = model.iter().filter(|member| member.0 < score).count();
            prop_assert_eq!(tree.seek_by(|other, _| other < f64::from(score)).index(), below);
        }
    }
}

#[test]
fn a_write_after_a_capture_copies_its_path_alone() {
    let mut tree = Tree::<ByIndex>::new();
    for number in 0..100_000 {
        insert(&mut tree, number, format!("element {number}").as_bytes());
    }
    let captured = tree.clone();
    let (count, shared) = nodes(&tree, &captured);
    assert_eq!(count, shared);
    let depth = tree.seek(0).path().steps.len() + 1;
    assert!(depth >= 3, "a tree of {count} nodes has inner nodes below its root");

    let path = tree.seek(50_000).path();
    tree.replace(&path, &NewRecord { tag: 0, head: &[], body: Element::Bytes(b"element x") });
    let (count, shared) = nodes(&tree, &captured);
    assert_eq!(count - shared, depth);
    tree.replace(&path, &NewRecord { tag: 0, head: &[], body: Element::Bytes(b"element y") });
    assert_eq!(nodes(&tree, &captured), (count, shared), "what is copied once is its own");
    assert_eq!(captured.get(50_000).map(|r| r.body.to_vec()), Some(b"element 50000".to_vec()));
    check(&captured);
}

#[test]
fn appending_fills_pages_whole() {
    let mut tree = Tree::<ByIndex>::new();
    for number in 0..10_000 {
        insert(&mut tree, number, b"sixteen bytes...");
    }
    let each = tree.memory_bytes() as f64 / 10_000.0;
    assert!(each < 17.0 + 2.0 + 0.7, "{each} bytes an element of 16");
}

#[test]
fn freeing_in_slices_spares_what_a_capture_holds() {
    let mut tree = Tree::<ByIndex>::new();
    for number in 0..50_000 {
        insert(&mut tree, number, b"an element");
    }
    let captured = tree.clone();
    let path = tree.seek(10).path();
    tree.remove(&path);
    let mut garbage = tree.into_garbage();
    let mut slices = 1;
    while !garbage.free_slice(1) {
        slices += 1;
    }
    assert!(slices < 200, "shared nodes are let go whole: {slices}");
    assert_eq!(texts(&captured).len(), 50_000);
    let mut garbage = captured.into_garbage();
    assert!(!garbage.free_slice(10));
    while !garbage.free_slice(10) {}
    assert!(garbage.is_empty());
}
