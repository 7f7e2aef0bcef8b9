//! What a process has used, as the kernel accounts for it.
//!
//! CPU time is `utime + stime` of `/proc/PID/stat`: all threads, those that ended too, in
//! ticks of 10 ms. Memory is `RssAnon`: what the process alone holds. Pages of shared
//! buffers, which a walsender only looks at, are not its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often memory is looked at: short against any run, cheap against both cores.
const SAMPLE: Duration = Duration::from_millis(20);

/// `USER_HZ`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds that a process has used so far.
///
/// # Panics
///
/// If there is no such process.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = read(pid, "stat");
    // The second field is the name in parentheses, which may hold anything.
    let fields: Vec<&str> = stat
        .rsplit_once(") ")
        .map_or("", |(_, fields)| fields)
        .split_whitespace()
        .collect();
    let ticks = |field: usize| -> f64 { fields[field].parse().unwrap_or(0.0) };
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

/// Anonymous bytes that a process holds; none once it is gone.
fn anonymous_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(file(pid, "status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}

/// The most memory that a process held while this watched it.
pub(crate) struct MemoryPeak {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl MemoryPeak {
    /// Begins to watch.
    pub(crate) fn watch(pid: u32) -> Self {
        let (stop, peak) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (until, highest) = (Arc::clone(&stop), Arc::clone(&peak));
        let thread = std::thread::spawn(move || {
            while let Some(bytes) = anonymous_bytes(pid) {
                highest.fetch_max(bytes, Ordering::Relaxed);
                if until.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::park_timeout(SAMPLE);
            }
        });
        MemoryPeak { stop, peak, thread }
    }

    /// Ends it and says how many bytes that was.
    pub(crate) fn bytes(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ended = self.thread.join();
        self.peak.load(Ordering::Relaxed)
    }
}

fn read(pid: u32, name: &str) -> String {
    let file = file(pid, name);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()))
}

fn file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}
