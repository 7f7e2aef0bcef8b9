//! What becomes of a change that cannot be delivered, where `--on-error quarantine` says so: it is
//! kept in a topic of its own, and the stream goes on.
//!
//! Writing the dead letter *is* the delivery of the change. It is sent under the change's own
//! token, so that the slot moves past the change when Kafka has acknowledged the letter, and
//! after a crash the change comes again and makes another letter, of the same `(hw.lsn, hw.seq)`.
//!
//! The topic of the table keeps what it has of the row, and the table is stale from then on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headwater_protocol::ChangeId;

use crate::error::Result;
use crate::metrics::Metrics;
use crate::sink::{Keying, Sink, TopicId};

/// How often the log says how many changes of one table were set aside: a table whose every row
/// is too large must not fill the disk with its log.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The topic of dead letters, and what went there in this run.
#[derive(Debug)]
pub struct DeadLetters {
    topic: TopicId,
    name: String,
    tallies: Mutex<BTreeMap<String, Tally>>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Tally {
    count: u64,
    said: Instant,
}

impl DeadLetters {
    /// Opens the topic, which must be there before it is needed.
    ///
    /// # Errors
    /// As [`Sink::open_topic`].
    pub fn open(sink: &dyn Sink, name: &str, metrics: &Metrics) -> Result<Self> {
        Ok(DeadLetters {
            topic: sink.open_topic(name, Keying::Events)?,
            name: name.to_owned(),
            tallies: Mutex::default(),
            metrics: metrics.clone(),
        })
    }

    /// Where they go.
    pub fn topic(&self) -> TopicId {
        self.topic
    }

    /// Counts a change of `owner`, a table or the logical messages, and tells of it: of the first
    /// one at once, of later ones by their number.
    pub fn count(&self, owner: &str, change: ChangeId, reason: &str) {
        self.metrics
            .count(|figures| figures.dead_letters.add(owner));
        let mut tallies = self.lock();
        match tallies.get_mut(owner) {
            None => {
                let tally = Tally {
                    count: 1,
                    said: Instant::now(),
                };
                tallies.insert(owner.to_owned(), tally);
                tracing::warn!(
                    table = owner,
                    %change,
                    reason,
                    topic = self.name,
                    "change cannot be delivered and is kept as a dead letter"
                );
            }
            Some(tally) => {
                tally.count += 1;
                if tally.said.elapsed() >= SAY_AGAIN {
                    tally.said = Instant::now();
                    tracing::warn!(
                        table = owner,
                        %change,
                        reason,
                        topic = self.name,
                        changes = tally.count,
                        "changes are kept as dead letters"
                    );
                }
            }
        }
    }

    /// Says how many there were, if there were any.
    pub fn say_totals(&self) {
        for (owner, tally) in self.lock().iter() {
            tracing::warn!(
                table = owner,
                changes = tally.count,
                topic = self.name,
                "changes kept as dead letters in this run"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
