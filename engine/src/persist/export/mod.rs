//! Exporting what shards hold, for other servers: as an RDB file, or as the requests that make it.
//!
//! ```text
//! rdb         this file: a whole file, key after key
//! requests    the requests that make a key anew, as clients would send them
//! libraries   the libraries of functions that are left of all that was done to them
//! ```
//!
//! What servers before Redis 7.4 do not know is the deadline of a hash's field. Unless the reader is
//! said to be newer ([`Target::Newer`]), such hashes are written without the deadlines, and counted:
//! fields whose deadline has passed are left out, the others stay for good.
//!
//! The shards come from recovery, so their time stands at 0 and keys past their deadline are still
//! there; they are written as they are, deadline and all, and end where they are loaded.
#![forbid(unsafe_code)]

mod libraries;
mod requests;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use super::rdb::{
    EntryHead, Options, Trailer, VERSION_WRITTEN, Writer,
    writer::{put_function, put_header_of},
};
use crate::{
    keyspace::{Body, EntryRef},
    shard::Shard,
    types::{Hash, Thresholds},
    value::{Object, Value},
};

pub use libraries::libraries_after;
pub use requests::export_requests;

/// The version of RDB files that hold deadlines of fields.
const VERSION_OF_FIELD_DEADLINES: u16 = 12;
/// Bytes that are written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Who is to load what is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// redis-server from 7.0 on, and Valkey.
    Any,
    /// redis-server from 7.4 on: RDB version 12.
    Newer,
}

/// How an export is made.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions {
    /// Who is to load it.
    pub target: Target,
    /// Now, in Unix milliseconds: which fields are past their deadline.
    pub now_ms: i64,
}

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Keys.
    pub keys: u64,
    /// Bytes.
    pub bytes: u64,
    /// Hashes whose fields have lost their deadlines.
    pub hashes_without_deadlines: u64,
    /// Entries of streams that are pending and deleted, which no request can make.
    pub pending_left_out: u64,
}

/// Writes everything that `shards` hold, and the code of `libraries`, as an RDB file.
///
/// # Errors
///
/// Of `output`.
pub fn export_rdb(
    shards: &mut [Shard],
    libraries: &[Vec<u8>],
    options: ExportOptions,
    output: &mut dyn Write,
) -> io::Result<Exported> {
    let version = match options.target {
        Target::Any => VERSION_WRITTEN,
        Target::Newer => VERSION_OF_FIELD_DEADLINES,
    };
    let (mut exported, mut trailer) = (Exported::default(), Trailer::new(true));
    let (mut writer, mut waiting) = (Writer::new(Options::default()), Vec::new());
    put_header_of(version, &mut waiting, &[("redis-ver", "7.2.4"), ("redis-bits", "64")]);
    libraries.iter().for_each(|code| put_function(&mut waiting, code));
    let mut flush = |waiting: &mut Vec<u8>, exported: &mut Exported| {
        trailer.update(waiting);
        exported.bytes += waiting.len() as u64;
        let written = output.write_all(waiting);
        waiting.clear();
        written
    };
    for_each_entry(shards, |database, entry| {
        let mut put = |body: &Body<'_, Object>| {
            let head =
                EntryHead { database, key: entry.key(), deadline: entry.deadline(), usage: None };
            writer.entry(&head, body, &mut waiting);
        };
        match without_deadlines(&entry.body(), options, &mut exported) {
            Plain::AsItIs => put(&entry.body()),
            Plain::Made(value) => put(&value.body()),
            Plain::Nothing => return Ok(()),
        }
        exported.keys += 1;
        if waiting.len() >= CHUNK_BYTES { flush(&mut waiting, &mut exported) } else { Ok(()) }
    })?;
    flush(&mut waiting, &mut exported)?;
    let end = trailer.finish();
    exported.bytes += end.len() as u64;
    output.write_all(&end)?;
    Ok(exported)
}

/// Calls `each` with every entry of all databases, until it fails.
fn for_each_entry(
    shards: &mut [Shard],
    mut each: impl FnMut(u32, EntryRef<'_, Object>) -> io::Result<()>,
) -> io::Result<()> {
    let databases = shards.iter().map(|shard| shard.keyspace.database_count()).max().unwrap_or(0);
    for database in 0..databases {
        for shard in &mut *shards {
            shard.keyspace.select(database, true);
            let mut outcome = Ok(());
            shard.keyspace.for_each(|entry| {
                if outcome.is_ok() {
                    outcome = each(database as u32, entry);
                }
            });
            outcome?;
        }
    }
    Ok(())
}

/// What the reader gets of a value.
enum Plain {
    /// All of it.
    AsItIs,
    /// Another value in its place.
    Made(Value),
    /// Nothing: all of it has expired.
    Nothing,
}

/// A hash whose fields have deadlines, without them, if the reader does not know them.
fn without_deadlines(
    body: &Body<'_, Object>,
    options: ExportOptions,
    exported: &mut Exported,
) -> Plain {
    let Body::Object(Object::Hash(hash)) = body else { return Plain::AsItIs };
    if options.target == Target::Newer || hash.earliest_deadline().is_none() {
        return Plain::AsItIs;
    }
    exported.hashes_without_deadlines += 1;
    let (mut plain, thresholds) = (Hash::new(), Thresholds::default());
    for (field, value) in hash.iter_live(options.now_ms) {
        field.with_bytes(|field| value.with_bytes(|value| plain.set(field, value, &thresholds)));
    }
    if plain.is_empty() { Plain::Nothing } else { Plain::Made(plain.into()) }
}
