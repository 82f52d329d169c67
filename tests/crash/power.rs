//! The power cut: what a server that has ended may leave behind on a disk.
//!
//! The server notes every change of a file, and every sync that has succeeded, in a ledger (see
//! `server/src/faults/ledger.rs`, which also has its form). From that follows what is not durable:
//!
//! - of a write that no sync has covered, any sectors may be there; the file may have kept its old
//!   length if nothing behind that is left;
//! - of names that were given, changed or taken away since the last sync of their directory, any may
//!   be as before, if nothing that stays depends on them.
//!
//! [`cut`] lets the dice decide and changes the files accordingly: it takes back what the dice say.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use fastrand::Rng;

const SECTOR: usize = 512;

/// What a ledger says is not durable.
#[derive(Default)]
struct Pending {
    files: BTreeMap<u64, FileState>,
    names: Vec<(u64, Name)>,
    syncs: HashMap<u64, Sync>,
    entries: u64,
}

/// A file that is written to.
#[derive(Default)]
struct FileState {
    /// Its length when it was last known to be durable.
    durable_len: u64,
    writes: Vec<Write>,
}

struct Write {
    change: u64,
    offset: u64,
    len: usize,
    /// What was there before, up to the end of the file.
    old: Vec<u8>,
    has_ended: bool,
}

/// A sync that has begun.
enum Sync {
    File { inode: u64, len: u64, covers: Vec<u64> },
    Names { covers: Vec<u64> },
}

/// A change of a name.
#[derive(Clone, Debug)]
enum Name {
    Given { inode: u64, path: PathBuf },
    Directory { path: PathBuf },
    Changed { inode: u64, replaced: u64, from: PathBuf, to: PathBuf },
    Taken { inode: u64, path: PathBuf },
}

impl Name {
    fn paths(&self) -> Vec<&Path> {
        match self {
            Name::Given { path, .. } | Name::Directory { path } | Name::Taken { path, .. } => {
                vec![path]
            }
            Name::Changed { from, to, .. } => vec![from, to],
        }
    }
}

