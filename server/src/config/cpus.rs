//! How many CPUs this process may use: the number of shards unless the user says otherwise.
//!
//! Two bounds apply: the affinity mask (`taskset`, Docker's `--cpuset-cpus`) and the CPU quota of
//! the control group and its ancestors (Docker's `--cpus`). A quota of 1.5 CPUs counts as 2: a
//! third worker could only be throttled, one worker would leave half a CPU idle.

use std::fs;
use std::path::{Path, PathBuf};

use super::options::SHARDS_MAX;

/// CPUs that the affinity mask and the control group allow, at least 1.
pub fn available_cpus() -> u16 {
    let mask = core_affinity::get_core_ids().map_or(1, |cores| cores.len());
    let quota = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|groups| quota_of_groups(&groups, Path::new("/sys/fs/cgroup")));
    let cpus = quota.map_or(mask, |quota| mask.min(quota));
    u16::try_from(cpus).unwrap_or(SHARDS_MAX).clamp(1, SHARDS_MAX)
}

/// The least quota, in whole CPUs rounded up, along the path of the process's group. `groups` is
/// the text of `/proc/self/cgroup`, `root` the place where control groups are mounted.
fn quota_of_groups(groups: &str, root: &Path) -> Option<usize> {
    groups.lines().filter_map(|line| quota_of_line(line, root)).min()
}

fn quota_of_line(line: &str, root: &Path) -> Option<usize> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
    if controllers.is_empty() {
        return least_quota(root, path, |group| parse_v2(&read(group, "cpu.max")?));
    }
    if !controllers.split(',').any(|controller| controller == "cpu") {
        return None;
    }
    // A container sees its own group at the root of the mount, whatever path the host gave it.
    least_quota(&root.join("cpu"), path, |group| {
        parse_v1(&read(group, "cpu.cfs_quota_us")?, &read(group, "cpu.cfs_period_us")?)
    })
}

/// The least quota of the group and of its ancestors up to `root`.
fn least_quota(root: &Path, path: &str, quota: impl Fn(&Path) -> Option<usize>) -> Option<usize> {
    let mut group: PathBuf = root.join(path);
    let mut least = quota(&group);
    while group != root && group.pop() {
        let next = quota(&group);
        least = least.into_iter().chain(next).min();
    }
    least
}

fn read(group: &Path, file: &str) -> Option<String> {
    fs::read_to_string(group.join(file)).ok()
}

/// `cpu.max` of version 2: quota, or "max", and period, in microseconds.
fn parse_v2(text: &str) -> Option<usize> {
    let mut fields = text.split_ascii_whitespace();
    parse_v1(fields.next()?, fields.next()?)
}

/// Quota and period in microseconds; no quota is "max" or -1.
fn parse_v1(quota: &str, period: &str) -> Option<usize> {
    let quota: usize = quota.trim().parse().ok()?;
    let period: usize = period.trim().parse().ok().filter(|&period| period > 0)?;
    Some(quota.div_ceil(period).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_round_up_to_whole_cpus() {
        assert_eq!(parse_v2("150000 100000\n"), Some(2));
        assert_eq!(parse_v2("200000 100000\n"), Some(2));
        assert_eq!(parse_v2("1000 100000\n"), Some(1));
        assert_eq!(parse_v2("max 100000\n"), None);
        assert_eq!(parse_v1("-1\n", "100000\n"), None);
        assert_eq!(parse_v1("100000\n", "0\n"), None);
    }

    #[test]
    fn the_tightest_ancestor_counts() {
        let root = std::env::temp_dir().join(format!("tessera-cgroup-{}", std::process::id()));
        let group = root.join("a/b");
        fs::create_dir_all(&group).unwrap();
        fs::write(root.join("a/cpu.max"), "300000 100000").unwrap();
        fs::write(group.join("cpu.max"), "max 100000").unwrap();
        let quota = quota_of_groups("0::/a/b\n", &root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(quota, Some(3));
    }

    #[test]
    fn at_least_one_cpu_is_always_there() {
        assert!(available_cpus() >= 1);
    }
}
