//! Saving at once: one worker, to which all shards are lent, writes the whole file while everybody
//! stands still.
//!
//! For the end of the server and for DEBUG RELOAD, where nobody may change anything between what is
//! written and what comes next. All other saves go beside the traffic (see the parent module).
#![forbid(unsafe_code)]

use std::{fs::File, io, mem, path::Path};

use tessera_engine::{
    keyspace::Keyspace,
    persist::{
        rdb::{Crc64, EntryHead, Part, Writer},
        snapshot::SnapshotOptions,
    },
    transaction::Gathered,
};

use super::{
    parts::{Parts, UNSUMMED_END},
    save::Plan,
};
use crate::{faults::SyncPoint, storage};

/// Bytes that are written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes all keys of the shards that are here, and `functions`, to the file of `plan`, which has its
/// name only when it is durable.
///
/// # Errors
///
/// What the system says; the file that was there before is still there.
pub fn save_at_once(plan: &Plan, functions: &[u8], shards: &mut Gathered) -> io::Result<()> {
    let temporary = plan.directory.join(format!("temp-{}-at-once.rdb", std::process::id()));
    let outcome = write(&temporary, plan, functions, shards)
        .and_then(|()| storage::rename(&temporary, &plan.directory.join(&plan.name)))
        .and_then(|()| storage::sync_directory(&plan.directory, SyncPoint::DumpDirectory));
    if outcome.is_err()
        && let Err(error) = storage::remove(&temporary)
    {
        tracing::warn!("Cannot remove {}: {error}", temporary.display());
    }
    outcome
}

fn write(path: &Path, plan: &Plan, functions: &[u8], shards: &mut Gathered) -> io::Result<()> {
    let mut output = Output {
        file: storage::create(path)?,
        written: 0,
        parts: plan.options.checksum.then(Parts::default),
        sum: Crc64::new(),
        begun: 0,
        bytes: [plan.head.as_slice(), functions].concat(),
    };
    output.end_part(Part::for_all)?;
    let mut writer = Writer::new(plan.options.values);
    let map = shards.map();
    for (id, shard) in shards.iter_mut() {
        writer.begin_chunk();
        for database in 0..shard.keyspace.database_count() {
            shard.keyspace.select(database, true);
            put_database(&shard.keyspace, &plan.options, &mut writer, &mut output)?;
        }
        output.end_part(|len, sum| Part { slots: map.slots_of(id), len, sum })?;
    }
    output.finish(map.shards() > 1)
}

/// Writes the keys of the selected database.
fn put_database(
    keyspace: &Keyspace,
    options: &SnapshotOptions,
    writer: &mut Writer,
    output: &mut Output,
) -> io::Result<()> {
    let (policy, clock) = (keyspace.usage_policy(), keyspace.clock());
    let database = keyspace.selected() as u32;
    let mut outcome = Ok(());
    keyspace.for_each(|entry| {
        if outcome.is_err() {
            return;
        }
        let usage = options.usage.of(entry.lru(), policy, clock);
        let head = EntryHead { database, key: entry.key(), deadline: entry.deadline(), usage };
        writer.entry(&head, &entry.body(), &mut output.bytes);
        outcome = output.flush_from(CHUNK_BYTES);
    });
    outcome
}

/// The file, and what is on the way to it.
struct Output {
    file: File,
    written: u64,
    /// What the file is made of so far, if it is summed up.
    parts: Option<Parts>,
    /// The checksum of the part that was begun, and where in the file that begins.
    sum: Crc64,
    begun: u64,
    bytes: Vec<u8>,
}

impl Output {
    /// Writes what waits, if that is at least `len` bytes.
    fn flush_from(&mut self, len: usize) -> io::Result<()> {
        if self.bytes.len() >= len {
            if self.parts.is_some() {
                self.sum.update(&self.bytes);
            }
            storage::write_all_at(&self.file, &self.bytes, self.written)?;
            self.written += self.bytes.len() as u64;
            self.bytes.clear();
        }
        Ok(())
    }

    /// Ends a part of the file, which `part` makes of its length and its checksum.
    fn end_part(&mut self, part: impl FnOnce(u64, u64) -> Part) -> io::Result<()> {
        self.flush_from(0)?;
        let sum = mem::take(&mut self.sum).value();
        if let Some(parts) = &mut self.parts {
            parts.push(part(self.written - self.begun, sum));
        }
        self.begun = self.written;
        Ok(())
    }

    /// Writes the end of the file, and waits until all is durable.
    fn finish(self, with_index: bool) -> io::Result<()> {
        let mut end = Vec::new();
        match self.parts {
            Some(parts) => parts.put_end(with_index, &mut end),
            None => end.extend_from_slice(&UNSUMMED_END),
        }
        storage::write_all_at(&self.file, &end, self.written)?;
        storage::sync(&self.file, SyncPoint::Dump)
    }
}
