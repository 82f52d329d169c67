//! Bringing elements into order.
#![forbid(unsafe_code)]

use std::cmp::Ordering;

use tessera_proto::float::parse_f64;

use super::options::Options;
use crate::{
    command::{CommandError, string::text::Text},
    keyspace::Keyspace,
    types::Element,
};

/// The elements of what is sorted, apart from it: looking other keys up may change the keyspace.
#[derive(Default)]
pub(super) struct Elements {
    pub(super) texts: Texts,
    /// Whether they come from a set, which has no order.
    pub(super) is_set: bool,
}

impl Elements {
    pub(super) fn push(&mut self, element: &Element<'_>) {
        element.with_bytes(|text| self.texts.push(Some(text)));
    }
}

/// Many texts in one allocation, some of which may be missing.
#[derive(Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    /// Where each ends, and whether it is there.
    ends: Vec<(usize, bool)>,
}

impl Texts {
    fn push(&mut self, text: Option<&[u8]>) {
        self.bytes.extend_from_slice(text.unwrap_or_default());
        self.ends.push((self.bytes.len(), text.is_some()));
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text at `index`, empty if it is missing.
    pub(super) fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1].0 };
        &self.bytes[start..self.ends[index].0]
    }

    /// The same, told apart; a missing one comes before all others.
    fn find(&self, index: usize) -> Option<&[u8]> {
        self.ends[index].1.then(|| self.get(index))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// The indexes of the elements that the client wants, in its order.
pub(super) fn sorted(
    keyspace: &mut Keyspace,
    elements: &Elements,
    options: &Options<'_>,
) -> Result<Vec<usize>, CommandError> {
    let len = elements.texts.len();
    let range = options.range(len);
    if options.keeps_order {
        let reverse = options.descending && !elements.is_set;
        return Ok(range.map(|at| if reverse { len - 1 - at } else { at }).collect());
    }
    let compare: Box<dyn Fn(usize, usize) -> Ordering> = match (options.alpha, options.by) {
        (true, None) => Box::new(|a, b| elements.texts.get(a).cmp(elements.texts.get(b))),
        (true, Some(by)) => {
            let mut texts = Texts::default();
            for element in elements.texts.iter() {
                by.look_up(keyspace, element, |found| match found {
                    Some(text) => text.with_bytes(|text| texts.push(Some(text))),
                    None => texts.push(None),
                });
            }
            Box::new(move |a, b| texts.find(a).cmp(&texts.find(b)))
        }
        (false, _) => {
            let weights = weights(keyspace, elements, options)?;
            Box::new(move |a, b| {
                // Elements of one weight come in the order of their texts.
                weights[a]
                    .partial_cmp(&weights[b])
                    .unwrap_or(Ordering::Equal)
                    .then_with(|| elements.texts.get(a).cmp(elements.texts.get(b)))
            })
        }
    };
    // What is equal stays in its order, also where only a part is sorted.
    let in_order = |a: &usize, b: &usize| {
        let ordering = compare(*a, *b);
        let ordering = if options.descending { ordering.reverse() } else { ordering };
        ordering.then(a.cmp(b))
    };
    let mut indexes: Vec<usize> = (0..len).collect();
    if range.is_empty() {
        return Ok(Vec::new());
    }
    if range.end < len {
        indexes.select_nth_unstable_by(range.end - 1, in_order);
        indexes.truncate(range.end);
    }
    indexes.sort_unstable_by(in_order);
    indexes.drain(..range.start);
    Ok(indexes)
}

/// The numbers by which the elements are sorted; 0 where a pattern finds none.
fn weights(
    keyspace: &mut Keyspace,
    elements: &Elements,
    options: &Options<'_>,
) -> Result<Vec<f64>, CommandError> {
    let weigh = |element| match options.by {
        None => weight_of(element),
        Some(by) => by.look_up(keyspace, element, |found| match found {
            None => Some(0.0),
            Some(Text::Int(number)) => Some(number as f64),
            Some(text) => text.with_bytes(weight_of),
        }),
    };
    let weights: Option<Vec<f64>> = elements.texts.iter().map(weigh).collect();
    weights.ok_or(CommandError::text("ERR One or more scores can't be converted into double"))
}

/// A text as C's `strtod` reads it: blanks may stand in front, it ends at a zero byte, and nothing
/// is 0.
fn weight_of(text: &[u8]) -> Option<f64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0B;
    parse_f64(&text[text.iter().take_while(|byte| is_blank(byte)).count()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_as_c_does() {
        for (text, weight) in [
            (&b""[..], Some(0.0)),
            (b"1.5", Some(1.5)),
            (b" \t\n\x0b7", Some(7.0)),
            (b"3\0x", Some(3.0)),
            (b"0x10", Some(16.0)),
            (b" ", None),
            (b"7 ", None),
            (b"x", None),
            (b"nan", None),
            (b"1e400", None),
        ] {
            assert_eq!(weight_of(text), weight, "{}", text.escape_ascii());
        }
    }
}
