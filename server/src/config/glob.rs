//! File name patterns of `include`, as glob(3) expands them with no flags.
//!
//! `*`, `?` and `[…]` never match a slash, nor a dot that starts a name; matches come sorted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use tessera_proto::glob_matches;

/// The existing paths that match `pattern`, sorted.
pub(super) fn glob_paths(pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.components() {
        paths = paths.iter().flat_map(|path| expand(path, component)).collect();
    }
    paths
}

/// The entries of the directory `base` that match one component of a pattern.
fn expand(base: &Path, component: Component) -> Vec<PathBuf> {
    let name = component.as_os_str();
    let is_pattern = name.as_bytes().iter().any(|byte| b"*?[".contains(byte));
    if !is_pattern {
        let path = base.join(name);
        return if path.exists() { vec![path] } else { Vec::new() };
    }
    let directory = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|entry| name_matches(name, entry))
        .map(|entry| base.join(entry))
        .collect();
    found.sort();
    found
}

fn name_matches(pattern: &OsStr, name: &OsStr) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let hidden = name.first() == Some(&b'.');
    (!hidden || pattern.first() == Some(&b'.')) && glob_matches(&as_redis_pattern(pattern), name)
}

/// glob(3) negates a class by `!`, the patterns of KEYS by `^`.
fn as_redis_pattern(pattern: &[u8]) -> Vec<u8> {
    let mut pattern = pattern.to_vec();
    for at in 1..pattern.len() {
        if pattern[at - 1] == b'[' && pattern[at] == b'!' {
            pattern[at] = b'^';
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_negated_by_either_sign() {
        for pattern in ["[!a-c]?.conf", "[^a-c]?.conf"] {
            assert!(name_matches(OsStr::new(pattern), OsStr::new("d1.conf")));
            assert!(!name_matches(OsStr::new(pattern), OsStr::new("b1.conf")));
        }
    }

    #[test]
    fn hidden_names_need_a_dot() {
        assert!(!name_matches(OsStr::new("*"), OsStr::new(".x")));
        assert!(name_matches(OsStr::new(".*"), OsStr::new(".x")));
    }

    #[test]
    fn directories_match_too() {
        let root = std::env::temp_dir().join(format!("tessera-glob-{}", std::process::id()));
        for name in ["d1", "d2"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("x.conf"), "").unwrap();
        }
        let found = glob_paths(&root.join("d*/x.conf"));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, [root.join("d1/x.conf"), root.join("d2/x.conf")]);
    }
}
