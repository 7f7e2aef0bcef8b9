//! How large a record is as the broker counts it, and what its topic takes.
//!
//! A broker compares `max.message.bytes` with a *batch*, as it is sent. A record is safe, then,
//! when two things hold. The batch that it shares with others is within the limit: librdkafka
//! adds a record to a batch only while that stays within `batch.size` before compression
//! (`rd_kafka_msgset_writer_write_msgq`), so a topic that takes less than a whole batch is refused when
//! it is opened. And a batch that it makes alone is within the limit: compression never makes one
//! larger (librdkafka then sends it as it was), so the uncompressed size decides, to the byte.
//!
//! A record above the limit may still pass compressed. Nobody but the codec can tell, so it is
//! sent alone ([`super::alone`]), and the broker's own answer decides: nothing that it would take
//! is refused here, and its refusal meets nothing else in flight.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::kafka::RecordLimit;
use crate::sink::Record;

/// What a batch of version 2 takes beside its records: base offset 8, length 4, leader epoch 4,
/// magic 1, checksum 4, attributes 2, last offset's delta 4, two timestamps of 8, producer id 8 and
/// epoch 2, base sequence 4, count 4.
const BATCH: u64 = 61;

/// More than a batch of one record takes beside key, value and `hw.unchanged`: the batch, the
/// lengths, and the longest of all other headers. Below it nothing is counted.
const AROUND: u64 = 256;

/// What a topic is taken to accept where that may not be read: Kafka's own default of
/// `message.max.bytes` (a MiB and the twelve bytes around a batch).
pub(super) const ASSUMED: u64 = 1_048_588;

/// The most that is sent to find out whether it fits. A broker breaks the connection off, without
/// an answer, at a request above its `socket.request.max.bytes` (100 MiB unless set): that would
/// look like an outage, and be tried again for ever.
const REQUEST: u64 = (100 << 20) - 4096;

/// No limit that was ever read has this value.
const UNKNOWN: u64 = 0;

/// A topic that was opened.
#[derive(Debug)]
pub(super) struct OpenTopic {
    pub(super) name: String,
    limit: AtomicU64,
    asked: Mutex<Instant>,
}

impl OpenTopic {
    pub(super) fn new(name: &str, limit: Option<u64>) -> Self {
        OpenTopic {
            name: name.to_owned(),
            limit: AtomicU64::new(limit.unwrap_or(UNKNOWN)),
            asked: Mutex::new(Instant::now()),
        }
    }

    /// Whether the limit was asked for longer ago than `age`.
    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        self.asked().elapsed() > age
    }

    /// What it took when it was asked last.
    pub(super) fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit != UNKNOWN)
    }

    /// What was learned now. That nothing was keeps what was known.
    pub(super) fn learn(&self, limit: Option<u64>) {
        *self.asked() = Instant::now();
        if let Some(limit) = limit {
            self.limit.store(limit, Ordering::Relaxed);
        }
    }

    fn asked(&self) -> MutexGuard<'_, Instant> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a record of some size goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// With others: its topic takes it whatever becomes of it.
    Sure,
    /// Alone: compression may make it fit, or its topic takes more than is known.
    Perhaps,
    /// Nowhere.
    Never,
}

/// Whether a record that is `bytes` large alone fits into a topic that takes `limit`.
pub(super) fn fit(bytes: u64, limit: Option<u64>, producer: RecordLimit) -> Fit {
    let is_accepted = bytes <= producer.record;
    if bytes <= limit.unwrap_or(ASSUMED) && is_accepted {
        Fit::Sure
    } else if is_accepted && bytes <= REQUEST && (producer.is_compressed || limit.is_none()) {
        Fit::Perhaps
    } else {
        Fit::Never
    }
}

/// Whether the record is within `limit` without being counted to the byte.
pub(super) fn is_surely_within(limit: u64, key: usize, value: usize, unchanged: usize) -> bool {
    (key + value + unchanged) as u64 + AROUND <= limit
}

