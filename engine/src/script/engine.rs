//! What a worker runs scripts with: compiled scripts and functions, and the one that is under way.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tessera_proto::{Protocol, ReplyBuffer, ReplyWriter};

use super::{
    convert::{reply_error, reply_value},
    error::uncaught,
    flags::ScriptFlags,
    library::{Function, Libraries, Library, Metadata, read_metadata},
    lua::{
        Returns, Stack,
        machine::{Machine, Stretch},
    },
    register::{Registrations, kept_name, register_function},
    run::{Run, RunState, ScriptHost},
    sandbox,
    sha1::Sha1Hex,
};
use crate::shard::Caller;

/// How far a script has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its reply is written.
    Done(Ended),
    /// It has been suspended, and nothing is written: call [`ScriptEngine::resume`].
    Suspended,
    /// It has met keys that its host does not have. What it has written must be undone; it can be
    /// run once more with a host that has all.
    NeedsShards,
}

/// How a script has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// With a reply that is no error.
    #[default]
    Well,
    /// With an error of its own.
    Failed,
    /// With the error of one of its commands, which has been counted there.
    CommandFailed,
}

/// A call of a script or of a function.
#[derive(Clone, Copy)]
pub struct Invocation<'a> {
    /// The keys that the caller has named.
    pub keys: &'a [&'a [u8]],
    /// The other arguments.
    pub arguments: &'a [&'a [u8]],
    /// The caller's database.
    pub database: u32,
    /// The version of the reply.
    pub protocol: Protocol,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// Who calls.
    pub caller: Caller,
    /// Called by a command of the `_RO` kind.
    pub is_read_only: bool,
}

/// A worker's scripts.
pub struct ScriptEngine {
    /// The state for EVAL's scripts, made when the first one comes.
    scripts: Option<Machine>,
    compiled: HashSet<Sha1Hex>,
    /// The state for functions, made when the first library is loaded.
    functions: Option<Machine>,
    loaded: HashMap<Vec<u8>, Loaded>,
    /// How many libraries have been loaded ever.
    loads: u64,
    state: RunState,
    /// What is suspended.
    running: Option<Place>,
}

/// A library whose code this worker has run.
struct Loaded {
    library: Arc<Library>,
    /// The number of its load.
    load: u64,
}

/// In which state something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Scripts,
    Functions,
}

impl ScriptEngine {
    /// Without any script. `seed` is where `math.random` begins.
    pub fn new(seed: u64) -> Self {
        Self {
            scripts: None,
            compiled: HashSet::new(),
            functions: None,
            loaded: HashMap::new(),
            loads: 0,
            state: RunState::new(seed),
            running: None,
        }
    }

    /// Memory that the Lua states hold, in bytes: that of EVAL's scripts, and that of functions.
    pub fn used_bytes(&self) -> (usize, usize) {
        let used = |machine: &Option<Machine>| machine.as_ref().map_or(0, Machine::used_bytes);
        (used(&self.scripts), used(&self.functions))
    }

    /// Whether a script is suspended.
    pub fn is_suspended(&self) -> bool {
        self.running.is_some()
    }

    /// Forgets all scripts, and everything that they may have left in their state.
    ///
    /// # Panics
    ///
    /// When a script is suspended.
    pub fn flush(&mut self) {
        assert!(self.running.is_none(), "a suspended script keeps its state");
        self.scripts = None;
        self.compiled.clear();
    }

    /// Forgets one script.
    pub fn forget(&mut self, sha: &Sha1Hex) {
        if self.compiled.remove(sha)
            && let Some(machine) = &mut self.scripts
        {
            let mut stack = machine.stack();
            stack.push_nil();
            stack.keep(sha.as_bytes());
        }
    }

    /// Whether this script is compiled already.
    pub fn knows(&self, sha: &Sha1Hex) -> bool {
        self.compiled.contains(sha)
    }

