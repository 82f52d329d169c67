//! Recovery: which records of a data directory count.
//!
//! For every generation that has no end, the end is found first: the greatest epoch whose vector all
//! its logs satisfy. Everything of later epochs is cut off. So what comes back is what was true at
//! one instant of the one order: no effect without its cause, no half of a transaction. Then the
//! manifest is written with these ends, and only then may anything be written behind them.
//!
//! # Torn tail or corruption
//!
//! Of what was on its way when the server died, anything may have reached the disk; that is the tail,
//! and it is cut off. But headers say what was durable when they were written: where that is not
//! there any more, or not what was written, the disk has lost what it had promised to keep, and
//! recovery stops and names the place. It never guesses.
//!
//! What counts is loaded by [`load`].
#![forbid(unsafe_code)]

mod load;

use std::io;

use super::{
    envelope::EnvelopeError,
    manifest::{FILE_NAME, Generation, Manifest, segment_name},
    scan::{Damage, Group, GroupError, Scan, read_group, scan_log},
};
use crate::{
    journal::record::Record,
    sys::disk::{Directory, read_whole},
};

pub use load::{Loaded, NewShards, Progress, SlotsOf, load};

/// Why a data directory cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The file system has failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The manifest is unusable.
    #[error("{FILE_NAME}: {0}")]
    Manifest(EnvelopeError),
    /// What was durable is damaged.
    #[error(
        "{}, at byte {}: {}. This lies before the end that was known to be durable, so it is not the \
         tail of a crash: restore the directory from a backup, or give up everything from there on \
         with 'tessera-check --fix'",
        .0.file, .0.offset, .0.reason
    )]
    Corrupt(Damage),
    /// The snapshot that the log begins with is unusable.
    #[error("{file}: {reason}. The log begins with this file: restore it from a backup")]
    Base {
        /// Its name.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The tail is torn, and the configuration wants no start then.
    #[error(
        "{}, at byte {}: {}. The end of the log was cut short by a crash; start with \
         'aof-load-truncated yes' to go on without it", .0.file, .0.offset, .0.reason
    )]
    Truncated(Damage),
}

impl From<GroupError> for RecoveryError {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Io(error) => Self::Io(error),
            GroupError::Damage(damage) => Self::Corrupt(damage),
        }
    }
}

/// What recovery has found out about one generation before it loads it.
#[derive(Debug)]
pub struct Plan {
    scans: Vec<Scan>,
    /// The last epoch that counts.
    pub end_epoch: u64,
    /// For every log the number of its last record that counts.
    pub ends: Vec<u64>,
    /// Where tails were cut off.
    pub cuts: Vec<Damage>,
    /// Bytes of records that count.
    pub bytes: u64,
}

/// The manifest of a directory; an empty one if there is none.
///
/// # Errors
///
/// It cannot be read, or is damaged.
pub fn read_manifest(directory: &dyn Directory) -> Result<Manifest, RecoveryError> {
    match read_whole(directory, FILE_NAME)? {
        Some(bytes) => Manifest::from_bytes(&bytes).map_err(RecoveryError::Manifest),
        None => Ok(Manifest::default()),
    }
}

/// Finds out what of a generation counts.
///
/// # Errors
///
/// What was durable is damaged, or the file system fails.
pub fn plan(directory: &dyn Directory, generation: &Generation) -> Result<Plan, RecoveryError> {
    let mut scans = scan_logs(directory, generation)?;
    let durable = scans.iter().map(|scan| scan.durable_epoch).max().unwrap_or(0);
    let durable = durable.max(generation.first_epoch - 1);
    let durable = generation.end_epoch.unwrap_or(durable);
    for scan in &mut scans {
        if let Some(end_epoch) = generation.end_epoch {
            forget_behind(scan, end_epoch);
        }
        drop_torn_tail(directory, scan, durable)?;
    }
    let end_epoch = generation.end_epoch.unwrap_or_else(|| last_complete(&scans, durable));
    check_durable(&scans, generation, end_epoch)?;
    let mut plan = Plan::new(scans, end_epoch);
    if generation.end_epoch.is_some() {
        // They were told, and counted, when the end was set.
        plan.cuts.clear();
    }
    Ok(plan)
}

