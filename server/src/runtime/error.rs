//! Why a worker could not start, each with its cure: an operator reads these, not a developer.

#![forbid(unsafe_code)]

use std::io;

/// An error of starting the threads, executors and rings of the workers.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error(
        "io_uring is forbidden here ({0}). Cure: allow it with `sysctl kernel.io_uring_disabled=0`; \
         in a container also allow the system calls io_uring_setup, io_uring_enter and \
         io_uring_register in its seccomp profile (docker: --security-opt seccomp=PROFILE.json)"
    )]
    RingForbidden(io::Error),
    #[error(
        "the kernel is too old for this server ({0}). Cure: run Linux 6.1 or later, which has \
         io_uring with deferred task work, multishot receive and provided buffer rings"
    )]
    KernelTooOld(io::Error),
    #[error(
        "not enough lockable memory for io_uring ({0}); each worker needs 512 KiB. \
         Cure: raise the limit with `ulimit -l unlimited`, or LimitMEMLOCK=infinity in the systemd \
         unit, or start fewer workers with --shards"
    )]
    LockedMemory(io::Error),
    #[error(
        "out of file descriptors while setting up a worker ({0}). Cure: raise the limit with \
         `ulimit -n`, or LimitNOFILE= in the systemd unit"
    )]
    FileDescriptors(io::Error),
    #[error("cannot start the executor of worker {worker}: {reason}")]
    Executor { worker: usize, reason: String },
    #[error("cannot start the thread of worker {worker}: {source}")]
    Thread { worker: usize, source: io::Error },
    #[error("io_uring: {0}")]
    Io(#[from] io::Error),
}

impl RuntimeError {
    /// Classes an error that the kernel gave to a set-up call of io_uring.
    pub(super) fn from_setup(error: io::Error) -> RuntimeError {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => RuntimeError::RingForbidden(error),
            // Seccomp profiles of containers answer ENOSYS as well, hence the check of the version.
            Some(libc::ENOSYS) if kernel_is_recent() => RuntimeError::RingForbidden(error),
            Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP) => {
                RuntimeError::KernelTooOld(error)
            }
            Some(libc::ENOMEM) => RuntimeError::LockedMemory(error),
            Some(libc::EMFILE | libc::ENFILE) => RuntimeError::FileDescriptors(error),
            _ => RuntimeError::Io(error),
        }
    }
}

/// Whether the running kernel is 6.1 or later; false if that cannot be read.
fn kernel_is_recent() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .ok()
        .and_then(|release| version(&release))
        .is_some_and(|version| version >= (6, 1))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classed(errno: i32) -> RuntimeError {
        RuntimeError::from_setup(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn each_refusal_of_the_kernel_names_its_cure() {
        assert!(classed(libc::EPERM).to_string().contains("kernel.io_uring_disabled"));
        assert!(classed(libc::EINVAL).to_string().contains("Linux 6.1"));
        assert!(classed(libc::ENOMEM).to_string().contains("LimitMEMLOCK"));
        assert!(classed(libc::EMFILE).to_string().contains("ulimit -n"));
    }

    #[test]
    fn kernel_releases_are_read_with_and_without_a_suffix() {
        assert_eq!(version("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(version("5.4\n"), Some((5, 4)));
        assert_eq!(version("strange"), None);
    }
}