impl Pending {
    /// Reads the ledger in `directory`; nothing is pending if there is none. Cuts off what is not whole,
    /// so that another process can go on with it.
    fn read(directory: &Path) -> Self {
        let bytes = fs::read(directory.join("ledger")).unwrap_or_default();
        let mut pending = Self::default();
        let mut rest = bytes.as_slice();
        // What is not whole was on its way when the server ended, and so was not done.
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line = std::str::from_utf8(&rest[..end]).expect("a ledger's lines are text");
            let behind = &rest[end + 1..];
            let Some(taken) = pending.enter(line, behind) else { break };
            rest = &behind[taken..];
        }
        if !rest.is_empty() {
            let whole = &bytes[..bytes.len() - rest.len()];
            fs::write(directory.join("ledger"), whole).expect("our own file");
        }
        pending
    }

    /// Takes in one line; how many of the bytes that follow belong to it. Nothing if they are not all
    /// there.
    fn enter(&mut self, line: &str, bytes: &[u8]) -> Option<usize> {
        self.entries += 1;
        let (word, rest) = line.split_once(' ').expect("a word and more");
        let numbers: Vec<u64> = rest.split(' ').map_while(|word| word.parse().ok()).collect();
        let path = || PathBuf::from(rest.splitn(numbers.len() + 1, ' ').last().expect("a path"));
        match (word, numbers.as_slice()) {
            ("run", &[_]) => {
                let writes = self.files.values_mut().flat_map(|file| &mut file.writes);
                writes.for_each(|write| write.has_ended = true);
            }
            ("open", &[inode]) => {
                self.files.entry(inode).or_default();
                self.names.push((self.entries, Name::Given { inode, path: path() }));
            }
            ("link", &[inode]) => {
                self.names.push((self.entries, Name::Given { inode, path: path() }));
            }
            ("mkdir", []) => self.names.push((self.entries, Name::Directory { path: path() })),
            ("unlink", &[inode]) => {
                self.names.push((self.entries, Name::Taken { inode, path: path() }));
            }
            ("rename", &[inode, replaced]) => {
                let both = path();
                let both = both.to_str().and_then(|both| both.split_once('\t'));
                let (from, to) = both.expect("two names");
                let (from, to) = (from.into(), to.into());
                self.names.push((self.entries, Name::Changed { inode, replaced, from, to }));
            }
            ("write", &[change, inode, offset, len, old]) => {
                let old = bytes.get(..old as usize)?.to_vec();
                let taken = old.len();
                let (len, has_ended) = (len as usize, false);
                let file = self.files.get_mut(&inode).expect("a file is opened before");
                file.writes.push(Write { change, offset, len, old, has_ended });
                return Some(taken);
            }
            ("wrote", &[change]) => self.write_has_ended(change, false),
            ("lasting", &[change]) => self.write_has_ended(change, true),
            ("sync", &[change, inode, len]) => {
                let writes = self.files.get(&inode).map_or(&[][..], |file| file.writes.as_slice());
                let covers = writes.iter().filter(|write| write.has_ended);
                let covers = covers.map(|write| write.change).collect();
                self.syncs.insert(change, Sync::File { inode, len, covers });
            }
            ("names", &[change]) => {
                let directory = path();
                let is_there = |name: &&(u64, Name)| {
                    name.1.paths().iter().all(|path| path.parent() == Some(directory.as_path()))
                };
                let covers = self.names.iter().filter(is_there).map(|(entry, _)| *entry).collect();
                self.syncs.insert(change, Sync::Names { covers });
            }
            ("synced", &[change]) => self.sync_has_ended(change),
            other => panic!("a ledger says {other:?}"),
        }
        Some(0)
    }

    fn write_has_ended(&mut self, change: u64, is_durable: bool) {
        for file in self.files.values_mut() {
            let Some(at) = file.writes.iter().position(|write| write.change == change) else {
                continue;
            };
            file.writes[at].has_ended = true;
            if is_durable {
                let Write { offset, len, .. } = file.writes.remove(at);
                file.durable_len = file.durable_len.max(offset + len as u64);
            }
        }
    }

    fn sync_has_ended(&mut self, change: u64) {
        match self.syncs.remove(&change).expect("a sync begins before it ends") {
            Sync::File { inode, len, covers } => {
                if let Some(file) = self.files.get_mut(&inode) {
                    file.writes.retain(|write| !covers.contains(&write.change));
                    file.durable_len = len;
                }
            }
            Sync::Names { covers } => self.names.retain(|(entry, _)| !covers.contains(entry)),
        }
    }

    /// How many changes of files and of names are not durable.
    #[cfg(test)]
    fn len(&self) -> (usize, usize) {
        (self.files.values().map(|file| file.writes.len()).sum(), self.names.len())
    }
}

/// What may become of each kind of change: the chance that it stays.
struct Dice {
    random: Rng,
    given: u8,
    changed: u8,
    taken: u8,
}

impl Dice {
    /// Dice that are often of one mind about a kind, so that rare mixtures come about too.
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut chance = || *random.choice(&[0, 1, 2]).expect("three");
        let (given, changed, taken) = (chance(), chance(), chance());
        Self { random, given, changed, taken }
    }

    fn keeps_name(&mut self, name: &Name) -> bool {
        let chance = match name {
            Name::Given { .. } | Name::Directory { .. } => self.given,
            Name::Changed { .. } => self.changed,
            Name::Taken { .. } => self.taken,
        };
        self.random.u8(0..2) < chance
    }

    /// Whether each sector of a write stays: often all or none, so that whole writes and torn ones are
    /// seen.
    fn kept_sectors(&mut self, count: usize) -> Vec<bool> {
        match self.random.u8(0..4) {
            0 => vec![false; count],
            1 => vec![true; count],
            _ => (0..count).map(|_| self.random.bool()).collect(),
        }
    }
}

/// Makes the ledger in `directory` ready for another process, which finds what this one has written.
pub(super) fn go_on(directory: &Path) {
    Pending::read(directory);
}

