//! Streams against naive models: a vector of entries, a map of what is pending.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

const LIMITS: BlockLimits = BlockLimits { bytes_max: 400, entries_max: 6 };

type Fields = Vec<(Vec<u8>, Vec<u8>)>;
type Model = Vec<(StreamId, Fields)>;

#[derive(Clone, Debug)]
enum Op {
    Append(u64, u64, Fields),
    Delete(Index),
    Trim(Index, bool, bool, u64),
    Capture,
    EndBlock,
}

fn fields() -> impl Strategy<Value = Fields> {
    let value = prop_oneof![
        4 => vec(b'a'..b'e', 0..12),
        2 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        1 => vec(any::<u8>(), 100..600),
    ];
    (0..3_u8, vec(value, 1..4)).prop_map(|(kind, values)| {
        let name = |index| format!("field-{kind}-{index}").into_bytes();
        values.into_iter().enumerate().map(|(index, value)| (name(index), value)).collect()
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..3_u64, 0..4_u64, fields()).prop_map(|(ms, seq, f)| Op::Append(ms, seq, f)),
        4 => any::<Index>().prop_map(Op::Delete),
        2 => (any::<Index>(), any::<bool>(), any::<bool>(), 0..20_u64)
            .prop_map(|(at, by_len, whole, limit)| Op::Trim(at, by_len, whole, limit)),
        1 => Just(Op::Capture),
        1 => Just(Op::EndBlock),
    ]
}

fn append(entries: &mut Entries, id: StreamId, fields: &Fields) {
    entries.append(id, fields.iter().map(|(f, v)| (&f[..], &v[..])), LIMITS);
}

fn read<'e>(entries: impl Iterator<Item = Entry<'e>>) -> Model {
    let pair = |(field, value): (crate::types::Element<'_>, crate::types::Element<'_>)| {
        (field.to_vec(), value.to_vec())
    };
    entries.map(|entry| (entry.id, entry.pairs().map(pair).collect())).collect()
}

fn all(entries: &Entries) -> Model {
    read(entries.range(StreamId::MIN, StreamId::MAX))
}

fn run(entries: &mut Entries, model: &mut Model, op: Op) {
    match op {
        Op::Append(ms, seq, fields) => {
            let last = entries.last_id;
            let seq = if ms == 0 { last.seq + 1 + seq } else { seq };
            let id = StreamId { ms: last.ms + ms, seq };
            append(entries, id, &fields);
            model.push((id, fields));
        }
        Op::Delete(_) if model.is_empty() => assert!(!entries.delete(StreamId::MAX)),
        Op::Delete(at) => {
            let (id, _) = model.remove(at.index(model.len()));
            assert!(entries.delete(id) && !entries.delete(id));
            assert!(entries.max_deleted_id >= id);
        }
        Op::Trim(at, by_len, whole_blocks, limit) => {
            let kept = at.index(model.len() + 1);
            let to = match model.len().checked_sub(kept).and_then(|first| model.get(first)) {
                Some((id, _)) if !by_len => TrimTo::Id(*id),
                _ => TrimTo::Len(kept as u64),
            };
            let limit = if whole_blocks { limit } else { 0 };
            let before = entries.len();
            let (removed, _garbage) = entries.trim(&Trim { to, whole_blocks, limit });
            assert_eq!(before - removed, entries.len());
            assert!(entries.len() >= kept.min(model.len()) as u64);
            assert!(limit == 0 || removed <= limit);
            if !whole_blocks {
                assert_eq!(entries.len(), kept.min(model.len()) as u64);
            }
            model.drain(..removed as usize);
        }
        Op::EndBlock => entries.end_block(),
        Op::Capture => {}
    }
}

proptest! {
    #[test]
    fn entries_match_a_vector(ops in vec(op(), 1..250), bounds in vec(any::<(Index, Index)>(), 8)) {
        let (mut entries, mut model) = (Entries::new(), Model::new());
        let mut captured = Vec::new();
        for op in ops {
            if matches!(op, Op::Capture) && captured.len() < 4 {
                captured.push((entries.clone(), model.clone()));
            }
            run(&mut entries, &mut model, op);
        }
        captured.push((entries, model));
        for (entries, model) in captured {
            entries.check();
            prop_assert_eq!(all(&entries), model.clone());
            prop_assert_eq!(entries.last_live_id(), model.last().map(|entry| entry.0));
            for (from, to) in &bounds {
                if model.is_empty() {
                    continue;
                }
                let id = |at: &Index| model[at.index(model.len())].0;
                let (start, end) = (id(from), id(to));
                let expected: Model = model
                    .iter()
                    .filter(|entry| (start..=end).contains(&entry.0))
                    .cloned()
                    .collect();
                prop_assert_eq!(read(entries.range(start, end)), expected.clone());
                let mut back = read(entries.range_back(start, end));
                back.reverse();
                prop_assert_eq!(back, expected);
                prop_assert_eq!(entries.get(start).map(|entry| entry.id), Some(start));
                prop_assert!(entries.has_after(start) == (model.last().map(|e| e.0) > Some(start)));
            }
        }
    }

    #[test]
    fn what_is_pending_matches_a_map(
        ops in vec((0..6_u8, 0..120_u64, 0..5_u8, 0..400_u64), 1..500)
    ) {
        let mut stream = Stream::new();
        prop_assert!(stream.add_group(b"g", Group::new(StreamId::MIN, None)));
        let mut model: BTreeMap<StreamId, (u8, u64)> = BTreeMap::new();
        let mut captured = None;
        for (step, (op, number, consumer, count)) in ops.into_iter().enumerate() {
            let id = StreamId { ms: number, seq: 0 };
            let name = [b'a' + consumer];
            if step == 100 {
                captured = Some((stream.clone(), model.clone()));
            }
            stream.change_group(b"g", |_, group| match op {
                0 => assert_eq!(group.acknowledge(id), model.remove(&id).is_some()),
                1 if number == 0 => {
                    let had = model.values().filter(|pending| pending.0 == consumer).count();
                    let removed = group.remove_consumer(&name).map(|(pending, _)| pending);
                    assert!(removed == Some(had) || (removed.is_none() && had == 0));
                    model.retain(|_, pending| pending.0 != consumer);
                }
                _ => {
                    let (owner, _) = group.consumer_or_new(&name, 5);
                    let pending = Pending { consumer: owner, delivered_ms: 7, deliveries: count };
                    group.assign(id, pending);
                    model.insert(id, (consumer, count));
                }
            });
        }
        stream.check();
        for (stream, model) in captured.into_iter().chain([(stream, model)]) {
            let group = stream.group(b"g").expect("the group");
            let shown = |(id, pending): (StreamId, Pending)| {
                let owner = group.consumer(pending.consumer).expect("an owner").name()[0] - b'a';
                (id, (owner, pending.deliveries))
            };
            prop_assert!(group.pending_from(StreamId::MIN).map(shown).eq(model.clone()));
            prop_assert_eq!(group.last_pending(), model.keys().next_back().copied());
            for consumer in group.consumers() {
                let own = consumer.name()[0] - b'a';
                let expected = model.iter().filter(|entry| entry.1.0 == own).map(|entry| *entry.0);
                prop_assert!(consumer.pending_from(StreamId::MIN).eq(expected));
            }
        }
    }
}

