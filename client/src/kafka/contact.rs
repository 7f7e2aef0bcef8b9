//! Asks brokers for no more than who they are.
//!
//! A client learns of its cluster by asking for metadata, and rdkafka has two such questions: for
//! one topic, and for all that there are, whose answer grows with the cluster and costs its brokers
//! as much each time. The protocol has a third, for no topic at all, which is what
//! `rd_kafka_metadata()` sends for a client that knows of none: hence the foreign call. (For one
//! that does, it asks for those, and lets the brokers make up what is missing, whatever
//! `allow.auto.create.topics` says: rdkafka_metadata.c, "Don't trigger auto-create".)

use std::ptr;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;

/// How long the first question of several may take.
const BRIEF: Duration = Duration::from_millis(500);

/// How long a later one may take: a broker that is slow answers none that is given up sooner. Whoever
/// asks has others to serve meanwhile.
const LONG: Duration = Duration::from_secs(2);

/// How long each of several questions may take until it is put again: the first half a second, the
/// next twice as long as the one before, none more than two.
#[derive(Debug)]
pub(super) struct Patience(Duration);

impl Patience {
    pub(super) fn new() -> Self {
        Patience(BRIEF)
    }

    /// For the next question.
    pub(super) fn more(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(LONG);
        now
    }
}

/// How many brokers there are, asked of one that a client which knows no topic yet can reach within
/// `timeout`.
///
/// # Errors
/// Nobody answers in time.
pub(crate) fn brokers<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<usize, KafkaError> {
    let mut metadata = ptr::null();
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is alive as long as the reference, and librdkafka may be called from any
    // thread. No topic is given, which it allows where not all are asked for. It writes the one
    // pointer, and that only where it succeeds.
    let code = unsafe {
        rdkafka::bindings::rd_kafka_metadata(
            client.native_ptr(),
            0,
            ptr::null_mut(),
            &raw mut metadata,
            millis,
        )
    };
    if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(KafkaError::MetadataFetch(code.into()));
    }
    // SAFETY: after success the pointer is to an answer that is ours alone until it is given back.
    let count = unsafe { (*metadata).broker_cnt };
    // SAFETY: it is what the call above gave, and nothing refers to it any more.
    unsafe { rdkafka::bindings::rd_kafka_metadata_destroy(metadata) };
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_may_take_longer_each_time_up_to_a_bound() {
        let mut patience = Patience::new();
        let millis: Vec<u128> = (0..5).map(|_| patience.more().as_millis()).collect();
        assert_eq!(millis, [500, 1000, 2000, 2000, 2000]);
    }
}