/// Lets the power fail for the files that the ledger in `directory` tells of, as the dice of `seed`
/// fall.
pub(super) fn cut(directory: &Path, seed: u64) {
    let pending = Pending::read(directory);
    let mut dice = Dice::new(seed);
    for (&inode, file) in &pending.files {
        let path = kept(directory, inode);
        tear(&path, file, &mut dice).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let mut stay = HashSet::new();
    for (_, name) in pending.names.iter().rev() {
        let is_needed = name.paths().into_iter().any(|path| stay.contains(path));
        if is_needed || dice.keeps_name(name) {
            stay.extend(name.paths().into_iter().map(Path::to_owned));
        } else {
            take_back(directory, name).unwrap_or_else(|error| panic!("{name:?}: {error}"));
        }
    }
}

fn kept(directory: &Path, inode: u64) -> PathBuf {
    directory.join(format!("kept-{inode}"))
}

/// Takes back sectors that are not durable.
fn tear(path: &Path, state: &FileState, dice: &mut Dice) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let mut end = state.durable_len;
    for write in state.writes.iter().rev() {
        let first = write.offset as usize / SECTOR;
        let last = (write.offset as usize + write.len.max(1) - 1) / SECTOR;
        let stays = dice.kept_sectors(last - first + 1);
        for (sector, stays) in (first..).zip(stays) {
            let from = (sector * SECTOR).max(write.offset as usize);
            let to = ((sector + 1) * SECTOR).min(write.offset as usize + write.len);
            if stays {
                end = end.max(to as u64);
            } else {
                put_back(&file, write, from..to)?;
            }
        }
    }
    // Nobody knows whether a file that grew is as long as it was.
    let grown = file.metadata()?.len() > end;
    if grown && dice.random.bool() {
        file.set_len(end)?;
    }
    Ok(())
}

/// Writes what was in `range` of the file before `write`; zeros where the file had ended.
fn put_back(file: &File, write: &Write, range: std::ops::Range<usize>) -> io::Result<()> {
    // A write that has not been made has not made the file longer either.
    let range = range.start..range.end.min(file.metadata()?.len() as usize);
    let old: Vec<u8> = range
        .clone()
        .map(|at| write.old.get(at - write.offset as usize).copied().unwrap_or(0))
        .collect();
    file.write_all_at(&old, range.start as u64)
}