fn filled(count: u64, limits: BlockLimits) -> Entries {
    let mut entries = Entries::new();
    for ms in 1..=count {
        let pairs = [(&b"field"[..], &b"some value"[..]), (b"other", b"7")];
        entries.append(StreamId { ms, seq: 0 }, pairs.into_iter(), limits);
    }
    entries
}

const USUAL: BlockLimits = BlockLimits { bytes_max: 4096, entries_max: 100 };

#[test]
fn an_entry_takes_little_more_than_its_values() {
    let entries = filled(100_000, USUAL);
    let each = entries.memory_bytes() as f64 / 100_000.0;
    // Values of 10 and 1 bytes; two lengths, and four bytes of length, flags and id.
    assert!(each < 11.0 + 1.0 + 4.0 + 3.0, "{each} bytes an entry");
}

#[test]
fn a_write_after_a_capture_copies_one_block_and_its_path() {
    let mut entries = filled(100_000, USUAL);
    let captured = entries.clone();
    let blocks = |entries: &Entries| -> Vec<*const u8> {
        entries.blocks().map(|block| block.bytes().as_ptr()).collect()
    };
    assert_eq!(blocks(&entries), blocks(&captured));
    assert!(entries.delete(StreamId { ms: 50_000, seq: 0 }));
    let (now, then) = (blocks(&entries), blocks(&captured));
    let differing = now.iter().zip(&then).filter(|(now, then)| now != then).count();
    assert_eq!((now.len(), differing), (then.len(), 1));
    assert_eq!(captured.range(StreamId::MIN, StreamId::MAX).count(), 100_000);
}

#[test]
fn what_is_trimmed_is_freed_in_slices() {
    let mut entries = filled(200_000, USUAL);
    let (removed, mut garbage) =
        entries.trim(&Trim { to: TrimTo::Len(10), whole_blocks: false, limit: 0 });
    assert_eq!(removed, 199_990);
    entries.check();
    let mut slices = 0;
    while !garbage.free_slice(500) {
        slices += 1;
    }
    assert!(slices > 1, "2,000 blocks are not freed at once");
}

#[test]
fn trimming_by_whole_blocks_keeps_what_is_over() {
    let mut entries = filled(1000, USUAL);
    let trim =
        |entries: &mut Entries, to, limit| entries.trim(&Trim { to, whole_blocks: true, limit }).0;
    assert_eq!(trim(&mut entries, TrimTo::Len(555), 0), 400);
    assert_eq!(trim(&mut entries, TrimTo::Len(5), 150), 100);
    assert_eq!(trim(&mut entries, TrimTo::Id(StreamId { ms: 799, seq: 0 }), 0), 200);
    assert_eq!(trim(&mut entries, TrimTo::Len(0), 0), 300);
    assert_eq!((entries.len(), entries.first_id()), (0, StreamId::MIN));
    entries.check();
}

#[test]
fn a_huge_entry_is_sealed_at_once() {
    let mut entries = Entries::new();
    let value = vec![b'x'; 100_000];
    for ms in 1..4 {
        entries.append(StreamId { ms, seq: 0 }, [(&b"f"[..], &value[..])].into_iter(), USUAL);
    }
    assert!(entries.tail.is_empty());
    assert!(entries.memory_bytes() < 301_500, "{}", entries.memory_bytes());
    entries.check();
}

#[test]
fn blocks_end_where_those_of_redis_do() {
    // redis-server 7.0 begins nodes at the entries 1, 37, 73, 109, 145 and 181 (XINFO STREAM's
    // radix-tree-keys after each XADD).
    let mut entries = Entries::new();
    let value = [b'v'; 100];
    for ms in 1..=200 {
        entries.append(StreamId { ms, seq: 0 }, [(&b"f"[..], &value[..])].into_iter(), USUAL);
    }
    let firsts: Vec<_> = entries.blocks().map(|block| block.first().ms).collect();
    assert_eq!(firsts, [1, 37, 73, 109, 145, 181]);
}
