//! Blocks: what they hold, and what Redis would hold in their place.

use super::*;

type Pair<'a> = (&'a [u8], &'a [u8]);

fn id(ms: u64, seq: u64) -> StreamId {
    StreamId { ms, seq }
}

fn block(entries: &[(StreamId, &[Pair<'_>])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, pairs) in entries {
        if bytes.is_empty() {
            begin(&mut bytes, *id, pairs.iter().copied());
        }
        push(&mut bytes, *id, pairs.iter().copied());
    }
    bytes
}

#[test]
fn fields_that_repeat_are_stored_once() {
    let pairs: &[Pair<'_>] = &[(b"temperature", b"20"), (b"humidity", b"wet")];
    let one = block(&[(id(5, 0), pairs)]).len();
    let two = block(&[(id(5, 0), pairs), (id(6, 3), pairs)]).len();
    // Length, flags, two differences, an integer of one byte and a text of three.
    assert_eq!(two - one, 4 + 1 + 4);
}

#[test]
fn entries_come_back_as_they_were() {
    let long = vec![b'x'; 5000];
    let entries: &[(StreamId, &[Pair<'_>])] = &[
        (id(5, 9), &[(b"a", b"1"), (b"b", b"")]),
        (id(6, 0), &[(b"a", b"-7"), (b"b", &long)]),
        (id(6, 1), &[(b"b", b"x"), (b"a", b"y")]),
        (id(u64::MAX, 0), &[]),
    ];
    let bytes = block(entries);
    let read = |entry: Entry<'_>| -> (StreamId, Vec<_>) {
        (entry.id, entry.pairs().map(|(f, v)| (f.to_vec(), v.to_vec())).collect())
    };
    let all: Vec<_> = Block::new(&bytes).entries().map(read).collect();
    let expected: Vec<_> = entries
        .iter()
        .map(|(id, pairs)| (*id, pairs.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect()))
        .collect();
    assert_eq!(all, expected);
    let mut back: Vec<_> = Block::new(&bytes).entries_back().map(read).collect();
    back.reverse();
    assert_eq!(back, expected);
    let block = Block::new(&bytes);
    assert_eq!((block.first(), block.last()), (id(5, 9), id(u64::MAX, 0)));
    assert_eq!((block.live(), block.deleted()), (4, 0));
}

#[test]
fn deleted_entries_keep_their_place() {
    let pairs: &[Pair<'_>] = &[(b"f", b"v")];
    let mut bytes = block(&[(id(1, 1), pairs), (id(1, 2), pairs), (id(1, 3), pairs)]);
    let before = bytes.len();
    assert!(delete(&mut bytes, id(1, 2)) && !delete(&mut bytes, id(1, 2)));
    assert!(!delete(&mut bytes, id(9, 9)));
    assert_eq!(delete_while(&mut bytes, |entry| entry < id(1, 3)), 1);
    let view = Block::new(&bytes);
    assert_eq!((bytes.len(), view.live(), view.deleted()), (before, 1, 2));
    assert_eq!(view.find(id(1, 3)).map(|entry| entry.id), Some(id(1, 3)));
    assert!(view.find(id(1, 1)).is_none());
}

#[test]
fn sizes_are_those_of_redis_listpacks() {
    // redis-server 7.0: DEBUG LISTPACK's total bytes for XADD k 1-1 field value, then 2-1 too.
    // Header 6, counts 2 + 2, fields 2 and `field` 7, end 2, terminator 1; an entry is flags 2,
    // differences 2 + 2, `value` 7, count 2.
    let pairs: &[Pair<'_>] = &[(b"field", b"value")];
    assert_eq!(Block::new(&block(&[(id(1, 1), pairs)])).redis_bytes(), 7 + 4 + 2 + 7 + 2 + 15);
    let two = block(&[(id(1, 1), pairs), (id(2, 1), pairs)]);
    assert_eq!(Block::new(&two).redis_bytes(), 7 + 4 + 2 + 7 + 2 + 30);
}

#[test]
fn zigzag_is_undone() {
    for number in [0, 1, u64::MAX, 1 << 63, (1 << 63) - 1, 77] {
        assert_eq!(unzigzag(zigzag(number)), number);
    }
    assert_eq!((zigzag(0), zigzag(u64::MAX), zigzag(1)), (0, 1, 2));
}
