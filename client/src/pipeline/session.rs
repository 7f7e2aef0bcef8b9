//! One replication session and the sink at its other end: sending records in spite of
//! a full sink, collecting reports, answering the server meanwhile.

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

use super::positions::Positions;
use super::status::{Attention, StatusTimer, Update};
use crate::ack::Ack;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Activity, Metrics, Stream, Tally};
use crate::sink::{
    DeadLetter, Delivered, Ghosts, Headers, Record, SendError, Sink, Token, TopicId, Verdict,
};
use crate::source::replication::{Event, ReplicationStream};
use crate::stop::Stop;

/// How long to wait for the sink at a time: status updates come in between.
const SINK_WAIT: Duration = Duration::from_millis(100);

/// How long the sink may take to deliver what it holds when the client stops. Longer
/// than a broker's usual hiccup, shorter than what supervisors wait before they kill.
const DRAIN_DEADLINE: Duration = Duration::from_secs(8);

/// What outlives a session: the sink, and what it owes.
pub(super) struct Delivery<'a> {
    /// Where records go.
    pub sink: &'a dyn Sink,
    /// What may be acknowledged.
    pub ack: Ack,
    /// Where that is recorded first.
    pub positions: Positions,
    /// Whether to stop.
    pub stop: &'a Stop,
    /// What is counted as it goes.
    pub tally: Tally,
    metrics: &'a Metrics,
    attention: Attention,
    reports: Vec<Delivered>,
}

impl<'a> Delivery<'a> {
    /// Nothing in flight.
    pub(super) fn new(
        sink: &'a dyn Sink,
        ack: Ack,
        positions: Positions,
        stop: &'a Stop,
        metrics: &'a Metrics,
    ) -> Self {
        Delivery {
            sink,
            positions,
            stop,
            tally: Tally {
                received: ack.flush_lsn(),
                ..Tally::default()
            },
            metrics,
            attention: Attention::Listening,
            ack,
            reports: Vec::new(),
        }
    }

    /// Takes in what was delivered. Returns what may be confirmed to the server.
    pub(super) fn collect(&mut self) -> Result<Lsn> {
        self.sink.deliveries(&mut self.reports)?;
        for report in self.reports.drain(..) {
            self.ack.delivered(report);
        }
        let confirmed = self.positions.confirm(self.ack.flush_lsn())?;
        self.tell(confirmed);
        Ok(confirmed)
    }

    fn tell(&self, confirmed: Lsn) {
        let stream = Stream {
            tally: self.tally,
            delivered: self.ack.flush_lsn(),
            confirmed,
            in_flight: self.ack.in_flight() as u64,
            is_blocked: self.attention == Attention::Blocked,
        };
        self.metrics.stream(stream, self.sink.load());
    }

    /// Waits until the sink has delivered all it holds, or it is time to stop.
    pub(super) fn flush(&mut self) -> Result<()> {
        while !self.sink.flush(SINK_WAIT)? {
            self.stop.check()?;
            self.collect()?;
        }
        self.collect().map(drop)
    }

    /// Delivers what the sink holds and records the position, within a bound. Returns
    /// what may be confirmed. What is left comes again with the next start.
    pub(super) fn drain(&mut self) -> Result<Lsn> {
        let until = Instant::now() + DRAIN_DEADLINE;
        self.metrics.enter(Activity::Stopping);
        if !self.sink.flush(DRAIN_DEADLINE)? {
            tracing::warn!(
                "some records are not delivered: they are sent again with the next start"
            );
        }
        self.collect()?;
        self.positions
            .finish(self.ack.flush_lsn(), until)
            .map_err(unrecorded)
    }
}

/// What it means that the last position could not be recorded.
fn unrecorded(error: Error) -> Error {
    if error.kind() != ErrorKind::Disconnected {
        return error;
    }
    let message = format!("stopped, and the last position is not on record: {error}");
    Error::new(error.kind(), message).with_hint(
        "Nothing is lost: the next start goes on from the last position on record, and sends again \
         what came after it.",
    )
}

/// One replication session.
pub(super) struct Session<'s, 'a> {
    stream: ReplicationStream,
    status: StatusTimer,
    /// What outlives it.
    pub delivery: &'s mut Delivery<'a>,
}

impl<'s, 'a> Session<'s, 'a> {
    /// A session that was just started.
    pub(super) fn new(stream: ReplicationStream, delivery: &'s mut Delivery<'a>) -> Self {
        Session {
            stream,
            status: StatusTimer::new(Instant::now()),
            delivery,
        }
    }

    /// The next message of the server.
    pub(super) fn read(&mut self, timeout: Duration) -> Result<Event> {
        let event = match self.stream.arrived()? {
            Some(event) => event,
            None => {
                self.delivery.sink.hurry();
                let question = self.status.until_question(Instant::now());
                self.stream.wait(question.unwrap_or(timeout).min(timeout))?
            }
        };
        if !matches!(event, Event::Nothing) {
            self.delivery.tally.heard += 1;
        }
        Ok(event)
    }

