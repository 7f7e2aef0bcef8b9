//! Waiting until a topic has passed a point of the WAL.
//!
//! The stream's record in the state topic says so: every transaction that ends at or before
//! its position is durable in Kafka. It moves on an idle server too. Whoever takes the snapshot
//! writes WAL for it (the slot's own record of running transactions), the walsender reads past
//! that and says how far it came, and the client puts that on record within a second.

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

use crate::error::{Error, Result};
use crate::kafka::KafkaOptions;
use crate::progress;
use crate::source::connection::Connector;
use crate::source::slot::{Slot, System};
use crate::state::{self, State, StateKey};
use crate::stop::Stop;

/// Between two looks at the record, which is written once a second.
const INTERVAL: Duration = Duration::from_millis(250);

/// A stream that runs is there within two seconds; a longer wait is worth a line.
const PATIENCE: Duration = Duration::from_secs(4);

/// One stream, as its record says.
pub(super) struct Passage<'a> {
    kafka: &'a KafkaOptions,
    connector: &'a Connector,
    key: StateKey,
    stop: &'a Stop,
    begun: State,
}

impl<'a> Passage<'a> {
    /// Reads the stream's record.
    ///
    /// # Errors
    /// There is none, or it is of a stream from another server.
    pub(super) fn find(
        kafka: &'a KafkaOptions,
        connector: &'a Connector,
        key: StateKey,
        stop: &'a Stop,
    ) -> Result<Self> {
        let Some(begun) = read(kafka, &key, stop)? else {
            return Err(Error::failed(format!(
                "nothing is on record of a stream of slot \"{}\" from database \"{}\" into Kafka \
                 at {}",
                key.slot, key.database, kafka.brokers
            ))
            .with_hint(
                "Name the stream as headwater stream was started: --slot, --topic-prefix, \
                 --brokers.",
            ));
        };
        let system = System::identify(&connector.connect_replication()?)?;
        if (&begun.system_identifier, begun.timeline) != (&system.identifier, system.timeline) {
            return Err(Error::failed(format!(
                "the stream of slot \"{}\" came from the server with system identifier {} on \
                 timeline {}, this one has {} on timeline {}",
                key.slot,
                begun.system_identifier,
                begun.timeline,
                system.identifier,
                system.timeline
            ))
            .with_hint("Connect to the server that the stream comes from."));
        }
        Ok(Passage {
            kafka,
            connector,
            key,
            stop,
            begun,
        })
    }

    /// The record as it was found.
    pub(super) fn begun(&self) -> &State {
        &self.begun
    }

    /// The stream's slot.
    pub(super) fn slot(&self) -> &str {
        &self.key.slot
    }

    /// Returns when the stream has passed `point`. Says what it waits for, once.
    ///
    /// # Errors
    /// The stream was begun anew or dropped meanwhile, its slot is gone, or `stop` is set.
    pub(super) fn wait(&self, point: Lsn) -> Result<()> {
        self.wait_until(point, |state| (state.position >= point).then_some(Ok(())))
    }

    /// Returns when the stream has done what request `id` asks for; `end` is behind it in the
    /// WAL.
    ///
    /// # Errors
    /// The stream has not taken it up, or as [`Self::wait`].
    pub(super) fn wait_for_run(&self, id: &str, end: Lsn) -> Result<()> {
        self.wait_until(end, |state| {
            if let Some(ended) = state.runs.ended.iter().find(|ended| ended.id == id) {
                for reason in &ended.failures {
                    tracing::warn!(reason, "keys were not sent again");
                }
                return Some(Ok(()));
            }
            let waits = state.runs.queue.iter().any(|run| run.request.id == id);
            (state.position >= end && !waits).then(|| {
                Err(
                    Error::failed("the stream has not taken up the request to send keys again")
                        .with_hint("Stream with the release that verifies."),
                )
            })
        })
    }

    fn wait_until(
        &self,
        point: Lsn,
        mut reached: impl FnMut(&State) -> Option<Result<()>>,
    ) -> Result<()> {
        let start = Instant::now();
        let mut said = false;
        let _shown = progress::waiting("waiting", format!("until the stream has passed {point}"));
        loop {
            let state = read(self.kafka, &self.key, self.stop)?;
            let state = state.filter(|state| self.is_same(state)).ok_or_else(|| {
                Error::failed(format!(
                    "the stream of slot \"{}\" was dropped or begun anew while it was verified",
                    self.key.slot
                ))
                .with_hint("Verify again.")
            })?;
            if let Some(outcome) = reached(&state) {
                return outcome;
            }
            if start.elapsed() > PATIENCE && !std::mem::replace(&mut said, true) {
                self.say(point, state.position)?;
            }
            self.stop.check()?;
            std::thread::sleep(INTERVAL);
        }
    }

    fn is_same(&self, state: &State) -> bool {
        state.system_identifier == self.begun.system_identifier
            && state.timeline == self.begun.timeline
            && state.consistent_point == self.begun.consistent_point
            && state.shape == self.begun.shape
    }

    fn say(&self, point: Lsn, position: Lsn) -> Result<()> {
        let name = &self.key.slot;
        let Some(slot) = Slot::find(&self.connector.connect()?, name)? else {
            return Err(Error::failed(format!(
                "replication slot \"{name}\" does not exist: its stream stands at {position} and \
                 will not pass {point}"
            ))
            .with_hint("Start headwater stream, which says what to do about it."));
        };
        if slot.active_pid.is_some() {
            tracing::info!(slot = %name, %position, %point, "waiting until the stream has passed the point");
        } else {
            tracing::warn!(
                slot = %name,
                %position,
                %point,
                "waiting until the stream has passed the point, but nobody streams from the slot: \
                 start headwater stream"
            );
        }
        Ok(())
    }
}

fn read(kafka: &KafkaOptions, key: &StateKey, stop: &Stop) -> Result<Option<State>> {
    state::read(kafka, key, &mut || stop.check())
}
