//! CPU time and resident size of a process, from /proc.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::BenchError;

fn read(path: &Path) -> Result<String, BenchError> {
    fs::read_to_string(path).map_err(|error| BenchError::File { path: path.into(), error })
}

/// Nanoseconds that all tasks of process `id` have run: user and kernel time. Kernel workers of
/// io_uring are tasks of the process and count.
///
/// Tasks that have ended are missing; servers end none while they are measured.
pub(crate) fn cpu_ns(id: u32) -> Result<u64, BenchError> {
    let folder = PathBuf::from(format!("/proc/{id}/task"));
    let tasks =
        fs::read_dir(&folder).map_err(|error| BenchError::File { path: folder.clone(), error })?;
    let mut sum = 0;
    for task in tasks.flatten() {
        // A task may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let first = text.split_ascii_whitespace().next();
        sum += first.and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// Nanoseconds of user and kernel time of process `id`, of tasks and children that have ended too, as
/// long as it has waited for these. The kernel counts them by hundredths of a second.
pub(crate) fn cpu_ns_with_ended(id: u32) -> Result<u64, BenchError> {
    const TICK_NS: u64 = 10_000_000;
    let path = PathBuf::from(format!("/proc/{id}/stat"));
    let text = read(&path)?;
    // Behind the name in parentheses: the state is the first field, user time the twelfth.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
    let times = fields.skip(11).take(4).filter_map(|digits| digits.parse::<u64>().ok());
    Ok(times.sum::<u64>() * TICK_NS)
}

/// Bytes of physical memory that process `id` uses.
pub(crate) fn resident_bytes(id: u32) -> Result<u64, BenchError> {
    let path = PathBuf::from(format!("/proc/{id}/status"));
    let text = read(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kibibytes.map(|count| count * 1024).ok_or_else(|| BenchError::File {
        path,
        error: std::io::Error::other("no VmRSS: the process has ended"),
    })
}

/// Bytes of physical memory that process `id` and its children use, what several share counted once.
pub(crate) fn proportional_bytes(id: u32) -> Result<u64, BenchError> {
    let path = PathBuf::from(format!("/proc/{id}/smaps_rollup"));
    let text = read(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    // A child may end between the listing and the reading; a kernel without the list knows none.
    let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    let children = list.split_ascii_whitespace().filter_map(|child| child.parse().ok());
    let below: u64 = children.map(|child| proportional_bytes(child).unwrap_or(0)).sum();
    Ok(kibibytes.unwrap_or(0) * 1024 + below)
}

/// The machine in one line: processor, CPUs, kernel.
pub(crate) fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = model.map_or("unknown processor", |(_, name)| name);
    format!("{model}, {cpus} CPUs, Linux {}", kernel.trim())
}

#[test]
fn this_process_has_used_cpu_and_memory() {
    let id = std::process::id();
    assert!(cpu_ns(id).expect("our own process") > 0);
    let started = std::time::Instant::now();
    while cpu_ns_with_ended(id).expect("our own process") == 0 {
        assert!(started.elapsed().as_secs() < 60, "this loop takes processor time");
    }
    assert!(resident_bytes(id).expect("our own process") > 1 << 16);
}
