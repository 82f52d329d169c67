//! Faults on demand: what tests need to show that the server survives a power cut, and that they would
//! notice if it did not.
//!
//! Only with the cargo feature `faults`, which the tests' own binary of the server is built with; in
//! any other build all functions of this module are empty and leave nothing behind. With the feature
//! too nothing happens unless the environment asks for it:
//!
//! - `TESSERA_LEDGER=DIRECTORY`: every change to a file of the data directory is noted there before
//!   it is made, with what is needed to take it back, and so is every sync that has succeeded (see
//!   `ledger`). `kill -9` alone cannot show that a sync is missing, since what was written survives
//!   in the kernel's cache. Whoever has the ledger can go on from there: of what no sync has covered,
//!   it takes back what it likes, sector by sector and name by name, and so has a directory as a power
//!   cut would have left it. That works whatever ended the process, and at any moment.
//! - `TESSERA_FAULT=FAULT,…` (see `plan`):
//!   - `crash-at:N` or `crash-at:POINT:N`: the process kills itself at its N-th sync, or at the N-th
//!     one of that kind, before it is done;
//!   - `skip-sync:POINT`: syncs of that kind are left out, and reported as done;
//!   - `order-a`, `order-c`: the rule of this letter of `dispatch` is broken;
//!   - `torn`: what concerns several shards takes its places without a cut;
//!   - `stale-read`: some reads for other workers are answered with what was there before;
//!   - `early-read`: reads do not wait while a log cannot be written, whatever they tell;
//!   - `eio:FILE`: while `FILE` exists the operations that it names, `write` or `sync`, are reported as
//!     failed with an error of the device: those of the log and of saves, done or not.
//!
//! There is no fault for rule (b) of `dispatch`: a sender fills each place before it takes its next
//! one, so a receiver that went past an unfilled place would do nothing that anybody can see from
//! outside. The mailbox's loom model shows what the rule is for.
#![forbid(unsafe_code)]

#[cfg(not(feature = "faults"))]
mod absent;
#[cfg(feature = "faults")]
mod active;
#[cfg(feature = "faults")]
mod ledger;
#[cfg(feature = "faults")]
mod plan;

#[cfg(not(feature = "faults"))]
pub(crate) use absent::*;
#[cfg(feature = "faults")]
pub(crate) use active::*;

/// A kind of sync: what is made durable, at which place of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncPoint {
    /// The name of the log's directory in the data directory.
    LogDirectory,
    /// A segment's first block and its length.
    Segment,
    /// A segment's name.
    SegmentDirectory,
    /// Groups of records in a segment.
    Group,
    /// The segments of a run that has ended without saying where, when they are recovered.
    Tail,
    /// The manifest's bytes, under its temporary name.
    Manifest,
    /// The manifest's name.
    ManifestDirectory,
    /// The bytes of a snapshot that is to be the base of the log.
    Base,
    /// Its name.
    BaseDirectory,
    /// The bytes of `dump.rdb`, under their temporary name.
    Dump,
    /// Its name.
    DumpDirectory,
    /// The new name of what was moved in.
    AsideDirectory,
}

/// What `dispatch` and `several` promise, to be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Places are taken in each connection's program order.
    ProgramOrder,
    /// Own commands execute after what stood in the own mailbox.
    OwnMailFirst,
    /// What concerns several shards takes all its places at one instant.
    Cut,
    /// A read sees the last write.
    FreshReads,
    /// Nobody sees what a power cut would take back.
    HeldReads,
}

/// What is asked of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Bytes of a file, durably or not.
    Write,
    /// The sync of a file.
    Sync,
}
