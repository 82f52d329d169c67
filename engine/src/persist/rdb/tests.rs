//! Values there and back, whole and in pieces, and hostile bytes.
#![forbid(unsafe_code)]

mod dated;
mod files;
mod streams;

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    sys::random::Random,
    types::{Hash, List, Set, Thresholds, Zset, list::End},
    value::{Object, Value, encoding_name, inline, value_type},
};

/// What a value holds, for comparing.
#[derive(Clone, Debug, PartialEq)]
enum Content {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Zset(Vec<(Vec<u8>, u64)>),
    Stream(Box<streams::Content>),
}

fn content(value: &Value) -> Content {
    match value {
        Value::Int(int) => Content::String(int.to_string().into_bytes()),
        Value::Inline { kind, bytes } => match *kind {
            inline::LIST => of_object(&Object::List(List::from_packed(bytes))),
            inline::HASH => of_object(&Object::Hash(Hash::from_packed(bytes))),
            inline::ZSET => of_object(&Object::Zset(Zset::from_packed(bytes))),
            inline::SET => of_object(&Object::Set(Set::from_packed(
                crate::types::set::PackedSet::Members(bytes),
            ))),
            inline::INTSET => {
                of_object(&Object::Set(Set::from_packed(crate::types::set::PackedSet::Ints(bytes))))
            }
            _ => Content::String(bytes.to_vec()),
        },
        Value::Object(object) => of_object(object),
    }
}

fn of_object(object: &Object) -> Content {
    match object {
        Object::String(bytes) => Content::String(bytes.to_vec()),
        Object::List(list) => Content::List(list.iter_from(0).map(|each| each.to_vec()).collect()),
        Object::Set(set) => Content::Set(set.iter().map(|each| each.to_vec()).collect()),
        Object::Hash(hash) => {
            Content::Hash(hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect())
        }
        Object::Zset(zset) => {
            Content::Zset(zset.iter_from(0).map(|(m, s)| (m.to_vec(), s.to_bits())).collect())
        }
        Object::Stream(stream) => Content::Stream(Box::new(streams::content(stream))),
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..30),
        4 => any::<i64>().prop_map(|int| int.to_string().into_bytes()),
        4 => (-300..300_i64).prop_map(|int| int.to_string().into_bytes()),
        2 => (any::<u8>(), 20..200_usize).prop_map(|(byte, len)| vec![byte; len]),
        1 => vec(any::<u8>(), 500..1_200),
    ]
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("no number", |score| !score.is_nan()),
        (-1_000..1_000_i32).prop_map(f64::from),
        (-1_000..1_000_i32).prop_map(|tenths| f64::from(tenths) / 10.0),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-0.0),
    ]
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    (prop_oneof![Just(-2_i64), Just(-1), Just(3), Just(128)], prop_oneof![Just(4_usize), Just(128)])
        .prop_map(|(list, entries)| Thresholds {
            list_max_listpack_size: list,
            hash_max_listpack_entries: entries,
            set_max_intset_entries: entries,
            set_max_listpack_entries: entries,
            zset_max_listpack_entries: entries,
            ..Thresholds::default()
        })
}

fn list(texts: &[Vec<u8>], thresholds: &Thresholds) -> Value {
    let mut list = List::new();
    texts.iter().for_each(|text| list.push(End::Back, text, thresholds));
    list.into()
}

fn set(texts: &[Vec<u8>], thresholds: &Thresholds) -> Value {
    let mut set = Set::new(&texts[0], 1, thresholds);
    texts.iter().for_each(|text| _ = set.add(text, thresholds));
    set.into()
}

fn hash(pairs: &[(Vec<u8>, Vec<u8>)], thresholds: &Thresholds) -> Value {
    let mut hash = Hash::new();
    pairs.iter().for_each(|(field, value)| _ = hash.set(field, value, thresholds));
    hash.into()
}

fn zset(pairs: &[(Vec<u8>, f64)], thresholds: &Thresholds) -> Value {
    let mut zset = Zset::new();
    pairs.iter().for_each(|(member, score)| _ = zset.set(member, *score, thresholds));
    zset.into()
}

