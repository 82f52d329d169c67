//! What all workers know of scripts: their texts by SHA1 digest, the libraries of functions, and
//! which of them run too long.
//!
//! Scripts and libraries are looked up at workers first; the locks here are taken for what is new to
//! a worker, and by the commands that change something.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tessera_engine::script::{Libraries, Sha1Hex};

/// Scripts that EVAL has brought and nobody has loaded: as many are kept, as in Redis.
pub(crate) const EVAL_SCRIPTS_MAX: usize = 500;

/// What the workers of a server share about scripts.
#[derive(Debug)]
pub struct SharedScripts {
    texts: Mutex<Texts>,
    /// How often SCRIPT FLUSH has been called.
    flushes: AtomicU64,
    libraries: Mutex<Arc<Libraries>>,
    /// How often the libraries have changed.
    changes: AtomicU64,
    /// For each worker, the script of its that runs too long.
    slow: Box<[SlowScript]>,
    /// How many of them there are.
    slow_count: AtomicUsize,
}

/// The texts of scripts.
#[derive(Debug, Default)]
struct Texts {
    by_sha: HashMap<Sha1Hex, Text>,
    /// Those that only EVAL has brought, the one used longest ago first.
    from_eval: VecDeque<Sha1Hex>,
    bytes: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Text {
    code: Arc<[u8]>,
    is_loaded: bool,
}

/// Figures for INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFigures {
    /// Scripts whose text is kept.
    pub scripts: usize,
    /// Bytes of these texts.
    pub script_bytes: usize,
    /// Scripts forgotten to make room.
    pub evicted: u64,
    /// Functions in libraries.
    pub functions: usize,
    /// Libraries.
    pub libraries: usize,
    /// Bytes of their code.
    pub library_bytes: usize,
}

impl ScriptFigures {
    /// Bytes of all texts, of scripts and of libraries.
    pub fn bytes(&self) -> usize {
        self.script_bytes + self.library_bytes
    }
}

/// A script that runs longer than `busy-reply-threshold`.
#[derive(Debug, Default)]
struct SlowScript {
    /// See the constants below.
    state: AtomicU8,
    about: Mutex<Option<About>>,
}

/// Nothing runs too long here.
const NONE: u8 = 0;
/// It may be killed: it has written nothing.
const CLEAN: u8 = 1;
/// It has written, and must end by itself.
const WRITTEN: u8 = 2;
/// It has been told to end.
const KILLED: u8 = 3;

/// What FUNCTION STATS tells of a script that runs.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) is_eval: bool,
    pub(crate) command: Vec<Vec<u8>>,
    pub(crate) since: Instant,
}

