//! Which record of the state topic counts.
//!
//! An instance that was frozen while another took its place may write once more when it
//! wakes: its own position, behind the other's. Taken for the newest, that could make a start
//! skip what the other one has only half sent again, or see a gap where there is none. So each
//! start writes under the next epoch, and among the records of a key the newest of the
//! highest epoch counts. Compaction knows no epochs: it keeps the late record alone until the
//! owner writes again, which it does with the next change.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

use super::{PARTITION, StateKey, TOPIC, record};
use crate::error::{Error, ErrorKind, Result};
use crate::kafka::{Connection, KafkaOptions, Reader, Reading};
use crate::state::State;

/// How long reading may go without a record before it is given up.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The record that counts, of those read so far.
#[derive(Default)]
pub(super) struct Newest {
    /// Of the start that wrote it.
    pub epoch: u64,
    /// With its offset; none where the state was cleared.
    value: Option<(i64, Vec<u8>)>,
}

impl Newest {
    /// Reads the topic to its end; one that does not exist is empty.
    pub(super) fn find(
        options: &KafkaOptions,
        key: &[u8],
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        let mut newest = Newest::default();
        each_record(options, tick, &mut |message| {
            if message.key() == Some(key) {
                newest.read(message.offset(), message.payload());
            }
        })?;
        Ok(newest)
    }

    fn read(&mut self, offset: i64, value: Option<&[u8]>) {
        let Some(value) = value else {
            *self = Newest::default();
            return;
        };
        // What cannot be read is an error if it is the newest, whatever it is.
        let epoch = record::epoch(value).unwrap_or(self.epoch);
        if epoch >= self.epoch {
            *self = Newest {
                epoch,
                value: Some((offset, value.to_vec())),
            };
        }
    }

    /// What it says.
    pub(super) fn into_state(self) -> Result<Option<State>> {
        let Some((offset, value)) = self.value else {
            return Ok(None);
        };
        record::decode(&value)
            .map(Some)
            .map_err(|error| error.into_error(&format!("topic \"{TOPIC}\", offset {offset}")))
    }
}

/// The newest state of every stream in the topic, in the order of their keys, or why one cannot
/// be read. Nothing is made or written. `tick` is called at least every 2.5 seconds.
///
/// # Errors
/// Kafka does not answer, the topic may not be read, or what `tick` returns.
pub(crate) fn read_all(
    reader: &Reader,
    options: &KafkaOptions,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<(StateKey, Result<State>)>> {
    let mut all: BTreeMap<Vec<u8>, Newest> = BTreeMap::new();
    each_of(reader, options, tick, &mut |message| {
        if let Some(key) = message.key() {
            let newest = all.entry(key.to_vec()).or_default();
            newest.read(message.offset(), message.payload());
        }
    })?;
    let streams = all.into_iter().filter_map(|(key, newest)| {
        // Records of schema ids are of other keys.
        let key = record::stream(&key)?;
        Some((key, newest.into_state().transpose()?))
    });
    Ok(streams.collect())
}

/// Reads the topic to its end, in its order; one that does not exist is empty.
pub(super) fn each_record(
    options: &KafkaOptions,
    tick: &mut dyn FnMut() -> Result<()>,
    each: &mut dyn FnMut(&BorrowedMessage<'_>),
) -> Result<()> {
    let reader = Reader::connect(options, Reading::Own, Connection::silent, TOPIC, tick)?;
    each_of(&reader, options, tick, each)
}

/// As [`each_record`], by a reader that is there.
fn each_of(
    reader: &Reader,
    options: &KafkaOptions,
    tick: &mut dyn FnMut() -> Result<()>,
    each: &mut dyn FnMut(&BorrowedMessage<'_>),
) -> Result<()> {
    if reader.find_partitions(TOPIC, tick)?.is_none() {
        return Ok(());
    }
    let heard = Cell::new(Instant::now());
    reader.read_partition(
        TOPIC,
        PARTITION,
        &mut || {
            still_patient(options, heard.get())?;
            tick()
        },
        &mut |message| {
            heard.set(Instant::now());
            each(message);
            Ok(())
        },
    )?;
    Ok(())
}

fn still_patient(options: &KafkaOptions, heard: Instant) -> Result<()> {
    if heard.elapsed() < TIMEOUT {
        return Ok(());
    }
    let brokers = options.brokers();
    Err(Error::new(
        ErrorKind::Disconnected,
        format!("topic \"{TOPIC}\" cannot be read: Kafka at {brokers} stopped answering"),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn newest(records: &[Option<&str>]) -> Option<(i64, String)> {
        let mut newest = Newest::default();
        for (offset, value) in (0..).zip(records) {
            newest.read(offset, value.map(str::as_bytes));
        }
        let text = |value| String::from_utf8(value).unwrap();
        newest.value.map(|(offset, value)| (offset, text(value)))
    }

    #[test]
    fn the_newest_of_the_highest_epoch_counts() {
        let (before, first, second) = ("{}", r#"{"epoch":1}"#, r#"{"epoch":2}"#);
        let at = |offset, text: &str| Some((offset, text.to_owned()));
        for (records, expected) in [
            (&[][..], None),
            (&[Some(before), Some(before)][..], at(1, before)),
            (&[Some(before), Some(first), Some(first)][..], at(2, first)),
            // An instance that has lost its place writes once more.
            (&[Some(first), Some(second), Some(first)][..], at(1, second)),
            (
                &[Some(first), Some(second), Some(before)][..],
                at(1, second),
            ),
            (&[Some(second), None][..], None),
            (&[Some(second), None, Some(first)][..], at(2, first)),
            // It cannot be known whose it is.
            (&[Some(second), Some("{")][..], at(1, "{")),
        ] {
            assert_eq!(newest(records), expected, "{records:?}");
        }
    }
}
