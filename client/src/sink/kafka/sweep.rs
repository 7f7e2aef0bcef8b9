//! Sweeping ghosts out of a topic.
//!
//! A snapshot that is repeated leaves rows of the first attempt that were deleted before
//! the second; nothing in the stream will ever delete them. So the topic is read to its end and each
//! key whose newest record is not of the snapshot gets a tombstone. A snapshot that no stream
//! follows spares what is newer than itself.
//!
//! Compaction keeps keys apart by partition, and so does the sweep: what counts is the
//! newest record of a key *in that partition*, and the tombstone is written to that same
//! partition, not to where the partitioner would put it today. The two differ when partitions
//! were added to the topic: then a key's old records are in one partition and its row of this
//! snapshot in another, and a tombstone sent by the partitioner would delete the row.
//!
//! A record without `hw.lsn` is somebody else's, or was written with `--headers off`: it is
//! no ghost of a snapshot. To bury a stranger's data would be worse than to leave a row of
//! our own, and one line of the log says that there are such records.
//!
//! Memory: the ghost keys of one partition.

use std::collections::HashSet;
use std::time::Duration;

use headwater_protocol::Lsn;
use rdkafka::Message;

use super::in_flight::SWEEP;
use super::{KafkaSink, headers};
use crate::error::{Error, ErrorKind, Result};
use crate::kafka::{Connection, Pace, Reader, Reading};
use crate::sink::{Ghosts, Headers, Record, SendError, TopicId};

/// How long the sweep waits for deliveries before it looks up.
const WAIT: Duration = Duration::from_millis(200);

pub(super) fn sweep(
    sink: &KafkaSink,
    topic: TopicId,
    ghosts: Ghosts,
    headers: Headers<'_>,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<u64> {
    let name = sink.topic_name(topic)?;
    if !matches!(ghosts, Ghosts::All) && !sink.options.headers {
        // This snapshot's rows carry no hw.lsn either: every row would look like a ghost.
        tracing::warn!(
            topic = name,
            "without headers rows of an earlier snapshot cannot be told from this one's: those \
             that were deleted in between stay in the topic"
        );
        return Ok(0);
    }
    let reader = patiently(tick, |tick| {
        Reader::connect(&sink.options, Reading::Own, Connection::silent, &name, tick)
    })?;
    let mut total = 0;
    let mut foreign = 0;
    for partition in patiently(tick, |tick| reader.partitions(&name, tick))? {
        let found = ghost_keys(&reader, &name, partition, ghosts, tick)?;
        total += found.keys.len() as u64;
        foreign += found.foreign;
        bury(sink, topic, partition, &found.keys, headers, tick)?;
    }
    if foreign > 0 {
        tracing::warn!(
            topic = name,
            records = foreign,
            "the topic holds records without hw.lsn: they are left alone, and rows among them \
             that the table does not have any more stay"
        );
    }
    Ok(total)
}

/// Asks again for as long as Kafka does not answer. The sink has met the cluster and says itself
/// that it waits; a sweep that gave up would undo the copy before it.
fn patiently<T>(
    tick: &mut dyn FnMut() -> Result<()>,
    mut ask: impl FnMut(&mut dyn FnMut() -> Result<()>) -> Result<T>,
) -> Result<T> {
    loop {
        let mut has_ended = false;
        let answer = ask(&mut || {
            let ticked = tick();
            has_ended = ticked.is_err();
            ticked
        });
        match answer {
            Err(error) if error.kind() == ErrorKind::Disconnected && !has_ended => {
                tracing::debug!(%error, "the sweep waits for Kafka");
                tick()?;
            }
            other => return other,
        }
    }
}

