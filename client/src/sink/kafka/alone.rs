//! Sending a record that its topic may refuse for its size.
//!
//! Whether a record above the limit fits once it is compressed, only the codec and then the broker
//! can say. So it is sent with nothing beside it: everything before it is delivered first, nothing
//! is accepted behind it until the broker has answered. A refusal is then about this record
//! alone, and librdkafka, which must take a new producer epoch after it, has no batch under way
//! that this could reorder. It costs two round trips for each such record.

use std::sync::PoisonError;
use std::time::Duration;

use super::in_flight::ALONE;
use super::size::{self, Fit, OpenTopic};
use super::{KafkaSink, headers};
use crate::error::Result;
use crate::sink::{Record, SendError, Token, TooLarge, Verdict};

/// How long to wait before the caller gets a look at what else he has to do.
const WAIT: Duration = Duration::from_millis(200);

/// How long a limit is taken to be what it was: raising it while the client runs should help
/// soon, and a burst of large records should not ask for each.
const LIMIT_AGE: Duration = Duration::from_secs(5);

pub(super) fn send(
    sink: &KafkaSink,
    record: &Record<'_>,
    token: Token,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<Verdict> {
    let _turn = sink.alone.lock().unwrap_or_else(PoisonError::into_inner);
    let topic = sink.topic(record.topic)?;
    let unchanged = headers::unchanged_text(record.headers.unchanged);
    let written = sink.written(&record.headers, unchanged.as_deref());
    let lengths = headers::lengths(written.as_ref().map(|own| own.as_borrowed()));
    let bytes = size::alone(record, lengths);
    if topic.is_older_than(LIMIT_AGE) {
        topic.learn(sink.maker.max_message_bytes(&topic.name));
    }
    if size::fit(bytes, topic.limit(), sink.limit) == Fit::Never {
        return Ok(too_large(sink, &topic, bytes));
    }
    let in_flight = sink.in_flight();
    let _alone = Alone::new(sink);
    while !in_flight.wait_until_empty(WAIT) {
        sink.check()?;
        tick()?;
    }
    in_flight.forget_alone();
    loop {
        let headers = written.clone();
        match sink.hand_over(&topic.name, record.key, record.value, headers, ALONE, None) {
            Ok(()) => break,
            Err(SendError::Full) => in_flight.wait(WAIT),
            Err(SendError::Large) => return Ok(too_large(sink, &topic, bytes)),
            Err(SendError::Failed(error)) => return Err(error),
        }
        tick()?;
    }
    loop {
        in_flight.wait_until_empty(WAIT);
        match in_flight.alone() {
            Some(true) => {
                in_flight.report(token);
                return Ok(Verdict::Accepted);
            }
            Some(false) => return Ok(too_large(sink, &topic, bytes)),
            None => sink.check()?,
        }
        tick()?;
    }
}

fn too_large(sink: &KafkaSink, topic: &OpenTopic, bytes: u64) -> Verdict {
    let producers = sink.limit.record;
    let (limit, cure) = if bytes > producers {
        let cure = format!("Raise the producer's limit: -X message.max.bytes={bytes}.");
        (Some(producers), cure)
    } else {
        let command = sink.options.raising(&topic.name, bytes);
        (topic.limit(), format!("Raise the topic's limit: {command}"))
    };
    Verdict::TooLarge(TooLarge {
        topic: topic.name.clone(),
        bytes,
        limit,
        cure,
    })
}

/// Keeps everybody else out while it lives.
struct Alone<'a>(&'a KafkaSink);

impl<'a> Alone<'a> {
    fn new(sink: &'a KafkaSink) -> Self {
        sink.in_flight().close();
        Alone(sink)
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.in_flight().open();
    }
}
