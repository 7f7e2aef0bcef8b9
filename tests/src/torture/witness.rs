//! Looks at the slot again and again, from outside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::arena::{NAME, connect};
use super::evidence::Sample;
use crate::Session;

/// Short against the faults, long against the cost of a look.
const INTERVAL: Duration = Duration::from_millis(50);

/// A thread with a session of its own.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    pub(crate) fn start(conninfo: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let samples = Arc::new(Mutex::default());
        let thread = {
            let (stop, samples) = (Arc::clone(&stop), Arc::clone(&samples));
            std::thread::spawn(move || {
                let mut session = None;
                while !stop.load(Ordering::Relaxed) {
                    look(&conninfo, &mut session, &samples);
                    std::thread::sleep(INTERVAL);
                }
            })
        };
        Witness {
            stop,
            samples,
            thread: Some(thread),
        }
    }

    /// Ends, and hands over what was seen.
    pub(crate) fn finish(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
        std::mem::take(&mut *self.samples.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

/// One look; none where there is no server or no slot.
fn look(conninfo: &str, session: &mut Option<Session>, samples: &Mutex<Vec<Sample>>) {
    if session.is_none() {
        *session = connect(conninfo).ok();
    }
    let Some(open) = session else {
        return;
    };
    let seen = open.attempt(&format!(
        "select confirmed_flush_lsn, \
           greatest(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn), 0)::bigint \
         from pg_replication_slots where slot_name = '{NAME}'"
    ));
    let at = now();
    let Ok(rows) = seen else {
        *session = None;
        return;
    };
    let Some(row) = rows.first() else {
        return;
    };
    let number = |place: usize| row[place].as_deref().unwrap_or_default();
    if let (Ok(confirmed), Ok(retained)) = (number(0).parse(), number(1).parse()) {
        let sample = Sample {
            at,
            confirmed,
            retained,
        };
        samples
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(sample);
    }
}