fn ghost_keys(
    reader: &Reader,
    topic: &str,
    partition: i32,
    rule: Ghosts,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<GhostKeys> {
    let mut ghosts = GhostKeys::new(rule);
    reader.read_partition(topic, partition, tick, &mut |message| {
        // A record without a key cannot be deleted by one.
        if let Some(key) = message.key() {
            let tombstone = message.payload().is_none();
            ghosts.record(key, tombstone, || headers::read_lsn(message.headers()))?;
        }
        Ok(())
    })?;
    Ok(ghosts)
}

/// Writes the tombstones and waits for their delivery.
fn bury(
    sink: &KafkaSink,
    topic: TopicId,
    partition: i32,
    keys: &HashSet<Box<[u8]>>,
    headers: Headers<'_>,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let mut pace = Pace::new();
    for key in keys {
        let tombstone = Record {
            topic,
            key: Some(key),
            value: None,
            headers,
        };
        loop {
            pace.keep(tick)?;
            match sink.produce(&tombstone, SWEEP, Some(partition)) {
                Ok(()) => break,
                Err(SendError::Full) => sink.in_flight().wait(WAIT),
                Err(SendError::Large) => {
                    return Err(Error::failed(format!(
                        "topic \"{}\" holds a key of {} bytes and does not take a tombstone for it",
                        sink.topic_name(topic)?,
                        key.len()
                    )));
                }
                Err(SendError::Failed(error)) => return Err(error),
            }
        }
    }
    while sink.in_flight().sweeping() > 0 {
        sink.check()?;
        pace.keep(tick)?;
        sink.in_flight().wait_until_empty(WAIT);
    }
    sink.check()
}

/// The keys that are live and ghosts after the records seen so far, oldest first.
pub(super) struct GhostKeys {
    rule: Ghosts,
    pub(super) keys: HashSet<Box<[u8]>>,
    /// Records with a value that do not say their LSN, where the rule asks for it.
    pub(super) foreign: u64,
}

impl GhostKeys {
    pub(super) fn new(rule: Ghosts) -> Self {
        GhostKeys {
            rule,
            keys: HashSet::new(),
            foreign: 0,
        }
    }

    /// Takes the next record; `lsn` is what its header says, if it has one.
    pub(super) fn record(
        &mut self,
        key: &[u8],
        tombstone: bool,
        lsn: impl FnOnce() -> Option<Lsn>,
    ) -> Result<()> {
        if tombstone || !self.is_ghost(lsn) {
            self.keys.remove(key);
        } else if !self.keys.contains(key) {
            self.keys.try_reserve(1).map_err(|error| {
                Error::failed(format!(
                    "no memory for the keys of {} ghosts",
                    self.keys.len() + 1
                ))
                .with_source(error)
            })?;
            self.keys.insert(key.into());
        }
        Ok(())
    }

    fn is_ghost(&mut self, lsn: impl FnOnce() -> Option<Lsn>) -> bool {
        if matches!(self.rule, Ghosts::All) {
            return true;
        }
        let Some(lsn) = lsn() else {
            self.foreign += 1;
            return false;
        };
        match self.rule {
            Ghosts::All => true,
            Ghosts::OlderThan(point) => lsn < point,
            Ghosts::NotOf(point) => lsn != point,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    type Entry = (u8, bool, Option<u64>);

    fn ghosts(rule: Ghosts, records: &[Entry]) -> BTreeSet<u8> {
        let mut ghosts = GhostKeys::new(rule);
        for (key, tombstone, lsn) in records {
            ghosts.record(&[*key], *tombstone, || lsn.map(Lsn)).unwrap();
        }
        ghosts.keys.iter().map(|key| key[0]).collect()
    }

    #[test]
    fn the_newest_record_of_a_key_decides() {
        let point = Ghosts::OlderThan(Lsn(100));
        let records = [
            (1, false, Some(50)), // seen by the first snapshot alone
            (2, false, Some(50)), // and again by this one
            (2, false, Some(100)),
            (3, false, Some(50)), // deleted since
            (3, true, Some(60)),
            (4, false, Some(50)), // written since by somebody else
            (4, false, None),
            (5, false, Some(120)), // streamed since, or before on another server
        ];
        assert_eq!(ghosts(point, &records), BTreeSet::from([1]));
        let not_of = Ghosts::NotOf(Lsn(100));
        assert_eq!(ghosts(not_of, &records), BTreeSet::from([1, 5]));
        assert_eq!(ghosts(Ghosts::All, &records), BTreeSet::from([1, 2, 4, 5]));
    }

    #[test]
    fn an_outage_is_waited_for_and_the_end_of_the_caller_is_not() {
        let away = || Error::new(ErrorKind::Disconnected, "away");
        let mut asked = 0;
        let answered = patiently(&mut || Ok(()), |_| {
            asked += 1;
            if asked < 3 { Err(away()) } else { Ok(asked) }
        });
        assert_eq!(answered.unwrap(), 3);
        let ended = patiently(&mut || Err(away()), |tick| tick());
        assert_eq!(ended.unwrap_err().to_string(), "away");
        let refused = patiently(&mut || Ok(()), |_| Err::<(), _>(Error::failed("refused")));
        assert_eq!(refused.unwrap_err().to_string(), "refused");
    }

    #[test]
    fn a_swept_topic_has_no_ghosts_left() {
        let point = Ghosts::OlderThan(Lsn(100));
        let mut records = vec![(1, false, Some(50)), (2, false, Some(7))];
        let tombstones: Vec<Entry> = ghosts(point, &records)
            .into_iter()
            .map(|key| (key, true, Some(100)))
            .collect();
        assert_eq!(tombstones.len(), 2);
        records.extend(tombstones);
        assert_eq!(ghosts(point, &records), BTreeSet::new());
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = (0u8..6, any::<bool>(), prop::option::of(0u64..10));
        prop::collection::vec(entry, 0..60)
    }

    proptest! {
        #[test]
        fn ghosts_are_the_live_keys_whose_last_record_is_older(records in entries(), point in 0u64..10) {
            let mut newest = BTreeMap::new();
            for (key, tombstone, lsn) in &records {
                newest.insert(*key, (*tombstone, *lsn));
            }
            let live: BTreeMap<_, _> = newest.into_iter().filter(|(_, (tombstone, _))| !tombstone).collect();
            let older = live
                .iter()
                .filter(|(_, (_, lsn))| lsn.is_some_and(|lsn| lsn < point))
                .map(|(key, _)| *key)
                .collect();
            prop_assert_eq!(ghosts(Ghosts::OlderThan(Lsn(point)), &records), older);
            prop_assert_eq!(ghosts(Ghosts::All, &records), live.keys().copied().collect());
        }

        #[test]
        fn compaction_changes_nothing(records in entries(), point in 0u64..10) {
            // Compaction may drop any record that is not its key's newest.
            let mut kept: Vec<Entry> = Vec::new();
            for (index, record) in records.iter().enumerate() {
                if !records[index + 1..].iter().any(|later| later.0 == record.0) {
                    kept.push(*record);
                }
            }
            let rule = Ghosts::OlderThan(Lsn(point));
            prop_assert_eq!(ghosts(rule, &records), ghosts(rule, &kept));
        }
    }
}