/// Takes back what was done to a name, if it was done.
fn take_back(directory: &Path, name: &Name) -> io::Result<()> {
    let is_at = |path: &Path, inode| fs::metadata(path).is_ok_and(|data| data.ino() == inode);
    let outcome = match name {
        Name::Given { inode, path } if is_at(path, *inode) => fs::remove_file(path),
        Name::Directory { path } => {
            let lost = (0..).map(|n| directory.join(format!("lost-{n}")));
            let free = lost.into_iter().find(|path| !path.exists()).expect("a free name");
            fs::rename(path, free)
        }
        Name::Changed { inode, replaced, from, to } if is_at(to, *inode) => {
            fs::rename(to, from)?;
            match replaced {
                0 => Ok(()),
                replaced => fs::hard_link(kept(directory, *replaced), to),
            }
        }
        Name::Taken { inode, path } if !path.exists() => {
            fs::hard_link(kept(directory, *inode), path)
        }
        _ => Ok(()),
    };
    match outcome {
        // It was lost with its directory.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger of some changes, made as the server makes them: `words` are its lines, `@` stands for
    /// the directory of the data.
    struct Scene {
        data: tempfile::TempDir,
        ledger: tempfile::TempDir,
        text: Vec<u8>,
    }

    impl Scene {
        fn new() -> Self {
            let [data, ledger] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
            Self { data, ledger, text: Vec::new() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.data.path().join(name)
        }

        fn line(&mut self, line: &str) {
            self.text.extend_from_slice(line.as_bytes());
            self.text.push(b'\n');
            fs::write(self.ledger.path().join("ledger"), &self.text).expect("a ledger");
        }

        /// A file with nothing in it; its number.
        fn open(&mut self, name: &str) -> u64 {
            let path = self.path(name);
            fs::write(&path, b"").expect("a file");
            let inode = fs::metadata(&path).expect("a file").ino();
            fs::hard_link(&path, kept(self.ledger.path(), inode)).expect("a second name");
            self.line(&format!("open {inode} {}", path.display()));
            inode
        }

        /// Writes at the end of a file.
        fn write(&mut self, name: &str, inode: u64, change: u64, bytes: &[u8]) {
            let file = OpenOptions::new().write(true).open(self.path(name)).expect("the file");
            let offset = file.metadata().expect("a file").len();
            self.line(&format!("write {change} {inode} {offset} {} 0", bytes.len()));
            file.write_all_at(bytes, offset).expect("it is written");
            self.line(&format!("wrote {change}"));
        }

        fn rename(&mut self, inode: u64, from: &str, to: &str) {
            let (from, to) = (self.path(from), self.path(to));
            let replaced = fs::metadata(&to).map_or(0, |data| data.ino());
            self.line(&format!("rename {inode} {replaced} {}\t{}", from.display(), to.display()));
            fs::rename(from, to).expect("it is renamed");
        }

        fn sync_names(&mut self, change: u64) {
            self.line(&format!("names {change} {}", self.data.path().display()));
            self.line(&format!("synced {change}"));
        }

        fn read(&self, name: &str) -> Option<Vec<u8>> {
            fs::read(self.path(name)).ok()
        }
    }

    /// What `name` holds after cuts with many seeds of what `act` does.
    fn outcomes(name: &str, act: impl Fn(&mut Scene)) -> HashSet<Option<Vec<u8>>> {
        (0..200)
            .map(|seed| {
                let mut scene = Scene::new();
                act(&mut scene);
                cut(scene.ledger.path(), seed);
                scene.read(name)
            })
            .collect()
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_is_torn_by_sectors() {
        let (first, second) = ([1; 700], [2; 1000]);
        let found = outcomes("file", |scene| {
            let inode = scene.open("file");
            scene.write("file", inode, 1, &first);
            scene.line(&format!("sync 2 {inode} 700"));
            scene.line("synced 2");
            scene.sync_names(3);
            scene.write("file", inode, 4, &second);
        });
        for file in &found {
            let file = file.as_ref().expect("its name was synced");
            assert_eq!(&file[..700], &first);
            for sector in file.chunks(SECTOR) {
                let rest: HashSet<_> = sector.iter().filter(|&&byte| byte != 1).collect();
                assert!(rest.len() <= 1, "a sector is half there: {rest:?}");
            }
        }
        let lens: HashSet<_> = found.iter().flatten().map(Vec::len).collect();
        assert!(lens.contains(&700) && lens.contains(&1700), "{lens:?}");
        let whole = [&first[..], &second].concat();
        assert!(found.len() > 6 && found.contains(&Some(whole)), "{}", found.len());
    }

    #[test]
    fn a_sync_covers_only_what_had_been_written_when_it_began() {
        let found = outcomes("file", |scene| {
            let inode = scene.open("file");
            scene.sync_names(1);
            scene.line(&format!("sync 2 {inode} 0"));
            scene.write("file", inode, 3, &[7; 10]);
            scene.line("synced 2");
        });
        assert!(found.contains(&Some(Vec::new())) && found.contains(&Some(vec![7; 10])));
    }

    #[test]
    fn names_that_were_not_synced_may_be_as_before() {
        let replace = |scene: &mut Scene| {
            let old = scene.open("name");
            scene.write("name", old, 1, b"old");
            scene.line(&format!("sync 2 {old} 3"));
            scene.line("synced 2");
            scene.sync_names(3);
            let new = scene.open("beside");
            scene.write("beside", new, 4, b"new");
            scene.line(&format!("sync 5 {new} 3"));
            scene.line("synced 5");
            scene.rename(new, "beside", "name");
        };
        let found = outcomes("name", replace);
        assert_eq!(found, HashSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]));
        let found = outcomes("name", |scene| {
            replace(scene);
            scene.sync_names(6);
        });
        assert_eq!(found, HashSet::from([Some(b"new".to_vec())]));
    }

    #[test]
    fn a_file_that_was_removed_may_be_there_again() {
        let found = outcomes("file", |scene| {
            let inode = scene.open("file");
            scene.line(&format!("sync 1 {inode} 0"));
            scene.line("synced 1");
            scene.sync_names(2);
            scene.line(&format!("unlink {inode} {}", scene.path("file").display()));
            fs::remove_file(scene.path("file")).expect("it is there");
        });
        assert_eq!(found, HashSet::from([None, Some(Vec::new())]));
    }

    #[test]
    fn what_was_noted_and_not_done_is_not_taken_back() {
        let mut scene = Scene::new();
        let inode = scene.open("file");
        scene.line(&format!("write 1 {inode} 0 5000 0"));
        scene.line(&format!(
            "rename {inode} 0 {}\t{}",
            scene.path("file").display(),
            scene.path("other").display()
        ));
        scene.sync_names(2);
        scene.text.extend_from_slice(b"write 2 7 0 5 5\nhal");
        fs::write(scene.ledger.path().join("ledger"), &scene.text).expect("a ledger");
        let pending = Pending::read(scene.ledger.path());
        assert_eq!(pending.len(), (1, 0));
        cut(scene.ledger.path(), 3);
        assert_eq!(scene.read("file"), Some(Vec::new()));
    }
}
