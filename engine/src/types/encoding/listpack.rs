//! Listpack: a small collection in one packed allocation.
//!
//! A sequence of elements behind a two-byte count, each with a length prefix, integers in their
//! significant bytes. After Redis's listpack in idea, but without its back lengths and end marker:
//! one byte less an element, which decides the allocator's size class of most small collections. A
//! walk backwards first notes the elements' offsets in one walk forwards; a listpack is small enough
//! for that (its owners keep it to about a KiB).
//!
//! Format, after the count of elements (`u16`, little-endian), by the first byte of an element:
//!
//! | first byte   | meaning                                                              |
//! |--------------|----------------------------------------------------------------------|
//! | `0x00..0x40` | string of that length                                                |
//! | `0x40..0x48` | integer in the 1 to 8 bytes that follow, little-endian, sign-extended|
//! | `0x50..0x60` | string; low four bits and the next byte are its length, to 4095      |
//! | `0x60`       | string; the next four bytes, little-endian, are its length           |
//! | `0x80..`     | the integer that its low seven bits make                             |
//!
//! Invariant: the bytes are a whole number of well-formed elements, as many as the count says.
//! Bytes from outside go through [`Listpack::from_raw`], which checks it.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use super::element::{Element, canonical_i64, int_from_bytes, int_len};

const HEADER_BYTES: usize = 2;
/// Most elements of one listpack.
pub const ELEMENTS_MAX: usize = u16::MAX as usize;

/// A packed sequence of elements. Offsets that its methods take and give count bytes from the start
/// and always stand at an element or at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listpack {
    bytes: Vec<u8>,
}

/// Reads a listpack wherever its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    bytes: &'a [u8],
}

/// The bytes given are not a listpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed listpack")]
pub struct MalformedListpack;

impl Default for Listpack {
    fn default() -> Self {
        Self::new()
    }
}

impl Listpack {
    /// An empty listpack.
    pub fn new() -> Self {
        Self { bytes: vec![0; HEADER_BYTES] }
    }

    /// A listpack out of bytes that [`Self::raw`] once gave.
    ///
    /// # Errors
    ///
    /// Bytes that are not well-formed.
    pub fn from_raw(bytes: Vec<u8>) -> Result<Self, MalformedListpack> {
        Packed::checked(&bytes)?;
        Ok(Self { bytes })
    }

    /// A listpack out of bytes that [`Self::raw`] gave and that never left this process, with a
    /// little room for changes.
    pub fn from_trusted(bytes: &[u8]) -> Self {
        debug_assert!(Packed::checked(bytes).is_ok());
        let mut copy = Vec::with_capacity(bytes.len() + 32);
        copy.extend_from_slice(bytes);
        Self { bytes: copy }
    }

    /// The packed bytes.
    pub fn raw(&self) -> &[u8] {
        &self.bytes
    }

    /// The packed bytes, given away.
    pub fn into_raw(self) -> Vec<u8> {
        self.bytes
    }