/// Finds out how much of a generation is whole, whatever it says was durable: for what is to be made
/// of a damaged directory. Every record is read. Nothing of the epoch `below` and later ones counts.
///
/// # Errors
///
/// Of the file system.
pub fn plan_whole(
    directory: &dyn Directory,
    generation: &Generation,
    below: Option<u64>,
) -> Result<Plan, RecoveryError> {
    let mut scans = scan_logs(directory, generation)?;
    let nothing = generation.first_epoch - 1;
    let last = below.map_or(u64::MAX, |below| below - 1);
    let last = last.min(generation.end_epoch.unwrap_or(u64::MAX));
    for scan in &mut scans {
        let counting = scan.groups.partition_point(|group| group.header.epoch <= last);
        scan.groups.truncate(counting);
        drop_torn_tail(directory, scan, nothing)?;
    }
    let end_epoch = last_complete(&scans, nothing);
    let mut plan = Plan::new(scans, end_epoch);
    if let Some(end_epoch) = generation.end_epoch
        && plan.ends == generation.ends
    {
        // The epochs up to there held no records.
        plan.end_epoch = end_epoch;
    }
    Ok(plan)
}

/// What the logs of a run call durable at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promised {
    epoch: u64,
    /// For every log the number of its last record that is.
    sequences: Vec<u64>,
}

/// Notes what the logs of a run call durable now.
///
/// # Errors
///
/// Of the file system.
pub fn promised(directory: &dyn Directory, generation: &Generation) -> io::Result<Promised> {
    let scans = scan_logs(directory, generation)?;
    Ok(Promised {
        epoch: scans.iter().map(|scan| scan.durable_epoch).max().unwrap_or(0),
        sequences: scans.iter().map(|scan| scan.durable_sequence).collect(),
    })
}

/// Finds out what of a generation counts whose files are still written, while they are read one after
/// the other. What was called durable before, `promised`, must be there; what is called so meanwhile
/// need not. Every record is read.
///
/// # Errors
///
/// As [`plan`].
pub fn plan_written(
    directory: &dyn Directory,
    generation: &Generation,
    promised: &Promised,
) -> Result<Plan, RecoveryError> {
    let mut scans = scan_logs(directory, generation)?;
    let nothing = generation.first_epoch - 1;
    for (shard, scan) in scans.iter_mut().enumerate() {
        drop_torn_tail(directory, scan, nothing)?;
        scan.durable_sequence = promised.sequences.get(shard).copied().unwrap_or(0);
    }
    let end_epoch = last_complete(&scans, promised.epoch.max(nothing));
    check_durable(&scans, generation, end_epoch)?;
    Ok(Plan::new(scans, end_epoch))
}

fn scan_logs(directory: &dyn Directory, generation: &Generation) -> io::Result<Vec<Scan>> {
    let Generation { run, first_epoch, ref logs, .. } = *generation;
    let mut scans = Vec::with_capacity(logs.len());
    for (shard, &start) in (0..).zip(logs) {
        let mut scan = scan_log(directory, run, shard, logs.len(), start)?;
        // Epochs rise within a log, so the first group says it of all.
        if let Some(first) = scan.groups.first()
            && first.header.epoch < first_epoch
        {
            scan.damage = Some(Damage {
                file: segment_name(run, shard, first.segment),
                offset: first.offset,
                reason: format!("its epoch is from before the run's first, {first_epoch}"),
            });
            scan.groups.clear();
        }
        scans.push(scan);
    }
    Ok(scans)
}

impl Plan {
    /// Ends the logs with `end_epoch`.
    fn new(mut scans: Vec<Scan>, end_epoch: u64) -> Self {
        let mut cuts = Vec::new();
        for scan in &mut scans {
            cut(scan, end_epoch, &mut cuts);
        }
        let ends = scans.iter().map(Scan::last_sequence).collect();
        let groups = scans.iter().flat_map(|scan| &scan.groups);
        let bytes = groups.map(|group| group.header.payload_bytes).sum();
        Self { scans, end_epoch, ends, cuts, bytes }
    }

    /// What counts of every log.
    pub fn scans(&self) -> &[Scan] {
        &self.scans
    }

    /// The epoch of the group that holds the byte `offset` of `file`, if it counts.
    pub fn epoch_at(&self, file: &str, offset: u64) -> Option<u64> {
        let holds = |scan: &Scan, group: &Group| {
            let is_within = (group.offset..group.offset + group.extent.len).contains(&offset);
            is_within && segment_name(scan.run, scan.shard, group.segment) == file
        };
        let groups =
            self.scans.iter().flat_map(|scan| scan.groups.iter().map(move |it| (scan, it)));
        groups.into_iter().find(|(scan, group)| holds(scan, group)).map(|(_, it)| it.header.epoch)
    }