fn value(thresholds: Thresholds) -> impl Strategy<Value = Value> {
    let [a, b, c, d] = std::array::from_fn(|_| thresholds.clone());
    let ints = vec(prop_oneof![-40_000..40_000_i64, any::<i64>()], 1..300);
    let ints = ints.prop_map(|ints| ints.iter().map(|int| int.to_string().into_bytes()).collect());
    prop_oneof![
        text().prop_map(|text| Value::string(&text)),
        vec(text(), 1..200).prop_map(move |texts| list(&texts, &a)),
        prop_oneof![ints, vec(text(), 1..200)].prop_map(move |texts: Vec<Vec<u8>>| set(&texts, &b)),
        vec((text(), text()), 1..150).prop_map(move |pairs| hash(&pairs, &c)),
        vec((text(), score()), 1..150).prop_map(move |pairs| zset(&pairs, &d)),
        streams::value(),
    ]
}

fn whole(value: &Value, options: Options) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(options).encode(&value.body(), &mut out);
    out
}

/// Decodes `bytes` shown `window` more at a time; what is committed is not shown again.
fn in_pieces(kind: u8, bytes: &[u8], window: usize, thresholds: &Thresholds) -> Decoded {
    let mut decoder = Decoder::new(kind).expect("a known kind");
    let (mut start, mut shown) = (0, window.min(bytes.len()));
    loop {
        let mut input = Input::part(&bytes[start..shown], (bytes.len() - shown) as u64);
        let outcome = decoder.step(&mut input, thresholds);
        start += input.committed();
        match outcome {
            Ok(decoded) => {
                assert_eq!(start, bytes.len(), "all is taken");
                return decoded;
            }
            Err(Stop::NeedMore(missing)) => {
                assert!(missing > 0 && shown < bytes.len());
                shown = (shown + window.max(1)).min(bytes.len());
            }
            Err(Stop::Broken(error)) => panic!("{error}"),
        }
    }
}

/// Passes a value by in pieces.
fn skipped(kind: u8, bytes: &[u8], window: usize) {
    let mut skip = grammar::Skip::new(kind).expect("a known kind");
    let (mut start, mut shown) = (0, window.min(bytes.len()));
    loop {
        let mut input = Input::part(&bytes[start..shown], (bytes.len() - shown) as u64);
        let outcome = skip.step(&mut input);
        start += input.committed();
        match outcome {
            Ok(()) => return assert_eq!(start, bytes.len(), "all is passed by"),
            Err(Stop::NeedMore(_)) => shown = (shown + window.max(1)).min(bytes.len()),
            Err(Stop::Broken(error)) => panic!("{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_value_comes_back_from_its_bytes(
        (value, thresholds) in thresholds().prop_flat_map(|t| (value(t.clone()), Just(t))),
        compress in any::<bool>(),
        budget in 1..5_000_usize,
        window in 1..5_000_usize,
    ) {
        let options =
            Options { compress, list_max_listpack_size: thresholds.list_max_listpack_size };
        let bytes = whole(&value, options);
        let mut encoder = Encoder::new(options);
        let mut pieces = Vec::new();
        encoder.start();
        while encoder.step(&value.body(), &mut pieces, budget) == Progress::More {}
        prop_assert_eq!(&pieces, &bytes, "steps make the same bytes");

        let kind = encode::kind_of(&value.body());
        let Decoded::Value(back) = in_pieces(kind, &bytes, window, &thresholds) else {
            panic!("nothing came back");
        };
        prop_assert_eq!(content(&back), content(&value));
        prop_assert_eq!(value_type(&back.body()), value_type(&value.body()));
        skipped(kind, &bytes, window);
    }

    #[test]
    fn an_encoding_that_did_not_shrink_keeps_its_name(
        (value, thresholds) in thresholds().prop_flat_map(|t| (value(t.clone()), Just(t))),
    ) {
        let options = Options {
            compress: true,
            list_max_listpack_size: thresholds.list_max_listpack_size,
        };
        let payload = payload::dump(&mut Encoder::new(options), &value.body());
        let content = payload::verify(&payload).expect("it is sealed");
        let back = payload::value_of(content, &thresholds).expect("it is whole");
        prop_assert_eq!(encoding_name(&back.body()), encoding_name(&value.body()));
    }

    #[test]
    fn damaged_values_are_refused_or_read_and_nothing_else(
        (value, thresholds) in thresholds().prop_flat_map(|t| (value(t.clone()), Just(t))),
        damage in vec((any::<usize>(), any::<u8>()), 1..4),
        cut in any::<usize>(),
    ) {
        let options = Options { compress: damage[0].1 & 1 == 0, list_max_listpack_size: -2 };
        let mut bytes = vec![encode::kind_of(&value.body())];
        Encoder::new(options).encode(&value.body(), &mut bytes);
        prop_assert!(payload::value_of(&bytes[..cut % bytes.len()], &thresholds).is_err());
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] ^= byte;
        }
        if let Ok(value) = payload::value_of(&bytes, &thresholds) {
            // What was let in can be written again.
            payload::dump(&mut Encoder::new(options), &value.body());
        }
    }

    #[test]
    fn noise_of_any_kind_is_no_value(kind in 0..30_u8, bytes in vec(any::<u8>(), 0..200)) {
        let content = [&[kind], &bytes[..]].concat();
        let _ = payload::value_of(&content, &Thresholds::default());
    }
}

