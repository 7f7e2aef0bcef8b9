//! What a process keeps in memory while a test goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a process is looked at: what grows for a transaction of seconds stays until
/// its end.
const INTERVAL: Duration = Duration::from_millis(5);

/// Watches a process' own memory until it is asked.
///
/// Counted is `RssAnon` of `/proc/PID/status`: pages of the server's shared buffers count
/// into the resident memory of each process that touched them, and are not its own.
#[derive(Debug)]
pub struct MemoryWatch {
    before: u64,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    /// Begins to watch; what the process has now is what it grows from.
    ///
    /// # Panics
    ///
    /// If there is no such process.
    pub fn of(pid: u32) -> Self {
        let Some(before) = own_memory(pid) else {
            panic!("no process {pid} to watch");
        };
        let peak = Arc::new(AtomicU64::new(before));
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = {
            let (peak, stop) = (Arc::clone(&peak), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(now) = own_memory(pid) {
                        peak.fetch_max(now, Ordering::Relaxed);
                    }
                    std::thread::sleep(INTERVAL);
                }
            })
        };
        MemoryWatch {
            before,
            peak,
            stop,
            watcher: Some(watcher),
        }
    }

    /// The most bytes that the process had.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Bytes by which the process grew at most.
    pub fn growth(&self) -> u64 {
        self.peak() - self.before
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            let _ended = watcher.join();
        }
    }
}

/// Bytes; none where the process is gone.
fn own_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes << 10)
}
