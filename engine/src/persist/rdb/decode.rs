//! Reading values, as their bytes come.
//!
//! A [`Decoder`] has one value under way. What is written element by element is taken so; a packed
//! blob is one string, which must be there whole, and is taken apart into the value at once.
//! Elements, members and fields that come twice are refused, as Redis does, since each type's own
//! insertion tells.
#![forbid(unsafe_code)]

mod stream;

use tessera_proto::float::parse_f64;

use super::{
    Input, RdbError, Stop,
    grammar::module_name,
    input::Text,
    kind,
    packed::{Walk, intset, listpack, ziplist, zipmap},
};
use crate::{
    types::{Element, Hash, List, Set, Thresholds, Zset, list::End, zset::Change},
    value::{Object, Value},
};
use stream::StreamDecoder;

const DUPLICATE_MEMBER: RdbError = RdbError::Corrupt("a set has a member twice");
const BAD_DEADLINE: RdbError = RdbError::Corrupt("a field has an impossible deadline");
/// What stands for no deadline in Valkey's form.
const VALKEY_NO_DEADLINE: i64 = -1;
/// The latest deadline of a field that Redis's own form can hold.
const DEADLINE_READ_MAX_MS: i64 = (1 << 48) - 1;
const DUPLICATE_FIELD: RdbError = RdbError::Corrupt("a hash has a field twice");
const DUPLICATE_SCORED: RdbError = RdbError::Corrupt("a sorted set has a member twice");
const NO_SCORE: RdbError = RdbError::Corrupt("a score is no number");

/// What bytes came to.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// A value.
    Value(Value),
    /// A collection of nothing, which no key can hold. RESTORE refuses it; in a file, where old
    /// versions left such by mistake, the key is passed over.
    Empty,
}

impl<T: Into<Value>> From<T> for Decoded {
    fn from(collection: T) -> Self {
        Self::Value(collection.into())
    }
}

/// Reads one value.
#[derive(Debug)]
pub struct Decoder {
    kind: u8,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A string, or a blob that is the whole value.
    Blob,
    /// The earliest deadline of a field of a hash.
    Earliest,
    /// The number of fields, behind that.
    DatedCount(i64),
    /// The number of elements or nodes.
    Count,
    /// So many elements or nodes are left.
    Elements(u64, Collection),
    /// A stream.
    Stream(Box<StreamDecoder>),
    /// A module's number, for its name.
    Module,
}

/// A collection that grows.
#[derive(Debug)]
enum Collection {
    List(List),
    Set(Option<Set>),
    /// With the members whose score is the negative zero: a small sorted set forgets that sign, and
    /// which one is small is known at the end.
    Zset(Zset, Vec<Vec<u8>>),
    Hash(Hash),
    /// With the deadline from which the others count.
    Dated(Hash, i64),
}

impl Decoder {
    /// Reads a value of that kind.
    ///
    /// # Errors
    ///
    /// There is no such kind.
    pub fn new(kind: u8) -> Result<Self, RdbError> {
        let state = match kind {
            kind::STRING
            | kind::HASH_ZIPMAP
            | kind::LIST_ZIPLIST
            | kind::SET_INTSET
            | kind::ZSET_ZIPLIST
            | kind::HASH_ZIPLIST
            | kind::HASH_LISTPACK
            | kind::ZSET_LISTPACK
            | kind::SET_LISTPACK => State::Blob,
            kind::LIST
            | kind::SET
            | kind::ZSET
            | kind::ZSET_2
            | kind::HASH
            | kind::HASH_2
            | kind::LIST_QUICKLIST
            | kind::LIST_QUICKLIST_2 => State::Count,
            kind::STREAM_LISTPACKS | kind::STREAM_LISTPACKS_2 | kind::STREAM_LISTPACKS_3 => {
                State::Stream(Box::new(StreamDecoder::new(kind)))
            }
            kind::HASH_METADATA | kind::HASH_LISTPACK_EX => State::Earliest,
            kind::MODULE_2 => State::Module,
            kind::MODULE_PRE_GA => return Err(RdbError::Module("of before Redis 4.0".into())),
            _ => return Err(RdbError::UnknownKind(kind)),
        };
        Ok(Self { kind, state })
    }