    /// The listpack for reading.
    #[inline]
    pub fn view(&self) -> Packed<'_> {
        Packed { bytes: &self.bytes }
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Offset behind the last element.
    #[inline]
    pub fn end(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory behind the pointer.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Inserts `element` before the one at `offset`, or at the end.
    pub fn insert(&mut self, offset: usize, element: Element<'_>) {
        let len = encoded_len(&element);
        self.open(offset, len);
        encode(&element, &mut self.bytes[offset..offset + len]);
        self.count_by(1);
    }

    /// Appends `element`.
    pub fn push_back(&mut self, element: Element<'_>) {
        self.insert(self.end(), element);
    }

    /// Puts `element` before all others.
    pub fn push_front(&mut self, element: Element<'_>) {
        self.insert(HEADER_BYTES, element);
    }

    /// Puts `element` in the place of the one at `offset`.
    pub fn replace(&mut self, offset: usize, element: Element<'_>) {
        let old = self.view().next_offset(offset) - offset;
        let new = encoded_len(&element);
        if new > old {
            self.open(offset, new - old);
        } else {
            self.bytes.drain(offset..offset + (old - new));
        }
        encode(&element, &mut self.bytes[offset..offset + new]);
    }

    /// Removes `count` elements from the one at `offset` on.
    pub fn remove(&mut self, offset: usize, count: usize) {
        let mut end = offset;
        for _ in 0..count {
            end = self.view().next_offset(end);
        }
        self.bytes.drain(offset..end);
        self.count_by(-(count as isize));
        if self.bytes.capacity() > 2 * self.bytes.len() + 16 {
            self.bytes.shrink_to_fit();
        }
    }

    /// Makes room for `len` bytes at `offset`. Exact, since packed collections are many and the
    /// allocator moves a block only when it leaves its size class.
    fn open(&mut self, offset: usize, len: usize) {
        let end = self.bytes.len();
        self.bytes.reserve_exact(len);
        self.bytes.resize(end + len, 0);
        self.bytes.copy_within(offset..end, offset + len);
    }

    fn count_by(&mut self, change: isize) {
        let count = self.len().wrapping_add_signed(change);
        debug_assert!(count <= ELEMENTS_MAX);
        self.bytes[..HEADER_BYTES].copy_from_slice(&(count as u16).to_le_bytes());
    }
}

impl<'a> Packed<'a> {
    /// Reads `bytes`, after checking them.
    ///
    /// # Errors
    ///
    /// Bytes that are not well-formed.
    pub fn checked(bytes: &'a [u8]) -> Result<Self, MalformedListpack> {
        let count = match bytes {
            [low, high, ..] => u16::from_le_bytes([*low, *high]),
            _ => return Err(MalformedListpack),
        };
        let mut rest = &bytes[HEADER_BYTES..];
        for _ in 0..count {
            let len = checked_element_len(rest).ok_or(MalformedListpack)?;
            rest = rest.get(len..).ok_or(MalformedListpack)?;
        }
        if rest.is_empty() { Ok(Self { bytes }) } else { Err(MalformedListpack) }
    }

    /// Number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(u16::from_le_bytes([self.bytes[0], self.bytes[1]]))
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Offset of the first element.
    #[inline]
    pub fn first(&self) -> usize {
        HEADER_BYTES
    }

    /// Offset behind the last element.
    #[inline]
    pub fn end(&self) -> usize {
        self.bytes.len()
    }

    /// The element at `offset`.
    #[inline]
    pub fn get(&self, offset: usize) -> Element<'a> {
        let bytes = &self.bytes[offset..];
        match bytes[0] {
            len @ 0x00..0x40 => Element::Bytes(&bytes[1..1 + usize::from(len)]),
            head @ 0x40..0x48 => {
                Element::Int(int_from_bytes(&bytes[1..1 + usize::from(head - 0x3F)]))
            }
            small @ 0x80.. => Element::Int(i64::from(small & 0x7F)),
            _ => {
                let (head, body) = lengths(bytes);
                Element::Bytes(&bytes[head..head + body])
            }
        }
    }

    /// Offset of the element behind the one at `offset`.
    #[inline]
    pub fn next_offset(&self, offset: usize) -> usize {
        let (head, body) = lengths(&self.bytes[offset..]);
        offset + head + body
    }

    /// Offset of the element at `index`, counted from 0; the end when there are fewer.
    pub fn offset_of(&self, index: usize) -> usize {
        let mut offset = HEADER_BYTES;
        for _ in 0..index.min(self.len()) {
            offset = self.next_offset(offset);
        }
        offset
    }

