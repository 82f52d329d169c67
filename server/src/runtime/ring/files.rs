//! Writing the log's files through the ring.
//!
//! Bytes are whole blocks in memory that is aligned as direct I/O wants it, so nothing is copied on
//! their way. A write that must be durable says so itself (RWF_DSYNC), which costs one operation
//! where a write and a sync would cost two.
//!
//! Invariants:
//! - the bytes of a write are owned by this module and untouched until its completion;
//! - whoever submits keeps the file open until the completion.

use std::{io, os::fd::AsRawFd, os::fd::BorrowedFd};

use io_uring::{opcode, types};
use tessera_engine::{journal::record::RecordBuffer, sys::disk::DiskEvent};

use super::{Completion, Ring};
use crate::faults::{self, Change, SyncPoint};

/// The most bytes that one operation writes; the kernel takes no more than 2 GiB.
const WRITE_BYTES_MAX: usize = 1 << 30;
const WRITE: u64 = 7 << 32;
const SYNC: u64 = 8 << 32;

/// A write or a sync that is under way.
pub(super) struct Operation {
    descriptor: i32,
    segment: u32,
    write: Option<Write>,
    /// Nothing for a sync that is left out.
    change: Option<Change>,
}

struct Write {
    ticket: u64,
    bytes: RecordBuffer,
    offset: u64,
    /// How much is written.
    done: usize,
    durable: bool,
}

impl Ring {
    /// Writes all of `bytes` at `offset`; [`Completion::Disk`] tells when that is done, and durably
    /// done with `durable`. The file must stay open until then.
    pub fn write_file(
        &mut self,
        file: BorrowedFd<'_>,
        (ticket, segment): (u64, u32),
        offset: u64,
        bytes: RecordBuffer,
        durable: bool,
    ) {
        let durable = durable && !faults::skips(SyncPoint::Group);
        let change = Some(faults::writing(&file, offset, bytes.len()));
        let write = Some(Write { ticket, bytes, offset, done: 0, durable });
        let descriptor = file.as_raw_fd();
        let number = self.keep_operation(Operation { descriptor, segment, write, change });
        self.push_write(number);
    }

    /// Makes durable what was written to the file; [`Completion::Disk`] tells when that is done.
    pub fn sync_file(&mut self, file: BorrowedFd<'_>, segment: u32) {
        let descriptor = file.as_raw_fd();
        let change = faults::syncing(SyncPoint::Group, &file);
        let entry = match change {
            Some(_) => {
                opcode::Fsync::new(types::Fd(descriptor)).flags(types::FsyncFlags::DATASYNC).build()
            }
            None => opcode::Nop::new().build(),
        };
        let number = self.keep_operation(Operation { descriptor, segment, write: None, change });
        let entry = entry.user_data(SYNC | number as u64);
        // SAFETY: a sync points to no memory.
        unsafe { self.push(entry) };
        self.in_flight += 1;
    }

    fn keep_operation(&mut self, operation: Operation) -> usize {
        match self.files.iter().position(Option::is_none) {
            Some(free) => {
                self.files[free] = Some(Box::new(operation));
                free
            }
            None => {
                self.files.push(Some(Box::new(operation)));
                self.files.len() - 1
            }
        }
    }

    fn push_write(&mut self, number: usize) {
        let Some(operation) = &self.files[number] else { return };
        let Some(write) = &operation.write else { return };
        let rest = &write.bytes[write.done..];
        let len = rest.len().min(WRITE_BYTES_MAX) as u32;
        let entry = opcode::Write::new(types::Fd(operation.descriptor), rest.as_ptr(), len)
            .offset(write.offset + write.done as u64)
            .rw_flags(if write.durable { libc::RWF_DSYNC } else { 0 })
            .build()
            .user_data(WRITE | number as u64);
        // SAFETY: the bytes are on the heap, owned by a boxed operation that stays in the table and
        // is not changed until its completion.
        unsafe { self.push(entry) };
        self.in_flight += 1;
    }

    /// What a completed operation on a file means, if the token is of one.
    pub(super) fn file_done(&mut self, kind: u64, number: u32, result: i32) -> Option<Completion> {
        match kind {
            WRITE => self.written(number as usize, result),
            SYNC => {
                let Operation { segment, change, .. } = *self.files[number as usize].take()?;
                let result = outcome(result).map(|_| change.map_or((), Change::done));
                Some(Completion::Disk(DiskEvent::Synced { segment, result }))
            }
            _ => None,
        }
    }

    fn written(&mut self, number: usize, result: i32) -> Option<Completion> {
        let write = self.files[number].as_mut()?.write.as_mut()?;
        let result = match outcome(result) {
            // A medium that takes nothing has no room.
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => {
                write.done += len;
                if write.done < write.bytes.len() {
                    self.push_write(number);
                    return None;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.push_write(number);
                return None;
            }
            Err(error) => Err(error),
        };
        let Operation { write, change, .. } = *self.files[number].take()?;
        let Write { ticket, bytes, durable, .. } = write?;
        if let (Some(change), Ok(())) = (change, &result) {
            if durable { change.durable(SyncPoint::Group) } else { change.done() }
        }
        Some(Completion::Disk(DiskEvent::Written { ticket, bytes, result }))
    }
}

fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