/// What came of SCRIPT KILL or FUNCTION KILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Killed {
    /// It will end.
    Yes,
    /// No script runs too long.
    NoneRuns,
    /// It has written.
    HasWritten,
    /// A script of the other kind runs.
    OtherKind,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedScripts {
    /// No scripts, for so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            texts: Mutex::default(),
            flushes: AtomicU64::new(0),
            libraries: Mutex::default(),
            changes: AtomicU64::new(0),
            slow: (0..workers).map(|_| SlowScript::default()).collect(),
            slow_count: AtomicUsize::new(0),
        }
    }

    /// Keeps a script's text. One that is loaded stays until SCRIPT FLUSH; of those that EVAL has
    /// brought only the last ones stay.
    pub(crate) fn keep(&self, sha: Sha1Hex, code: &[u8], is_loaded: bool) {
        let mut texts = locked(&self.texts);
        let Texts { by_sha, from_eval, bytes, evicted } = &mut *texts;
        if let Some(text) = by_sha.get_mut(&sha) {
            if is_loaded && !text.is_loaded {
                text.is_loaded = true;
                from_eval.retain(|other| *other != sha);
            }
            return;
        }
        if !is_loaded {
            while from_eval.len() >= EVAL_SCRIPTS_MAX
                && let Some(oldest) = from_eval.pop_front()
            {
                *bytes -= by_sha.remove(&oldest).map_or(0, |text| text.code.len());
                *evicted += 1;
            }
            from_eval.push_back(sha);
        }
        *bytes += code.len();
        by_sha.insert(sha, Text { code: code.into(), is_loaded });
    }

    /// Notes that EVAL has used a script, so that others are forgotten before it.
    pub(crate) fn used(&self, sha: &Sha1Hex) {
        let mut texts = locked(&self.texts);
        if texts.by_sha.get(sha).is_some_and(|text| !text.is_loaded) {
            texts.from_eval.retain(|other| other != sha);
            texts.from_eval.push_back(*sha);
        }
    }

    /// A script's text.
    pub(crate) fn text(&self, sha: &Sha1Hex) -> Option<Arc<[u8]>> {
        locked(&self.texts).by_sha.get(sha).map(|text| Arc::clone(&text.code))
    }

    /// Forgets all scripts.
    pub(crate) fn flush(&self) {
        let mut texts = locked(&self.texts);
        *texts = Texts { evicted: texts.evicted, ..Texts::default() };
        self.flushes.fetch_add(1, Ordering::SeqCst);
    }

    /// How often all scripts have been forgotten: a worker forgets them too when it sees that it was
    /// once more.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }

    /// The libraries, and how often they have changed.
    pub(crate) fn libraries(&self) -> (u64, Arc<Libraries>) {
        let libraries = locked(&self.libraries);
        (self.changes.load(Ordering::SeqCst), Arc::clone(&libraries))
    }

    /// How often the libraries have changed.
    pub(crate) fn library_changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Changes the libraries, as one step for all workers.
    ///
    /// # Errors
    ///
    /// As `change` fails; then nothing changes.
    pub(crate) fn change_libraries<E>(
        &self,
        change: impl FnOnce(&Libraries) -> Result<Libraries, E>,
    ) -> Result<(), E> {
        let mut libraries = locked(&self.libraries);
        *libraries = Arc::new(change(&libraries)?);
        self.changes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// What INFO shows.
    pub fn figures(&self) -> ScriptFigures {
        let (texts, libraries) = (locked(&self.texts), locked(&self.libraries));
        ScriptFigures {
            scripts: texts.by_sha.len(),
            script_bytes: texts.bytes,
            evicted: texts.evicted,
            functions: libraries.function_count(),
            libraries: libraries.len(),
            library_bytes: libraries.code_bytes(),
        }
    }

    /// Whether a script runs too long, so that most commands are refused: of which kind, if one does.
    #[inline]
    pub(crate) fn busy(&self) -> Option<Busy> {
        (self.slow_count.load(Ordering::Relaxed) > 0).then(|| self.busy_kind())
    }

    #[cold]
    fn busy_kind(&self) -> Busy {
        let is_eval = self.running().is_none_or(|about| about.is_eval);
        if is_eval { Busy::Script } else { Busy::Function }
    }

    /// A script that runs too long.
    pub(crate) fn running(&self) -> Option<About> {
        self.slow.iter().find_map(|slow| locked(&slow.about).clone())
    }

    /// A script of `worker` has run for too long.
    pub(crate) fn begin_slow(&self, worker: u32, about: About, has_written: bool) {
        let slow = &self.slow[worker as usize];
        *locked(&slow.about) = Some(about);
        slow.state.store(if has_written { WRITTEN } else { CLEAN }, Ordering::SeqCst);
        self.slow_count.fetch_add(1, Ordering::SeqCst);
    }

    /// The script of `worker` that has run for too long has ended.
    pub(crate) fn end_slow(&self, worker: u32) {
        let slow = &self.slow[worker as usize];
        slow.state.store(NONE, Ordering::SeqCst);
        *locked(&slow.about) = None;
        self.slow_count.fetch_sub(1, Ordering::SeqCst);
    }

    /// The slow script of `worker` is about to write for the first time; answers whether it still
    /// may.
    pub(crate) fn may_write(&self, worker: u32) -> bool {
        let state = &self.slow[worker as usize].state;
        state.compare_exchange(CLEAN, WRITTEN, Ordering::SeqCst, Ordering::SeqCst) != Err(KILLED)
    }

    /// Whether the slow script of `worker` has been told to end.
    pub(crate) fn is_killed(&self, worker: u32) -> bool {
        self.slow[worker as usize].state.load(Ordering::SeqCst) == KILLED
    }

    /// Tells the slow scripts of one kind to end.
    pub(crate) fn kill(&self, is_eval: bool) -> Killed {
        let mut outcome = Killed::NoneRuns;
        for slow in &self.slow {
            let about = locked(&slow.about);
            let Some(kind) = about.as_ref().map(|about| about.is_eval) else { continue };
            let done = if kind != is_eval {
                Killed::OtherKind
            } else {
                match slow.state.compare_exchange(CLEAN, KILLED, Ordering::SeqCst, Ordering::SeqCst)
                {
                    Ok(_) | Err(KILLED) => Killed::Yes,
                    Err(_) => Killed::HasWritten,
                }
            };
            if outcome != Killed::Yes {
                outcome = done;
            }
        }
        outcome
    }
}

