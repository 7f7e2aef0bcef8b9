//! What a process has used, as the kernel accounts for it.
//!
//! CPU time is `utime + stime` of `/proc/PID/stat`: all threads, those that ended too, in
//! ticks of 10 ms. A process that ends while it is watched counts as it was seen last.
//! Memory is `RssAnon`: what the process alone holds. Pages of shared buffers, which a
//! walsender only looks at, are not its own.

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
    let stat = Stat::of(pid).unwrap_or_else(|| panic!("there is no process {pid}"));
    stat.own as f64 / TICKS_PER_SECOND
}

/// As [`cpu_seconds`], with all children that live and all that ended.
pub(crate) fn cpu_seconds_with_children(pid: u32) -> f64 {
    let stat = Stat::of(pid).unwrap_or_else(|| panic!("there is no process {pid}"));
    let living: u64 = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Stat::of)
        .filter(|child| child.parent == pid)
        .map(|child| child.own)
        .sum();
    (stat.own + stat.ended_children + living) as f64 / TICKS_PER_SECOND
}

/// Of `/proc/PID/stat`, in ticks.
struct Stat {
    parent: u32,
    own: u64,
    ended_children: u64,
}

impl Stat {
    /// None once the process is gone.
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(file(pid, "stat")).ok()?;
        // The second field is the name in parentheses, which may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
        Some(Stat {
            parent: u32::try_from(number(1)?).ok()?,
            own: number(11)? + number(12)?,
            ended_children: number(13)? + number(14)?,
        })
    }
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
    thread: Option<JoinHandle<()>>,
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
            while let (Some(bytes), Some(stat)) = (anonymous_bytes(pid), Stat::of(pid)) {
                highest.peak.fetch_max(bytes, Ordering::Relaxed);
                highest.ticks.fetch_max(stat.own, Ordering::Relaxed);
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
            thread: Some(thread),
        }
    }

    /// CPU seconds so far, or at its end.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let ticks = Stat::of(self.pid).map(|stat| stat.own);
        let ticks = ticks.unwrap_or_else(|| self.seen.ticks.load(Ordering::Relaxed));
        ticks as f64 / TICKS_PER_SECOND
    }

    /// Looks once more, ends it and says the most bytes that the process held.
    pub(crate) fn peak(mut self) -> u64 {
        self.end();
        self.seen.peak.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ended = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

fn file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}
