//! Where figures were made: without this they mean nothing.

use std::process::Command;

use headwater_tests::Postgres;
use serde::Serialize;

/// The machine and the versions of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    postgres: String,
    headwater: &'static str,
    commit: String,
    date: String,
}

impl Machine {
    /// This machine, and the server that was measured.
    pub(crate) fn here(postgres: &Postgres) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes: u64 = meminfo
            .split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        Machine {
            cpu: cpuinfo
                .lines()
                .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
                .map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kilobytes.div_ceil(1 << 20),
            kernel: said_by("uname", &["-r"]),
            postgres: postgres.installation().version().to_owned(),
            headwater: headwater_protocol::VERSION,
            commit: commit(),
            date: said_by("date", &["-u", "+%F"]),
        }
    }

    /// One sentence for the page.
    pub(crate) fn sentence(&self) -> String {
        format!(
            "{}: {} cores of {}, {} GiB, Linux {}; Headwater {} at {}, {}.",
            self.date,
            self.cores,
            self.cpu,
            self.memory_gib,
            self.kernel,
            self.headwater,
            self.commit,
            self.postgres
        )
    }
}

/// What was measured: results that were written meanwhile do not change it.
fn commit() -> String {
    let changed = [
        "status",
        "--porcelain",
        "--",
        ".",
        ":!docs",
        ":!bench/results",
    ];
    let commit = said_by("git", &["rev-parse", "--short", "HEAD"]);
    if said_by("git", &changed).is_empty() {
        commit
    } else {
        commit + "-dirty"
    }
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .current_dir(headwater_tests::installation::workspace())
        .output()
        .map_or_else(
            |_| "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
}
