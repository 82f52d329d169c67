//! The way of a worker's pieces to the file: through the worker's own ring, past the page cache.
//!
//! Why so: a thread of the kernel hands such a write to the disk, copies nothing and leaves nothing to
//! be written back. Through the page cache every piece would be copied by a kernel thread and written
//! back by another one, on the cores that the workers and their clients need, in stretches of
//! milliseconds; and the file's pages would push out others. Where the file system has no direct I/O,
//! pieces go through the page cache, and the file is synced on the way, so that its end need not wait
//! for all of it, nor anybody else's sync meanwhile.
//!
//! Room on the disk is set aside ahead of the writes: a write that makes the file longer would have to
//! wait for all others.
//!
//! Invariants:
//! - no more than [`PIECES_MAX`] pieces are under way, so that the worker makes no more of them than
//!   the disk takes;
//! - the file stays open until nothing of this worker is under way;
//! - the worker's part of the save ends when its pieces are written, or when the save has failed and
//!   nothing is under way any more; not before the file is opened, so that one that is removed does
//!   not come back.
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{Arc, OnceLock},
    thread,
};

use tessera_engine::{
    journal::record::RecordBuffer,
    persist::snapshot::{Piece, Place},
    transaction::ShardId,
};

use super::{Save, save::Extent};
use crate::{
    metrics::unix_time,
    runtime::{
        background::Background,
        file::{self, DirectFile},
        ring::{Ring, SaveEvent},
    },
    server::Shared,
};

/// Pieces of one worker that may be under way.
pub const PIECES_MAX: usize = 8;
/// After so many bytes of one worker a file is synced that goes through the page cache.
const SYNC_BYTES: u64 = 32 << 20;

/// Writes the pieces of one worker.
pub(crate) struct PieceWriter {
    save: Arc<Save>,
    /// The file; nothing in it if it could not be opened.
    file: Arc<OnceLock<Option<DirectFile>>>,
    /// Whose pieces they are.
    shard: ShardId,
    extents: Vec<Extent>,
    /// Where the next piece of a run belongs.
    next: u64,
    /// Operations that are under way.
    under_way: usize,
    /// Bytes written since the last sync.
    unsynced: u64,
}

impl PieceWriter {
    /// A writer of the pieces of `shard` into the file of `save`, which is opened on a thread of its
    /// own.
    pub(crate) fn open(save: Arc<Save>, shard: ShardId) -> Self {
        let file = Arc::new(OnceLock::new());
        let (opening, opened) = (Arc::clone(&save), Arc::clone(&file));
        // Not on the executor's thread for blocking calls, which must not outlive the executor.
        let spawned = thread::Builder::new().name("save-file".into()).spawn(move || {
            let outcome = file::open_direct(opening.temporary(), opening.next_room());
            // Nobody else sets it.
            let _ = opened.set(outcome.map_err(|error| opening.fail(error)).ok());
        });
        if let Err(error) = spawned {
            save.fail(error);
            let _ = file.set(None);
        }
        Self { save, file, shard, extents: Vec::new(), next: 0, under_way: 0, unsynced: 0 }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.get()?.as_ref()?.descriptor.as_fd())
    }

    /// Whether there is room for a piece.
    pub(crate) fn has_room(&self) -> bool {
        self.under_way < PIECES_MAX && self.descriptor().is_some()
    }

    /// Whether the file is opened, or cannot be, and nothing is under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.under_way == 0 && self.file.get().is_some()
    }

    /// Takes a piece over. There must be room.
    pub(crate) fn push(&mut self, piece: Piece, ring: &mut Ring) {
        let Some(opened) = self.file.get().and_then(Option::as_ref) else { return };
        let descriptor = opened.descriptor.as_fd();
        let len = piece.bytes.len() as u64;
        let at = match piece.place {
            Place::Anywhere => self.save.reserve(len),
            Place::Run { total } => self.save.reserve(total),
            Place::Next => self.next,
        };
        self.next = at + len;
        let (sum, shard) = (piece.sum, self.shard);
        self.extents.push(Extent { start: at, len, sum, shard });
        ring.write_piece(descriptor, at, piece.bytes);
        self.under_way += 1;
        if let Some((offset, len)) = self.save.next_room() {
            ring.set_aside(descriptor, offset, len);
            self.under_way += 1;
        }
        self.unsynced += len;
        if !opened.is_direct && self.save.syncs_on_the_way() && self.unsynced >= SYNC_BYTES {
            ring.sync_pieces(descriptor, self.save.sync_points().0);
            self.under_way += 1;
            self.unsynced = 0;
        }
    }

    /// Takes in what has become of an operation; the buffer of a piece that was written.
    pub(crate) fn take(&mut self, event: SaveEvent) -> Option<RecordBuffer> {
        self.under_way -= 1;
        let (buffer, result) = match event {
            SaveEvent::Written { bytes, result } => (Some(bytes), result),
            SaveEvent::Synced(result) => (None, result),
            SaveEvent::SetAside => (None, Ok(())),
        };
        if let Err(error) = result {
            self.save.fail(error);
        }
        buffer
    }

    /// Ends this worker's part of the save, and the save if it is the last. The writer is settled.
    pub(crate) fn end(self, shared: Arc<Shared>, background: &Background) {
        debug_assert!(self.is_settled());
        let Self { save, file, extents, .. } = self;
        // Nothing of it waits to be written back.
        drop(file);
        background.spawn(async move {
            if save.shard_ends(extents) {
                conclude(&shared, &save).await;
            }
        });
    }
}

/// Ends a save that all workers are through with.
async fn conclude(shared: &Arc<Shared>, save: &Save) {
    let outcome: io::Result<()> = save.conclude().await;
    match &outcome {
        Ok(()) if save.why() == super::Why::Rewrite => {}
        Ok(()) => tracing::info!("DB saved on disk"),
        Err(error) => tracing::warn!("Write error saving DB on disk: {error}"),
    }
    if save.why() == super::Why::Background {
        match &outcome {
            Ok(()) => tracing::info!("Background saving terminated with success"),
            Err(_) => tracing::warn!("Background saving error"),
        }
    }
    shared.saves.end(save, &outcome, unix_time().as_secs());
    save.hand_over(shared, outcome.is_ok());
    save.set_outcome(outcome.is_ok());
    if shared.saves.has_scheduled() {
        // The first worker begins it.
        shared.board.bell(0).ring();
    }
}