    /// All elements with their offsets.
    pub fn iter(self) -> Iter<'a> {
        self.iter_from(HEADER_BYTES)
    }

    /// The elements from `offset` on with their offsets.
    pub fn iter_from(self, offset: usize) -> Iter<'a> {
        Iter { packed: self, offset }
    }

    /// All elements with their offsets, the last first.
    pub fn iter_back(self) -> impl Iterator<Item = (usize, Element<'a>)> {
        let offsets: SmallVec<[u32; 64]> = self.iter().map(|(offset, _)| offset as u32).collect();
        offsets.into_iter().rev().map(move |offset| (offset as usize, self.get(offset as usize)))
    }

    /// Offset of the first element that is `text`, looking at every `step`-th element only: 1 for
    /// sequences, 2 for the keys of pairs.
    #[inline]
    pub fn find(&self, text: &[u8], step: usize) -> Option<usize> {
        let int = canonical_i64(text);
        let mut offset = HEADER_BYTES;
        while offset < self.bytes.len() {
            let found = match (self.get(offset), int) {
                (Element::Bytes(bytes), None) => bytes == text,
                (Element::Int(stored), Some(int)) => stored == int,
                _ => false,
            };
            if found {
                return Some(offset);
            }
            for _ in 0..step {
                offset = self.next_offset(offset);
            }
        }
        None
    }
}

/// Walks a listpack.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    packed: Packed<'a>,
    offset: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (usize, Element<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        if offset >= self.packed.bytes.len() {
            return None;
        }
        self.offset = self.packed.next_offset(offset);
        Some((offset, self.packed.get(offset)))
    }
}

/// Appends `element`, as listpacks hold it, to `out`.
#[inline]
pub(crate) fn append(out: &mut Vec<u8>, element: &Element<'_>) {
    let start = out.len();
    out.resize(start + encoded_len(element), 0);
    encode(element, &mut out[start..]);
}

/// The element that `bytes`, which [`append`] wrote, begin with, and its length.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> (Element<'_>, usize) {
    let packed = Packed { bytes };
    (packed.get(0), packed.next_offset(0))
}

/// Bytes that `element` takes in a listpack.
pub fn encoded_len(element: &Element<'_>) -> usize {
    match element {
        Element::Int(0..=127) => 1,
        Element::Int(int) => 1 + int_len(*int),
        Element::Bytes(_) | Element::Shared(_) => match element.len() {
            len @ 0..0x40 => 1 + len,
            len @ 0x40..0x1000 => 2 + len,
            len => 5 + len,
        },
    }
}

fn encode(element: &Element<'_>, out: &mut [u8]) {
    let text = match element {
        Element::Int(int @ 0..=127) => {
            out[0] = 0x80 | *int as u8;
            return;
        }
        Element::Int(int) => {
            let len = out.len() - 1;
            out[0] = 0x3F + len as u8;
            out[1..].copy_from_slice(&int.to_le_bytes()[..len]);
            return;
        }
        Element::Bytes(text) => text,
        Element::Shared(text) => &text[..],
    };
    let len = text.len();
    let head = out.len() - len;
    match head {
        1 => out[0] = len as u8,
        2 => out[..2].copy_from_slice(&[0x50 | (len >> 8) as u8, len as u8]),
        _ => {
            out[0] = 0x60;
            out[1..5].copy_from_slice(&(len as u32).to_le_bytes());
        }
    }
    out[head..].copy_from_slice(text);
}

/// Lengths of the head and of the body of the well-formed element that `bytes` begins with.
#[inline]
fn lengths(bytes: &[u8]) -> (usize, usize) {
    match bytes[0] {
        len @ 0x00..0x40 => (1, usize::from(len)),
        0x80.. => (1, 0),
        head @ 0x40..0x48 => (1, usize::from(head - 0x3F)),
        head @ 0x50..0x60 => (2, usize::from(head & 0xF) << 8 | usize::from(bytes[1])),
        _ => {
            let len = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            (5, len as usize)
        }
    }
}

