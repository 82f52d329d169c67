//! Whole files there and back, and damaged ones.
#![forbid(unsafe_code)]

use super::*;

/// An entry to be written.
type Sample = (u32, &'static str, Option<i64>, Option<Usage>, Value);

/// What a reader says of `bytes` shown `window` at a time.
fn read(bytes: &[u8], window: usize, known: bool) -> Result<Vec<Event>, ReadError> {
    let total = known.then_some(bytes.len() as u64);
    let mut reader = Reader::new(total, true);
    let (mut events, mut rest) = (Vec::new(), bytes);
    loop {
        match reader.next(&Thresholds::default(), |key| !key.key.starts_with(b"skip"))? {
            Event::NeedMore(missing) => {
                assert!(missing > 0);
                if rest.is_empty() {
                    return Ok(events);
                }
                let (chunk, behind) = rest.split_at(window.min(rest.len()));
                reader.supply(chunk);
                rest = behind;
            }
            event => {
                let is_end = matches!(event, Event::End);
                events.push(event);
                if is_end {
                    return Ok(events);
                }
            }
        }
    }
}

fn sample(entries: &[Sample], sum: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    writer::put_header(&mut bytes, &[("redis-ver", "7.2.4"), ("ctime", "1700000000")]);
    writer::put_function(&mut bytes, b"#!lua name=lib");
    let mut writer = Writer::new(Options::default());
    writer.put_sizes(0, 3, 1, &mut bytes);
    for (database, key, deadline, usage, value) in entries {
        let (database, key) = (*database, key.as_bytes());
        let head = EntryHead { database, key, deadline: *deadline, usage: *usage };
        writer.entry(&head, &value.body(), &mut bytes);
    }
    let mut trailer = Trailer::new(sum);
    trailer.update(&bytes);
    bytes.extend_from_slice(&trailer.finish());
    bytes
}

fn entries() -> Vec<Sample> {
    let thresholds = Thresholds::default();
    let members: Vec<Vec<u8>> = (0..900).map(|n| format!("member {n}").into_bytes()).collect();
    vec![
        (0, "a", None, None, Value::string(b"text")),
        (0, "b", Some(1_800_000_000_123), Some(Usage::IdleSeconds(70)), Value::Int(5)),
        (0, "skip", Some(9), Some(Usage::Frequency(9)), set(&members, &thresholds)),
        (3, "12", None, Some(Usage::Frequency(200)), list(&members, &thresholds)),
        (0, "skip this too", None, None, list(&members, &thresholds)),
        (0, "z", None, None, zset(&[(b"m".to_vec(), 0.5)], &thresholds)),
    ]
}

#[test]
fn what_was_written_is_read_in_chunks_of_any_size() {
    let bytes = sample(&entries(), true);
    let expected: Vec<_> =
        entries().into_iter().filter(|each| !each.1.starts_with("skip")).collect();
    for window in [1, 7, 1_000, usize::MAX] {
        for known in [true, false] {
            let events = read(&bytes, window, known).expect("it is well-formed");
            let mut wanted = expected.iter();
            let mut others = Vec::new();
            for event in &events {
                match event {
                    Event::Entry(entry) => {
                        let (database, key, deadline, usage, value) =
                            wanted.next().expect("no more entries than were written");
                        let (database, deadline, usage) = (*database, *deadline, *usage);
                        let key = key.as_bytes().to_vec();
                        assert_eq!(entry.key, LoadedKey { database, key, deadline, usage });
                        assert_eq!(content(&entry.value), content(value));
                    }
                    other => others.push(format!("{other:?}")),
                }
            }
            assert!(wanted.next().is_none());
            assert_eq!(others.len(), 5, "{others:?}");
            assert!(others[3].contains("Sizes { database: 0, keys: 3, volatile: 1 }"));
        }
    }
}

#[test]
fn damage_is_found_and_its_place_told() {
    let good = sample(&entries(), true);
    for at in [0, 5, 8, 40, good.len() / 2, good.len() - 9, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x15;
        let error = read(&bad, 100, true).expect_err("damaged");
        assert!(error.offset <= good.len() as u64, "{error}");
    }
    for end in [3, 9, 50, good.len() - 9, good.len() - 1] {
        let error = read(&good[..end], 100, true).expect_err("cut");
        assert!(matches!(error.cause, RdbError::Truncated), "{error}");
    }
    // Without a checksum nobody knows; zeros stand for none.
    let mut unsealed = sample(&entries(), false);
    assert!(read(&unsealed, 100, true).is_ok());
    let at = unsealed.windows(4).position(|four| four == b"text").expect("it is there");
    unsealed[at] = b'T';
    assert!(read(&unsealed, 100, true).is_ok());
}

#[test]
fn other_files_and_versions_are_refused() {
    for (bytes, cause) in [
        (&b"hello, world"[..], RdbError::NotRdb),
        (b"REDIS00xx", RdbError::NotRdb),
        (b"REDIS0013", RdbError::Version(13)),
        (b"REDIS0000", RdbError::Version(0)),
        (b"VALKEY081", RdbError::Version(81)),
    ] {
        assert_eq!(read(bytes, 100, true).expect_err("refused").cause, cause);
    }
    let error = read(b"REDIS0009\x08\x01k", 100, true).expect_err("no such kind");
    assert_eq!(error.cause, RdbError::UnknownKind(8));
}

#[test]
fn opcodes_of_other_servers_are_passed_over() {
    let mut bytes = b"REDIS0009".to_vec();
    // A slot's sizes, a module's own data, a deadline in seconds.
    bytes.extend_from_slice(&[0xF4, 1, 2, 3]);
    bytes.extend_from_slice(&[0xF7, 0x81, 1, 2, 3, 4, 5, 6, 7, 8, 2, 1, 5, 2, b'h', b'i', 0]);
    bytes.extend_from_slice(&[0xFD, 0, 0xF1, 0x53, 0x65, 0, 1, b'k', 1, b'v']);
    // An empty list, as old versions left them.
    bytes.extend_from_slice(&[1, 1, b'l', 0]);
    bytes.push(0xFF);
    bytes.extend_from_slice(&[0; 8]);
    let events = read(&bytes, 3, true).expect("it is well-formed");
    let [Event::Entry(entry), Event::EmptyKey(key), Event::End] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((&entry.key.key[..], entry.key.deadline), (&b"k"[..], Some(1_700_000_000_000)));
    assert_eq!(key, b"l");
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_fail(noise in vec(any::<u8>(), 0..400), window in 1..300_usize) {
        let bytes = [b"REDIS0011", &noise[..]].concat();
        let _ = read(&bytes, window, true);
    }

    #[test]
    fn damaged_files_end_in_an_error_or_not(
        damage in vec((any::<usize>(), any::<u8>()), 1..5), window in 1..5_000_usize,
    ) {
        let mut bytes = sample(&entries(), false);
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = read(&bytes, window, true);
        fuzz::any_chunks_agree(&[&[window as u8], &bytes[..]].concat());
    }
}
