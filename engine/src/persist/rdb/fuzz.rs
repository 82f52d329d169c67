//! Entry functions of the fuzz targets; each panics when a promise is broken, and only then.
#![forbid(unsafe_code)]

use super::{Encoder, Event, Options, ReadError, Reader, payload};
use crate::types::Thresholds;

/// A value that RESTORE lets in can be dumped, and its dump is let in.
pub fn what_is_restored_can_be_dumped(content: &[u8]) {
    let thresholds = Thresholds::default();
    let Ok(value) = payload::value_of(content, &thresholds) else { return };
    let dumped = payload::dump(&mut Encoder::new(Options::default()), &value.body());
    let content = payload::verify(&dumped).expect("it was sealed");
    payload::value_of(content, &thresholds).expect("it was a value");
}

/// However a file is cut into chunks, it says the same.
pub fn any_chunks_agree(bytes: &[u8]) {
    let Some((&window, file)) = bytes.split_first() else { return };
    let whole = read(file, file.len().max(1));
    let pieces = read(file, usize::from(window).max(1));
    assert_eq!(pieces, whole);
}

/// What a file says, and how it ends.
fn read(file: &[u8], window: usize) -> (Vec<String>, Option<ReadError>) {
    let mut reader = Reader::new(Some(file.len() as u64), false);
    let mut chunks = file.chunks(window);
    let mut said = Vec::new();
    loop {
        // Some keys are passed by.
        let wants = |key: &super::LoadedKey| key.key.len().is_multiple_of(2);
        match reader.next(&Thresholds::default(), wants) {
            Err(error) => return (said, Some(error)),
            Ok(Event::NeedMore(_)) => match chunks.next() {
                Some(chunk) => reader.supply(chunk),
                None => panic!("it asks for more than there is"),
            },
            Ok(Event::End) => return (said, None),
            Ok(event) => said.push(format!("{event:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn noise_keeps_the_promises(bytes in vec(any::<u8>(), 0..200), kind in 0..26_u8) {
            what_is_restored_can_be_dumped(&[&[kind], &bytes[..]].concat());
            any_chunks_agree(&[&[7], &b"REDIS0010"[..], &[kind, 2, b'k', b'k'], &bytes].concat());
        }
    }
}
