//! No faults: what the server consists of in any build but that of the tests. All of it vanishes.
#![forbid(unsafe_code)]

use std::{os::fd::AsRawFd, path::Path};

use tessera_proto::{Args, Mark, ReplyBuffer};

use super::{Access, Rule, SyncPoint};

/// A change of a file that is under way.
#[derive(Debug)]
pub(crate) struct Change;

impl Change {
    #[inline(always)]
    pub(crate) fn done(self) {}

    #[inline(always)]
    pub(crate) fn durable(self, _: SyncPoint) {}
}

#[inline(always)]
pub(crate) fn opened(_: &Path, _: &impl AsRawFd) {}

#[inline(always)]
pub(crate) fn writing(_: &impl AsRawFd, _: u64, _: usize) -> Change {
    Change
}

#[inline(always)]
pub(crate) fn skips(_: SyncPoint) -> bool {
    false
}

#[inline(always)]
pub(crate) fn syncing(_: SyncPoint, _: &impl AsRawFd) -> Option<Change> {
    Some(Change)
}

#[inline(always)]
pub(crate) fn syncing_directory(_: SyncPoint, _: &Path) -> Option<Change> {
    Some(Change)
}

#[inline(always)]
pub(crate) fn making_directory(_: &Path) {}

#[inline(always)]
pub(crate) fn renaming(_: &Path, _: &Path) {}

#[inline(always)]
pub(crate) fn linking(_: &Path, _: &Path) {}

#[inline(always)]
pub(crate) fn removing(_: &Path) {}

#[inline(always)]
pub(crate) const fn device(_: Access, result: i32) -> i32 {
    result
}

#[inline(always)]
pub(crate) const fn breaks(_: Rule) -> bool {
    false
}

#[inline(always)]
pub(crate) fn pause_between_places() {}

#[inline(always)]
pub(crate) fn make_stale(_: &Args<'_>, _: &mut ReplyBuffer, _: Mark) {}