#[test]
fn long_strings_are_written_in_steps_wherever_they_stand() {
    let thresholds = Thresholds::default();
    let mut random = Random::from_seed(1);
    let noise: Vec<u8> = (0..300_000).map(|_| random.next_u64() as u8).collect();
    let even = vec![b'e'; 200_000];
    let values = [
        Value::string(&noise),
        Value::string(&even),
        list(&[b"a".to_vec(), noise.clone(), b"b".to_vec(), even.clone()], &thresholds),
        set(&[noise.clone(), even.clone(), b"x".to_vec()], &thresholds),
        hash(&[(noise.clone(), even.clone()), (even.clone(), b"v".to_vec())], &thresholds),
        zset(&[(noise.clone(), 1.5), (b"m".to_vec(), 2.5), (even.clone(), 0.5)], &thresholds),
    ];
    for value in values {
        for compress in [true, false] {
            let options = Options { compress, list_max_listpack_size: -2 };
            let bytes = whole(&value, options);
            let mut encoder = Encoder::new(options);
            let (mut out, mut steps) = (Vec::new(), 0);
            encoder.start();
            while encoder.step(&value.body(), &mut out, 10_000) == Progress::More {
                steps += 1;
            }
            assert!(out == bytes && steps >= 19, "{steps} steps");
            let kind = encode::kind_of(&value.body());
            let Decoded::Value(back) = in_pieces(kind, &bytes, 50_000, &thresholds) else {
                panic!("nothing came back");
            };
            assert_eq!(content(&back), content(&value));
        }
    }
}

#[test]
fn a_module_value_is_refused_by_its_name() {
    // "ReJSON-RL", encoding version 3.
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = |letter| letters.iter().position(|&each| each == letter).expect("a letter") as u64;
    let id = b"ReJSON-RL".iter().fold(0, |id, &letter| id << 6 | place(letter)) << 10 | 3;
    let mut content = vec![kind::MODULE_2];
    output::put_length(&mut content, id);
    content.push(0);
    let error = payload::value_of(&content, &Thresholds::default()).expect_err("no such type");
    assert_eq!(error, RdbError::Module("ReJSON-RL".into()));
}

#[test]
fn a_huge_count_costs_nothing() {
    let mut content = vec![kind::SET];
    output::put_length(&mut content, u64::MAX);
    output::put_plain(&mut content, b"one");
    let error = payload::value_of(&content, &Thresholds::default()).expect_err("it ends");
    assert_eq!(error, RdbError::Truncated);
}

