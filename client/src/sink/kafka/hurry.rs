//! Nagle's rule for records: what comes alone is sent at once, what comes in a stream
//! waits for company.
//!
//! `linger.ms` makes every record wait, whether more come or not: two milliseconds of the
//! three that a commit took to reach a consumer. Without it every record of a stream is a
//! request of its own: at 500 transactions of 100 rows a second that cost the client three
//! times the CPU, and the broker twice. So the sink is told when the source has nothing more
//! for now ([`Hurry::up`]), and if nothing is under way then, what was sent is not held back.
//! While something is under way records do wait, so that requests stay as few as
//! `linger.ms` allows, however fast transactions come.
//!
//! librdkafka's one switch for it is `rd_kafka_flush()`: while that runs, its broker threads
//! take `linger.ms` for nothing (`rk_flushing` in rdkafka.c and rdkafka_broker.c). They look
//! when they wake, tens of microseconds later. rdkafka's own `flush` calls it with no
//! time to wait and polls in between, and so has turned the switch off again by then: hence
//! the one foreign call outside the extension.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rdkafka::producer::{BaseProducer, Producer};

use super::Reports;
use crate::error::{Error, Result};

/// How long broker threads have for that look. While the switch is on, they ask again and
/// again whether they may send what five requests under way hold back: with 5 ms that cost
/// a third more CPU at 500 transactions of 100 rows a second. A thread that the machine does not
/// run within that time sends when the two milliseconds are over.
const LOOK_MILLIS: i32 = 1;

/// The thread that throws the switch, since throwing it takes as long as an
/// acknowledgement.
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
    // librdkafka may be called from any thread. Its answer, whether records are still in
    // flight, is of no interest.
    let _in_flight =
        unsafe { rdkafka::bindings::rd_kafka_flush(producer.client().native_ptr(), LOOK_MILLIS) };
}
