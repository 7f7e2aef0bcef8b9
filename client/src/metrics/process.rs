//! What the system says of the process, under the names that Prometheus' own libraries use.

use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// What there is; nothing where the system has no /proc.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
}

impl Process {
    pub(super) fn look() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let cpu = usage.map(|usage| usage.user_time() + usage.system_time());
        Process {
            cpu_seconds: cpu.map(|time| time.num_microseconds() as f64 / 1e6),
            resident_bytes: kilobytes(&status, "VmRSS:"),
            virtual_bytes: kilobytes(&status, "VmSize:"),
            // The one that lists them is among them.
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| (files.count() as u64).saturating_sub(1)),
        }
    }
}

/// A line of `/proc/self/status`, in bytes.
fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_bytes() {
        let status = "Name:\theadwater\nVmSize:\t  123456 kB\nVmRSS:\t    1024 kB\nThreads:\t9\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(kilobytes(status, "VmSize:"), Some(123_456 * 1024));
        assert_eq!(kilobytes(status, "Threads:"), None);
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_used_something_of_each() {
        let process = Process::look();
        assert!(process.cpu_seconds > Some(0.0), "{process:?}");
        assert!(process.resident_bytes > Some(1 << 16), "{process:?}");
        assert!(
            process.virtual_bytes >= process.resident_bytes,
            "{process:?}"
        );
        assert!(process.open_files > Some(2), "{process:?}");
    }
}
