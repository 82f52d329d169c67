//! Mending a data directory: what is left of it when everything behind the first damage is given up.
//!
//! [`examine`] finds the greatest epoch up to which every log is whole, whatever headers say was
//! durable, and which bytes of which files lie behind it. It writes nothing: whoever asks decides,
//! and keeps what is cut off. What is left is what was true at one instant of the one order, as after
//! a crash; only that acknowledged writes may be among what is gone.
//!
//! A run that cannot be had whole is the last one that counts: what came later was built upon it.
//!
//! Neither the manifest nor a base can be mended. Positions in the manifest are known nowhere else,
//! and a base is one instant: keys that are missing from it are missing from all that follows.
//!
//! The same mends a copy of files that a server went on writing: what was copied last claims that more
//! is durable than was copied first.
#![forbid(unsafe_code)]

use std::io;

use super::{
    manifest::{Generation, Manifest, segment_name},
    recovery::{Plan, RecoveryError, plan_whole},
    scan::{Damage, LogEnd, Scan},
    segment::read_segment_block,
};
use crate::{journal::record::BLOCK_BYTES, sys::disk::Directory};

/// How much is read at a time, in bytes.
const WINDOW_BYTES: usize = 256 << 10;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// What is to be done to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCut {
    /// The file.
    pub file: String,
    /// Bytes of it that stay. With none it goes.
    pub keep: u64,
}

/// What one log loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLoss {
    /// The run.
    pub run: u64,
    /// The shard.
    pub shard: u32,
    /// The number of the last record that stays.
    pub last_kept: u64,
    /// The greatest number of a record that is known to have been written.
    pub last_known: u64,
}

/// How a directory is mended.
#[derive(Debug)]
pub struct Cure {
    /// The manifest that is right when the files are cut.
    pub new_manifest: Manifest,
    /// Files to be cut or to go: what they hold does not count. Room that was set aside stays.
    pub cuts: Vec<FileCut>,
    /// What is lost, of logs that lose records.
    pub losses: Vec<LogLoss>,
    /// The last epoch that stays, and the greatest one of which records are known.
    pub epochs: (u64, u64),
    /// Runs that go as a whole.
    pub runs_lost: usize,
}

impl Cure {
    /// Whether nothing is to be cut, and nothing is lost.
    pub fn is_needless(&self) -> bool {
        self.cuts.is_empty() && self.losses.is_empty()
    }

    /// Records that are known to be lost.
    pub fn records_lost(&self) -> u64 {
        self.losses.iter().map(|loss| loss.last_known - loss.last_kept).sum()
    }
}

/// Finds out how `directory`, whose manifest is `manifest`, is mended. `refused` is a record that is
/// whole and contradicts what was before it, if loading has met one: its epoch goes too.
///
/// # Errors
///
/// Of the file system.
pub fn examine(
    directory: &dyn Directory,
    manifest: &Manifest,
    refused: Option<&Damage>,
) -> Result<Cure, RecoveryError> {
    let mut cure = Cure {
        new_manifest: Manifest { base: manifest.base.clone(), generations: Vec::new() },
        cuts: Vec::new(),
        losses: Vec::new(),
        epochs: (0, 0),
        runs_lost: 0,
    };
    let mut is_over = false;
    for generation in &manifest.generations {
        if is_over {
            cure.drop_run(directory, generation)?;
            continue;
        }
        let mut plan = plan_whole(directory, generation, None)?;
        if let Some(epoch) = refused.and_then(|at| plan.epoch_at(&at.file, at.offset)) {
            plan = plan_whole(directory, generation, Some(epoch))?;
            is_over = true;
        }
        let has_ended = generation.end_epoch.is_some();
        is_over |= has_ended && plan.ends != generation.ends;
        cure.keep_run(generation, &plan);
        // What stands behind an end that was set in time never counts again.
        if is_over || !has_ended {
            cure.cut_run(directory, generation, &plan)?;
        }
    }
    Ok(cure)
}

impl Cure {
    /// A run stays, as far as `plan` says.
    fn keep_run(&mut self, generation: &Generation, plan: &Plan) {
        let end_epoch = Some(plan.end_epoch);
        let ended = Generation { end_epoch, ends: plan.ends.clone(), ..generation.clone() };
        self.new_manifest.generations.push(ended);
        self.epochs.0 = plan.end_epoch;
        plan.scans().iter().for_each(|scan| self.note_loss(generation, scan, plan.scans()));
    }