    /// Compiles a script, without its shebang, if that has not been done.
    ///
    /// # Errors
    ///
    /// What the compiler says, to follow `ERR `.
    pub fn compile(&mut self, sha: Sha1Hex, code: &[u8]) -> Result<(), String> {
        if self.knows(&sha) {
            return Ok(());
        }
        let machine = self.scripts.get_or_insert_with(|| sandbox::build(None));
        let mut stack = machine.stack();
        reset_globals(&mut stack);
        if stack.load(code, c"@user_script").is_err() {
            let text = String::from_utf8_lossy(stack.text(-1).unwrap_or_default()).into_owned();
            stack.pop(1);
            return Err(format!("Error compiling script (new function): {text}"));
        }
        stack.keep(sha.as_bytes());
        self.compiled.insert(sha);
        Ok(())
    }

    /// Runs a compiled script until it ends or is suspended. Its reply goes to `out`.
    ///
    /// # Panics
    ///
    /// When the script is not compiled, or another one is suspended.
    pub fn eval(
        &mut self,
        (sha, flags): (Sha1Hex, ScriptFlags),
        invocation: &Invocation<'_>,
        host: &mut dyn ScriptHost,
        out: &mut ReplyBuffer,
    ) -> Progress {
        assert!(self.running.is_none(), "one script at a time");
        let machine = self.scripts.as_mut().expect("a compiled script");
        begin(&mut self.state, sha.as_str(), flags, invocation);
        let mut stack = machine.stack();
        stack.set_top(0);
        reset_globals(&mut stack);
        stack.push_kept(sandbox::REAL);
        for (name, values) in [(&b"KEYS"[..], invocation.keys), (b"ARGV", invocation.arguments)] {
            push_list(&mut stack, values);
            stack.raw_set_field(-2, name);
        }
        stack.pop(1);
        stack.push_native(main);
        stack.push_kept(sha.as_bytes());
        stack.push_kept(sandbox::PROTECTED);
        stack.set_function_globals();
        let mut run = Run { state: &mut self.state, host, out };
        let stretch = machine.start(&mut run, 1);
        self.settle(Place::Scripts, stretch, out)
    }

    /// Loads a library that is no part of any set yet: runs its code, which registers its functions.
    /// `code_at` is where that begins.
    ///
    /// # Errors
    ///
    /// The text of the error, without a code.
    ///
    /// # Panics
    ///
    /// When a script is suspended.
    pub fn load(
        &mut self,
        code: &[u8],
        metadata: Metadata,
        host: &mut dyn ScriptHost,
    ) -> Result<Library, String> {
        let registrations = self.run_library(&code[metadata.code_at..], host)?;
        if registrations.functions.is_empty() {
            return Err("No functions registered".into());
        }
        let Registrations { load, mut functions } = registrations;
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        let library = Library { name: metadata.name, code: code.to_vec(), functions };
        // Loaded again when it is called: the set may refuse it.
        self.forget_functions(&library, load);
        Ok(library)
    }

    /// Runs the code of a library; its callbacks are kept under the number of the load.
    fn run_library(
        &mut self,
        code: &[u8],
        host: &mut dyn ScriptHost,
    ) -> Result<Registrations, String> {
        assert!(self.running.is_none(), "one script at a time");
        self.loads += 1;
        let build = || sandbox::build(Some(register_function));
        let machine = self.functions.get_or_insert_with(build);
        let mut stack = machine.stack();
        stack.set_top(0);
        reset_globals(&mut stack);
        stack.push_native(main_of_load);
        if stack.load(code, c"@user_function").is_err() {
            let text = String::from_utf8_lossy(stack.text(-1).unwrap_or_default()).into_owned();
            return Err(format!("Error compiling function: {text}"));
        }
        redirect_globals(&mut stack, sandbox::LOADING);
        self.state.loading = Some(Registrations { load: self.loads, functions: Vec::new() });
        self.state.needs_shards = false;
        self.state.has_written = false;
        let mut out = ReplyBuffer::default();
        let mut run = Run { state: &mut self.state, host, out: &mut out };
        let mut stretch = machine.start(&mut run, 1);
        while stretch == Stretch::Suspended {
            // Loading is not interrupted: it is short, or fails.
            let mut run = Run { state: &mut self.state, host, out: &mut out };
            stretch = machine.resume(&mut run);
        }
        redirect_globals(&mut machine.stack(), sandbox::REAL);
        let registrations = self.state.loading.take().unwrap_or_default();
        if out.is_empty() && stretch == Stretch::Ended(Ok(())) {
            return Ok(registrations);
        }
        let machine = self.functions.as_mut().expect("it has just run");
        forget_callbacks(machine, &registrations.functions, registrations.load);
        let text = String::from_utf8_lossy(&out.to_vec()).into_owned();
        Err(format!("Error registering functions: {text}"))
    }

