//! Libraries of functions: what a server has loaded, as one value that its workers share.
//!
//! A set of libraries is never changed: FUNCTION commands make another one of it, and the server puts
//! that in its place. Workers load the code of a library when they call one of its functions for the
//! first time.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, sync::Arc};

use tessera_proto::split_arguments;

use super::flags::ScriptFlags;

/// A function as it was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, unique among all libraries.
    pub name: Vec<u8>,
    /// What it is said to do.
    pub description: Option<Vec<u8>>,
    /// What it has declared.
    pub flags: ScriptFlags,
}

/// A library.
#[derive(Debug, PartialEq, Eq)]
pub struct Library {
    /// Its name.
    pub name: Vec<u8>,
    /// Its code, with the first line that names it.
    pub code: Vec<u8>,
    /// What it has registered, by name.
    pub functions: Vec<Function>,
}

/// All libraries of a server.
#[derive(Clone, Debug, Default)]
pub struct Libraries {
    libraries: BTreeMap<Vec<u8>, Arc<Library>>,
    /// For every function, by its name in lower case, its library and its place there.
    functions: BTreeMap<Vec<u8>, (Arc<Library>, usize)>,
}

/// How FUNCTION RESTORE treats what is loaded already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestorePolicy {
    /// A library of the same name is an error.
    #[default]
    Append,
    /// It is replaced.
    Replace,
    /// Everything that was loaded goes.
    Flush,
}

impl Libraries {
    /// Number of libraries.
    pub fn len(&self) -> usize {
        self.libraries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.libraries.is_empty()
    }

    /// Number of functions.
    pub fn function_count(&self) -> usize {
        self.functions.len()
    }

    /// Bytes of their code.
    pub fn code_bytes(&self) -> usize {
        self.libraries.values().map(|library| library.code.len()).sum()
    }

    /// The libraries by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Library>> {
        self.libraries.values()
    }

    /// The library called `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Library>> {
        self.libraries.get(name)
    }

    /// The function called `name`, in any case, with its library.
    pub fn function(&self, name: &[u8]) -> Option<(&Arc<Library>, &Function)> {
        let (library, place) = self.functions.get(&name.to_ascii_lowercase())?;
        Some((library, &library.functions[*place]))
    }

    /// These libraries and `library`, in the place of one of the same name if `replaces`.
    ///
    /// # Errors
    ///
    /// The text of the error, without a code: it, or one of its functions, exists.
    pub fn with(&self, library: Library, replaces: bool) -> Result<Self, String> {
        let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let mut libraries = self.clone();
        if self.get(&library.name).is_some() {
            if !replaces {
                return Err(format!("Library '{}' already exists", shown(&library.name)));
            }
            libraries = libraries.without(&library.name).unwrap_or_default();
        }
        let taken = |function: &&Function| {
            libraries.functions.contains_key(&function.name.to_ascii_lowercase())
        };
        if let Some(function) = library.functions.iter().find(taken) {
            return Err(format!("Function {} already exists", shown(&function.name)));
        }
        let library = Arc::new(library);
        for (place, function) in library.functions.iter().enumerate() {
            let name = function.name.to_ascii_lowercase();
            libraries.functions.insert(name, (Arc::clone(&library), place));
        }
        libraries.libraries.insert(library.name.clone(), library);
        Ok(libraries)
    }

    /// These libraries but the one called `name`; nothing if there is none.
    pub fn without(&self, name: &[u8]) -> Option<Self> {
        let mut libraries = self.clone();
        let library = libraries.libraries.remove(name)?;
        for function in &library.functions {
            libraries.functions.remove(&function.name.to_ascii_lowercase());
        }
        Some(libraries)
    }
}

/// What the first line of a library says.
#[derive(Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The library's name.
    pub name: Vec<u8>,
    /// Where its code begins: at the end of the first line, so that lines keep their numbers.
    pub code_at: usize,
}

