//! Searching a topic for ghosts while the stream writes to it.
//!
//! Reading a large topic takes hours, in which the stream must go on. So a partition is read
//! in two parts: all of it, without regard to what is written meanwhile, and then, when the
//! stream has begun to watch the keys that were found and everything it sent before is
//! delivered, the end that has come since. A key that neither the end nor the stream has
//! shown again is a ghost, whenever that is said.
//!
//! Memory: the keys that were found in one partition.

use headwater_protocol::Lsn;
use rdkafka::Message;

use super::sweep::GhostKeys;
use super::{KafkaSink, headers};
use crate::error::{Error, Result};
use crate::kafka::{Connection, Reader, Reading};
use crate::sink::{GhostSearch, Ghosts, Keys, TopicId};

struct Search {
    reader: Reader,
    topic: String,
    partitions: Vec<i32>,
}

pub(super) fn search(
    sink: &KafkaSink,
    topic: TopicId,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<Option<Box<dyn GhostSearch>>> {
    let topic = sink.topic_name(topic)?;
    if !sink.options.headers {
        tracing::warn!(
            topic,
            "without headers rows that are gone cannot be told from those of this copy: they stay \
             in the topic"
        );
        return Ok(None);
    }
    let reader = Reader::connect(
        &sink.options,
        Reading::Own,
        Connection::silent,
        &topic,
        tick,
    )?;
    let mut partitions = reader.partitions(&topic, tick)?;
    partitions.sort_unstable();
    Ok(Some(Box::new(Search {
        reader,
        topic,
        partitions,
    })))
}

impl GhostSearch for Search {
    fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    fn older_than(
        &self,
        partition: i32,
        point: Lsn,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(Keys, i64)> {
        let mut ghosts = GhostKeys::new(Ghosts::OlderThan(point));
        let mut each = |message: &rdkafka::message::BorrowedMessage<'_>| match message.key() {
            Some(key) => ghosts.record(key, message.payload().is_none(), || {
                headers::read_lsn(message.headers())
            }),
            None => Ok(()),
        };
        let end = self
            .reader
            .read_from(&self.topic, partition, None, tick, &mut each)?;
        if ghosts.foreign > 0 {
            tracing::warn!(
                topic = self.topic,
                partition,
                records = ghosts.foreign,
                "the topic holds records without hw.lsn: they are left alone, and rows among them \
                 that the table does not have any more stay"
            );
        }
        Ok((ghosts.keys, end))
    }

    fn renewed(
        &self,
        partition: i32,
        offset: i64,
        keys: &Keys,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Keys> {
        let mut renewed = Keys::new();
        let mut each = |message: &rdkafka::message::BorrowedMessage<'_>| {
            if let Some(key) = message.key()
                && let Some(key) = keys.get(key)
                && !renewed.contains(key)
            {
                renewed.try_reserve(1).map_err(|error| {
                    Error::failed("no memory for the keys of a topic").with_source(error)
                })?;
                renewed.insert(key.clone());
            }
            Ok(())
        };
        self.reader
            .read_from(&self.topic, partition, Some(offset), tick, &mut each)?;
        Ok(renewed)
    }
}
