//! `--fix`: cutting a directory where it is whole, and keeping what is cut off.
//!
//! # Order
//!
//! Every file that changes is first kept aside, as it is; then what stays of it is written beside it
//! and takes its name; the manifest comes last. A process that dies on the way leaves a directory
//! that can be mended again, and nothing of it is gone.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use tessera_engine::{
    persist::{
        cure::{Cure, FileCut, examine},
        inspect::{Inspection, inspect},
        manifest::FILE_NAME,
        scan::Damage,
    },
    sys::disk::Directory as _,
};

use super::{Failure, Verdict, report, say, target::Target};
use crate::aof::sync_directory;

/// What is said of a directory that cannot be mended.
pub(super) const INCURABLE: &str = "\
This cannot be mended by cutting something off: the manifest is known nowhere else, and a base is
what was there at one instant, so that what is missing from it is missing from all that follows.
Restore the directory from a backup. A base (*.base.rdb) that is whole can be exported, or take the
place of dump.rdb: it is what was there when the log was last rewritten.";

/// Says what is lost, asks, and mends. `refused` is where loading has stopped, if it has.
pub(super) fn run(
    target: &Target,
    found: &Inspection,
    refused: Option<&Damage>,
    yes: bool,
    out: &mut dyn Write,
) -> Result<Verdict, Failure> {
    let in_words = |error: &dyn std::fmt::Display| Failure(format!("cannot mend: {error}"));
    let directory = target.directory();
    let cure = examine(directory, &found.manifest, refused).map_err(|error| in_words(&error))?;
    say(out, &report::losses(&cure))?;
    if !yes && !ask(out)? {
        say(out, "Nothing is changed.")?;
        let is_whole = refused.is_none();
        return Ok(if is_whole { Verdict::Whole } else { Verdict::Damaged });
    }
    let aside = apply(directory.path(), &cure).map_err(|error| in_words(&error))?;
    say(out, &format!("Mended. What was cut off is in {}", aside.display()))?;
    let mut mended = Inspection::default();
    match inspect(directory, &mut mended) {
        Ok(()) => Ok(Verdict::Whole),
        Err(error) => {
            say(out, &format!("STILL DAMAGED: {error}"))?;
            Ok(Verdict::Damaged)
        }
    }
}

/// Asks whether to go on.
fn ask(out: &mut dyn Write) -> Result<bool, Failure> {
    write!(out, "Go on? (yes/no) ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if !answer.ends_with('\n') {
        // Nobody has typed a line's end.
        say(out, "")?;
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Cuts the files and replaces the manifest; where what was before is kept.
fn apply(path: &Path, cure: &Cure) -> io::Result<PathBuf> {
    let aside = make_aside(path)?;
    for cut in &cure.cuts {
        keep(path, &aside, &cut.file)?;
    }
    keep(path, &aside, FILE_NAME)?;
    sync_directory(&aside)?;
    for cut in &cure.cuts {
        cut_file(path, cut)?;
    }
    sync_directory(path)?;
    crate::aof::DataDirectory::at(path).replace(FILE_NAME, &cure.new_manifest.to_bytes())?;
    Ok(aside)
}

/// A new directory for what is cut off, named after the time.
fn make_aside(path: &Path) -> io::Result<PathBuf> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for number in 0.. {
        let name = match number {
            0 => format!("cut-off-{now_s}"),
            _ => format!("cut-off-{now_s}-{number}"),
        };
        match fs::create_dir(path.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made?;
                sync_directory(path)?;
                return Ok(path.join(name));
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Gives a file a second name in `aside`, or copies it there.
fn keep(path: &Path, aside: &Path, name: &str) -> io::Result<()> {
    let (here, there) = (path.join(name), aside.join(name));
    if fs::hard_link(&here, &there).is_err() {
        fs::copy(&here, &there)?;
    }
    File::open(&there)?.sync_all()
}

/// Replaces a file by its beginning, or removes it.
fn cut_file(path: &Path, cut: &FileCut) -> io::Result<()> {
    let here = path.join(&cut.file);
    if cut.keep == 0 {
        return fs::remove_file(here);
    }
    let beside = path.join(format!("{}.new", cut.file));
    let mut file = File::create(&beside)?;
    io::copy(&mut File::open(&here)?.take(cut.keep), &mut file)?;
    file.sync_all()?;
    fs::rename(beside, here)
}
