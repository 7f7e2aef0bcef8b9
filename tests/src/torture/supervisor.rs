//! Starts the client again when it has ended for a reason that a new start mends; any other
//! end is a violation.
//!
//! A restart mends an end before the stream had begun while something was out of order: the
//! broker did not answer (exit 1), or the server still held the slot for the one before
//! (exit 4). Once it streams, an outage of whatever length is the client's to wait out, so no
//! end is excused but the one at a poison row (exit 5), and only where there is one and
//! it was not told to go on. And
//! something is out of order all the time, so ends are counted too: a client that no start
//! mends is found out by how many of them there are in a row.

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;
use nix::sys::signal::Signal;

use super::arena::DEAD_LETTERS;
use super::checkers::Violation;
use super::evidence::Gap;
use crate::client::{Client, Ended, STREAMING};
use crate::keeper::Exit;

/// Its name in reports.
const NAME: &str = "client keeps running";

/// So long after a fault something may still be out of order: as a server that holds a slot
/// until it has noticed that the connection is dead.
const AFTERMATH: Duration = Duration::from_secs(60);

/// After a start in vain the next one waits, as that of any service manager does: how many
/// there are then says how long it took.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Starts in vain, one after the other: more than the longest outage, of half a minute,
/// explains.
const IN_VAIN_MAX: u64 = 45;

/// What the client does about a change that cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPoison {
    /// It stops with exit code 5 and is started with the `--quarantine` that it names.
    Stop,
    /// It keeps the change as a dead letter and goes on: `--on-error quarantine`.
    Quarantine,
}

impl OnPoison {
    /// The arguments that ask for it.
    fn arguments(self) -> Vec<String> {
        let arguments: &[&str] = match self {
            OnPoison::Stop => &[],
            OnPoison::Quarantine => &[
                "--on-error",
                "quarantine",
                "--dead-letter-topic",
                DEAD_LETTERS,
            ],
        };
        arguments.iter().map(|&argument| argument.into()).collect()
    }
}

/// A client and what is known of its life.
pub struct Supervisor {
    arguments: Vec<String>,
    on_poison: OnPoison,
    /// The changes that were looked into: for all starts from now on.
    more: Vec<String>,
    /// For the starts until one streams.
    until_streaming: Vec<String>,
    client: Option<Client>,
    streams: bool,
    /// When something was last out of order.
    troubled: Instant,
    poisoned: bool,
    /// The stream has a gap, and does not go on behind it yet.
    lost_after: Option<Lsn>,
    gaps: Vec<Gap>,
    lives: Vec<Life>,
    quarantined: u64,
    /// No start before this.
    rests_until: Instant,
    /// Starts that ended before they streamed: all, since one streamed, and the most of those.
    unstreamed: u64,
    unstreamed_now: u64,
    unstreamed_in_a_row: u64,
    violations: Vec<Violation>,
}

/// One client, from its start to its end: for a report that has to explain something.
#[derive(Clone, Debug)]
pub struct Life {
    /// What it was asked for beside servers and slot.
    pub arguments: Vec<String>,
    /// How it ended.
    pub end: String,
    /// What it said.
    pub stderr: String,
}

impl Supervisor {
    /// Nothing runs yet. What was written before the first snapshot is in no stream.
    pub fn new(arguments: Vec<String>) -> Self {
        Supervisor {
            arguments,
            on_poison: OnPoison::Stop,
            more: Vec::new(),
            until_streaming: Vec::new(),
            client: None,
            streams: false,
            troubled: Instant::now(),
            poisoned: false,
            lost_after: Some(Lsn::INVALID),
            gaps: Vec::new(),
            lives: Vec::new(),
            quarantined: 0,
            unstreamed: 0,
            rests_until: Instant::now(),
            unstreamed_now: 0,
            unstreamed_in_a_row: 0,
            violations: Vec::new(),
        }
    }

    /// Looks after the client: to be called again and again.
    pub fn tend(&mut self) {
        self.look();
        let ended = self
            .client
            .as_mut()
            .is_some_and(|client| !client.is_running());
        if ended && let Some(client) = self.client.take() {
            let ended = client.wait();
            self.bury(&ended, "");
            self.judge(&ended);
        }
        if self.client.is_none() && Instant::now() >= self.rests_until {
            let arguments = self.choices();
            self.lives.push(Life {
                arguments,
                end: "runs".to_owned(),
                stderr: String::new(),
            });
            self.streams = false;
            self.client = Some(Client::start(self.command()));
        }
    }

    /// Something is out of order, or was until now.
    pub fn troubled(&mut self) {
        self.troubled = Instant::now();
    }

    /// A change cannot be encoded: the client may stop at it.
    pub fn poisoned(&mut self) {
        self.poisoned = true;
    }

    /// From now on the client is to do so; one that does otherwise is stopped.
    pub fn on_poison(&mut self, on_poison: OnPoison) {
        if self.on_poison != on_poison {
            self.on_poison = on_poison;
            self.stop();
        }
    }

