//! What a script declares about itself, in its first line or when its function is registered.
#![forbid(unsafe_code)]

use tessera_proto::split_arguments;

/// A set of declared flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptFlags(u8);

/// Names and bits, in the order in which FUNCTION LIST gives them.
const NAMES: [(&str, u8); 5] = [
    ("no-writes", 1 << 0),
    ("allow-oom", 1 << 1),
    ("allow-stale", 1 << 2),
    ("no-cluster", 1 << 3),
    ("allow-cross-slot-keys", 1 << 5),
];
/// A script of EVAL without a first line of its own: judged by each command that it executes.
const UNDECLARED: u8 = 1 << 4;

impl Default for ScriptFlags {
    fn default() -> Self {
        Self(UNDECLARED)
    }
}

impl ScriptFlags {
    /// Declared to have no flag.
    pub const NONE: Self = Self(0);

    /// With the flag called `name` added.
    pub fn with(self, name: &[u8], folds_case: bool) -> Option<Self> {
        let is_it = |known: &str| match folds_case {
            true => known.as_bytes().eq_ignore_ascii_case(name),
            false => known.as_bytes() == name,
        };
        NAMES.iter().find(|(known, _)| is_it(known)).map(|(_, bit)| Self(self.0 | bit))
    }

    /// The names of the flags.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(_, bit)| self.0 & bit != 0).map(|(name, _)| *name)
    }

    /// Whether anything was declared.
    pub fn is_declared(self) -> bool {
        self.0 & UNDECLARED == 0
    }

    /// It promises not to write.
    pub fn forbids_writes(self) -> bool {
        self.is_declared() && self.0 & 1 != 0
    }

    /// It may run whole when memory is short.
    pub fn allows_oom(self) -> bool {
        self.is_declared() && self.0 & (1 | 1 << 1) != 0
    }
}

/// A script's flags, and where its code begins: behind the first line, if that is a shebang, but for
/// its line end, so that lines keep their numbers.
///
/// # Errors
///
/// The text of the error, without a code, for a first line that begins like a shebang and is none.
pub fn read_shebang(body: &[u8]) -> Result<(ScriptFlags, usize), String> {
    if !body.starts_with(b"#!") {
        return Ok((ScriptFlags::default(), 0));
    }
    let end = body.iter().position(|&byte| byte == b'\n').ok_or("Invalid script shebang")?;
    let parts = split_arguments(&body[..end]).map_err(|_| "Invalid engine in script shebang")?;
    let mut parts = parts.iter().map(Vec::as_slice);
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match parts.next() {
        Some(b"#!lua") => {}
        Some(other) => {
            return Err(format!("Unexpected engine in script shebang: {}", lossy(other)));
        }
        None => return Err("Invalid engine in script shebang".into()),
    }
    let mut flags = ScriptFlags::NONE;
    for part in parts {
        let Some(list) = part.strip_prefix(b"flags=") else {
            return Err(format!("Unknown lua shebang option: {}", lossy(part)));
        };
        for name in list.split(|&byte| byte == b',').filter(|_| !list.is_empty()) {
            flags = flags
                .with(name, false)
                .ok_or_else(|| format!("Unexpected flag in script shebang: {}", lossy(name)))?;
        }
    }
    Ok((flags, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shebang_declares_flags_and_keeps_the_line_numbers() {
        let body = b"#!lua flags=no-writes,allow-stale\nreturn 1";
        let (flags, start) = read_shebang(body).expect("a good first line");
        assert!(flags.is_declared() && flags.forbids_writes() && flags.allows_oom());
        assert_eq!(flags.names().collect::<Vec<_>>(), ["no-writes", "allow-stale"]);
        assert_eq!(&body[start..], b"\nreturn 1");
        let (flags, start) = read_shebang(b"return 1").expect("no first line");
        assert!(!flags.is_declared() && !flags.forbids_writes() && start == 0);
    }

    #[test]
    fn other_first_lines_are_refused_by_name() {
        for (body, error) in [
            ("#!lua", "Invalid script shebang"),
            ("#!lua \"\n", "Invalid engine in script shebang"),
            ("#!python\n", "Unexpected engine in script shebang: #!python"),
            ("#!lua name=x\n", "Unknown lua shebang option: name=x"),
            ("#!lua flags=x\n", "Unexpected flag in script shebang: x"),
        ] {
            assert_eq!(read_shebang(body.as_bytes()), Err(error.into()));
        }
    }
}