/// What keeps the server busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// A script of EVAL.
    Script,
    /// A function.
    Function,
}

impl Busy {
    /// What other clients are told.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Script => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN \
                 NOSAVE."
            }
            Self::Function => {
                "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN \
                 NOSAVE."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tessera_engine::script::sha1_hex;

    use super::*;

    #[test]
    fn scripts_of_eval_are_forgotten_in_the_order_of_their_use() {
        let shared = SharedScripts::new(1);
        let sha = |number: usize| sha1_hex(number.to_string().as_bytes());
        shared.keep(sha(0), b"loaded", true);
        for number in 1..=EVAL_SCRIPTS_MAX {
            shared.keep(sha(number), b"x", false);
        }
        shared.used(&sha(1));
        shared.keep(sha(3), b"x", true);
        shared.keep(sha(1000), b"x", false);
        shared.keep(sha(1001), b"x", false);
        let is_there = |number: usize| shared.text(&sha(number)).is_some();
        assert!(is_there(0) && is_there(1) && !is_there(2) && is_there(3) && is_there(4));
        let figures = shared.figures();
        assert_eq!((figures.scripts, figures.evicted), (EVAL_SCRIPTS_MAX + 2, 1));
        assert_eq!(figures.script_bytes, 6 + EVAL_SCRIPTS_MAX + 1);
        shared.flush();
        assert!(!is_there(0) && shared.flushes() == 1);
    }

    #[test]
    fn a_slow_script_is_killed_unless_it_has_written() {
        let shared = SharedScripts::new(2);
        let about = |is_eval| About {
            name: "f".into(),
            is_eval,
            command: Vec::new(),
            since: Instant::now(),
        };
        assert_eq!((shared.kill(true), shared.busy()), (Killed::NoneRuns, None));
        shared.begin_slow(1, about(true), false);
        assert_eq!(shared.busy(), Some(Busy::Script));
        assert_eq!(shared.kill(false), Killed::OtherKind);
        assert!(!shared.is_killed(1));
        assert_eq!((shared.kill(true), shared.kill(true)), (Killed::Yes, Killed::Yes));
        assert!(shared.is_killed(1) && !shared.may_write(1));
        shared.end_slow(1);
        shared.begin_slow(0, about(false), false);
        assert_eq!(shared.busy(), Some(Busy::Function));
        assert!(shared.may_write(0) && shared.may_write(0));
        assert_eq!(shared.kill(false), Killed::HasWritten);
        shared.end_slow(0);
        assert_eq!(shared.busy(), None);
    }
}
