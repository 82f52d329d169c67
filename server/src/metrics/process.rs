//! What the operating system knows about this process and this machine.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rustix::time::{ClockId, clock_gettime};

/// CPU time used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuTime {
    /// In user mode, microseconds.
    pub user_us: u64,
    /// In the kernel, microseconds.
    pub system_us: u64,
}

/// CPU time of the whole process and of the calling thread. Zero if the system does not say.
pub fn cpu_times() -> (CpuTime, CpuTime) {
    let time_of = |who| getrusage(who).map(|usage| cpu_time(&usage)).unwrap_or_default();
    (time_of(UsageWho::RUSAGE_SELF), time_of(UsageWho::RUSAGE_THREAD))
}

/// Processor time that the calling thread has taken, to the nanosecond.
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn cpu_time(usage: &Usage) -> CpuTime {
    let micros =
        |time: nix::sys::time::TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    CpuTime { user_us: micros(usage.user_time()), system_us: micros(usage.system_time()) }
}

/// Bytes of this process that are in memory (RSS). Zero if the system does not say.
pub fn resident_bytes() -> u64 {
    status_bytes("/proc/self/status", "VmRSS:").unwrap_or(0)
}

/// Bytes of memory that the machine has. Zero if the system does not say.
fn machine_memory_bytes() -> u64 {
    status_bytes("/proc/meminfo", "MemTotal:").unwrap_or(0)
}

/// Reads a line such as `VmRSS:   1234 kB`.
fn status_bytes(path: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// System, release and machine, as `uname -srm` prints them.
fn operating_system() -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}"));
    let text = |name| read(name).map_or_else(|_| "unknown".into(), |text| text.trim().to_owned());
    format!("{} {} {}", text("ostype"), text("osrelease"), std::env::consts::ARCH)
}

/// 40 random hexadecimal digits: a run's or a replication's identity.
pub fn random_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let mut id = String::new();
    while id.len() < 40 {
        // Each RandomState is seeded by the operating system's random numbers.
        id.push_str(&format!("{:016x}", RandomState::new().hash_one(id.len())));
    }
    id.truncate(40);
    id
}

/// Facts about the process that never change.
#[derive(Debug, Clone)]
pub struct ProcessInfo {
    /// When the process started, since the epoch.
    pub started: Duration,
    /// This run's identity: 40 hexadecimal digits.
    pub run_id: String,
    /// Absolute path of the program.
    pub executable: String,
    /// System, release and machine.
    pub os: String,
    /// Bytes of memory of the machine.
    pub machine_memory_bytes: u64,
}

impl ProcessInfo {
    /// Gathers the facts; called once, at the start.
    pub fn gather() -> ProcessInfo {
        ProcessInfo {
            started: unix_time(),
            run_id: random_id(),
            executable: std::env::current_exe()
                .map_or_else(|_| String::new(), |path| path.display().to_string()),
            os: operating_system(),
            machine_memory_bytes: machine_memory_bytes(),
        }
    }
}

/// Time since the epoch.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_uses_memory_and_cpu() {
        assert!(resident_bytes() > 100_000);
        assert!(machine_memory_bytes() > resident_bytes());
        let (process, thread) = cpu_times();
        assert!(process.user_us + process.system_us >= thread.user_us);
    }

    #[test]
    fn identities_are_40_hexadecimal_digits_and_differ() {
        let (one, two) = (random_id(), random_id());
        assert_eq!(one.len(), 40);
        assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(one, two);
    }

    #[test]
    fn the_system_has_a_name() {
        assert!(operating_system().starts_with("Linux "));
    }
}
