//! What a process prints, line by line, while it runs.

use std::io::BufRead;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::wait::SOON;

/// The lines of a pipe, collected by a thread until the pipe closes.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<(Mutex<Collected>, Condvar)>);

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<String>,
    complete: bool,
}

impl Lines {
    /// Starts to collect; from nothing, no lines.
    pub fn of(pipe: Option<impl BufRead + Send + 'static>) -> Self {
        let lines = Lines::default();
        let collector = lines.clone();
        std::thread::spawn(move || {
            if let Some(pipe) = pipe {
                for line in pipe.split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    collector.change(|collected| collected.lines.push(line));
                }
            }
            collector.change(|collected| collected.complete = true);
        });
        lines
    }

    /// The first line with `text`, waiting for it at most `timeout`.
    pub fn find(&self, text: &str, timeout: Duration) -> Option<String> {
        let found = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        let collected = self.wait(timeout, |lines| found(lines).is_some());
        found(&collected.lines)
    }

    /// The lines from number `from` on, waiting at most `timeout` until there are `count`.
    pub fn some(&self, from: usize, count: usize, timeout: Duration) -> Vec<String> {
        let collected = self.wait(timeout, |lines| lines.len() >= from + count);
        collected.lines.get(from..).unwrap_or_default().to_vec()
    }

    /// Waits until the pipe is closed.
    pub fn join(&self) {
        drop(self.wait(SOON, |_| false));
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        self.collected().lines.join("\n")
    }

    fn wait(
        &self,
        timeout: Duration,
        satisfied: impl Fn(&[String]) -> bool,
    ) -> MutexGuard<'_, Collected> {
        let (_, changed) = &*self.0;
        let waits = |collected: &mut Collected| !collected.complete && !satisfied(&collected.lines);
        changed
            .wait_timeout_while(self.collected(), timeout, waits)
            .unwrap_or_else(|e| e.into_inner())
            .0
    }

    fn change(&self, change: impl FnOnce(&mut Collected)) {
        change(&mut self.collected());
        self.0.1.notify_all();
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.0.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