fn build_ziplist(texts: &[&str]) -> Vec<u8> {
    let entries: Vec<Vec<u8>> =
        texts.iter().map(|text| [&[text.len() as u8], text.as_bytes()].concat()).collect();
    packed::ziplist::build(&entries)
}

fn read_blob(kind: u8, blob: &[u8]) -> Result<Content, RdbError> {
    let mut bytes = vec![kind];
    output::put_raw(&mut bytes, blob);
    payload::value_of(&bytes, &Thresholds::default()).map(|value| content(&value))
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn encodings_of_old_versions_are_read() {
    let pairs = build_ziplist(&["a", "1", "b", "2.5"]);
    assert_eq!(
        read_blob(kind::LIST_ZIPLIST, &pairs),
        Ok(Content::List(texts(&["a", "1", "b", "2.5"])))
    );
    let fields = [("a", "1"), ("b", "2.5")].map(|(f, v)| (f.into(), v.into()));
    assert_eq!(read_blob(kind::HASH_ZIPLIST, &pairs), Ok(Content::Hash(fields.into())));
    let scores = vec![(b"a".to_vec(), 1_f64.to_bits()), (b"b".to_vec(), 2.5_f64.to_bits())];
    assert_eq!(read_blob(kind::ZSET_ZIPLIST, &pairs), Ok(Content::Zset(scores)));
    let zipmap = b"\x02\x01a\x01\x001\x01b\x03\x002.5\xFF";
    let fields = [("a", "1"), ("b", "2.5")].map(|(f, v)| (f.into(), v.into()));
    assert_eq!(read_blob(kind::HASH_ZIPMAP, zipmap), Ok(Content::Hash(fields.into())));

    let mut quicklist = vec![kind::LIST_QUICKLIST, 3];
    for node in [&["a", "b"][..], &[], &["c"]] {
        output::put_raw(&mut quicklist, &build_ziplist(node));
    }
    let list = payload::value_of(&quicklist, &Thresholds::default()).expect("it is well-formed");
    assert_eq!(content(&list), Content::List(texts(&["a", "b", "c"])));

    let zset = [&[kind::ZSET, 3][..], b"\x01a\x031.5", b"\x01b\xFE", b"\x01c\xFF"].concat();
    let zset = payload::value_of(&zset, &Thresholds::default()).expect("it is well-formed");
    let scores = [("c", f64::NEG_INFINITY), ("a", 1.5), ("b", f64::INFINITY)];
    let scores = scores.map(|(member, score)| (member.as_bytes().to_vec(), score.to_bits()));
    assert_eq!(content(&zset), Content::Zset(scores.into()));
}

#[test]
fn what_a_collection_cannot_hold_is_refused() {
    let twice = build_ziplist(&["a", "1", "a", "2"]);
    let odd = build_ziplist(&["a", "1", "b"]);
    let words = build_ziplist(&["a", "nan", "b", "c"]);
    for (kind, blob) in [
        (kind::HASH_ZIPLIST, &twice),
        (kind::ZSET_ZIPLIST, &twice),
        (kind::HASH_ZIPLIST, &odd),
        (kind::ZSET_ZIPLIST, &odd),
        (kind::ZSET_ZIPLIST, &words),
        (kind::HASH_ZIPLIST, &build_ziplist(&[])),
        (kind::LIST_ZIPLIST, &build_ziplist(&[])),
        (kind::HASH_LISTPACK, &twice),
    ] {
        assert!(read_blob(kind, blob).is_err(), "kind {kind}");
    }
    for content in [
        &b"\x02\x02\x01a\x01a"[..],
        b"\x04\x02\x01a\x011\x01a\x012",
        b"\x05\x01\x01a\x00\x00\x00\x00\x00\x00\xF8\x7F",
        b"\x03\x01\x01a\xFD",
        b"\x12\x01\x03\x01a",
        b"\x12\x01\x01\x00",
        b"\x00\x01ab",
        b"",
    ] {
        assert!(payload::value_of(content, &Thresholds::default()).is_err(), "{content:?}");
    }
}