    /// Goes on with the bytes that are there, to the end of the value. What it has taken of `input`
    /// is committed.
    ///
    /// # Errors
    ///
    /// More bytes are needed, or they are wrong.
    pub fn step(
        &mut self,
        input: &mut Input<'_>,
        thresholds: &Thresholds,
    ) -> Result<Decoded, Stop> {
        loop {
            match &mut self.state {
                State::Blob => {
                    let text = input.text()?;
                    let decoded = blob(self.kind, text, thresholds)?;
                    input.commit();
                    return Ok(decoded);
                }
                State::Earliest => {
                    let earliest = input.i64_le()?;
                    input.commit();
                    self.state = match self.kind {
                        kind::HASH_METADATA => State::DatedCount(earliest),
                        _ => State::Blob,
                    };
                }
                State::DatedCount(earliest) => {
                    let (earliest, count) = (*earliest, input.length()?);
                    input.commit();
                    if count == 0 {
                        return Ok(Decoded::Empty);
                    }
                    let fields = Collection::Dated(Hash::new(), earliest);
                    self.state = State::Elements(count, fields);
                }
                State::Count => {
                    let count = input.length()?;
                    input.commit();
                    if count == 0 {
                        return Ok(Decoded::Empty);
                    }
                    self.state = State::Elements(count, Collection::new(self.kind));
                }
                State::Elements(0, collection) => return Ok(collection.finish(thresholds)),
                State::Elements(left, collection) => {
                    collection.take(self.kind, *left, input, thresholds)?;
                    input.commit();
                    *left -= 1;
                }
                State::Stream(stream) => {
                    let stream = Object::Stream(Box::new(stream.step(input)?));
                    return Ok(Decoded::Value(Value::Object(Box::new(stream))));
                }
                State::Module => {
                    return Err(RdbError::Module(module_name(input.length()?)).into());
                }
            }
        }
    }
}

impl Collection {
    fn new(kind: u8) -> Self {
        match kind {
            kind::SET => Self::Set(None),
            kind::ZSET | kind::ZSET_2 => Self::Zset(Zset::new(), Vec::new()),
            kind::HASH | kind::HASH_2 => Self::Hash(Hash::new()),
            _ => Self::List(List::new()),
        }
    }

