//! The configuration as the running server shares it.
//!
//! Why generations: workers read options on every request, so each keeps the `Arc` of one. CONFIG SET
//! publishes the next one and tells all workers its number through their mailboxes; each takes it up
//! at that place among the commands, and goes by the one before until then, though later ones may be
//! published already.
//!
//! Invariants:
//! - a published `Config` never changes; CONFIG SET publishes a new one, whole or not at all;
//! - the generation grows after the new value stands, so whoever sees it reads the new value;
//! - a worker never goes back to an older generation.

use std::collections::VecDeque;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tessera_proto::glob::matches_ignoring_case;

use super::options::Config;
use super::rewrite::rewrite_file;
use super::special::os_error_text;
use super::table::{Flags, Row, find, rows};

/// Makes a change of options effective outside the configuration, before it is published. The
/// error names the option that is to blame and says why; nothing is published then.
pub type ApplyChange =
    Box<dyn Fn(&Config, &Config) -> Result<(), (&'static str, String)> + Send + Sync>;

/// Why an option does not change while the server runs.
const FIXED: &str = "can't set immutable config";

/// So many generations before the present one are kept for workers that have not come to them yet.
/// More are not on their way but from clients that pipeline CONFIG SET; then some are passed over.
const OLDER_KEPT: usize = 64;

/// Owner of the running configuration, shared by all workers.
pub struct ConfigStore {
    generation: AtomicU64,
    published: Mutex<Published>,
    file: Option<PathBuf>,
    apply: ApplyChange,
}

/// The present configuration, and those of the generations before it, the oldest first.
struct Published {
    current: Arc<Config>,
    older: VecDeque<Arc<Config>>,
}

/// Why CONFIG SET changed nothing. `Display` is the client's error reply.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum SetError {
    /// There is no such option.
    #[error("ERR Unknown option or number of arguments for CONFIG SET - '{0}'")]
    Unknown(String),
    /// An option refused its value, or may not be set.
    #[error("ERR CONFIG SET failed (possibly related to argument '{option}') - {reason}")]
    Refused {
        /// The option, as the client wrote it where the name alone is at fault.
        option: String,
        /// What is wrong.
        reason: String,
    },
}

/// Why CONFIG REWRITE wrote nothing. `Display` is the client's error reply.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The server was started without a file.
    #[error("ERR The server is running without a config file")]
    NoFile,
    /// The file could not be replaced.
    #[error("ERR Rewriting config file: {0}")]
    Io(String),
}

impl ConfigStore {
    /// Publishes the configuration that the server starts with. `file` is what CONFIG REWRITE
    /// writes; `apply` is called before each later change is published.
    pub fn new(config: Config, file: Option<PathBuf>, apply: ApplyChange) -> ConfigStore {
        ConfigStore {
            generation: AtomicU64::new(1),
            published: Mutex::new(Published { current: Arc::new(config), older: VecDeque::new() }),
            file,
            apply,
        }
    }

