//! Patterns: names of keys in which an element takes the place of a star.
#![forbid(unsafe_code)]

use memchr::{memchr, memmem};

use crate::{
    command::{collection::View, string::text::Text},
    keyspace::Keyspace,
    types::{Element, Hash},
};

/// What a pattern stands for, of an element.
pub(super) type Found<'a> = Option<Text<'a>>;

/// A pattern of BY or GET.
#[derive(Clone, Copy, Default)]
pub(super) struct Pattern<'a> {
    whole: &'a [u8],
    /// What stands before and behind the star, if there is one; the field left out.
    around: Option<(&'a [u8], &'a [u8])>,
    /// The field of a hash, behind an arrow.
    field: Option<&'a [u8]>,
}

impl<'a> Pattern<'a> {
    pub(super) fn parse(whole: &'a [u8]) -> Self {
        let Some(star) = memchr(b'*', whole) else {
            return Self { whole, around: None, field: None };
        };
        let (before, behind) = (&whole[..star], &whole[star + 1..]);
        match memmem::find(behind, b"->") {
            // An arrow that points to nothing belongs to the name.
            Some(arrow) if arrow + 2 < behind.len() => Self {
                whole,
                around: Some((before, &behind[..arrow])),
                field: Some(&behind[arrow + 2..]),
            },
            _ => Self { whole, around: Some((before, behind)), field: None },
        }
    }

    /// Whether the pattern names keys at all.
    pub(super) fn has_star(&self) -> bool {
        self.around.is_some()
    }

    /// A name whose slot is that of all keys of the pattern, if they have one: the pattern itself,
    /// when its `{tag}` is complete before the star.
    pub(super) fn slot_name(&self) -> Option<&'a [u8]> {
        let (before, _) = self.around?;
        let open = memchr(b'{', before)?;
        let len = memchr(b'}', &before[open + 1..])?;
        // An empty tag is none: the whole name decides.
        (len > 0).then_some(self.whole)
    }

    /// The key that the pattern names for an element.
    pub(super) fn key_for(&self, element: &[u8]) -> Option<Vec<u8>> {
        let (before, behind) = self.around?;
        Some([before, element, behind].concat())
    }

    /// Hands what the pattern stands for to `use_found`: the string at the key that it names for
    /// `element`, or a field of the hash there; for `#` the element.
    pub(super) fn look_up<R>(
        &self,
        keyspace: &mut Keyspace,
        element: &[u8],
        use_found: impl FnOnce(Found<'_>) -> R,
    ) -> R {
        if self.whole == b"#" {
            return use_found(Some(Text::Short(element)));
        }
        let Some(key) = self.key_for(element) else { return use_found(None) };
        let now_ms = keyspace.now_ms();
        let Some(entry) = keyspace.read(&key) else { return use_found(None) };
        let Some(field) = self.field else {
            return use_found(Text::of(entry.body()).ok());
        };
        let hash = View::<Hash>::of(entry.body()).ok();
        use_found(hash.as_ref().and_then(|hash| hash.get_live(field, now_ms)).map(|value| {
            match value {
                Element::Int(int) => Text::Int(int),
                Element::Bytes(bytes) => Text::Short(bytes),
                Element::Shared(bytes) => Text::Long(bytes),
            }
        }))
    }
}