    /// Takes one element, of which `left` are left with this one.
    fn take(
        &mut self,
        kind: u8,
        left: u64,
        input: &mut Input<'_>,
        thresholds: &Thresholds,
    ) -> Result<(), Stop> {
        match self {
            Self::List(list) => match kind {
                kind::LIST => push(list, &input.text()?.element(), thresholds),
                _ => node(list, kind, input, thresholds)?,
            },
            Self::Set(set) => {
                let member = input.text()?;
                let expected = usize::try_from(left).unwrap_or(usize::MAX);
                add(set, &member.element(), expected, thresholds)?;
            }
            Self::Zset(zset, negative_zeros) => {
                let member = input.text()?;
                let score = if kind == kind::ZSET { input.f64_text()? } else { input.f64_le()? };
                score_member(zset, &member.element(), score, thresholds)?;
                if score == 0.0 && score.is_sign_negative() {
                    negative_zeros.push(member.element().to_vec());
                }
            }
            Self::Hash(hash) => {
                let (field, value) = (input.text()?, input.text()?);
                // Everything is taken before anything is changed, as it comes again if a piece is missing.
                let deadline = match kind {
                    kind::HASH_2 => Some(input.i64_le()?).filter(|&at| at != VALKEY_NO_DEADLINE),
                    _ => None,
                };
                let field = field.element();
                set_field(hash, &field, &value.element(), thresholds)?;
                date_field(hash, &field, deadline, thresholds)?;
            }
            Self::Dated(hash, earliest) => {
                let after = input.length()?;
                let deadline = match after.checked_sub(1) {
                    None => None,
                    Some(after) => Some(earliest.checked_add_unsigned(after).ok_or(BAD_DEADLINE)?),
                };
                let (field, value) = (input.text()?, input.text()?);
                let (field, value) = (field.element(), value.element());
                set_field(hash, &field, &value, thresholds)?;
                date_field(hash, &field, deadline, thresholds)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, thresholds: &Thresholds) -> Decoded {
        match self {
            Self::List(list) if list.is_empty() => Decoded::Empty,
            Self::List(list) => std::mem::take(list).into(),
            Self::Set(set) => set.take().map_or(Decoded::Empty, Decoded::from),
            Self::Zset(zset, negative_zeros) => {
                for member in negative_zeros.drain(..) {
                    zset.remove(&member);
                    zset.set(&member, -0.0, thresholds);
                }
                std::mem::take(zset).into()
            }
            Self::Hash(hash) | Self::Dated(hash, _) => std::mem::take(hash).into(),
        }
    }
}

/// The value that one string is.
fn blob(kind: u8, text: Text<'_>, thresholds: &Thresholds) -> Result<Decoded, RdbError> {
    if kind == kind::STRING {
        return Ok(Decoded::Value(text.into_string()));
    }
    text.with_bytes(|bytes| match kind {
        kind::LIST_ZIPLIST => {
            let mut list = List::new();
            push_all(&mut list, ziplist::Reader::new(bytes)?, thresholds)?;
            Ok(Collection::List(list).finish(thresholds))
        }
        kind::SET_INTSET => set_of_intset(bytes, thresholds),
        kind::SET_LISTPACK => set_of(listpack::Reader::new(bytes)?, thresholds),
        kind::ZSET_ZIPLIST => zset_of(ziplist::Reader::new(bytes)?, thresholds),
        kind::ZSET_LISTPACK => zset_of(listpack::Reader::new(bytes)?, thresholds),
        kind::HASH_ZIPMAP => hash_of(zipmap::Reader::new(bytes)?, thresholds),
        kind::HASH_ZIPLIST => hash_of(ziplist::Reader::new(bytes)?, thresholds),
        kind::HASH_LISTPACK => hash_of(listpack::Reader::new(bytes)?, thresholds),
        kind::HASH_LISTPACK_EX => dated_hash_of(listpack::Reader::new(bytes)?, thresholds),
        _ => Err(RdbError::UnknownKind(kind)),
    })
}

/// Takes a node of a list.
fn node(
    list: &mut List,
    kind: u8,
    input: &mut Input<'_>,
    thresholds: &Thresholds,
) -> Result<(), Stop> {
    const PLAIN: u64 = 1;
    const PACKED: u64 = 2;
    let container = if kind == kind::LIST_QUICKLIST_2 { Some(input.length()?) } else { None };
    let text = input.text()?;
    text.with_bytes(|bytes| match container {
        None => push_all(list, ziplist::Reader::new(bytes)?, thresholds),
        Some(PACKED) => push_all(list, listpack::Reader::new(bytes)?, thresholds),
        Some(PLAIN) if !bytes.is_empty() => {
            list.push(End::Back, bytes, thresholds);
            Ok(())
        }
        Some(_) => Err(RdbError::Corrupt("a node of a list is of unknown form")),
    })?;
    Ok(())
}

fn push(list: &mut List, element: &Element<'_>, thresholds: &Thresholds) {
    element.with_bytes(|text| list.push(End::Back, text, thresholds));
}

fn push_all<'a>(
    list: &mut List,
    mut elements: impl Walk<'a>,
    thresholds: &Thresholds,
) -> Result<(), RdbError> {
    while let Some(element) = elements.next()? {
        push(list, &element, thresholds);
    }
    Ok(())
}

/// Adds a member; the first makes the set, for `expected` members.
fn add(
    set: &mut Option<Set>,
    member: &Element<'_>,
    expected: usize,
    thresholds: &Thresholds,
) -> Result<(), RdbError> {
    let is_new = member.with_bytes(|member| {
        set.get_or_insert_with(|| Set::new(member, expected, thresholds)).add(member, thresholds)
    });
    if is_new { Ok(()) } else { Err(DUPLICATE_MEMBER) }
}

fn set_of_intset(bytes: &[u8], thresholds: &Thresholds) -> Result<Decoded, RdbError> {
    let ints = intset::read(bytes)?;
    let (mut set, count) = (None, ints.len());
    for int in ints {
        add(&mut set, &Element::Int(int), count, thresholds)?;
    }
    Ok(Collection::Set(set).finish(thresholds))
}

fn set_of<'a>(mut members: impl Walk<'a>, thresholds: &Thresholds) -> Result<Decoded, RdbError> {
    let mut set = None;
    while let Some(member) = members.next()? {
        add(&mut set, &member, 1, thresholds)?;
    }
    Ok(Collection::Set(set).finish(thresholds))
}

