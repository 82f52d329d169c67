//! What a worker runs scripts with: compiled scripts and functions, and the one that is under way.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use tessera_proto::{Protocol, ReplyBuffer, ReplyWriter};

use super::{
    convert::{reply_error, reply_value},
    flags::ScriptFlags,
    lua::{
        Returns, Stack,
        machine::{Machine, Stretch},
    },
    run::{Run, RunState, ScriptHost},
    sandbox,
    sha1::Sha1Hex,
};

/// How far a script has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its reply is written. `is_error` if that is an error which no command of its has counted.
    Done {
        /// The reply is an error.
        is_error: bool,
    },
    /// It has been suspended, and nothing is written: call [`ScriptEngine::resume`].
    Suspended,
    /// It has met keys that its host does not have. What it has written must be undone; it can be
    /// run once more with a host that has all.
    NeedsShards,
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
    /// Called by a command of the `_RO` kind.
    pub is_read_only: bool,
}

/// A worker's scripts.
pub struct ScriptEngine {
    /// Made when the first script comes.
    scripts: Option<Machine>,
    compiled: HashMap<Sha1Hex, ()>,
    state: RunState,
    running: bool,
}

impl ScriptEngine {
    /// Without any script. `seed` is where `math.random` begins.
    pub fn new(seed: u64) -> Self {
        Self { scripts: None, compiled: HashMap::new(), state: RunState::new(seed), running: false }
    }

    /// Memory that the Lua states hold, in bytes.
    pub fn used_bytes(&self) -> usize {
        self.scripts.as_ref().map_or(0, Machine::used_bytes)
    }

    /// Whether a script is suspended.
    pub fn is_suspended(&self) -> bool {
        self.running
    }

    /// Forgets all scripts, and everything that they may have left in their state.
    pub fn flush(&mut self) {
        self.scripts = None;
        self.compiled.clear();
    }

    /// Forgets one script.
    pub fn forget(&mut self, sha: &Sha1Hex) {
        if self.compiled.remove(sha).is_some()
            && let Some(machine) = &mut self.scripts
        {
            let mut stack = machine.stack();
            stack.push_nil();
            stack.keep(sha.as_bytes());
        }
    }

    /// Whether this script is compiled already.
    pub fn knows(&self, sha: &Sha1Hex) -> bool {
        self.compiled.contains_key(sha)
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
        self.compiled.insert(sha, ());
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
        assert!(!self.running, "one script at a time");
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
        self.settle(stretch, out)
    }

    /// Goes on with the suspended script.
    ///
    /// # Panics
    ///
    /// When no script is suspended.
    pub fn resume(&mut self, host: &mut dyn ScriptHost, out: &mut ReplyBuffer) -> Progress {
        assert!(self.running, "a suspended script");
        let machine = self.scripts.as_mut().expect("a suspended script has a state");
        let mut run = Run { state: &mut self.state, host, out };
        let stretch = machine.resume(&mut run);
        self.settle(stretch, out)
    }

    /// Takes up what a stretch has brought.
    fn settle(&mut self, stretch: Stretch, out: &mut ReplyBuffer) -> Progress {
        self.running = stretch == Stretch::Suspended;
        match stretch {
            Stretch::Suspended => return Progress::Suspended,
            Stretch::Ended(_) if self.state.needs_shards => return Progress::NeedsShards,
            Stretch::Ended(Ok(())) => {}
            Stretch::Ended(Err(_)) => {
                // `main` itself has failed: memory has run out while it made the reply.
                let mut reply = ReplyWriter::new(out, self.state.outer);
                reply.error("ERR not enough memory for the reply of the script");
                self.state.has_failed = true;
            }
        }
        Progress::Done { is_error: self.state.has_failed }
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
    state.is_read_only = invocation.is_read_only || flags.forbids_writes();
    state.flags = flags;
    state.has_written = false;
    state.needs_shards = false;
    state.has_failed = false;
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
