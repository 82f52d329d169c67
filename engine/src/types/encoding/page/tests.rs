//! Pages against a naive model: a vector.

use proptest::{collection::vec, prelude::*};

use super::*;

/// The layout of sorted sets' members.
enum Layout {}

impl Format for Layout {
    const TAGGED: bool = true;
    const HEAD_BYTES: usize = 8;
    const BYTES_MAX: usize = 2048;
}

type Model = Vec<(u32, [u8; 8], Vec<u8>)>;

fn contents(page: &Page) -> Model {
    (0..page.len())
        .map(|index| {
            let record = page.record::<Layout>(index);
            let head = record.head.try_into().expect("eight bytes");
            (page.tag(index), head, record.body.to_vec())
        })
        .collect()
}

fn with_record<R>(entry: &(u32, [u8; 8], Vec<u8>), f: impl FnOnce(&NewRecord<'_>) -> R) -> R {
    let (tag, head, text) = entry;
    let long = Bytes::copy_from_slice(text);
    let body = match text.len() > INLINE_BYTES_MAX {
        true => Element::Shared(&long),
        false => Element::compact(text),
    };
    f(&NewRecord { tag: *tag, head, body })
}

fn entry() -> impl Strategy<Value = (u32, [u8; 8], Vec<u8>)> {
    let text = prop_oneof![
        4 => vec(any::<u8>(), 0..40),
        1 => vec(any::<u8>(), 40..385),
        1 => vec(any::<u8>(), 385..600),
        2 => any::<i64>().prop_map(|int| int.to_string().into_bytes()),
    ];
    (any::<u32>(), any::<[u8; 8]>(), text)
}

proptest! {
    #[test]
    #[allow(clippy::collapsible_match, reason = "the guard would hide a write")]
    fn a_page_matches_a_vector(
        ops in vec((0..5_u8, 0..100_usize, entry(), any::<bool>()), 1..120)
    ) {
        let (mut page, mut model): (Page, Model) = (Page::new(), Vec::new());
        for (kind, at, entry, capture) in ops {
            let captured = capture.then(|| (page.clone(), model.clone()));
            match kind {
                0..=2 => {
                    let at = at.min(model.len());
                    if with_record(&entry, |record| page.insert::<Layout>(at, record)) {
                        model.insert(at, entry);
                    } else {
                        prop_assert!(page.live_bytes::<Layout>() > 2048 / 2);
                    }
                }
                3 if at < model.len() => {
                    if with_record(&entry, |record| page.replace::<Layout>(at, record)) {
                        model[at] = entry;
                    }
                }
                4 if at < model.len() => {
                    let to = (at + 1 + at % 3).min(model.len());
                    page.remove::<Layout>(at, to);
                    model.drain(at..to);
                }
                _ => {}
            }
            prop_assert_eq!(contents(&page), model.clone());
            prop_assert!(page.block.slice.len() + OVERHEAD_BYTES <= 2048);
            if let Some((page, model)) = captured {
                prop_assert_eq!(contents(&page), model);
            }
        }
        if page.len() > 1 {
            let at = page.middle::<Layout>();
            let right = page.split_off::<Layout>(at);
            prop_assert_eq!(contents(&page), &model[..at]);
            prop_assert_eq!(contents(&right), &model[at..]);
            page.append::<Layout>(&right);
            prop_assert_eq!(contents(&page), model);
        }
    }
}

proptest! {
    #[test]
    fn searches_from_any_guess_agree(
        mut hashes in vec(any::<u32>(), 0..100),
        hash in any::<u32>(),
        guess in 0..120_usize,
        equal in any::<bool>(),
    ) {
        if equal {
            hashes.iter_mut().for_each(|hash| *hash %= 3);
        }
        hashes.sort_unstable();
        let hash = if equal { hash % 4 } else { hash };
        let expected = hashes.partition_point(|&other| other < hash);
        let found = lower_bound_near(hashes.len(), guess, |index| hashes[index] < hash);
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_full_page_of_small_records_wastes_little() {
    let mut page = Page::new();
    let mut text = 0..;
    while with_record(&(1, [0; 8], format!("member:{:05}", text.next().unwrap_or(0)).into()), |r| {
        page.insert::<Layout>(page.len(), r)
    }) {}
    let live = page.len() * (6 + 1 + 8 + 12);
    assert_eq!(page.live_bytes::<Layout>(), live);
    assert!(page.memory_bytes() - live < 24 + 27, "{} for {live}", page.memory_bytes());
}