fn score_member(
    zset: &mut Zset,
    member: &Element<'_>,
    score: f64,
    thresholds: &Thresholds,
) -> Result<(), RdbError> {
    if score.is_nan() {
        return Err(NO_SCORE);
    }
    match member.with_bytes(|member| zset.set(member, score, thresholds)) {
        Change::Added => Ok(()),
        Change::Moved | Change::Unchanged => Err(DUPLICATE_SCORED),
    }
}

fn zset_of<'a>(mut pairs: impl Walk<'a>, thresholds: &Thresholds) -> Result<Decoded, RdbError> {
    let mut zset = Zset::new();
    while let Some((member, score)) = pairs.next_pair()? {
        let score = match score {
            Element::Int(int) => int as f64,
            text => text.with_bytes(parse_f64).ok_or(NO_SCORE)?,
        };
        score_member(&mut zset, &member, score, thresholds)?;
    }
    Ok(if zset.is_empty() { Decoded::Empty } else { zset.into() })
}

fn set_field(
    hash: &mut Hash,
    field: &Element<'_>,
    value: &Element<'_>,
    thresholds: &Thresholds,
) -> Result<(), RdbError> {
    let is_new =
        field.with_bytes(|field| value.with_bytes(|value| hash.set(field, value, thresholds)));
    if is_new { Ok(()) } else { Err(DUPLICATE_FIELD) }
}

/// Gives a field its deadline.
fn date_field(
    hash: &mut Hash,
    field: &Element<'_>,
    deadline: Option<i64>,
    thresholds: &Thresholds,
) -> Result<(), RdbError> {
    match deadline {
        None => Ok(()),
        Some(deadline @ 1..=DEADLINE_READ_MAX_MS) => {
            field.with_bytes(|field| hash.set_deadline(field, Some(deadline), thresholds));
            Ok(())
        }
        Some(_) => Err(BAD_DEADLINE),
    }
}

/// A hash of fields, values and deadlines in turn; 0 is no deadline.
fn dated_hash_of<'a>(
    mut elements: impl Walk<'a>,
    thresholds: &Thresholds,
) -> Result<Decoded, RdbError> {
    let mut hash = Hash::new();
    while let Some((field, value)) = elements.next_pair()? {
        set_field(&mut hash, &field, &value, thresholds)?;
        let deadline = match elements.next()? {
            Some(Element::Int(deadline)) => Some(deadline).filter(|&deadline| deadline != 0),
            _ => return Err(BAD_DEADLINE),
        };
        date_field(&mut hash, &field, deadline, thresholds)?;
    }
    Ok(if hash.is_empty() { Decoded::Empty } else { hash.into() })
}

fn hash_of<'a>(mut pairs: impl Walk<'a>, thresholds: &Thresholds) -> Result<Decoded, RdbError> {
    let mut hash = Hash::new();
    while let Some((field, value)) = pairs.next_pair()? {
        set_field(&mut hash, &field, &value, thresholds)?;
    }
    Ok(if hash.is_empty() { Decoded::Empty } else { hash.into() })
}
