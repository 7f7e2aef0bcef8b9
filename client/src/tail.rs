//! `headwater tail`: what is in topics, one record a line.
//!
//! With `--exit` partitions are read one after the other, each to where the broker says that
//! it ends: the order is the same in every run, and no end is missed. Without it
//! all partitions are followed together and records come as they arrive.
//!
//! Keys and values in Avro are decoded through the schema registry, if one is named; the rest is
//! printed as it is.

mod avro;
mod print;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::Offset;
use tracing::warn;

use self::avro::Decoder;
use self::print::Printer;
use crate::assemble;
use crate::cli::TailOptions;
use crate::error::{Error, Result};
use crate::kafka::{Connection, Reader, Reading, is_name};
use crate::log;
use crate::registry::Registry;
use crate::state::STATE_TOPIC;
use crate::stop::Stop;

/// How long a wait for records lasts before a signal is noticed.
const POLL: Duration = Duration::from_millis(100);

/// Prints records to standard output until a signal, the reader's end of the pipe, or, with
/// `--exit`, the end of all partitions.
///
/// # Errors
/// Kafka or the schema registry does not answer, a topic does not exist or may not be read, a record
/// cannot be decoded, or standard output cannot be written.
pub fn run(options: &TailOptions) -> Result<()> {
    let registry = Registry::new(&options.registry)?;
    let exposed = registry.as_ref().and_then(Registry::exposed_login);
    exposed.iter().for_each(log::warn);
    let stop = Stop::on_signals()?;
    let stdout = io::stdout();
    let each_line = stdout.is_terminal();
    let mut tail = Tail {
        printer: Printer::new(stdout.lock(), options.topics.len() > 1, options.headers),
        decoder: registry.map(|registry| Decoder::new(registry, options.readable)),
        is_told: false,
        each_line,
        stop,
    };
    match tail.run(options) {
        Err(End::Quiet) | Ok(()) => Ok(()),
        Err(End::Failed(error)) => Err(error),
    }
}

struct Tail<W: Write> {
    printer: Printer<W>,
    /// For what is in Avro, where a registry is named.
    decoder: Option<Decoder>,
    /// Whether it was said that there is Avro and no registry to decode it with.
    is_told: bool,
    /// Show each record at once: a person is watching.
    each_line: bool,
    stop: Stop,
}

/// Why tailing ended before its end.
enum End {
    /// A signal, or nobody reads any more.
    Quiet,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        End::Failed(error)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return End::Quiet;
        }
        End::Failed(Error::failed("standard output cannot be written").with_source(error))
    }
}

impl<W: Write> Tail<W> {
    fn run(&mut self, options: &TailOptions) -> Result<(), End> {
        let stop = self.stop.clone();
        let kafka = assemble::cluster(&options.kafka);
        let reading = if options.exit {
            Reading::Whole
        } else {
            Reading::Following
        };
        let reader = interruptible(&stop, |tick| {
            let known = options.topics.iter().find(|topic| is_name(topic));
            let known = known.map_or(STATE_TOPIC, String::as_str);
            Reader::connect(&kafka, reading, Connection::herald, known, tick)
        })?;
        let mut partitions = Vec::new();
        for topic in &options.topics {
            let numbers = interruptible(&stop, |tick| reader.partitions(topic, tick))?;
            partitions.extend(numbers.into_iter().map(|number| (topic.as_str(), number)));
        }
        match (options.exit, options.from_beginning) {
            (true, false) => Ok(()),
            (true, true) => self.read_to_end(&reader, &partitions),
            (false, true) => self.follow(&reader, options, &partitions, Offset::Beginning),
            (false, false) => self.follow(&reader, options, &partitions, Offset::End),
        }
    }

    fn read_to_end(&mut self, reader: &Reader, partitions: &[(&str, i32)]) -> Result<(), End> {
        let stop = self.stop.clone();
        for (topic, partition) in partitions {
            let mut ended = None;
            let outcome = interruptible(&stop, |tick| {
                reader.read_partition(topic, *partition, tick, &mut |message| {
                    self.print(message)
                        .map_err(|end| interrupt(&mut ended, end))
                })
            });
            match ended {
                Some(end) => return Err(end),
                None => outcome?,
            }
        }
        self.printer.flush()?;
        Ok(())
    }

    fn follow(
        &mut self,
        reader: &Reader,
        options: &TailOptions,
        partitions: &[(&str, i32)],
        from: Offset,
    ) -> Result<(), End> {
        reader.assign(partitions, from)?;
        while !self.stop.is_set() {
            match reader.next(&options.topics, Duration::ZERO)? {
                Some(message) => self.print(&message)?,
                None => {
                    // Everything that came at once is printed: show it, then wait.
                    self.printer.flush()?;
                    if let Some(message) = reader.next(&options.topics, POLL)? {
                        self.print(&message)?;
                    }
                }
            }
        }
        self.printer.flush()?;
        Err(End::Quiet)
    }

    fn print(&mut self, message: &BorrowedMessage<'_>) -> Result<(), End> {
        match &mut self.decoder {
            Some(decoder) => {
                let key = decoded(decoder, message, "key", message.key())?;
                let value = decoded(decoder, message, "value", message.payload())?;
                self.printer
                    .message(message, key.as_deref(), value.as_deref())?;
            }
            None => {
                self.tell(message);
                self.printer
                    .message(message, message.key(), message.payload())?;
            }
        }
        if self.each_line {
            self.printer.flush()?;
        }
        Ok(())
    }

    /// Says once that what is printed was meant to be decoded.
    fn tell(&mut self, message: &BorrowedMessage<'_>) {
        if !self.is_told && message.payload().is_some_and(avro::is_framed) {
            self.is_told = true;
            warn!(
                topic = message.topic(),
                "records look as if they were in Avro; --registry URL decodes them"
            );
        }
    }
}

/// The text of a record's key or value.
fn decoded(
    decoder: &mut Decoder,
    message: &BorrowedMessage<'_>,
    part: &str,
    bytes: Option<&[u8]>,
) -> Result<Option<Vec<u8>>> {
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let mut text = Vec::new();
    match decoder.text(&mut text, bytes) {
        Ok(()) => Ok(Some(text)),
        Err(cause) => {
            let (topic, partition) = (message.topic(), message.partition());
            let offset = message.offset();
            let error = Error::new(
                cause.kind(),
                format!("cannot decode the {part} of {topic}/{partition} at offset {offset}"),
            );
            let hint = cause.hint().map(str::to_owned);
            let error = error.with_source(cause);
            Err(match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            })
        }
    }
}

/// Runs a reading that ends when `stop` is set.
fn interruptible<T>(
    stop: &Stop,
    read: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<T>,
) -> Result<T, End> {
    let outcome = read(&mut || {
        if stop.is_set() {
            return Err(Error::failed("interrupted"));
        }
        Ok(())
    });
    match outcome {
        Err(_) if stop.is_set() => Err(End::Quiet),
        outcome => Ok(outcome?),
    }
}

/// Keeps why printing ended, and gives the reading an error to end with.
fn interrupt(kept: &mut Option<End>, end: End) -> Error {
    *kept = Some(end);
    Error::failed("interrupted")
}
