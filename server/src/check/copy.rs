//! `--copy-to`: a copy of a log's directory that is whole, also while a server writes it.
//!
//! # Why not `cp`
//!
//! A copy of files that grow holds more of those that were copied last, and their headers say that
//! more is durable than those that were copied first hold: recovery takes that for a disk that has
//! lost what it had promised. And a rewrite removes files while they are copied.
//!
//! # How
//!
//! What the logs call durable is noted first. All files that the manifest names are opened, and then
//! the manifest is looked at again: while it is the same, none of them was removed before it was open,
//! and whatever is removed later can still be read. Then the greatest epoch is found up to which all
//! of them are whole; if that leaves out something of what was durable at the beginning, the directory
//! is damaged. They are copied up to there, and the copy's manifest says that there the run has ended.
//!
//! Invariant: the manifest is the last file of the copy, so that a copy that was not finished is no
//! log.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::FileExt as _,
    path::Path,
};

use tessera_engine::{
    persist::{
        inspect::{Inspection, inspect},
        manifest::{FILE_NAME, Manifest, segment_name},
        recovery::{Plan, Promised, RecoveryError, plan, plan_written, promised, read_manifest},
        scan::LogEnd,
    },
    sys::disk::{Directory, read_whole},
};

use super::{
    Failure, Verdict, report, say,
    target::{Kind, Target},
};
use crate::{
    aof::{DataDirectory, sync_directory},
    start::raise_open_files,
};

/// How often the files are opened anew when the manifest has changed meanwhile: rewrites take much
/// longer than that.
const ATTEMPTS: usize = 20;
/// Descriptors that the process needs besides the files.
const DESCRIPTORS_RESERVED: u64 = 32;

/// Copies the log of `target` to the new directory `to`.
pub(super) fn run(
    target: &Target,
    to: &Path,
    link: bool,
    out: &mut dyn Write,
) -> Result<Verdict, Failure> {
    let from = target.directory();
    if *target.kind() != Kind::Log {
        let text = "is replaced as a whole whenever it is saved: copy it with cp";
        return Err(Failure(format!("{} {text}", target.path().display())));
    }
    let in_words = |error: &dyn std::fmt::Display| {
        Failure(format!("cannot copy {}: {error}", from.path().display()))
    };
    let promised = note_promised(from).map_err(|error| in_words(&error))?;
    let (pinned, mut manifest) = pin(from).map_err(|error| in_words(&error))?;
    let plans = match plan_all(&pinned, &mut manifest, &promised) {
        Ok(plans) => plans,
        Err(RecoveryError::Io(error)) => return Err(in_words(&error)),
        Err(error) => {
            say(out, &format!("DAMAGED: {}: {error}", from.path().display()))?;
            return Ok(Verdict::Damaged);
        }
    };
    make_empty(to)?;
    let copy = Copy { pinned: &pinned, from: from.path(), to, link };
    copy.everything(&manifest, &plans).map_err(|error| in_words(&error))?;
    verify(to, out)
}

/// What the logs of the last run call durable now, with the run's number.
fn note_promised(from: &DataDirectory) -> Result<(u64, Promised), RecoveryError> {
    for _ in 0..ATTEMPTS {
        let manifest = read_manifest(from)?;
        let Some(last) = manifest.generations.last() else { break };
        match promised(from, last) {
            // A rewrite has removed a file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            promised => return Ok((last.run, promised?)),
        }
    }
    Ok((0, Promised::default()))
}

/// Finds out what of every run counts; the manifest says it then.
fn plan_all(
    pinned: &Pinned,
    manifest: &mut Manifest,
    (run, promised): &(u64, Promised),
) -> Result<Vec<Plan>, RecoveryError> {
    let mut plans = Vec::new();
    for generation in &mut manifest.generations {
        let plan = match generation.end_epoch {
            Some(_) => plan(pinned, generation)?,
            None if generation.run == *run => plan_written(pinned, generation, promised)?,
            // The server was started meanwhile: nothing is known of what it has promised before.
            None => plan_written(pinned, generation, &Promised::default())?,
        };
        generation.end_epoch = Some(plan.end_epoch);
        generation.ends.clone_from(&plan.ends);
        plans.push(plan);
    }
    Ok(plans)
}

/// Makes the directory, unless it is there and empty.
fn make_empty(to: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure(format!("cannot make {}: {error}", to.display()));
    match fs::create_dir(to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match fs::read_dir(to).map_err(failed)?.next() {
                None => Ok(()),
                Some(_) => Err(Failure(format!("{} is not empty", to.display()))),
            }
        }
        made => made.map_err(failed),
    }
}

