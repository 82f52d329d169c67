//! What the path of the command line is.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tessera_engine::persist::manifest::FILE_NAME;

use super::Failure;
use crate::aof::{DataDirectory, DirectoryLock, Use};

/// The name of the RDB file that is looked for where there is no log.
const RDB_NAME: &str = "dump.rdb";

/// What is to be checked.
#[derive(Debug)]
pub(super) struct Target {
    directory: DataDirectory,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The directory of a log.
    Log,
    /// An RDB file in it, of this name.
    Rdb(String),
}

impl Target {
    /// Finds out what `path` is.
    pub(super) fn find(path: &Path) -> Result<Self, Failure> {
        let cannot = |error| Failure(format!("cannot read {}: {error}", path.display()));
        let path = path.canonicalize().map_err(cannot)?;
        if path.is_file() {
            return Self::of_file(&path);
        }
        let mut logs = vec![path.clone()];
        for entry in fs::read_dir(&path).map_err(cannot)? {
            logs.push(entry.map_err(cannot)?.path());
        }
        logs.retain(|directory| directory.join(FILE_NAME).is_file());
        match &logs[..] {
            [only] => Ok(Self { directory: DataDirectory::at(only), kind: Kind::Log }),
            [] if path.join(RDB_NAME).is_file() => Self::of_file(&path.join(RDB_NAME)),
            [] => Err(Failure(format!(
                "{} holds no log ({FILE_NAME}) and no {RDB_NAME}; Redis's own append-only files are \
                 checked by redis-check-aof",
                path.display()
            ))),
            // The directory itself comes first, what is in it are copies or what was cut off.
            [first, ..] if *first == path => {
                Ok(Self { directory: DataDirectory::at(first), kind: Kind::Log })
            }
            [first, second, ..] => Err(Failure(format!(
                "{} holds several logs, {} and {}: name one of them",
                path.display(),
                first.display(),
                second.display()
            ))),
        }
    }

    fn of_file(path: &Path) -> Result<Self, Failure> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            Failure(format!("{}: its name is not in UTF-8: link it to another", path.display()))
        })?;
        if name == FILE_NAME {
            return Err(Failure(format!("{}: name the directory that it is in", path.display())));
        }
        let directory = DataDirectory::at(path.parent().unwrap_or(Path::new("/")));
        Ok(Self { directory, kind: Kind::Rdb(name.to_owned()) })
    }

    /// Locks the directory of a log, so that no server begins to use it.
    pub(super) fn lock(&self, writes: bool) -> Result<Option<Arc<DirectoryLock>>, Failure> {
        if self.kind != Kind::Log {
            return Ok(None);
        }
        let purpose = if writes { Use::Write } else { Use::Read };
        DirectoryLock::take(self.directory.path(), purpose).map(Some).map_err(|error| {
            let path = self.directory.path().display();
            Failure(format!("{path}: {error}. Stop the server first, or check a copy (--copy-to)"))
        })
    }

    pub(super) fn directory(&self) -> &DataDirectory {
        &self.directory
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The directory, or the file.
    pub(super) fn path(&self) -> PathBuf {
        match &self.kind {
            Kind::Log => self.directory.path().to_owned(),
            Kind::Rdb(name) => self.directory.path().join(name),
        }
    }

    /// What it is, in a line.
    pub(super) fn title(&self) -> String {
        let path = self.path();
        match self.kind {
            Kind::Log => format!("The log in {}", path.display()),
            Kind::Rdb(_) => format!("The RDB file {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_found_where_it_is_and_one_below() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let inner = dir.path().join("appendonlydir");
        assert!(Target::find(&inner).is_err());
        fs::create_dir(&inner).expect("a directory");
        let text = Target::find(dir.path()).expect_err("nothing is there").to_string();
        assert!(text.contains("no log"), "{text}");
        fs::write(dir.path().join(RDB_NAME), "").expect("a file");
        let target = Target::find(dir.path()).expect("an RDB file");
        assert_eq!(target.kind(), &Kind::Rdb(RDB_NAME.into()));
        fs::write(inner.join(FILE_NAME), "").expect("a file");
        for path in [dir.path(), &inner] {
            let target = Target::find(path).expect("a log");
            assert_eq!(target.kind(), &Kind::Log);
            assert_eq!(target.path(), inner.canonicalize().expect("it is there"));
        }
        assert!(Target::find(&inner.join(FILE_NAME)).is_err());
        let other = dir.path().join("other");
        fs::create_dir(&other).expect("a directory");
        fs::write(other.join(FILE_NAME), "").expect("a file");
        let text = Target::find(dir.path()).expect_err("two logs").to_string();
        assert!(text.contains("several logs"), "{text}");
    }
}