/// Length of the element that `bytes` begins with, unless its head is cut off or has no meaning.
fn checked_element_len(bytes: &[u8]) -> Option<usize> {
    match *bytes.first()? {
        0x50..0x60 if bytes.len() < 2 => return None,
        0x60 if bytes.len() < 5 => return None,
        0x48..0x50 | 0x61..0x80 => return None,
        _ => {}
    }
    let (head, body) = lengths(bytes);
    head.checked_add(body)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(usize, Vec<u8>),
        Replace(usize, Vec<u8>),
        Remove(usize, usize),
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<i64>().prop_map(|int| int.to_string().into_bytes()),
            (-200_i64..200).prop_map(|int| int.to_string().into_bytes()),
            vec(any::<u8>(), 0..80),
            vec(any::<u8>(), 4090..4100),
        ]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (0..40_usize, text()).prop_map(|(at, text)| Op::Insert(at, text)),
            2 => (0..40_usize, text()).prop_map(|(at, text)| Op::Replace(at, text)),
            1 => (0..40_usize, 0..4_usize).prop_map(|(at, count)| Op::Remove(at, count)),
        ]
    }

    fn run(pack: &mut Listpack, model: &mut Vec<Vec<u8>>, op: Op) {
        match op {
            Op::Insert(at, text) => {
                let at = at.min(model.len());
                pack.insert(pack.view().offset_of(at), Element::compact(&text));
                model.insert(at, text);
            }
            Op::Replace(at, text) if at < model.len() => {
                pack.replace(pack.view().offset_of(at), Element::compact(&text));
                model[at] = text;
            }
            Op::Remove(at, count) if at < model.len() => {
                let count = count.min(model.len() - at);
                pack.remove(pack.view().offset_of(at), count);
                model.drain(at..at + count);
            }
            Op::Replace(..) | Op::Remove(..) => {}
        }
    }

    proptest! {
        #[test]
        fn a_listpack_matches_a_vector(ops in vec(op(), 1..60)) {
            let (mut pack, mut model) = (Listpack::new(), Vec::new());
            for op in ops {
                run(&mut pack, &mut model, op);
                let all: Vec<_> = pack.view().iter().map(|(_, element)| element.to_vec()).collect();
                prop_assert_eq!(&all, &model);
                let mut back: Vec<_> = pack.view().iter_back().map(|(_, e)| e.to_vec()).collect();
                back.reverse();
                prop_assert_eq!(&back, &model);
                prop_assert_eq!(pack.len(), model.len());
            }
            for (index, text) in model.iter().enumerate() {
                let first = model.iter().position(|other| other == text).unwrap_or(index);
                prop_assert_eq!(pack.view().find(text, 1), Some(pack.view().offset_of(first)));
            }
            let again = Listpack::from_raw(pack.raw().to_vec());
            prop_assert_eq!(again.as_ref(), Ok(&pack));
        }

        #[test]
        fn hostile_bytes_are_refused_or_readable(bytes in vec(any::<u8>(), 0..40)) {
            if let Ok(packed) = Packed::checked(&bytes) {
                prop_assert_eq!(packed.iter().count(), packed.len());
            }
        }
    }

    #[test]
    fn ten_fields_of_sixteen_bytes_stay_small() {
        let mut pack = Listpack::new();
        for index in 0..10 {
            pack.push_back(Element::Bytes(format!("field:{index}").as_bytes()));
            pack.push_back(Element::Bytes(&[b'v'; 16]));
        }
        assert_eq!(pack.raw().len(), 2 + 10 * (8 + 17));
    }

    #[test]
    fn find_skips_the_values_of_pairs() {
        let mut pack = Listpack::new();
        for text in ["a", "b", "b", "c"] {
            pack.push_back(Element::compact(text.as_bytes()));
        }
        assert_eq!(pack.view().find(b"b", 2), Some(pack.view().offset_of(2)));
        assert_eq!(pack.view().find(b"c", 2), None);
    }
}