    /// The configuration as it is now.
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.lock().current)
    }

    /// The configuration of `generation`, or of the oldest after it that is kept, and its generation.
    fn of_generation(&self, generation: u64) -> (u64, Arc<Config>) {
        let published = self.lock();
        let newest = self.generation.load(Ordering::Acquire);
        let kept = published.older.len() as u64;
        let behind = newest.saturating_sub(generation).min(kept);
        let older = published.older.get((kept - behind) as usize);
        (newest - behind, Arc::clone(older.unwrap_or(&published.current)))
    }

    /// The file that the server was started with.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// CONFIG SET: sets all pairs of name and value, or none. `local` says that the client is on
    /// this machine, which `enable-protected-configs local` asks for. Answers the new generation.
    pub fn set(&self, pairs: &[(&[u8], &[u8])], local: bool) -> Result<u64, SetError> {
        let mut published = self.lock();
        let current = &published.current;
        let changes = resolve(pairs, current, local)?;
        let mut next = Config::clone(current);
        for (row, value) in changes {
            let refuse = |reason: String| SetError::Refused { option: row.name.to_owned(), reason };
            assign(&mut next, row, value).map_err(refuse)?;
            if row.flags.has(Flags::KEPT) && row.value(&next) != row.value(current) {
                return Err(refuse(FIXED.to_owned()));
            }
        }
        next.normalise();
        (self.apply)(current, &next)
            .map_err(|(option, reason)| SetError::Refused { option: option.to_owned(), reason })?;
        let before = mem::replace(&mut published.current, Arc::new(next));
        published.older.push_back(before);
        if published.older.len() > OLDER_KEPT {
            published.older.pop_front();
        }
        Ok(self.generation.fetch_add(1, Ordering::Release) + 1)
    }

    /// CONFIG REWRITE.
    pub fn rewrite(&self) -> Result<(), RewriteError> {
        let file = self.file.as_deref().ok_or(RewriteError::NoFile)?;
        rewrite_file(file, &self.current()).map_err(|error| RewriteError::Io(os_error_text(&error)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Published> {
        // The lock's holder replaces the value in one step, so a panic leaves it whole.
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the rows of all pairs and refuses what may not be set, before anything is tried.
fn resolve<'a>(
    pairs: &[(&'a [u8], &'a [u8])],
    config: &Config,
    local: bool,
) -> Result<Vec<(&'static Row, &'a [u8])>, SetError> {
    let mut changes: Vec<(&'static Row, &[u8])> = Vec::with_capacity(pairs.len());
    for &(name, value) in pairs {
        let shown = || String::from_utf8_lossy(name).into_owned();
        let row = find(name).ok_or_else(|| SetError::Unknown(shown()))?;
        let refuse =
            |reason: &str| Err(SetError::Refused { option: shown(), reason: reason.to_owned() });
        if row.flags.has(Flags::IMMUTABLE) {
            return refuse(FIXED);
        }
        if row.flags.has(Flags::PROTECTED) && !config.enable_protected_configs.allows(local) {
            return refuse("can't set protected config");
        }
        if changes.iter().any(|(other, _)| other.name == row.name) {
            return refuse("duplicate parameter");
        }
        changes.push((row, value));
    }
    Ok(changes)
}

/// CONFIG SET splits the value of an option that takes several at each blank, without quotes.
fn assign(config: &mut Config, row: &Row, value: &[u8]) -> Result<(), String> {
    if row.flags.has(Flags::MULTI) {
        let words: Vec<Vec<u8>> = value.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect();
        row.assign(config, &words)
    } else {
        row.assign(config, &[value.to_vec()])
    }
}

/// CONFIG GET: names and values of all options that any of `patterns` names or matches. An option
/// that is asked for by its name answers under that name as it was written.
pub fn get(config: &Config, patterns: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, row: &Row| {
        if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            found.push((name.to_owned(), row.kind.show(&row.value(config))));
        }
    };
    for pattern in patterns {
        if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
            if let Some(row) = find(pattern) {
                add(&String::from_utf8_lossy(pattern), row);
            }
            continue;
        }
        for row in rows().filter(|row| !row.flags.has(Flags::HIDDEN)) {
            for name in std::iter::once(row.name).chain(row.alias) {
                if matches_ignoring_case(pattern, name.as_bytes()) {
                    add(name, row);
                }
            }
        }
    }
    found
}

/// A worker's own view of the configuration.
pub struct ConfigReader {
    store: Arc<ConfigStore>,
    generation: u64,
    config: Arc<Config>,
}

impl ConfigReader {
    /// A view of what `store` holds now.
    pub fn new(store: Arc<ConfigStore>) -> ConfigReader {
        let (generation, config) = store.of_generation(u64::MAX);
        ConfigReader { store, generation, config }
    }

    /// Takes up the configuration of `generation`; true if it is newer than the own one.
    pub fn advance(&mut self, generation: u64) -> bool {
        if generation <= self.generation {
            return false;
        }
        (self.generation, self.config) = self.store.of_generation(generation);
        true
    }

    /// Takes up the newest configuration; true if it is newer than the own one.
    pub fn refresh(&mut self) -> bool {
        self.advance(self.store.generation.load(Ordering::Acquire))
    }

    /// How often the configuration had been changed at the last `refresh`.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The configuration as of the last `refresh`.
    pub fn get(&self) -> &Config {
        &self.config
    }

    /// The store behind this view.
    pub fn store(&self) -> &Arc<ConfigStore> {
        &self.store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> ConfigStore {
        ConfigStore::new(Config::default(), None, Box::new(|_, _| Ok(())))
    }

    fn set(store: &ConfigStore, pairs: &[(&str, &str)]) -> Result<u64, String> {
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        store.set(&pairs, true).map_err(|error| error.to_string())
    }

    #[test]
    fn all_pairs_are_set_or_none() {
        let store = store();
        set(&store, &[("timeout", "5"), ("HZ", "20")]).unwrap();
        assert_eq!((store.current().timeout, store.current().hz), (5, 20));
        let error = set(&store, &[("timeout", "6"), ("hz", "x")]).unwrap_err();
        assert_eq!(
            error,
            "ERR CONFIG SET failed (possibly related to argument 'hz') - \
             argument couldn't be parsed into an integer"
        );
        assert_eq!(store.current().timeout, 5);
    }

    #[test]
    fn refusals_say_why() {
        let store = store();
        let cases = [
            (
                vec![("nope", "1")],
                "ERR Unknown option or number of arguments for CONFIG SET - 'nope'",
            ),
            (
                vec![("databases", "1")],
                "ERR CONFIG SET failed (possibly related to argument 'databases') - \
                 can't set immutable config",
            ),
            (
                vec![("dir", "/")],
                "ERR CONFIG SET failed (possibly related to argument 'dir') - \
                 can't set protected config",
            ),
            (
                vec![("hz", "1"), ("hz", "2")],
                "ERR CONFIG SET failed (possibly related to argument 'hz') - duplicate parameter",
            ),
        ];
        for (pairs, expected) in cases {
            assert_eq!(set(&store, &pairs).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_number_of_shards_may_only_be_set_to_what_it_is() {
        let store = store();
        let shards = store.current().shards;
        set(&store, &[("shards", &shards.to_string())]).unwrap();
        let error = set(&store, &[("shards", &(shards % 256 + 1).to_string())]).unwrap_err();
        assert!(error.ends_with("can't set immutable config"), "{error}");
        assert_eq!(store.current().shards, shards);
    }

    #[test]
    fn a_change_that_cannot_be_applied_is_not_published() {
        let store = ConfigStore::new(
            Config::default(),
            None,
            Box::new(|_, next| match next.maxclients {
                7 => Err(("maxclients", "too few".to_owned())),
                _ => Ok(()),
            }),
        );
        assert!(set(&store, &[("maxclients", "7")]).unwrap_err().ends_with("too few"));
        assert_eq!(store.current().maxclients, 10_000);
    }

    #[test]
    fn readers_see_a_change_at_their_next_refresh() {
        let store = Arc::new(store());
        let mut reader = ConfigReader::new(store.clone());
        assert!(!reader.refresh());
        set(&store, &[("timeout", "5")]).unwrap();
        assert_eq!(reader.get().timeout, 0);
        assert!(reader.refresh());
        assert_eq!(reader.get().timeout, 5);
        assert!(!reader.refresh());
    }

    #[test]
    fn readers_take_up_the_generation_that_they_are_told_of() {
        let store = Arc::new(store());
        let mut reader = ConfigReader::new(store.clone());
        let told: Vec<u64> =
            (1..=3).map(|n| set(&store, &[("timeout", &n.to_string())]).unwrap()).collect();
        for (generation, timeout) in told.iter().zip(1..) {
            assert!(reader.advance(*generation));
            assert_eq!((reader.get().timeout, reader.generation()), (timeout, *generation));
        }
        assert!(!reader.advance(told[0]), "no way back");
        for n in 0..2 * OLDER_KEPT {
            set(&store, &[("timeout", &(100 + n).to_string())]).unwrap();
        }
        assert!(reader.advance(told[2] + 1), "passes over what is not kept");
        assert_eq!(reader.get().timeout as usize, 100 + OLDER_KEPT - 1);
        assert!(reader.refresh());
        assert_eq!(reader.get().timeout as usize, 100 + 2 * OLDER_KEPT - 1);
    }

    #[test]
    fn several_arguments_are_split_at_blanks() {
        let store = store();
        set(&store, &[("save", "900 1 300 10"), ("hz", "9999")]).unwrap();
        let config = store.current();
        let shown = get(&config, &[b"save", b"hz"]);
        assert_eq!(shown[0], ("save".to_owned(), b"900 1 300 10".to_vec()));
        assert_eq!(shown[1], ("hz".to_owned(), b"500".to_vec()));
        set(&store, &[("save", "")]).unwrap();
        assert_eq!(get(&store.current(), &[b"save"])[0].1, b"");
    }

    #[test]
    fn get_matches_patterns_names_and_aliases() {
        let config = Config::default();
        let names = |patterns: &[&[u8]]| -> Vec<String> {
            get(&config, patterns).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&[b"HASH-*-listpack-e*", b"none"]), ["hash-max-listpack-entries"]);
        assert_eq!(names(&[b"TIMEOUT", b"timeout", b"timeou?"]), ["TIMEOUT"]);
        assert!(names(&[b"hash-max-ziplist-*"]).contains(&"hash-max-ziplist-value".to_owned()));
        assert_eq!(names(&[b"watchdog*"]), Vec::<String>::new());
        assert_eq!(names(&[b"watchdog-period"]), ["watchdog-period"]);
    }

    #[test]
    fn rewriting_needs_a_file() {
        let error = store().rewrite().unwrap_err().to_string();
        assert_eq!(error, "ERR The server is running without a config file");
    }
}