/// The batch that a record makes alone, uncompressed. `headers` are the names and lengths of its
/// headers' values.
pub(super) fn alone<'h>(
    record: &Record<'_>,
    headers: impl Iterator<Item = (&'h str, usize)>,
) -> u64 {
    let part = |bytes: Option<&[u8]>| match bytes {
        // The length -1.
        None => 1,
        Some(bytes) => counted(bytes.len() as u64),
    };
    let (mut count, mut listed) = (0, 0);
    for (name, value) in headers {
        count += 1;
        listed += counted(name.len() as u64) + counted(value as u64);
    }
    // Attributes, and the deltas of timestamp and offset: none within a batch of one.
    let body = 3 + part(record.key) + part(record.value) + varint(count) + listed;
    BATCH + counted(body)
}

/// Bytes with their length before them.
fn counted(bytes: u64) -> u64 {
    varint(bytes) + bytes
}

/// How many bytes a length takes: seven bits each, the first of them for the sign.
fn varint(number: u64) -> u64 {
    u64::from((65 - number.leading_zeros()).div_ceil(7)).max(1)
}

#[cfg(test)]
mod tests {
    use headwater_protocol::Lsn;

    use super::*;
    use crate::sink::{Headers, TopicId};

    const PRODUCER: RecordLimit = RecordLimit {
        batch: 1_000_000,
        record: 1_000_000_000,
        is_compressed: true,
    };

    fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Record<'a> {
        Record {
            topic: TopicId(0),
            key,
            value,
            headers: Headers {
                op: "u",
                lsn: Lsn(1),
                seq: 0,
                transaction: None,
                unchanged: &[],
                fetched: false,
            },
        }
    }

    #[test]
    fn lengths_take_seven_bits_a_byte_beside_their_sign() {
        for (number, bytes) in [(0, 1), (63, 1), (64, 2), (8191, 2), (8192, 3), (1 << 30, 5)] {
            assert_eq!(varint(number), bytes, "{number}");
        }
    }

    #[test]
    fn a_record_is_counted_as_it_is_laid_out() {
        // length, attributes, two deltas, key -1, value -1, no headers
        assert_eq!(alone(&record(None, None), std::iter::empty()), 61 + 1 + 6);
        let headers = [("hw.op", 1), ("hw.lsn", 70)];
        let listed = (1 + 5 + 1 + 1) + (1 + 6 + 2 + 70);
        let body = 3 + (1 + 3) + (2 + 100) + 1 + listed;
        let value = [b'x'; 100];
        let counted = alone(&record(Some(b"key"), Some(&value)), headers.into_iter());
        assert_eq!(counted, 61 + 2 + body);
    }

    #[test]
    fn what_is_within_a_bound_by_its_looks_is_within_it_to_the_byte() {
        let longest = [
            ("hw.op", 1),
            ("hw.lsn", 17),
            ("hw.seq", 20),
            ("hw.xid", 10),
            ("hw.ts", 20),
            ("hw.unchanged", 5000),
            ("hw.fetched", 4),
        ];
        let (key, value) = (vec![0; 3000], vec![0; 3 << 20]);
        let bytes = alone(&record(Some(&key), Some(&value)), longest.into_iter());
        assert!(is_surely_within(bytes + AROUND, 3000, 3 << 20, 5000));
        assert!(!is_surely_within(bytes - 1, 3000, 3 << 20, 5000), "{bytes}");
    }

    #[test]
    fn only_what_compression_or_ignorance_leaves_open_is_tried() {
        let plain = RecordLimit {
            is_compressed: false,
            ..PRODUCER
        };
        let narrow = RecordLimit {
            record: 500,
            ..PRODUCER
        };
        for (bytes, limit, producer, expected) in [
            (1000, Some(1000), PRODUCER, Fit::Sure),
            (1001, Some(1000), PRODUCER, Fit::Perhaps),
            (1001, Some(1000), plain, Fit::Never),
            (1000, Some(1000), plain, Fit::Sure),
            (501, Some(1000), narrow, Fit::Never),
            (ASSUMED, None, plain, Fit::Sure),
            (ASSUMED + 1, None, plain, Fit::Perhaps),
            (101 << 20, Some(1000), PRODUCER, Fit::Never),
            (101 << 20, Some(200 << 20), PRODUCER, Fit::Sure),
        ] {
            assert_eq!(
                fit(bytes, limit, producer),
                expected,
                "{bytes} of {limit:?}"
            );
        }
    }
}
