//! Commands on bitmaps: strings whose bits are addressed one by one or as integers.
//!
//! The work on the bits stands in `types::bits`; here are arguments, keys and replies.
#![forbid(unsafe_code)]

mod combine;
mod field;
mod range;
mod single;
#[cfg(test)]
mod tests;

use super::{
    keys::Place,
    prelude::*,
    string::{edit_bytes, text::Text},
};
use combine::bitop;
use field::{bitfield, bitfield_access, bitfield_ro};
use range::{bitcount, bitpos};
use single::{getbit, setbit};

const READ: KeySpec = KeySpec::FIRST.used(Access::RO.with(Access::ACCESS));
/// Changes the value in a way that depends on it.
const CHANGE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::ACCESS).with(Access::UPDATE));
/// A destination behind the operation, then the sources.
const COMBINE: KeySpec = KeySpec::at(Place::Range { first: 2, last: -1, step: 1 })
    .used(Access::OW.with(Access::UPDATE))
    .then(Access::RO.with(Access::ACCESS));

commands! { Bitmap;
    /// Answers how many bits are set in a string.
    "bitcount" "2.6.0", AtLeast(2), READONLY, READ, Owner, bitcount;
    /// Reads and changes integers of any width within a string.
    "bitfield" "3.2.0", AtLeast(2), WRITE | DENYOOM, CHANGE.varying(bitfield_access), Owner, bitfield;
    /// Reads integers of any width within a string.
    "bitfield_ro" "6.0.0", AtLeast(2), READONLY | FAST, READ, Owner, bitfield_ro;
    /// Combines strings bit by bit and keeps the result.
    "bitop" "2.6.0", AtLeast(4), WRITE | DENYOOM, COMBINE, Owner, bitop;
    /// Finds the first bit that is set or clear in a string.
    "bitpos" "2.8.7", AtLeast(3), READONLY, READ, Owner, bitpos;
    /// Answers a bit of a string.
    "getbit" "2.2.0", Exactly(3), READONLY | FAST, READ, Owner, getbit;
    /// Sets or clears a bit of a string, or creates it.
    "setbit" "2.2.0", Exactly(4), WRITE | DENYOOM, CHANGE, Owner, setbit;
}
