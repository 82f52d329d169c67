//! What README and the heads of the crates say of the structure holds in the source: which layer names
//! which, where unsafe code stands, who names the executor and the ring, and what the engine never asks
//! of the machine. Each rule is shown to object to a line that breaks it.

use std::fs;
use std::path::{Path, PathBuf};

/// The engine's layers, the topmost first, as `engine/src/lib.rs` lists them. Imports point downward.
const LAYERS: [&str; 13] = [
    "transaction",
    "persist",
    "script",
    "shard",
    "waiting",
    "command",
    "persist::rdb",
    "keyspace",
    "notice",
    "journal",
    "value",
    "types",
    "sys",
];

/// Where unsafe code may stand: files, and folders with all that is in them.
const UNSAFE_ISLANDS: [&str; 14] = [
    "engine/src/keyspace/bucket.rs",
    "engine/src/keyspace/entry.rs",
    "engine/src/keyspace/pages.rs",
    "engine/src/keyspace/segment.rs",
    "engine/src/keyspace/slab.rs",
    "engine/src/keyspace/table.rs",
    "engine/src/keyspace/table/",
    "engine/src/persist/rdb/fold.rs",
    "engine/src/script/lua.rs",
    "engine/src/script/lua/",
    "server/src/mesh/berth.rs",
    "server/src/mesh/mailbox.rs",
    "server/src/runtime/",
    "engine/src/sys/prefetch.rs",
];

/// What the engine asks of the machine only below `sys`.
const OF_THE_MACHINE: [&str; 7] =
    ["SystemTime", "Instant", "TcpStream", "File", "fs", "net", "env"];

/// A line of code, and where it stands.
struct Line {
    path: String,
    number: usize,
    code: String,
}

/// The folder that holds the crates.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The lines of code of a crate that are not tests or models: comments and what stands in quotes are
/// left out, and everything behind the beginning of a file's tests.
fn lines(folder: &str) -> Vec<Line> {
    let root = workspace();
    let mut open = vec![root.join(folder)];
    let mut lines = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder of the sources");
            open.extend(entries.map(|entry| entry.expect("its entry").path()));
            continue;
        }
        let path_shown = path.strip_prefix(&root).expect("below the root").display().to_string();
        if path.extension().is_some_and(|kind| kind == "rs") && !is_for_tests(&path_shown) {
            let text = fs::read_to_string(&path).expect("a source");
            lines.extend(lines_of(&path_shown, &text));
        }
    }
    assert!(lines.len() > 1_000, "{folder} holds a crate");
    lines
}

fn is_for_tests(path: &str) -> bool {
    let of_tests = ["tests", "simulation", "simulated", "model", "fuzz", "testing", "checker"];
    path.trim_end_matches(".rs").split('/').any(|part| of_tests.contains(&part))
}

fn lines_of(path: &str, text: &str) -> Vec<Line> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let line = |(at, line): (usize, &str)| Line {
        path: path.to_owned(),
        number: at + 1,
        code: without_texts(line),
    };
    let mut lines: Vec<Line> = code.lines().enumerate().map(line).collect();
    lines.extend(grouped_imports(&lines));
    lines
}

/// A line up to its comment, without what stands in quotes.
fn without_texts(line: &str) -> String {
    let code = line.split("//").next().unwrap_or(line);
    code.split('"').step_by(2).collect()
}

/// The places of `lines` at which `breaks` says that a rule is broken.
fn broken(lines: &[Line], breaks: impl Fn(&Line) -> bool) -> Vec<String> {
    let place = |line: &Line| format!("{}:{}: {}", line.path, line.number, line.code.trim());
    lines.iter().filter(|line| breaks(line)).map(place).collect()
}

/// Whether `code` has `word` as a word of its own.
fn has_word(code: &str, word: &str) -> bool {
    let is_part =
        |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    code.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).map(|at| code.as_bytes()[at]);
        !is_part(before) && !is_part(code.as_bytes().get(at + word.len()).copied())
    })
}