    /// The logs of a run are cut where `plan` says.
    fn cut_run(
        &mut self,
        directory: &dyn Directory,
        generation: &Generation,
        plan: &Plan,
    ) -> io::Result<()> {
        let mut logs = plan.scans().iter().zip(&generation.logs);
        logs.try_for_each(|(scan, start)| self.cut_log(directory, scan, start.segment))
    }

    /// Notes what a log loses, if it does.
    fn note_loss(&mut self, generation: &Generation, scan: &Scan, all: &[Scan]) {
        let shard = scan.shard as usize;
        let of_vectors = |other: &Scan| {
            other.groups.last().and_then(|last| last.header.vector.get(shard).copied())
        };
        let known = all.iter().filter_map(of_vectors).chain([
            scan.last_seen.0,
            scan.durable_sequence,
            generation.ends.get(shard).copied().unwrap_or(0),
        ]);
        let (last_kept, last_known) = (scan.last_sequence(), known.max().unwrap_or(0));
        self.epochs.1 = self.epochs.1.max(scan.last_seen.1).max(self.epochs.0);
        // What is behind an end that was set long ago was lost then.
        let last_known = match generation.end_epoch {
            Some(_) => last_known.min(generation.ends.get(shard).copied().unwrap_or(last_known)),
            None => last_known,
        };
        if last_known > last_kept {
            let (run, shard) = (scan.run, scan.shard);
            self.losses.push(LogLoss { run, shard, last_kept, last_known });
        }
    }

    /// Cuts a log behind what counts; if nothing does, all its segments from `first` on go.
    fn cut_log(&mut self, directory: &dyn Directory, scan: &Scan, first: u32) -> io::Result<()> {
        let behind = match scan.end(first) {
            Some(LogEnd { segments: (_, last), bytes }) => {
                let file = segment_name(scan.run, scan.shard, last);
                if !is_blank_from(directory, &file, bytes)? {
                    self.cuts.push(FileCut { file, keep: bytes });
                }
                last + 1
            }
            None => first,
        };
        for number in behind..=u32::MAX {
            let file = segment_name(scan.run, scan.shard, number);
            if directory.len(&file)?.is_none() {
                break;
            }
            if !is_unused(directory, &file)? {
                self.cuts.push(FileCut { file, keep: 0 });
            }
        }
        Ok(())
    }

    /// A run goes as a whole.
    fn drop_run(
        &mut self,
        directory: &dyn Directory,
        generation: &Generation,
    ) -> Result<(), RecoveryError> {
        self.runs_lost += 1;
        let plan = plan_whole(directory, generation, None)?;
        for (scan, start) in plan.scans().iter().zip(&generation.logs) {
            let last_known = scan.last_seen.0.max(scan.last_sequence());
            self.epochs.1 = self.epochs.1.max(scan.last_seen.1);
            if last_known > start.sequence {
                let (run, shard, last_kept) = (scan.run, scan.shard, start.sequence);
                self.losses.push(LogLoss { run, shard, last_kept, last_known });
            }
            for number in start.segment..=u32::MAX {
                let file = segment_name(scan.run, scan.shard, number);
                if directory.len(&file)?.is_none() {
                    break;
                }
                self.cuts.push(FileCut { file, keep: 0 });
            }
        }
        Ok(())
    }
}

/// Whether a segment holds its header and nothing else.
fn is_unused(directory: &dyn Directory, file: &str) -> io::Result<bool> {
    let mut block = vec![0; BLOCK_BYTES];
    let read = directory.read_at(file, 0, &mut block)?;
    Ok(read_segment_block(&block[..read]).is_ok() && is_blank_from(directory, file, BLOCK)?)
}

/// Whether nothing but zeros stands in a file from `offset` on.
fn is_blank_from(directory: &dyn Directory, file: &str, mut offset: u64) -> io::Result<bool> {
    let mut window = vec![0; WINDOW_BYTES];
    loop {
        match directory.read_at(file, offset, &mut window)? {
            0 => return Ok(true),
            read if window[..read].iter().any(|&byte| byte != 0) => return Ok(false),
            read => offset += read as u64,
        }
    }
}
