//! What a process has used, as the kernel accounts for it.
//!
//! CPU time is `utime + stime` of `/proc/PID/stat`: all threads, those that ended too, in
//! ticks of 10 ms. A process that ends while it is watched counts as it was seen last. Memory is `RssAnon`: what the process alone holds. Pages of shared
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
    ticks(pid).unwrap_or_else(|| panic!("there is no process {pid}")) as f64 / TICKS_PER_SECOND
}

/// `utime + stime`; none once it is gone.
fn ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(file(pid, "stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

/// Anonymous bytes that a process holds; none once it is gone.
fn anonymous_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(file(pid, "status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}

/// What a process used while this watched it.
pub(crate) struct Watch {
    pid: u32,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    peak: AtomicU64,
    ticks: AtomicU64,
}

impl Watch {
    /// Begins to watch.
    pub(crate) fn of(pid: u32) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::<Seen>::default());
        let (until, highest) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            while let (Some(bytes), Some(ticks)) = (anonymous_bytes(pid), ticks(pid)) {
                highest.peak.fetch_max(bytes, Ordering::Relaxed);
                highest.ticks.fetch_max(ticks, Ordering::Relaxed);
                if until.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::park_timeout(SAMPLE);
            }
        });
        Watch {
            pid,
            stop,
            seen,
            thread,
        }
    }

    /// CPU seconds so far, or at its end.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let ticks = ticks(self.pid).unwrap_or_else(|| self.seen.ticks.load(Ordering::Relaxed));
        ticks as f64 / TICKS_PER_SECOND
    }

    /// Ends it and says the most bytes that the process held.
    pub(crate) fn peak(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ended = self.thread.join();
        self.seen.peak.load(Ordering::Relaxed)
    }
}

fn file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}