/// Reads the copy as recovery would.
fn verify(to: &Path, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let mut found = Inspection::default();
    match inspect(&DataDirectory::at(to), &mut found) {
        Ok(()) => {
            say(out, &format!("The copy in {}", to.display()))?;
            report::tell(&found, None, out)?;
            Ok(Verdict::Whole)
        }
        Err(error) => {
            say(out, &format!("DAMAGED: the copy in {}: {error}", to.display()))?;
            Ok(Verdict::Damaged)
        }
    }
}

/// Files that are open, and stay readable whatever becomes of their names.
struct Pinned(BTreeMap<String, File>);

/// Opens every file that the manifest names, and all segments behind the first ones.
fn pin(from: &DataDirectory) -> io::Result<(Pinned, Manifest)> {
    // As many as may be: a log has hundreds of files only when it is never rewritten.
    let _ = raise_open_files(u64::from(u16::MAX) + DESCRIPTORS_RESERVED);
    let no_log = || io::Error::new(io::ErrorKind::NotFound, format!("there is no {FILE_NAME}"));
    for _ in 0..ATTEMPTS {
        let bytes = read_whole(from, FILE_NAME)?.ok_or_else(no_log)?;
        let manifest = Manifest::from_bytes(&bytes)
            .map_err(|error| io::Error::other(format!("{FILE_NAME}: {error}")))?;
        let opened = open_all(from.path(), &manifest);
        if read_whole(from, FILE_NAME)?.ok_or_else(no_log)? == bytes {
            return Ok((opened?, manifest));
        }
    }
    Err(io::Error::other("the log is rewritten all the time"))
}

fn open_all(path: &Path, manifest: &Manifest) -> io::Result<Pinned> {
    let mut files = BTreeMap::new();
    if let Some(name) = manifest.base.as_ref().and_then(|base| base.files.first()) {
        files.insert(name.clone(), File::open(path.join(name))?);
    }
    for generation in &manifest.generations {
        for (shard, start) in (0..).zip(&generation.logs) {
            for number in start.segment..=u32::MAX {
                let name = segment_name(generation.run, shard, number);
                match File::open(path.join(&name)) {
                    Ok(file) => files.insert(name, file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) => return Err(error),
                };
            }
        }
    }
    Ok(Pinned(files))
}

impl Directory for Pinned {
    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        self.0.get(name).map(|file| file.metadata().map(|data| data.len())).transpose()
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.get(name).ok_or(io::ErrorKind::NotFound)?.read_at(buffer, offset)
    }

    fn replace(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }
}

/// A copy under way.
struct Copy<'c> {
    pinned: &'c Pinned,
    from: &'c Path,
    to: &'c Path,
    link: bool,
}

impl Copy<'_> {
    /// Copies what counts, the manifest last.
    fn everything(&self, manifest: &Manifest, plans: &[Plan]) -> io::Result<()> {
        if let Some(name) = manifest.base.as_ref().and_then(|base| base.files.first()) {
            self.whole(name)?;
        }
        for (generation, plan) in manifest.generations.iter().zip(plans) {
            for (scan, start) in plan.scans().iter().zip(&generation.logs) {
                let Some(LogEnd { segments, bytes }) = scan.end(start.segment) else { continue };
                for number in segments.0..segments.1 {
                    self.whole(&segment_name(scan.run, scan.shard, number))?;
                }
                self.beginning(&segment_name(scan.run, scan.shard, segments.1), bytes)?;
            }
        }
        sync_directory(self.to)?;
        DataDirectory::at(self.to).replace(FILE_NAME, &manifest.to_bytes())?;
        let above = self.to.parent().filter(|above| !above.as_os_str().is_empty());
        sync_directory(above.unwrap_or(Path::new(".")))
    }

    /// Copies a file that does not change any more, or links to it.
    fn whole(&self, name: &str) -> io::Result<()> {
        // Its name may be gone by now, and links do not reach other file systems.
        if self.link && fs::hard_link(self.from.join(name), self.to.join(name)).is_ok() {
            return Ok(());
        }
        self.beginning(name, u64::MAX)
    }

    /// Copies the first `bytes` bytes of a file.
    fn beginning(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut source = self.pinned.0.get(name).ok_or(io::ErrorKind::NotFound)?;
        source.seek(SeekFrom::Start(0))?;
        let mut copy = File::create_new(self.to.join(name))?;
        io::copy(&mut source.take(bytes), &mut copy)?;
        copy.sync_all()
    }
}
