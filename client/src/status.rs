//! `headwater status`: how streams fare, from the outside.
//!
//! ```text
//! server: slots, walsenders, copies ─┐
//! Kafka: records, dead letters ──────┼─► history ─► report ─► text | JSON
//! client: /metrics, where asked for ─┘                └► troubles, each with its cure
//! ```
//!
//! It talks to nobody but the server, Kafka and the metrics of a running client, and changes
//! nothing. Each of them is asked in a thread of its own, so that one that does not answer, which
//! is when people look at a status, costs only what it would have said.

mod client;
mod cure;
mod disk;
mod history;
mod record;
mod report;
mod server;
mod source;
mod stream;
mod text;
mod trouble;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anstream::ColorChoice;

use self::client::Metrics;
use self::cure::Commands;
use self::history::History;
use self::record::{Records, Wanted};
use self::report::{Report, Seen, client_counts};
use self::server::Server;
use self::source::{Answer, Source, Who};
use self::stream::run_counts;
use crate::assemble;
use crate::cli::{SinkKind, StatusOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::source::connection::Connector;
use crate::stop::Stop;
use crate::terminal::{self, Level, Screen};

/// Between the two looks that rates take, where a look is all that is asked for.
const SAMPLE: Duration = Duration::from_secs(1);

/// Between two looks whether somebody has said something new.
const TICK: Duration = Duration::from_millis(100);

/// Runs the command to its end.
///
/// # Errors
/// Something is wrong, of kind `Gap` where changes are lost.
pub fn run(options: &StatusOptions) -> Result<()> {
    let stop = Stop::on_signals()?;
    let mut sources = Sources::ask(options, &stop)?;
    match options.watch {
        None => {
            let report = sources.once(&stop).map_err(unfinished)?;
            print(&report, options.json)?;
            verdict(&report, options.strict)
        }
        Some(interval) => match !options.json && can_draw() {
            true => watch(&mut sources, interval, &stop),
            false => repeat(&mut sources, options, interval, &stop),
        },
    }
}

/// A signal that comes before the answers is no sign that all is well.
fn unfinished(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Interrupted => Error::failed("stopped by a signal before all had answered"),
        _ => error,
    }
}

/// What the exit code says.
fn verdict(report: &Report, strict: bool) -> Result<()> {
    let kind = match report.troubles.iter().any(|trouble| trouble.lost) {
        true => ErrorKind::Gap,
        false => ErrorKind::Failed,
    };
    match report.level {
        Level::Fail => Err(Error::new(kind, text::verdict(report))),
        Level::Warning if strict => Err(Error::failed("there are warnings")),
        Level::Ok | Level::Warning => Ok(()),
    }
}

/// A terminal that knows no more than lines is one of paper.
fn can_draw() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdout().is_terminal() && !is_dumb
}

/// Draws in place until a signal comes, which leaves the last report on the terminal.
fn watch(sources: &mut Sources, interval: Duration, stop: &Stop) -> Result<()> {
    let mut screen = Screen::open(std::io::stdout().lock()).map_err(|error| unwritten(&error))?;
    let mut lines = Vec::new();
    let mut drawn: Option<(Instant, u64)> = None;
    while !stop.is_set() {
        let answers = sources.answers();
        let is_due = drawn.is_none_or(|(at, seen)| seen != answers || at.elapsed() >= interval);
        if is_due {
            drawn = Some((Instant::now(), answers));
            lines = shown(&sources.report(), interval);
            screen.draw(&lines).map_err(|error| unwritten(&error))?;
        }
        std::thread::sleep(TICK);
    }
    drop(screen);
    write_lines(&lines)
}

/// A report, with a line that says how to end this.
fn shown(report: &Report, interval: Duration) -> Vec<String> {
    let clock = report.at % 86_400;
    let head = format!(
        "headwater status, {:02}:{:02}:{:02} UTC, every {} s; Ctrl-C ends",
        clock / 3600,
        clock / 60 % 60,
        clock % 60,
        interval.as_secs_f64()
    );
    let mut lines = vec![terminal::paint(terminal::HEADING, &head), String::new()];
    lines.extend(report.lines());
    match has_colours() {
        true => lines,
        false => lines.iter().map(|line| uncoloured(line)).collect(),
    }
}

fn has_colours() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != ColorChoice::Never
}

fn uncoloured(line: &str) -> String {
    anstream::adapter::strip_str(line).to_string()
}

/// Prints one report after the other until a signal comes.
fn repeat(
    sources: &mut Sources,
    options: &StatusOptions,
    interval: Duration,
    stop: &Stop,
) -> Result<()> {
    let mut report = match sources.once(stop) {
        Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
        report => report?,
    };
    loop {
        let at = Instant::now();
        print(&report, options.json)?;
        if !options.json {
            write_lines(&[String::new()])?;
        }
        while at.elapsed() < interval {
            if stop.is_set() {
                return Ok(());
            }
            std::thread::sleep(TICK.min(interval));
        }
        report = sources.report();
    }
}

fn print(report: &Report, json: bool) -> Result<()> {
    if !json {
        return write_lines(&report.lines());
    }
    let text = serde_json::to_string(report)
        .map_err(|error| Error::failed("the report cannot be written").with_source(error))?;
    write_lines(&[text])
}

fn write_lines(lines: &[String]) -> Result<()> {
    let mut out = terminal::stdout();
    let written = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    written
        .and_then(|()| out.flush())
        .map_err(|error| unwritten(&error))
}

