//! Writers, each with rows of its own: every kind of transaction, at random but from a seed.
//!
//! That no two writers share a key makes the history exact. A writer knows what its next
//! statement will find, so it knows each change before it makes it, and the changes of a key
//! are in the order in which its one writer committed them. What a writer cannot know is how
//! a commit ended whose answer the server did not live to give. It asks the database
//! afterwards, and goes on only then: so no change of the history is a guess.

mod plan;
mod shifting;
pub mod tables;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

pub(crate) use self::plan::{Plan, Rows};
pub(crate) use self::writer::Writer;

use super::history::History;
use super::run::Settings;
use crate::Random;

/// Threads that write until they are told to stop.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Rows, String>>>,
}

impl Writers {
    /// Starts the writers; number 0 is the one that alters tables.
    pub(crate) fn start(
        settings: &Settings,
        conninfo: &str,
        random: &mut Random,
        history: &History,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let pause = settings.pause;
        let threads = (0..settings.writers)
            .map(|number| {
                let mut writer =
                    Writer::new(number, conninfo.to_owned(), random.fork(), history.clone());
                if number == 0 {
                    writer = writer.altering();
                }
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        writer.transact()?;
                        std::thread::sleep(pause);
                    }
                    Ok(writer.into_rows())
                })
            })
            .collect();
        Writers { stop, threads }
    }

    /// Stops them and returns the rows that there must be, by what they committed; or what
    /// went wrong.
    pub(crate) fn stop(mut self) -> Result<Rows, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut rows = Rows::new();
        for thread in self.threads.drain(..) {
            let of_writer = thread
                .join()
                .map_err(|_| "a writer panicked".to_owned())??;
            rows.extend(of_writer);
        }
        Ok(rows)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
