//! What comes alone is sent at once, what comes in a stream waits for company.
//!
//! `linger.ms` makes every record wait, whether more come or not: two milliseconds of the
//! three that a commit took to reach a consumer. Without it every record of a stream is a
//! request of its own: at 500 transactions of 100 rows a second that cost the client three
//! times the CPU, and the broker twice. So the sink is told when the source has nothing more
//! for now ([`Hurry::up`]), and if all that is unacknowledged then was sent since nothing was,
//! it is not held back. What comes later waits as `linger.ms` says, until everything is
//! acknowledged: at thousands of transactions a second that is never, and requests stay as few
//! as before.
//!
//! librdkafka's one switch for it is `rd_kafka_flush()`: while that runs, its broker threads
//! take `linger.ms` for nothing (`rk_flushing` in rdkafka.c and rdkafka_broker.c), for
//! whatever comes meanwhile too. It wakes the thread of every broker that is connected; they
//! look when they run, tens of microseconds later. rdkafka's own `flush` calls it with no
//! time to wait and polls in between, and so has turned the switch off again by then: hence
//! the foreign call.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rdkafka::producer::{BaseProducer, Producer};

use super::Reports;
use crate::error::{Error, Result};

/// How long broker threads have for that look. While the switch is on, a thread asks again
/// and again whether it may send what an unacknowledged request holds back: with 5 ms that cost
/// a third more CPU at 500 transactions of 100 rows a second. A thread that the machine does not
/// run within that time sends when the two milliseconds are over.
const LOOK_MILLIS: i32 = 1;

/// The thread that throws the switch, since throwing it can take [`LOOK_MILLIS`].
pub(super) struct Hurry {
    wish: Arc<Wish>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Wish {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Content,
    Hurry,
    End,
}

impl Hurry {
    pub(super) fn new(producer: Arc<BaseProducer<Reports>>) -> Result<Self> {
        let wish = Arc::<Wish>::default();
        let heard = Arc::clone(&wish);
        let thread = thread::Builder::new()
            .name("kafka-hurry".to_owned())
            .spawn(move || {
                while heard.wait() == State::Hurry {
                    linger_no_more(&producer);
                }
            })
            .map_err(|error| {
                Error::failed("cannot start a thread for the producer").with_source(error)
            })?;
        Ok(Hurry {
            wish,
            thread: Some(thread),
        })
    }

    /// What the producer holds is sent now. Returns at once.
    pub(super) fn up(&self) {
        self.wish.set(State::Hurry);
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.wish.set(State::End);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of the producer panicked");
        }
    }
}

impl Wish {
    fn set(&self, wish: State) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = wish;
        self.changed.notify_one();
    }

    /// The next wish, which is taken.
    fn wait(&self) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while *state == State::Content {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut state)
    }
}

fn linger_no_more(producer: &BaseProducer<Reports>) {
    // SAFETY: the pointer is that of a live producer, which the reference keeps alive;
    // librdkafka may be called from any thread. Delivery reports are events here
    // (`RD_KAFKA_EVENT_DR`, set by rdkafka), so the call waits and runs no callback. Its answer,
    // whether records are still in flight, is of no interest.
    let _in_flight =
        unsafe { rdkafka::bindings::rd_kafka_flush(producer.client().native_ptr(), LOOK_MILLIS) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_wish_is_taken_once_and_the_end_is_the_last() {
        let wish = Arc::<Wish>::default();
        wish.set(State::Hurry);
        wish.set(State::Hurry);
        assert!(wish.wait() == State::Hurry);
        let other = Arc::clone(&wish);
        let waiter = thread::spawn(move || other.wait());
        wish.set(State::End);
        assert!(waiter.join().unwrap() == State::End);
    }

    #[test]
    fn a_sink_that_cannot_reach_its_brokers_ends_all_the_same() {
        let options = crate::kafka::KafkaOptions::of("127.0.0.1:1", &[]);
        let reports = Reports {
            connection: crate::kafka::Connection::herald(&options).unwrap(),
            in_flight: super::super::InFlight::new(
                crate::kafka::in_flight_limit(&options).unwrap(),
            ),
            headers: true,
        };
        let config = options.producer_config().unwrap();
        let producer = config.create_with_context(reports).unwrap();
        let begin = Instant::now();
        let hurry = Hurry::new(Arc::new(producer)).unwrap();
        hurry.up();
        drop(hurry);
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(30), "{took:?}");
    }
}