    fn forget_functions(&mut self, library: &Library, load: u64) {
        if let Some(machine) = &mut self.functions {
            forget_callbacks(machine, &library.functions, load);
        }
    }

    /// Forgets the libraries that are not in `libraries` any more, or are others now.
    pub fn keep_loaded(&mut self, libraries: &Libraries) {
        let is_there = |loaded: &Loaded| {
            libraries.get(&loaded.library.name).is_some_and(|it| Arc::ptr_eq(it, &loaded.library))
        };
        let gone: Vec<Vec<u8>> = self
            .loaded
            .iter()
            .filter(|(_, loaded)| !is_there(loaded))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(Loaded { library, load }) = self.loaded.remove(&name) {
                self.forget_functions(&library, load);
            }
        }
    }

    /// Runs the code of `library` if this worker has not done so; then its functions can be called.
    ///
    /// # Errors
    ///
    /// The library's code fails here, although it has not where it was loaded.
    ///
    /// # Panics
    ///
    /// When a script is suspended.
    pub fn prepare_library(
        &mut self,
        library: &Arc<Library>,
        host: &mut dyn ScriptHost,
    ) -> Result<(), String> {
        self.loaded_as(library, host).map(|_| ())
    }

    /// Calls a function of `library`, which is prepared.
    ///
    /// # Panics
    ///
    /// When it is not, or a script is suspended.
    pub fn call(
        &mut self,
        (library, function): (&Arc<Library>, &Function),
        invocation: &Invocation<'_>,
        host: &mut dyn ScriptHost,
        out: &mut ReplyBuffer,
    ) -> Progress {
        assert!(self.running.is_none(), "one script at a time");
        let load = self.loaded.get(&library.name).expect("a library that is prepared").load;
        let name = String::from_utf8_lossy(&function.name);
        begin(&mut self.state, &name, function.flags, invocation);
        let machine = self.functions.as_mut().expect("a loaded library has a state");
        let mut stack = machine.stack();
        stack.set_top(0);
        reset_globals(&mut stack);
        stack.push_native(main);
        stack.push_kept(&kept_name(load, &function.name));
        push_list(&mut stack, invocation.keys);
        push_list(&mut stack, invocation.arguments);
        let mut run = Run { state: &mut self.state, host, out };
        let stretch = machine.start(&mut run, 3);
        self.settle(Place::Functions, stretch, out)
    }

    /// The number of the load of `library`, which is loaded now if it is not.
    fn loaded_as(
        &mut self,
        library: &Arc<Library>,
        host: &mut dyn ScriptHost,
    ) -> Result<u64, String> {
        match self.loaded.get(&library.name) {
            Some(loaded) if Arc::ptr_eq(&loaded.library, library) => return Ok(loaded.load),
            Some(loaded) => {
                let (old, load) = (Arc::clone(&loaded.library), loaded.load);
                self.forget_functions(&old, load);
            }
            None => {}
        }
        let metadata = read_metadata(&library.code)?;
        let load = self.run_library(&library.code[metadata.code_at..], host)?.load;
        let loaded = Loaded { library: Arc::clone(library), load };
        self.loaded.insert(library.name.clone(), loaded);
        Ok(load)
    }

    /// Goes on with the suspended script.
    ///
    /// # Panics
    ///
    /// When no script is suspended.
    pub fn resume(&mut self, host: &mut dyn ScriptHost, out: &mut ReplyBuffer) -> Progress {
        let place = self.running.expect("a suspended script");
        let machine = match place {
            Place::Scripts => self.scripts.as_mut(),
            Place::Functions => self.functions.as_mut(),
        };
        let machine = machine.expect("a suspended script has a state");
        let mut run = Run { state: &mut self.state, host, out };
        let stretch = machine.resume(&mut run);
        self.settle(place, stretch, out)
    }

    /// Takes up what a stretch has brought.
    fn settle(&mut self, place: Place, stretch: Stretch, out: &mut ReplyBuffer) -> Progress {
        self.running = (stretch == Stretch::Suspended).then_some(place);
        match stretch {
            Stretch::Suspended => return Progress::Suspended,
            Stretch::Ended(_) if self.state.needs_shards => return Progress::NeedsShards,
            Stretch::Ended(Ok(())) => {}
            Stretch::Ended(Err(_)) => {
                // `main` itself has failed: memory has run out while it made the reply.
                let mut reply = ReplyWriter::new(out, self.state.outer);
                reply.error("ERR not enough memory for the reply of the script");
                self.state.ended = Ended::Failed;
            }
        }
        Progress::Done(self.state.ended)
    }
}

