//! Hashes whose fields have deadlines: there and back, and the bytes that Redis 7.4 and Valkey 9 write.

use proptest::{collection::vec, prelude::*};

use super::*;

type Fields = Vec<(Vec<u8>, Vec<u8>, Option<i64>)>;

fn dated(fields: &Fields, thresholds: &Thresholds) -> Value {
    let mut hash = Hash::new();
    for (field, value, deadline) in fields {
        hash.set(field, value, thresholds);
        hash.set_deadline(field, *deadline, thresholds);
    }
    hash.into()
}

/// What a hash holds, by field.
fn contents(value: &Value) -> Fields {
    let hash = match value {
        Value::Inline { bytes, .. } => Hash::from_packed(bytes),
        Value::Object(object) => match &**object {
            Object::Hash(hash) => hash.clone(),
            other => panic!("a hash, not {other:?}"),
        },
        Value::Int(_) => panic!("a hash"),
    };
    let mut fields: Fields = hash
        .iter_timed(0)
        .map(|(field, value, deadline)| (field.to_vec(), value.to_vec(), deadline))
        .collect();
    fields.sort();
    fields
}

fn read(kind: u8, bytes: &[u8]) -> Result<Value, RdbError> {
    payload::value_of(&[&[kind], bytes].concat(), &Thresholds::default())
}

/// A string as RDB has it: a length below 64 and the bytes.
fn text(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

const LATE: i64 = 2_000_000_000_000;

fn expected() -> Fields {
    vec![(b"a".to_vec(), b"1".to_vec(), Some(LATE)), (b"b".to_vec(), b"2".to_vec(), None)]
}

/// The listpack of `a 1 LATE b 2 0`: total bytes, count, elements with back lengths, end.
fn packed() -> Vec<u8> {
    let late = [&[0xF4][..], &LATE.to_le_bytes(), &[9]].concat();
    let elements = [&[0x81, b'a', 2, 1, 1][..], &late, &[0x81, b'b', 2, 2, 1, 0, 1, 0xFF]].concat();
    let total = (6 + elements.len()) as u32;
    [&total.to_le_bytes()[..], &6_u16.to_le_bytes(), &elements].concat()
}

#[test]
fn small_hashes_are_written_as_redis_writes_them() {
    let thresholds = Thresholds::default();
    let mut fields = expected();
    fields.reverse();
    let value = dated(&fields, &thresholds);
    let mut out = Vec::new();
    Encoder::new(Options::default()).encode(&value.body(), &mut out);
    assert_eq!(encode::kind_of(&value.body()), kind::HASH_LISTPACK_EX);
    assert_eq!(out, [LATE.to_le_bytes().to_vec(), text(&packed())].concat());
    assert_eq!(contents(&read(kind::HASH_LISTPACK_EX, &out).unwrap()), expected());
}

#[test]
fn fields_one_by_one_are_read_as_redis_and_valkey_write_them() {
    // Redis 7.4: the earliest deadline; of each field, how long behind it and one more, or 0.
    let pair = |field: &[u8], value: &[u8]| [text(field), text(value)].concat();
    let redis =
        [LATE.to_le_bytes().to_vec(), vec![2, 1], pair(b"a", b"1"), vec![0], pair(b"b", b"2")]
            .concat();
    assert_eq!(contents(&read(kind::HASH_METADATA, &redis).unwrap()), expected());
    // Valkey 9: of each field its deadline, or -1.
    let valkey = [
        vec![2],
        pair(b"a", b"1"),
        LATE.to_le_bytes().to_vec(),
        pair(b"b", b"2"),
        (-1_i64).to_le_bytes().to_vec(),
    ]
    .concat();
    assert_eq!(contents(&read(kind::HASH_2, &valkey).unwrap()), expected());
    let mut bad = valkey.clone();
    bad[5..13].copy_from_slice(&i64::MIN.to_le_bytes());
    assert!(read(kind::HASH_2, &bad).is_err(), "an impossible deadline");
    for cut in 0..valkey.len() {
        assert!(read(kind::HASH_2, &valkey[..cut]).is_err(), "{cut} bytes");
    }
}

#[test]
fn payloads_of_valkeys_version_are_taken() {
    let value = dated(&expected(), &Thresholds::default());
    let mut payload = payload::dump(&mut Encoder::new(Options::default()), &value.body());
    let version = payload.len() - 10;
    for (number, is_taken) in [(12_u16, true), (13, false), (79, false), (80, true), (81, false)] {
        payload[version..version + 2].copy_from_slice(&number.to_le_bytes());
        let sum = crc64(&payload[..version + 2]);
        payload[version + 2..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(payload::verify(&payload).is_ok(), is_taken, "version {number}");
    }
}

proptest! {
    #[test]
    fn hashes_with_deadlines_come_back(
        fields in vec(
            (0..200_u8, vec(any::<u8>(), 0..40), proptest::option::of(1..1_i64 << 46)),
            1..150,
        ),
        entries in prop_oneof![Just(4_usize), Just(128)],
    ) {
        let thresholds = Thresholds { hash_max_listpack_entries: entries, ..Thresholds::default() };
        let fields: Fields = fields
            .into_iter()
            .map(|(field, value, deadline)| (vec![b'f', field], value, deadline))
            .collect();
        let value = dated(&fields, &thresholds);
        let payload = payload::dump(&mut Encoder::new(Options::default()), &value.body());
        let content = payload::verify(&payload).unwrap();
        let again = payload::value_of(content, &thresholds).unwrap();
        prop_assert_eq!(contents(&again), contents(&value));
    }
}