    /// Calls `each` with every record that counts, log after log.
    ///
    /// # Errors
    ///
    /// A record is not what was written, or `each` has refused it; or the file system fails.
    pub fn for_each_record(
        &self,
        directory: &dyn Directory,
        mut each: impl FnMut(&Record<'_>) -> Result<(), String>,
    ) -> Result<(), RecoveryError> {
        let mut payload = Vec::new();
        for scan in &self.scans {
            for group in &scan.groups {
                read_group(directory, scan, group, &mut payload, |record| {
                    // What the base has is there and does not count.
                    let counts = record.head.sequence > scan.start_sequence;
                    if counts { each(record) } else { Ok(()) }
                })?;
            }
        }
        Ok(())
    }
}

/// Forgets what stands behind the end that a run was given once.
fn forget_behind(scan: &mut Scan, end_epoch: u64) {
    let counting = scan.groups.partition_point(|group| group.header.epoch <= end_epoch);
    scan.groups.truncate(counting);
    // It may claim that more was durable: what was is said by the manifest.
    scan.durable_sequence = scan.durable_sequence.min(scan.last_sequence());
}

/// Drops the groups from the first one on whose records are not whole, of those that are not known
/// to be durable: these must be whole, which is checked when they are replayed. Of a group that was
/// written several times, takes an attempt that is whole.
fn drop_torn_tail(
    directory: &dyn Directory,
    scan: &mut Scan,
    durable: u64,
) -> Result<(), RecoveryError> {
    let mut payload = Vec::new();
    for index in 0..scan.groups.len() {
        let group = &scan.groups[index];
        let is_sure = group.header.epoch <= durable;
        if is_sure && group.attempts.is_empty() {
            continue;
        }
        match whole_attempt(directory, scan, group.clone(), &mut payload)? {
            Ok(group) => scan.groups[index] = group,
            Err(_) if is_sure => {}
            Err(damage) => {
                scan.groups.truncate(index);
                scan.damage = Some(damage);
                break;
            }
        }
    }
    Ok(())
}

/// The last attempt to write the group that is whole, or what is wrong with the first.
fn whole_attempt(
    directory: &dyn Directory,
    scan: &Scan,
    mut group: Group,
    payload: &mut Vec<u8>,
) -> Result<Result<Group, Damage>, RecoveryError> {
    loop {
        match read_group(directory, scan, &group, payload, |_| Ok(())) {
            Ok(()) => return Ok(Ok(group)),
            Err(GroupError::Io(error)) => return Err(error.into()),
            Err(GroupError::Damage(damage)) => match group.attempts.pop() {
                Some(earlier) => (group.segment, group.offset) = earlier,
                None => return Ok(Err(damage)),
            },
        }
    }
}

/// The greatest epoch whose vector all logs satisfy; `durable` if there is none behind it.
fn last_complete(scans: &[Scan], durable: u64) -> u64 {
    let is_complete =
        |vector: &[u64]| scans.iter().zip(vector).all(|(scan, &end)| scan.last_sequence() >= end);
    let groups = scans.iter().flat_map(|scan| scan.groups.iter().rev());
    groups
        .filter(|group| group.header.epoch > durable && is_complete(&group.header.vector))
        .map(|group| group.header.epoch)
        .max()
        .unwrap_or(durable)
}

/// Whether all that was durable is there.
fn check_durable(
    scans: &[Scan],
    generation: &Generation,
    end_epoch: u64,
) -> Result<(), RecoveryError> {
    let of_vectors = scans
        .iter()
        .flat_map(|scan| &scan.groups)
        .filter(|group| group.header.epoch <= end_epoch)
        .max_by_key(|group| group.header.epoch);
    for (shard, scan) in scans.iter().enumerate() {
        let wanted = of_vectors.map_or(0, |group| group.header.vector[shard]);
        let ended = generation.ends.get(shard).copied().unwrap_or(0);
        let wanted = wanted.max(scan.durable_sequence).max(ended);
        if scan.last_sequence() < wanted {
            let missing = || Damage {
                file: segment_name(scan.run, scan.shard, 0),
                offset: 0,
                reason: format!("the log ends before record {wanted}"),
            };
            return Err(RecoveryError::Corrupt(scan.damage.clone().unwrap_or_else(missing)));
        }
    }
    Ok(())
}

/// Ends a log with `end_epoch`; notes what that leaves out.
fn cut(scan: &mut Scan, end_epoch: u64, cuts: &mut Vec<Damage>) {
    let kept = scan.groups.partition_point(|group| group.header.epoch <= end_epoch);
    if let Some(first) = scan.groups.get(kept) {
        cuts.push(Damage {
            file: segment_name(scan.run, scan.shard, first.segment),
            offset: first.offset,
            reason: format!("the logs of other shards do not reach epoch {}", first.header.epoch),
        });
    } else if let Some(damage) = &scan.damage {
        cuts.push(damage.clone());
    }
    scan.groups.truncate(kept);
}