/// The layers that `lines` of one file name in imports by groups (`use crate::{sys::…, types::…}`), each
/// as a line of its own.
fn grouped_imports(lines: &[Line]) -> Vec<Line> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    for Line { path, number, code } in lines {
        let mut rest = code.as_str();
        if depth == 0 {
            let Some((_, group)) = code.split_once("use crate::{") else { continue };
            (rest, depth) = (group, 1);
        }
        let mut item = String::new();
        for letter in rest.chars().chain(['\n']) {
            if depth == 1 && (letter.is_alphanumeric() || "_:".contains(letter)) {
                item.push(letter);
                continue;
            }
            if !item.is_empty() {
                let code = format!("crate::{item}");
                found.push(Line { path: path.clone(), number: *number, code });
            }
            item.clear();
            match letter {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// The layer of a file of the engine, as a place in [`LAYERS`].
fn layer_of(path: &str) -> Option<usize> {
    let name = match path.strip_prefix("engine/src/")? {
        inner if inner.starts_with("persist/rdb/") => "persist::rdb",
        path => path.split(['/', '.']).next()?,
    };
    LAYERS.iter().position(|layer| *layer == name)
}

/// Whether a line of the engine names a layer above its own.
fn points_upward(line: &Line) -> bool {
    let Some(own) = layer_of(&line.path) else { return false };
    // `value` is made of the content of entries.
    let may = |above: &str| line.path == "engine/src/value.rs" && above == "keyspace";
    let is_rdb = line.code.contains("crate::persist::rdb");
    let names = |above: &str| match above {
        "persist" => has_word(&line.code, "crate::persist") && !is_rdb,
        above => has_word(&line.code, &format!("crate::{above}")),
    };
    LAYERS[..own].iter().any(|above| names(above) && !may(above))
}

fn is_unsafe_outside_of_islands(line: &Line) -> bool {
    let is_unsafe = has_word(&line.code, "unsafe") && !line.code.contains("#!");
    is_unsafe && !UNSAFE_ISLANDS.iter().any(|island| line.path.starts_with(island))
}

fn names_the_executor_or_the_ring(line: &Line) -> bool {
    let is_of_runtime = line.path.starts_with("server/src/runtime/");
    let is_of_ring = line.path.starts_with("server/src/runtime/ring");
    has_word(&line.code, "glommio") && (!is_of_runtime || is_of_ring)
        || line.code.contains("io_uring::") && !is_of_ring
}

fn asks_the_machine(line: &Line) -> bool {
    let is_of_sys = line.path.starts_with("engine/src/sys/");
    !is_of_sys && OF_THE_MACHINE.iter().any(|word| has_word(&line.code, word))
}

fn names_no_lower_crate(line: &Line) -> bool {
    line.path.starts_with("proto/") && has_word(&line.code, "tessera_engine")
        || !line.path.starts_with("server/") && has_word(&line.code, "tessera_server")
}

#[test]
fn imports_of_the_engine_point_downward() {
    let none: [&str; 0] = [];
    assert_eq!(broken(&lines("engine/src"), points_upward), none);
}

#[test]
fn unsafe_code_stands_on_its_islands() {
    for folder in ["proto/src", "engine/src", "server/src"] {
        let none: [&str; 0] = [];
        assert_eq!(broken(&lines(folder), is_unsafe_outside_of_islands), none);
    }
}

#[test]
fn only_the_runtime_names_the_executor_and_the_ring() {
    let none: [&str; 0] = [];
    assert_eq!(broken(&lines("server/src"), names_the_executor_or_the_ring), none);
}

#[test]
fn the_engine_asks_nothing_of_the_machine_but_by_sys() {
    let none: [&str; 0] = [];
    assert_eq!(broken(&lines("engine/src"), asks_the_machine), none);
}

#[test]
fn crates_name_only_what_is_below_them() {
    for folder in ["proto/src", "engine/src"] {
        let none: [&str; 0] = [];
        assert_eq!(broken(&lines(folder), names_no_lower_crate), none);
    }
}

#[test]
fn each_rule_objects_to_what_breaks_it() {
    let objects = |rule: fn(&Line) -> bool, path: &str, text: &str| {
        broken(&lines_of(path, text), rule).len() == 1
    };
    assert!(objects(points_upward, "engine/src/types/list.rs", "use crate::command::Args;"));
    assert!(objects(points_upward, "engine/src/types/set.rs", "    crate::keyspace::entry::Body"));
    let grouped = "use crate::{\n    sys::random::Random,\n    types::{Set,\n        zset::Zset},\n    \
                   keyspace::Keyspace,\n};\n";
    assert!(objects(points_upward, "engine/src/types/set.rs", grouped));
    assert!(!objects(points_upward, "engine/src/value.rs", grouped), "its one exception");
    let rdb = "use crate::{\n    keyspace::Held,\n    persist::rdb::{Encoder, Options},\n};";
    assert!(!objects(points_upward, "engine/src/command/generic/dump.rs", rdb));
    assert!(objects(points_upward, "engine/src/keyspace/slot.rs", rdb));
    assert!(objects(points_upward, "engine/src/persist/rdb/load.rs", "use crate::persist::log;"));
    assert!(!objects(points_upward, "engine/src/shard.rs", grouped));
    assert!(objects(points_upward, "engine/src/sys/disk.rs", "use crate::{sys::X, journal::Y};"));
    assert!(!objects(points_upward, "engine/src/command/list.rs", "use crate::types::List;"));
    assert!(!objects(points_upward, "engine/src/value.rs", "// see crate::command"));
    assert!(objects(is_unsafe_outside_of_islands, "engine/src/value.rs", "unsafe { read() }"));
    assert!(!objects(
        is_unsafe_outside_of_islands,
        "engine/src/value.rs",
        "#![forbid(unsafe_code)]"
    ));
    let rule = names_the_executor_or_the_ring;
    assert!(objects(rule, "server/src/worker.rs", "use glommio::Task;"));
    assert!(objects(rule, "server/src/runtime/pace.rs", "use io_uring::IoUring;"));
    assert!(!objects(rule, "server/src/runtime/pace.rs", "glommio::yield_if_needed().await;"));
    assert!(objects(asks_the_machine, "engine/src/shard.rs", "let now = SystemTime::now();"));
    assert!(!objects(asks_the_machine, "engine/src/sys/clock.rs", "let now = SystemTime::now();"));
    assert!(objects(names_no_lower_crate, "engine/src/lib.rs", "use tessera_server::worker;"));
}
