//! The way of a worker's pieces to the file: a short queue, and tasks that write what is in it.
//!
//! Several tasks, as the worker looks after its background tasks about once a millisecond while
//! there is traffic: a single one would write a piece a millisecond at best.
//!
//! Invariants:
//! - no more than [`PIECES_MAX`] pieces wait or are being written, so that the worker makes no more
//!   of them than the disk takes;
//! - after a failure what waits is dropped, and the tasks end all the same;
//! - the worker's part of the save ends when the worker has closed the queue and nothing is left.
#![forbid(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};

use tessera_engine::persist::snapshot::{Piece, Place};

use super::{Save, save::Extent};
use crate::{
    metrics::unix_time,
    runtime::{background::Background, file::File},
    server::Shared,
};

/// Pieces of one worker that may wait or be under way.
pub const PIECES_MAX: usize = 8;
/// Tasks that write them.
const LANES: usize = 4;
/// After so many bytes of one worker the file is synced, so that its end need not wait for all of
/// them, nor anybody else's sync meanwhile.
const SYNC_BYTES: u64 = 32 << 20;

/// The queue of one worker's pieces.
pub(crate) struct Lanes {
    save: Arc<Save>,
    queue: RefCell<VecDeque<Waiting>>,
    /// Pieces that wait or are being written.
    pieces: Cell<usize>,
    is_closed: Cell<bool>,
    /// Tasks that have the file open.
    lanes: Cell<usize>,
    extents: RefCell<Vec<Extent>>,
    /// Where the next piece of a run belongs.
    next: Cell<u64>,
    /// Bytes written since the last sync.
    unsynced: Cell<u64>,
    /// Tasks that wait for a piece, or for the end.
    sleepers: RefCell<Vec<Waker>>,
}

struct Waiting {
    bytes: Vec<u8>,
    at: u64,
}

impl Lanes {
    /// A queue for `save`, and tasks that empty it and conclude the save if they are the last.
    pub(crate) fn start(shared: Arc<Shared>, save: Arc<Save>, background: &Background) -> Rc<Self> {
        let lanes = Rc::new(Self {
            save,
            queue: RefCell::default(),
            pieces: Cell::new(0),
            is_closed: Cell::new(false),
            lanes: Cell::new(0),
            extents: RefCell::default(),
            next: Cell::new(0),
            unsynced: Cell::new(0),
            sleepers: RefCell::default(),
        });
        background.spawn(Rc::clone(&lanes).serve(shared, background.clone()));
        lanes
    }

    /// Whether there is room for a piece.
    pub(crate) fn has_room(&self) -> bool {
        self.pieces.get() < PIECES_MAX
    }

    /// Takes a piece over.
    pub(crate) fn push(&self, piece: Piece) {
        let len = piece.bytes.len() as u64;
        let at = match piece.place {
            Place::Anywhere => self.save.reserve(len),
            Place::Run { total } => self.save.reserve(total),
            Place::Next => self.next.get(),
        };
        self.next.set(at + len);
        self.extents.borrow_mut().push(Extent { start: at, len, sum: piece.sum });
        self.queue.borrow_mut().push_back(Waiting { bytes: piece.bytes, at });
        self.pieces.set(self.pieces.get() + 1);
        self.wake();
    }

    /// No more pieces come.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
        self.wake();
    }

    fn wake(&self) {
        self.sleepers.take().into_iter().for_each(Waker::wake);
    }

    /// Writes pieces until the queue is closed and empty, then ends this worker's part of the save.
    async fn serve(self: Rc<Self>, shared: Arc<Shared>, background: Background) {
        match File::open(self.save.temporary(), self.save.sync_points().0).await {
            Ok(file) => {
                let file = Rc::new(file);
                self.lanes.set(LANES);
                for _ in 0..LANES {
                    background.spawn(Rc::clone(&self).write(Rc::clone(&file)));
                }
                self.all_written().await;
                self.close_file(file).await;
            }
            Err(error) => {
                self.save.fail(error);
                while self.next_piece().await.is_some() {
                    self.settle();
                }
            }
        }
        if self.save.shard_ends(self.extents.take()) {
            conclude(&shared, &self.save).await;
        }
    }

    /// One lane: writes a piece after the other.
    async fn write(self: Rc<Self>, file: Rc<File>) {
        while let Some(Waiting { bytes, at }) = self.next_piece().await {
            if !self.save.has_failed()
                && let Err(error) = self.write_one(&file, bytes, at).await
            {
                self.save.fail(error);
            }
            self.settle();
        }
        drop(file);
        self.lanes.set(self.lanes.get() - 1);
        self.wake();
    }

    /// Closes the file: one that is removed takes its place on the disk until it is closed.
    async fn close_file(&self, file: Rc<File>) {
        if let Ok(file) = Rc::try_unwrap(file)
            && let Err(error) = file.close().await
        {
            self.save.fail(error);
        }
    }

    /// Writes a piece, and syncs the file if it is time to.
    async fn write_one(&self, file: &File, bytes: Vec<u8>, at: u64) -> io::Result<()> {
        let unsynced = self.unsynced.get() + bytes.len() as u64;
        file.write(bytes, at).await?;
        let is_time = self.save.syncs_on_the_way() && unsynced >= SYNC_BYTES;
        self.unsynced.set(if is_time { 0 } else { unsynced });
        if is_time { file.sync().await } else { Ok(()) }
    }

    /// A piece is done with.
    fn settle(&self) {
        self.pieces.set(self.pieces.get() - 1);
    }

    /// The next piece; nothing once the queue is closed and empty.
    async fn next_piece(&self) -> Option<Waiting> {
        poll_fn(|context| match self.queue.borrow_mut().pop_front() {
            Some(waiting) => Poll::Ready(Some(waiting)),
            None if self.is_closed.get() => Poll::Ready(None),
            None => self.sleep(context.waker()),
        })
        .await
    }

    /// Waits until all lanes have ended.
    async fn all_written(&self) {
        poll_fn(|context| match self.lanes.get() {
            0 => Poll::Ready(()),
            _ => self.sleep(context.waker()),
        })
        .await;
    }

    fn sleep<T>(&self, waker: &Waker) -> Poll<T> {
        self.sleepers.borrow_mut().push(waker.clone());
        Poll::Pending
    }
}

/// Ends a save that all workers are through with.
async fn conclude(shared: &Arc<Shared>, save: &Save) {
    let outcome = save.conclude().await;
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
