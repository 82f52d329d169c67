//! Saving at once: one worker, to which all shards are lent, writes the whole file while everybody
//! stands still.
//!
//! For the end of the server and for DEBUG RELOAD, where nobody may change anything between what is
//! written and what comes next. All other saves go beside the traffic (see the parent module).
#![forbid(unsafe_code)]

use std::{fs::File, io, path::Path};

use tessera_engine::{
    keyspace::Keyspace,
    persist::{
        rdb::{EntryHead, Trailer, Writer},
        snapshot::SnapshotOptions,
    },
    transaction::Gathered,
};

use super::save::Plan;
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
    let trailer = Trailer::new(plan.options.checksum);
    let bytes = [plan.head.as_slice(), functions].concat();
    let file = storage::create(path)?;
    let mut output = Output { file, written: 0, trailer, bytes };
    let mut writer = Writer::new(plan.options.values);
    for (_, shard) in shards.iter_mut() {
        for database in 0..shard.keyspace.database_count() {
            shard.keyspace.select(database, true);
            put_database(&shard.keyspace, &plan.options, &mut writer, &mut output)?;
        }
    }
    output.finish()
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
    trailer: Trailer,
    bytes: Vec<u8>,
}

impl Output {
    /// Writes what waits, if that is at least `len` bytes.
    fn flush_from(&mut self, len: usize) -> io::Result<()> {
        if self.bytes.len() >= len {
            self.trailer.update(&self.bytes);
            storage::write_all_at(&self.file, &self.bytes, self.written)?;
            self.written += self.bytes.len() as u64;
            self.bytes.clear();
        }
        Ok(())
    }

    /// Writes the end of the file, and waits until all is durable.
    fn finish(mut self) -> io::Result<()> {
        self.flush_from(0)?;
        storage::write_all_at(&self.file, &self.trailer.finish(), self.written)?;
        storage::sync(&self.file, SyncPoint::Dump)
    }
}
