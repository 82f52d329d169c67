//! Libraries of other languages, which their registries give: installed once beside the build and
//! kept between runs.
//!
//! A test whose libraries cannot be had is skipped with one line that says so. Versions are pinned:
//! a new release must not fail a build.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::programs::{find_program, run_to_end, skip};

/// How long an installation may take.
const LIMIT: Duration = Duration::from_secs(300);

/// A Python with `packages` (as `name==version`), for the tests called `name`; `None` after a line
/// that says what is missing.
pub(crate) fn python_with(name: &str, packages: &[&str]) -> Option<PathBuf> {
    let Some(python) = find_program("python3") else {
        skip("python3 is not installed");
        return None;
    };
    let folder = folder(name, packages);
    let is_there = install(&folder, |folder| {
        let mut make = Command::new(&python);
        make.args(["-m", "venv"]).arg(folder);
        let mut install = Command::new(folder.join("bin/pip"));
        install.args(["install", "--quiet", "--retries", "1", "--timeout", "20"]).args(packages);
        vec![make, install]
    });
    if !is_there {
        let packages = packages.join(" ");
        skip(&format!("{packages} cannot be installed: no venv module, or no package registry"));
        return None;
    }
    Some(folder.join("bin/python"))
}

/// A Node, and the folder from which it finds `packages` (as `name@version`), for the tests called
/// `name`; `None` after a line that says what is missing.
pub(crate) fn node_with(name: &str, packages: &[&str]) -> Option<(PathBuf, PathBuf)> {
    let (Some(node), Some(npm)) = (find_program("node"), find_program("npm")) else {
        skip("node and npm are not installed");
        return None;
    };
    let folder = folder(name, packages);
    let is_there = install(&folder, |folder| {
        let mut install = Command::new(&npm);
        install.args(["install", "--silent", "--no-audit", "--no-fund", "--no-save"]);
        install.args(["--fetch-retries=1", "--fetch-timeout=20000", "--prefix"]);
        install.arg(folder).args(packages);
        vec![install]
    });
    if !is_there {
        skip(&format!("{} cannot be installed: no package registry", packages.join(" ")));
        return None;
    }
    Some((node, folder))
}

/// Where these versions are installed: others get a folder of their own.
fn folder(name: &str, packages: &[&str]) -> PathBuf {
    let versions: String = packages
        .join("-")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(format!("{name}-{versions}"))
}

/// Installs into `folder` with `commands` unless that was done before; whether it is done. What has
/// failed is not tried again by this process.
fn install(folder: &Path, commands: impl FnOnce(&Path) -> Vec<Command>) -> bool {
    static TRIED: Mutex<Option<HashMap<PathBuf, bool>>> = Mutex::new(None);
    // A test that fails while it installs poisons nothing that others rely on.
    let mut tried = TRIED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let tried = tried.get_or_insert_default();
    if let Some(&is_there) = tried.get(folder) {
        return is_there;
    }
    let mark = folder.join("ready");
    let is_there = mark.exists() || {
        std::fs::create_dir_all(folder).expect("a folder for libraries");
        let is_done = commands(folder).iter_mut().all(|command| run_to_end(command, LIMIT).success);
        is_done && std::fs::write(&mark, "").is_ok()
    };
    tried.insert(folder.to_owned(), is_there);
    is_there
}