    /// The server says that everything before `wal_end` was sent.
    pub(super) fn keepalive(&mut self, wal_end: Lsn, reply: bool) -> Result<()> {
        self.delivery.ack.keepalive(wal_end);
        let received = &mut self.delivery.tally.received;
        *received = wal_end.max(*received);
        self.status.heard(wal_end, Instant::now());
        if reply {
            let confirmed = self.delivery.collect()?;
            self.confirm(confirmed, Update::Tell)?;
        }
        Ok(())
    }

    /// Takes in reports and sends a status update if one is due. To be called at least
    /// once a second.
    pub(super) fn tick(&mut self) -> Result<()> {
        self.tick_while(Attention::Listening)
    }

    /// As [`Session::tick`] while something else than the server is waited for; ends
    /// the wait when it is time to stop.
    pub(super) fn tick_blocked(&mut self) -> Result<()> {
        self.delivery.stop.check()?;
        self.tick_while(Attention::Blocked)
    }

    fn tick_while(&mut self, attention: Attention) -> Result<()> {
        self.delivery.attention = attention;
        let confirmed = self.delivery.collect()?;
        match self.status.due(confirmed, attention, Instant::now()) {
            Some(update) => self.confirm(confirmed, update),
            None => Ok(()),
        }
    }

    /// Sends a record, waiting for room as long as it takes, and says whether its topic takes it.
    pub(super) fn offer(&mut self, record: &Record<'_>, token: Token) -> Result<Verdict> {
        loop {
            match self.delivery.sink.send(record, token) {
                Ok(()) => break,
                Err(SendError::Full) => self.wait_for_room()?,
                Err(SendError::Large) => {
                    let sink = self.delivery.sink;
                    let verdict = sink.send_alone(record, token, &mut || self.tick_blocked())?;
                    if matches!(verdict, Verdict::TooLarge(_)) {
                        return Ok(verdict);
                    }
                    break;
                }
                Err(SendError::Failed(error)) => return Err(error),
            }
        }
        self.delivery.ack.sent(token);
        Ok(Verdict::Accepted)
    }

    /// Sends a tombstone, into this partition of its topic where it is given, waiting for room as
    /// long as it takes.
    pub(super) fn send_tombstone(
        &mut self,
        record: &Record<'_>,
        partition: Option<i32>,
        token: Token,
    ) -> Result<()> {
        match partition {
            Some(partition) => self.send_by(token, |sink| sink.send_to(record, partition, token)),
            None => self.send_by(token, |sink| sink.send(record, token)),
        }
    }

    /// Sends a dead letter, waiting for room as long as it takes. Its delivery counts as that of
    /// a record of the transaction.
    pub(super) fn send_dead_letter(&mut self, letter: &DeadLetter<'_>, token: Token) -> Result<()> {
        self.send_by(token, |sink| sink.send_dead_letter(letter, token))
    }

    fn send_by(
        &mut self,
        token: Token,
        send: impl Fn(&dyn Sink) -> Result<(), SendError>,
    ) -> Result<()> {
        loop {
            match send(self.delivery.sink) {
                Ok(()) => {
                    self.delivery.ack.sent(token);
                    return Ok(());
                }
                Err(SendError::Full) => self.wait_for_room()?,
                // A dead letter is cut to what its topic takes, and a tombstone has no value.
                Err(SendError::Large) => {
                    return Err(Error::new(
                        ErrorKind::Data,
                        "a key is larger than its topic takes",
                    ));
                }
                Err(SendError::Failed(error)) => return Err(error),
            }
        }
    }

    fn wait_for_room(&mut self) -> Result<()> {
        self.delivery.sink.wait(SINK_WAIT);
        self.tick_blocked()
    }

    /// Writes a tombstone for every key of a topic, behind everything sent before.
    pub(super) fn empty_topic(&mut self, topic: TopicId, headers: Headers<'_>) -> Result<u64> {
        self.deliver()?;
        let (sink, metrics) = (self.delivery.sink, self.delivery.metrics);
        sink.sweep(topic, Ghosts::All, headers, &mut || {
            metrics.works();
            self.tick_blocked()
        })
    }

    /// Waits until everything sent is delivered.
    pub(super) fn deliver(&mut self) -> Result<()> {
        while !self.delivery.sink.flush(SINK_WAIT)? {
            self.tick_blocked()?;
        }
        Ok(())
    }

    /// Delivers what is in flight, tells the server, and ends the stream.
    pub(super) fn shut_down(mut self) -> Result<()> {
        let confirmed = self.delivery.drain()?;
        self.confirm(confirmed, Update::Tell)?;
        tracing::info!(position = %confirmed, "stopped");
        self.stream.end()
    }

    fn confirm(&mut self, position: Lsn, update: Update) -> Result<()> {
        self.stream.send_status(position, update == Update::Ask)?;
        self.status.sent(update, position, Instant::now());
        Ok(())
    }
}