    /// The client, if one runs.
    pub fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// Whether the one that runs has begun to stream.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// Stops the client as its users do, by SIGTERM.
    pub fn stop(&mut self) {
        if let Some(client) = self.client.take() {
            client.signal(Signal::SIGTERM);
            let ended = client.wait();
            self.bury(&ended, " after SIGTERM");
            self.note_streaming(&ended.stderr);
            if ended.exit != Exit::Code(0) {
                self.complain(&format!("SIGTERM: {:?}", ended.exit), &ended.stderr);
            }
        }
    }

    /// Kills the client outright.
    pub fn kill(&mut self) {
        if let Some(client) = self.client.take() {
            client.signal(Signal::SIGKILL);
            let ended = client.wait();
            self.bury(&ended, " after SIGKILL");
            self.note_streaming(&ended.stderr);
        }
        self.troubled();
    }

    /// The slot has lost what follows `lost_after`; starts have `arguments` until one streams.
    pub fn go_on_behind_gap(&mut self, lost_after: Lsn, arguments: Vec<String>) {
        self.lost_after = Some(
            self.lost_after
                .map_or(lost_after, |before| before.min(lost_after)),
        );
        self.until_streaming = arguments;
    }

    /// The command line as the next start has it.
    pub fn command(&self) -> Vec<String> {
        [self.arguments.clone(), self.choices()].concat()
    }

    /// What the next start is asked for beside servers and slot.
    fn choices(&self) -> Vec<String> {
        [
            self.on_poison.arguments(),
            self.more.clone(),
            self.until_streaming.clone(),
        ]
        .concat()
    }

    /// Where streams went on behind what they lost.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Every client that was started, in order.
    pub fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// How many changes were left out as the client asked for.
    pub fn quarantined(&self) -> u64 {
        self.quarantined
    }

    /// How many starts ended before they streamed.
    pub fn unstreamed(&self) -> u64 {
        self.unstreamed
    }

    /// How many of them came one after the other, at most.
    pub fn unstreamed_in_a_row(&self) -> u64 {
        self.unstreamed_in_a_row
    }

    /// What is against the rules.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    fn look(&mut self) {
        if self.streams {
            return;
        }
        if let Some(line) = self
            .client
            .as_ref()
            .and_then(|client| client.said(STREAMING))
        {
            self.note_streaming(&line);
        }
    }

    /// The stream has begun: what was lost ends where.
    fn note_streaming(&mut self, stderr: &str) {
        let Some(line) = stderr.lines().find(|line| line.contains(STREAMING)) else {
            return;
        };
        self.streams = true;
        self.unstreamed_now = 0;
        self.until_streaming.clear();
        if let Some(lost_after) = self.lost_after.take() {
            let position = field(line, "position=").and_then(|lsn| lsn.parse().ok());
            match position {
                Some(resumed_at) => self.gaps.push(Gap {
                    lost_after,
                    resumed_at,
                }),
                None => self.complain("no position where it streams", line),
            }
        }
    }

    fn bury(&mut self, ended: &Ended, how: &str) {
        if let Some(life) = self.lives.last_mut() {
            life.end = format!("{:?}{how}", ended.exit);
            life.stderr.clone_from(&ended.stderr);
        }
    }

    fn judge(&mut self, ended: &Ended) {
        let streamed = self.streams || ended.stderr.contains(STREAMING);
        self.note_streaming(&ended.stderr);
        if ended.stderr.contains("panicked") {
            self.complain("the client panicked", &ended.stderr);
            return;
        }
        let is_aftermath = self.troubled.elapsed() < AFTERMATH;
        match ended.exit {
            Exit::Code(5) if self.poisoned && self.on_poison == OnPoison::Stop => {
                self.quarantine(&ended.stderr)
            }
            Exit::Code(1 | 4) if is_aftermath && !streamed => self.in_vain(&ended.stderr),
            exit => self.complain(
                &format!("the client ended with {exit:?}, which no fault excuses"),
                &ended.stderr,
            ),
        }
    }

    /// A start that a fault excuses, if it did not come too often.
    fn in_vain(&mut self, stderr: &str) {
        self.rests_until = Instant::now() + RESTART_AFTER;
        self.unstreamed += 1;
        self.unstreamed_now += 1;
        self.unstreamed_in_a_row = self.unstreamed_in_a_row.max(self.unstreamed_now);
        if self.unstreamed_now == IN_VAIN_MAX + 1 {
            self.complain("one start after the other ends before it streams", stderr);
        }
    }

    fn quarantine(&mut self, stderr: &str) {
        let change = stderr
            .split_once("add --quarantine ")
            .and_then(|(_, rest)| rest.split([';', ' ', '\n']).next());
        match change {
            Some(change) if !self.more.iter().any(|argument| argument == change) => {
                let change = change.to_owned();
                self.more.extend(["--quarantine".to_owned(), change]);
                self.quarantined += 1;
            }
            _ => self.complain("exit code 5 without a new change to quarantine", stderr),
        }
    }

    fn complain(&mut self, what: &str, stderr: &str) {
        let violation = Violation::new(NAME, format!("{what}; it said:\n{stderr}"));
        self.violations.push(violation);
    }
}

/// What follows `name` in a line of the log.
pub(crate) fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(name)?.1.split_whitespace().next()
}