/// Prepares the state for a run.
fn begin(state: &mut RunState, name: &str, flags: ScriptFlags, invocation: &Invocation<'_>) {
    state.name.clear();
    state.name.push_str(name);
    state.database = invocation.database;
    state.inner = Protocol::Resp2;
    state.outer = invocation.protocol;
    state.no_touch = invocation.no_touch;
    state.caller = invocation.caller;
    state.is_read_only = invocation.is_read_only || flags.forbids_writes();
    state.flags = flags;
    state.has_written = false;
    state.needs_shards = false;
    state.ended = Ended::Well;
}

/// Undoes what a script may have done by `setfenv(0, …)`. For what it has done to itself see
/// [`Stack::set_function_globals`].
fn reset_globals(stack: &mut Stack<'_>) {
    stack.push_kept(sandbox::PROTECTED);
    stack.set_globals();
}

fn push_list(stack: &mut Stack<'_>, values: &[&[u8]]) {
    stack.push_table(values.len(), 0);
    for (index, value) in (1..).zip(values) {
        stack.push_string(value);
        stack.raw_set_index(-2, index);
    }
}

/// The outermost function on the fibre: calls the script, which stands below its arguments, and
/// writes its reply.
fn main(stack: &mut Stack<'_>) -> Returns {
    let arguments = stack.top() - 1;
    stack.push_kept(sandbox::HANDLER);
    stack.insert(1);
    let result = stack.call(arguments, 1, 1);
    stack.with_run(|stack, run| {
        let before = run.out.mark();
        if run.state.needs_shards {
            return;
        }
        match result {
            Ok(()) => reply_value(stack, run),
            Err(_) => reply_error(stack, run),
        }
        debug_assert!(run.out.mark() != before);
    });
    Ok(0)
}

/// The outermost function while a library is loaded: calls its code, and writes the error of it.
fn main_of_load(stack: &mut Stack<'_>) -> Returns {
    if stack.call(0, 0, 0).is_err() {
        stack.with_run(|stack, run| {
            let error = uncaught(stack, "");
            let text = error.text.strip_prefix(b"ERR Error running script , ");
            let text = text.map(|text| [b"ERR ", text].concat());
            run.out.extend(&text.unwrap_or(error.text));
        });
    }
    Ok(0)
}

/// Lets global variables be those kept under `name`.
fn redirect_globals(stack: &mut Stack<'_>, name: &[u8]) {
    stack.push_kept(name);
    stack.push_kept(sandbox::PROTECTED);
    stack.redirect();
}

fn forget_callbacks(machine: &mut Machine, functions: &[Function], load: u64) {
    let mut stack = machine.stack();
    for function in functions {
        stack.push_nil();
        stack.keep(&kept_name(load, &function.name));
    }
}
