//! From EVAL, EVALSHA and FCALL to what is to be run: everything that can be said against a call
//! before it runs.
#![forbid(unsafe_code)]

use std::{ops::Range, sync::Arc};

use tessera_engine::{
    command::{Command, CommandError, scripting::key_count},
    script::{Function, Library, ScriptFlags, Sha1Hex, read_shebang, sha1_hex},
};
use tessera_proto::{Args, parse_i64};

use super::{Scripts, shared::Busy};
use crate::{memory::permit_memory, pause::Pause, server::Shared};

/// What is to be run.
#[derive(Clone)]
pub(super) enum Target {
    /// A script, which is compiled.
    Script(Sha1Hex, ScriptFlags),
    /// A function.
    Function(Arc<Library>, Function),
}

/// A call that may run.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(super) target: Target,
    /// Where its keys stand among the arguments.
    pub(super) keys: Range<usize>,
    /// It must not write.
    pub(super) is_read_only: bool,
}

impl Prepared {
    /// Refuses a script while there is no memory to be had, if it has declared what it needs and does
    /// not say that it can do without. One that declares nothing is judged by its commands.
    pub(super) fn permit_memory(&self, shared: &Shared) -> Result<(), CommandError> {
        let flags = self.target.flags();
        match flags.is_declared() && !flags.allows_oom() {
            true => permit_memory(shared),
            false => Ok(()),
        }
    }
}

impl Target {
    /// What it is called in errors.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Script(sha, _) => sha.as_str().to_owned(),
            Self::Function(_, function) => String::from_utf8_lossy(&function.name).into_owned(),
        }
    }

    /// What it declares.
    pub(super) fn flags(&self) -> ScriptFlags {
        match self {
            Self::Script(_, flags) => *flags,
            Self::Function(_, function) => function.flags,
        }
    }
}

impl Scripts {
    /// Finds what `args`, a call of a command of the name `name`, is to run.
    ///
    /// # Errors
    ///
    /// There is no such script or function, it cannot be compiled, its keys are not counted right,
    /// or it may write and is called by a command that does not; or a script is suspended, which
    /// keeps the engine.
    pub(super) fn prepare(
        &mut self,
        shared: &Shared,
        name: &str,
        args: &Args<'_>,
    ) -> Result<Prepared, CommandError> {
        self.refuse_if_suspended(shared)?;
        let is_read_only = name.ends_with("_ro");
        let (target, keys) = match name {
            "eval" | "eval_ro" => {
                let count = key_count(args)?;
                (self.by_text(shared, &args[1])?, count)
            }
            "evalsha" | "evalsha_ro" => {
                let sha = Sha1Hex::parse(&args[1]).ok_or(NO_SCRIPT)?;
                let count = key_count(args)?;
                (self.by_sha(shared, sha)?, count)
            }
            _ => {
                let target = self.by_function(shared, &args[1])?;
                if parse_i64(&args[2]).is_none() {
                    return Err(CommandError::text("ERR Bad number of keys provided"));
                }
                (target, key_count(args)?)
            }
        };
        let flags = target.flags();
        if is_read_only && flags.is_declared() && !flags.forbids_writes() {
            let text = "ERR Can not execute a script with write flag using *_ro command.";
            return Err(CommandError::text(text));
        }
        Ok(Prepared { target, keys: 3..3 + keys, is_read_only })
    }

    /// Whether the script that `args` ask for waits for the end of CLIENT PAUSE. One that cannot run
    /// does not: it is refused at its turn.
    pub(crate) fn is_paused(
        &mut self,
        pause: Pause,
        shared: &Shared,
        command: &Command,
        args: &Args<'_>,
    ) -> bool {
        let prepared = self.prepare(shared, command.name, args);
        prepared.is_ok_and(|it| pause.holds_script(command, it.target.flags()))
    }

    fn by_text(&mut self, shared: &Shared, code: &[u8]) -> Result<Target, CommandError> {
        self.follow_flushes(shared);
        let sha = sha1_hex(code);
        if let Some(&flags) = self.known.get(&sha) {
            if self.known.len() > super::COMPILED_MAX / 2 {
                shared.scripts.used(&sha);
            }
            return Ok(Target::Script(sha, flags));
        }
        let target = self.compile(sha, code)?;
        shared.scripts.keep(sha, code, false);
        Ok(target)
    }

    fn by_sha(&mut self, shared: &Shared, sha: Sha1Hex) -> Result<Target, CommandError> {
        self.follow_flushes(shared);
        if let Some(&flags) = self.known.get(&sha) {
            return Ok(Target::Script(sha, flags));
        }
        let code = shared.scripts.text(&sha).ok_or(NO_SCRIPT)?;
        self.compile(sha, &code)
    }

    /// SCRIPT LOAD: compiles a script and makes it known to all workers.
    pub(crate) fn load_script(
        &mut self,
        shared: &Shared,
        code: &[u8],
    ) -> Result<Sha1Hex, CommandError> {
        self.refuse_if_suspended(shared)?;
        self.follow_flushes(shared);
        let sha = sha1_hex(code);
        if !self.known.contains_key(&sha) {
            self.compile(sha, code)?;
        }
        shared.scripts.keep(sha, code, true);
        Ok(sha)
    }

    /// While a script is suspended, its state is nobody else's. Few commands get here then: those
    /// that were looked at before.
    pub(super) fn refuse_if_suspended(&self, shared: &Shared) -> Result<(), CommandError> {
        if !self.is_suspended() {
            return Ok(());
        }
        let busy = shared.scripts.busy().unwrap_or(Busy::Script);
        Err(CommandError::text(busy.text()))
    }

    fn compile(&mut self, sha: Sha1Hex, code: &[u8]) -> Result<Target, CommandError> {
        let error = |text: String| CommandError::text(format!("ERR {text}"));
        let (flags, start) = read_shebang(code).map_err(error)?;
        self.engine.compile(sha, &code[start..]).map_err(error)?;
        self.known.insert(sha, flags);
        self.compiled.push_back(sha);
        while self.compiled.len() > super::COMPILED_MAX
            && let Some(oldest) = self.compiled.pop_front()
        {
            self.known.remove(&oldest);
            self.engine.forget(&oldest);
        }
        Ok(Target::Script(sha, flags))
    }

    fn by_function(&mut self, shared: &Shared, name: &[u8]) -> Result<Target, CommandError> {
        self.follow_libraries(shared);
        match self.libraries.function(name) {
            Some((library, function)) => {
                Ok(Target::Function(Arc::clone(library), function.clone()))
            }
            None => Err(CommandError::text("ERR Function not found")),
        }
    }

    /// Takes up the libraries if they have changed since.
    pub(super) fn follow_libraries(&mut self, shared: &Shared) {
        if self.library_changes != shared.scripts.library_changes() {
            (self.library_changes, self.libraries) = shared.scripts.libraries();
            self.engine.keep_loaded(&self.libraries);
        }
    }

    /// Forgets all scripts if SCRIPT FLUSH has been called since.
    pub(super) fn follow_flushes(&mut self, shared: &Shared) {
        let flushes = shared.scripts.flushes();
        if self.flushes != flushes {
            self.flushes = flushes;
            self.known.clear();
            self.compiled.clear();
            self.engine.flush();
        }
    }
}

const NO_SCRIPT: CommandError =
    CommandError::Text(std::borrow::Cow::Borrowed("NOSCRIPT No matching script. Please use EVAL."));