/// A reader that has seen enough is no failure.
fn unwritten(error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::BrokenPipe => ErrorKind::Interrupted,
        _ => ErrorKind::Failed,
    };
    Error::new(kind, format!("standard output cannot be written: {error}"))
}

/// All who are asked, and what they have said over time.
struct Sources {
    server: Source<Server>,
    /// None where no record is kept.
    records: Option<Source<Records>>,
    /// None where nobody is asked for metrics.
    client: Option<(String, Source<Metrics>)>,
    brokers: String,
    wanted: Wanted,
    cures: Commands,
    history: History,
    /// How many answers of each are in the history.
    added: [u64; 3],
}

impl Sources {
    fn ask(options: &StatusOptions, stop: &Stop) -> Result<Self> {
        let interval = options.watch.unwrap_or(SAMPLE);
        let wanted = Wanted {
            slot: options.slot.clone(),
            prefix: options.topic_prefix.clone(),
            letters: options.dead_letter_topic.clone(),
        };
        // The server describes tables only while a copy is on record that needs it.
        let is_copying = Arc::new(AtomicBool::new(false));
        let kafka = assemble::cluster(&options.kafka);
        let brokers = kafka.brokers().to_owned();
        let records = match options.sink {
            SinkKind::Stdout => None,
            SinkKind::Kafka => {
                let mut questions = record::Questions::new(kafka, wanted.clone(), stop.clone());
                let is_copying = Arc::clone(&is_copying);
                let who = Who {
                    name: format!("Kafka at {brokers}"),
                    hint: "It did when it was connected to. A broker hangs since then, which its log \
                           explains, or another one that has the partitions cannot be reached from here.",
                };
                Some(Source::ask(who, interval, stop, move |asked| {
                    let records = questions.look(asked)?;
                    is_copying.store(!run_counts(&records).is_empty(), Ordering::Relaxed);
                    Ok(records)
                })?)
            }
        };
        let connector = Connector::new(options.connection.conninfo(), stop.clone());
        let mut questions = server::Questions::new(connector, options.slot.clone());
        let who = Who {
            name: "Postgres".to_owned(),
            hint: "It takes connections; pg_stat_activity says what its sessions wait for, a lock maybe.",
        };
        let server = Source::ask(who, interval, stop, move |asked| {
            questions.look(is_copying.load(Ordering::Relaxed), asked)
        })?;
        let client = match &options.metrics {
            None => None,
            Some(address) => {
                let questions = client::Questions::new(address);
                let who = Who {
                    name: format!("the client at {address}"),
                    hint: "Its log has more.",
                };
                let source = Source::ask(who, interval, stop, move |_| questions.look())?;
                Some((address.to_string(), source))
            }
        };
        Ok(Sources {
            server,
            records,
            client,
            brokers,
            wanted,
            cures: Commands::new(options.connection.conninfo(), &options.kafka),
            history: History::default(),
            added: [0; 3],
        })
    }

    /// Everything after two looks at what moves, and one at what stands.
    fn once(&mut self, stop: &Stop) -> Result<Report> {
        for look in [1, 2] {
            self.server.wait(look, stop)?;
            if let Some((_, client)) = &self.client {
                client.wait(look, stop)?;
            }
            if let Some(records) = &self.records {
                records.wait(1, stop)?;
            }
            self.remember();
        }
        Ok(self.report())
    }

    /// How many answers there were.
    fn answers(&self) -> u64 {
        self.counted().iter().sum()
    }

    fn counted(&self) -> [u64; 3] {
        [
            self.server.newest().1,
            self.records.as_ref().map_or(0, |source| source.newest().1),
            self.client
                .as_ref()
                .map_or(0, |(_, source)| source.newest().1),
        ]
    }

    /// Adds to the history what is new.
    fn remember(&mut self) {
        let counted = self.counted();
        let is_new = |which: usize| counted[which] != self.added[which];
        if let (true, (Some(answer), _)) = (is_new(0), self.server.newest())
            && let Ok(server) = &answer.outcome
        {
            self.history.add(server);
        }
        let records = self.records.as_ref().and_then(|source| source.newest().0);
        if let (true, Some(answer)) = (is_new(1), records)
            && let Ok(records) = &answer.outcome
        {
            self.history.count(answer.at, run_counts(records));
        }
        let metrics = self
            .client
            .as_ref()
            .and_then(|(_, source)| source.newest().0);
        if let (true, Some(answer)) = (is_new(2), metrics)
            && let Ok(metrics) = &answer.outcome
        {
            self.history.count(answer.at, client_counts(metrics));
        }
        self.added = counted;
    }

    fn report(&mut self) -> Report {
        self.remember();
        let server: Option<Arc<Answer<Server>>> = self.server.newest().0;
        let records = self.records.as_ref().map(|source| source.newest().0);
        let client = self
            .client
            .as_ref()
            .map(|(address, source)| (address.as_str(), source.newest().0));
        let seen = Seen {
            postgres: server.as_deref(),
            kafka: records
                .as_ref()
                .map(|answer| (self.brokers.as_str(), answer.as_deref())),
            client: client
                .as_ref()
                .map(|(address, answer)| (*address, answer.as_deref())),
            history: &self.history,
            wanted: &self.wanted,
        };
        Report::new(&seen, &self.cures)
    }
}
