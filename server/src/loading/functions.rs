//! Libraries of functions that files bring: from RDB files as code, from append-only files as
//! commands. They are loaded by the first worker and known to all.
#![forbid(unsafe_code)]

use tessera_engine::{
    command::CommandError,
    persist::rdb::{functions, payload},
    script::Libraries,
};

use crate::worker::Worker;

impl Worker {
    /// Loads a library.
    pub(crate) fn load_function(&mut self, code: &[u8], replaces: bool) -> Result<(), String> {
        let Self { shared, scripts, .. } = self;
        let loaded = shared.scripts.change_libraries(|libraries| {
            let library = scripts.load_library(code)?;
            let with = libraries.with(library, replaces);
            with.map_err(|error| CommandError::text(format!("ERR {error}")))
        });
        loaded.map_err(|error| format!("a library of functions cannot be loaded: {error}"))
    }

    /// Repeats a FUNCTION command.
    pub(crate) fn repeat_function(&mut self, args: &[Vec<u8>]) -> Result<(), String> {
        let subcommand = args.get(1).map_or_else(Vec::new, |name| name.to_ascii_lowercase());
        match (subcommand.as_slice(), &args[2.min(args.len())..]) {
            (b"load", [option, code]) if option.eq_ignore_ascii_case(b"replace") => {
                self.load_function(code, true)
            }
            (b"load", [code]) => self.load_function(code, false),
            (b"delete", [name]) => {
                let known = |libraries: &Libraries| libraries.without(name).ok_or(());
                // A library that is gone already needs not to go.
                let _ = self.shared.scripts.change_libraries(known);
                Ok(())
            }
            (b"flush", _) => {
                let none = |_: &Libraries| Ok::<_, ()>(Libraries::default());
                let _ = self.shared.scripts.change_libraries(none);
                Ok(())
            }
            (b"restore", [content, policy @ ..]) => {
                if policy.first().is_some_and(|policy| policy.eq_ignore_ascii_case(b"flush")) {
                    self.repeat_function(&[b"FUNCTION".to_vec(), b"flush".to_vec()])?;
                }
                let content = payload::verify(content).map_err(|error| error.to_string())?;
                let codes = functions::libraries_of(content).map_err(|error| error.to_string())?;
                codes.iter().try_for_each(|code| self.load_function(code, true))
            }
            _ => Err(format!(
                "'FUNCTION {}' cannot be repeated",
                String::from_utf8_lossy(&subcommand)
            )),
        }
    }
}
