//! What each type of value is made of, to pass values by without taking them apart.
//!
//! A worker that loads a file for its own part of the keyspace passes the other parts' values by;
//! so does a tool that only counts.
#![forbid(unsafe_code)]

use smallvec::{SmallVec, smallvec};

use super::{Input, RdbError, Stop, kind};

/// One piece of a value.
#[derive(Clone, Copy, Debug)]
enum Piece {
    /// A string.
    Text,
    /// A length or another number in the form of one.
    Length,
    /// So many bytes.
    Bytes(u64),
    /// A double as text.
    F64Text,
    /// A length, and then so many times these pieces.
    Each(&'static [Piece]),
}

use Piece::{Bytes, Each, F64Text, Length, Text};

/// A blob that holds the whole value.
const BLOB: &[Piece] = &[Text];
const ID_BYTES: u64 = 16;
const TIME_BYTES: u64 = 8;
/// Deliveries of a group: id, time of delivery, count of deliveries.
const DELIVERIES: Piece = Each(&[Bytes(ID_BYTES), Bytes(TIME_BYTES), Length]);
const NODES: Piece = Each(&[Text, Text]);
const STREAM: &[Piece] = &[
    NODES,
    Length,
    Length,
    Length,
    Each(&[Text, Length, Length, DELIVERIES, Each(&[Text, Bytes(TIME_BYTES), IDS])]),
];
const IDS: Piece = Each(&[Bytes(ID_BYTES)]);
const STREAM_2: &[Piece] = &[
    NODES,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Each(&[Text, Length, Length, Length, DELIVERIES, Each(&[Text, Bytes(TIME_BYTES), IDS])]),
];
const STREAM_3: &[Piece] = &[
    NODES,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Each(&[Text, Length, Length, Length, DELIVERIES, Each(&[Text, Bytes(2 * TIME_BYTES), IDS])]),
];

/// The pieces of a value of that kind.
fn pieces(kind: u8) -> Option<&'static [Piece]> {
    Some(match kind {
        kind::STRING
        | kind::HASH_ZIPMAP
        | kind::LIST_ZIPLIST
        | kind::SET_INTSET
        | kind::ZSET_ZIPLIST
        | kind::HASH_ZIPLIST
        | kind::HASH_LISTPACK
        | kind::ZSET_LISTPACK
        | kind::SET_LISTPACK => BLOB,
        kind::LIST | kind::SET | kind::LIST_QUICKLIST => &[Each(&[Text])],
        kind::ZSET => &[Each(&[Text, F64Text])],
        kind::HASH => &[Each(&[Text, Text])],
        kind::ZSET_2 => &[Each(&[Text, Bytes(8)])],
        kind::LIST_QUICKLIST_2 => &[Each(&[Length, Text])],
        kind::STREAM_LISTPACKS => STREAM,
        kind::STREAM_LISTPACKS_2 => STREAM_2,
        kind::STREAM_LISTPACKS_3 => STREAM_3,
        kind::HASH_2 => &[Each(&[Text, Text, Bytes(TIME_BYTES)])],
        kind::HASH_METADATA => &[Bytes(TIME_BYTES), Each(&[Length, Text, Text])],
        kind::HASH_LISTPACK_EX => &[Bytes(TIME_BYTES), Text],
        _ => return None,
    })
}

/// Pieces under way.
#[derive(Clone, Copy, Debug)]
struct Level {
    pieces: &'static [Piece],
    /// Which of them is next.
    next: usize,
    /// How often all of them are still to come, this time included.
    times: u64,
}

/// A value that is passed by.
#[derive(Debug)]
pub(super) struct Skip {
    levels: SmallVec<[Level; 4]>,
    /// Bytes of the present piece that are left.
    bytes: u64,
}

impl Skip {
    /// Passes a value of that kind by; nothing if there is no such kind.
    pub(super) fn new(kind: u8) -> Option<Self> {
        let level = Level { pieces: pieces(kind)?, next: 0, times: 1 };
        Some(Self { levels: smallvec![level], bytes: 0 })
    }

    /// Goes on with what is there, until the value ends.
    pub(super) fn step(&mut self, input: &mut Input<'_>) -> Result<(), Stop> {
        loop {
            self.bytes -= input.skip(self.bytes)?;
            if self.bytes > 0 {
                return Err(Stop::NeedMore(1));
            }
            let Some(level) = self.levels.last_mut() else { return Ok(()) };
            let Some(piece) = level.pieces.get(level.next) else {
                (level.next, level.times) = (0, level.times - 1);
                if level.times == 0 {
                    self.levels.pop();
                }
                continue;
            };
            let mut inner = None;
            self.bytes = match *piece {
                Text => input.text_head()?,
                Bytes(len) => len,
                Length => input.length().map(|_| 0)?,
                F64Text => match input.byte()? {
                    253.. => 0,
                    len => u64::from(len),
                },
                Each(pieces) => {
                    let times = input.length()?;
                    inner = (times > 0).then_some(Level { pieces, next: 0, times });
                    0
                }
            };
            level.next += 1;
            input.commit();
            self.levels.extend(inner);
        }
    }
}

/// The name of the module type with that number, which is made of nine letters of six bits and ten
/// bits of a version.
pub(super) fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |shift: u32| char::from(LETTERS[(id >> shift) as usize & 0x3F]);
    (0..9).map(|nth| letter(58 - 6 * nth)).collect()
}

/// Takes a module's value or other data up to its end mark, each piece with a byte of what it is.
pub(super) fn pass_module_data(input: &mut Input<'_>) -> Result<(), Stop> {
    loop {
        match input.length()? {
            0 => return Ok(()),
            1 | 2 => _ = input.length()?,
            3 => _ = input.take(4)?,
            4 => _ = input.take(8)?,
            5 => {
                let len = input.text_head()?;
                input.take(usize::try_from(len).map_err(|_| RdbError::Truncated)?)?;
            }
            _ => return Err(RdbError::Corrupt("data of a module in an unknown form").into()),
        }
    }
}
