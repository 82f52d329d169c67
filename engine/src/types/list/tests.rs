//! Lists against a naive model: a vector.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Push(bool, Vec<u8>),
    Pop(bool),
    Insert(Index, Vec<u8>),
    Set(Index, Vec<u8>),
    Trim(Index, Index),
    RemoveEqual(Vec<u8>, bool, usize),
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0..20_i64).prop_map(|int| int.to_string().into_bytes()),
        4 => vec(any::<u8>(), 0..60),
        1 => vec(any::<u8>(), 300..1500),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<Index>;
    prop_oneof![
        8 => (any::<bool>(), text()).prop_map(|(end, text)| Op::Push(end, text)),
        3 => any::<bool>().prop_map(Op::Pop),
        3 => (index(), text()).prop_map(|(at, text)| Op::Insert(at, text)),
        2 => (index(), text()).prop_map(|(at, text)| Op::Set(at, text)),
        1 => (index(), index()).prop_map(|(from, to)| Op::Trim(from, to)),
        1 => (text(), any::<bool>(), 0..5_usize).prop_map(|(t, e, n)| Op::RemoveEqual(t, e, n)),
    ]
}

fn end(back: bool) -> End {
    if back { End::Back } else { End::Front }
}

fn run(list: &mut List, model: &mut Vec<Vec<u8>>, op: Op, thresholds: &Thresholds) {
    let len = model.len();
    match op {
        Op::Push(back, text) => {
            list.push(end(back), &text, thresholds);
            model.insert(if back { len } else { 0 }, text);
        }
        Op::Pop(back) => {
            let popped = list.pop(end(back), thresholds, |element| element.to_vec());
            let index = if back { len.saturating_sub(1) } else { 0 };
            let expected = (len > 0).then(|| model.remove(index));
            assert_eq!(popped, expected);
        }
        Op::Insert(at, text) => {
            let at = at.index(len + 1);
            list.insert(at, &text, thresholds);
            model.insert(at, text);
        }
        Op::Set(at, text) => {
            let at = at.index(len + 1);
            assert_eq!(list.set(at, &text, thresholds), at < len);
            if at < len {
                model[at] = text;
            }
        }
        Op::Trim(from, to) => {
            let (a, b) = (from.index(len + 1), to.index(len + 1));
            let (from, to) = (a.min(b), a.max(b).min(a.min(b) + 3));
            drop(list.remove_range(from, to, thresholds));
            model.drain(from..to);
        }
        Op::RemoveEqual(text, back, limit) => {
            let mut found: Vec<_> = (0..len).filter(|&index| model[index] == text).collect();
            if back {
                found.reverse();
            }
            found.truncate(limit);
            assert_eq!(list.remove_equal(&text, end(back), limit, thresholds), found.len());
            found.sort_unstable();
            found.iter().rev().for_each(|&index| drop(model.remove(index)));
        }
    }
}

proptest! {
    #[test]
    fn a_list_matches_a_vector(ops in vec(op(), 1..200), limit in -2..20_i64) {
        let thresholds = Thresholds { list_max_listpack_size: limit, ..Thresholds::default() };
        let (mut list, mut model) = (List::new(), Vec::new());
        for op in ops {
            run(&mut list, &mut model, op, &thresholds);
            prop_assert_eq!(list.len(), model.len());
            let is_large = matches!(list.repr, Repr::Large(_));
            prop_assert!(list.redis_bytes.is_none() || is_large);
            prop_assert!(list.redis_bytes.is_some() || !is_large || list.is_quicklist);
            if let Some(bytes) = list.redis_bytes {
                prop_assert_eq!(bytes, list.redis_listpack_bytes());
            }
            if let Some(bytes) = list.packed() {
                list = List::from_packed(bytes);
            }
        }
        let all: Vec<_> = list.iter_from(0).map(|element| element.to_vec()).collect();
        prop_assert_eq!(&all, &model);
        for index in 0..=model.len() {
            let element = list.get(index).map(|element| element.to_vec());
            prop_assert_eq!(element.as_ref(), model.get(index));
            let before = list.iter_back_from(index).next().map(|element| element.to_vec());
            prop_assert_eq!(before.as_ref(), index.checked_sub(1).map(|at| &model[at]));
        }
    }
}

#[test]
fn the_name_follows_redis_thresholds() {
    let thresholds = Thresholds { list_max_listpack_size: 4, ..Thresholds::default() };
    let mut list = List::new();
    for _ in 0..4 {
        list.push(End::Back, b"a", &thresholds);
    }
    assert_eq!(list.encoding_name(), "listpack");
    list.push(End::Back, b"a", &thresholds);
    assert_eq!(list.encoding_name(), "quicklist");
    for _ in 0..2 {
        list.remove(0, &thresholds);
        assert_eq!(list.encoding_name(), "quicklist");
    }
    list.remove(0, &thresholds);
    assert_eq!(list.encoding_name(), "listpack");

    // No elements are taken for one, and sizes below the smallest directive for the largest.
    for (limit, first, second) in [(0, 1, 1), (-6, 60_000, 5_536)] {
        let thresholds = Thresholds { list_max_listpack_size: limit, ..Thresholds::default() };
        let mut list = List::new();
        list.push(End::Back, &vec![b'x'; first], &thresholds);
        assert_eq!(list.encoding_name(), "listpack");
        list.push(End::Back, &vec![b'x'; second], &thresholds);
        assert_eq!(list.encoding_name(), "quicklist");
    }

    let thresholds = Thresholds::default();
    let mut list = List::new();
    list.push(End::Back, &[b'x'; 8000], &thresholds);
    assert_eq!(list.encoding_name(), "listpack");
    list.push(End::Back, &[b'x'; 200], &thresholds);
    assert_eq!(list.encoding_name(), "quicklist");
}

#[test]
fn a_captured_list_keeps_its_content() {
    let thresholds = Thresholds::default();
    let mut list = List::new();
    for number in 0..5000 {
        list.push(End::Front, format!("element {number}").as_bytes(), &thresholds);
    }
    let captured = list.clone();
    while list.pop(End::Back, &thresholds, |_| ()).is_some() {}
    assert_eq!((list.len(), captured.len()), (0, 5000));
    assert_eq!(captured.get(0).map(|e| e.to_vec()), Some(b"element 4999".to_vec()));
}
