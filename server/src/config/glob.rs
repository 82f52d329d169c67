//! File name patterns of `include`, as glob(3) expands them with no flags.
//!
//! `*`, `?` and `[…]` never match a slash, nor a dot that starts a name; matches come sorted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

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
    (!hidden || pattern.first() == Some(&b'.')) && matches(pattern, name)
}

/// Whether a name matches a pattern. Backtracks only to the last star, so the work is bounded by
/// the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while pos < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, pos));
            at += 1;
            continue;
        }
        if let Some(width) = matches_one(&pattern[at..], name[pos]) {
            at += width;
            pos += 1;
            continue;
        }
        let Some((after, from)) = star else { return false };
        star = Some((after, from + 1));
        (at, pos) = (after, from + 1);
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// The width of the pattern's first item if it matches `byte`.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => matches_set(pattern, byte),
        b'\\' => (pattern.get(1) == Some(&byte)).then_some(2),
        literal => (literal == byte).then_some(1),
    }
}

/// `[abc]`, `[a-z]`, `[!a]`; without a closing bracket the opening one stands for itself.
fn matches_set(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    let Some(length) = pattern.get(first + 1..).and_then(|p| p.iter().position(|&b| b == b']'))
    else {
        return (byte == b'[').then_some(1);
    };
    let end = first + 1 + length;
    let mut set = &pattern[first..end];
    let mut found = false;
    while let [low, rest @ ..] = set {
        if let [b'-', high, after @ ..] = rest {
            found |= (*low..=*high).contains(&byte);
            set = after;
        } else {
            found |= *low == byte;
            set = rest;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_sets_and_question_marks_match() {
        let cases: [(&str, &str, bool); 10] = [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.cong", false),
            ("a*b*c", "axxbyybc", true),
            ("a*b*c", "axxbyyb", false),
            ("?.c", "x.c", true),
            ("[a-c]1", "b1", true),
            ("[!a-c]1", "b1", false),
            ("[]x]", "]", true),
            ("[a", "[a", true),
            ("\\*", "x", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
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