/// Reads the first line of a library: `#!lua name=<name>`.
///
/// # Errors
///
/// The text of the error, without a code.
pub fn read_metadata(code: &[u8]) -> Result<Metadata, String> {
    if !code.starts_with(b"#!") {
        return Err("Missing library metadata".into());
    }
    const INVALID: &str = "Invalid library metadata";
    let end = code.iter().position(|&byte| byte == b'\n').ok_or(INVALID)?;
    let parts = split_arguments(&code[..end]).map_err(|_| INVALID)?;
    let (engine, options) = parts.split_first().ok_or(INVALID)?;
    let mut name: Option<&[u8]> = None;
    for option in options {
        match option.split_at_checked(5) {
            Some((word, value)) if word.eq_ignore_ascii_case(b"name=") => {
                if name.replace(value).is_some() {
                    return Err(
                        "Invalid metadata value, name argument was given multiple times".into()
                    );
                }
            }
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(format!("Invalid metadata value given: {option}"));
            }
        }
    }
    let name = name.ok_or("Library name was not given")?.to_vec();
    check_name(&name)?;
    if !engine[2..].eq_ignore_ascii_case(b"lua") {
        let engine = String::from_utf8_lossy(&engine[2..]);
        return Err(format!("Engine '{engine}' not found"));
    }
    Ok(Metadata { name, code_at: end })
}

/// Whether a library or function may be called so.
pub(super) fn check_name(name: &[u8]) -> Result<(), String> {
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if name.is_empty() || !name.iter().all(is_good) {
        return Err(
            "Library names can only contain letters, numbers, or underscores(_) and must be \
                    at least one character long"
                .into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, functions: &[&str]) -> Library {
        let function = |name: &&str| Function {
            name: name.as_bytes().to_vec(),
            description: None,
            flags: ScriptFlags::NONE,
        };
        Library {
            name: name.as_bytes().to_vec(),
            code: Vec::new(),
            functions: functions.iter().map(function).collect(),
        }
    }

    #[test]
    fn names_are_unique_and_replacing_frees_the_old_ones() {
        let none = Libraries::default();
        let one = none.with(library("a", &["f", "g"]), false).expect("nothing is there");
        assert_eq!((one.len(), one.function_count()), (1, 2));
        let error = one.with(library("a", &["h"]), false).expect_err("the name is taken");
        assert_eq!(error, "Library 'a' already exists");
        let error = one.with(library("b", &["g"]), true).expect_err("a function's name is taken");
        assert_eq!(error, "Function g already exists");
        let other = one.with(library("a", &["g", "h"]), true).expect("it is replaced");
        assert!(other.function(b"f").is_none() && other.function(b"H").is_some());
        assert!(one.function(b"f").is_some(), "the old set stays as it was");
        let gone = other.without(b"a").expect("it is there");
        assert!(gone.is_empty() && gone.function_count() == 0 && gone.without(b"a").is_none());
    }

    #[test]
    fn first_lines_are_read_as_redis_reads_them() {
        let read = |code: &str| read_metadata(code.as_bytes());
        assert_eq!(
            read("#!lua name=mylib\nx"),
            Ok(Metadata { name: b"mylib".to_vec(), code_at: 16 })
        );
        for (code, error) in [
            ("x", "Missing library metadata"),
            ("#!lua name=x", "Invalid library metadata"),
            ("#!lua \"\n", "Invalid library metadata"),
            ("#!lua\n", "Library name was not given"),
            (
                "#!lua name=a name=b\n",
                "Invalid metadata value, name argument was given multiple times",
            ),
            ("#!lua foo=a\n", "Invalid metadata value given: foo=a"),
            ("#!python name=a\n", "Engine 'python' not found"),
        ] {
            assert_eq!(read(code), Err(error.into()), "{code}");
        }
        assert!(
            read("#!lua name=b-d\n").is_err_and(|error| error.starts_with("Library names can"))
        );
    }
}
