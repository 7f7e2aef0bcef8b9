//! The client as its users run it: one program, arguments, standard error, an exit code.

use std::io::BufReader;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::installation;
use crate::keeper::{Exit, Kept, Service};
use crate::lines::Lines;
use crate::wait::SOON;

/// What the client says when it follows the slot.
pub const STREAMING: &str = "streaming slot=";

/// A running client. Dropped, it is killed.
#[derive(Debug)]
pub struct Client {
    process: Kept,
    arguments: Vec<String>,
    stdout: Lines,
    stderr: Lines,
}

impl Client {
    /// Runs `headwater` with arguments.
    ///
    /// # Panics
    ///
    /// If it was not built.
    pub fn start<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Client::start_with(arguments, &[])
    }

    /// Runs `headwater` with arguments and variables.
    ///
    /// # Panics
    ///
    /// If it was not built.
    pub fn start_with<A: AsRef<str>>(
        arguments: impl IntoIterator<Item = A>,
        variables: &[(&str, &str)],
    ) -> Self {
        let arguments: Vec<String> = arguments
            .into_iter()
            .map(|a| a.as_ref().to_owned())
            .collect();
        let mut service = Service::new(installation::client()).args(&arguments);
        for (name, value) in variables {
            service = service.env(name, value);
        }
        let mut process = service.start();
        let (stdout, stderr) = (process.take_stdout(), process.take_stderr());
        Client {
            arguments,
            stdout: Lines::of(stdout),
            stderr: Lines::of(stderr.map(BufReader::new)),
            process,
        }
    }

    /// Runs `headwater` to its end.
    ///
    /// # Panics
    ///
    /// If it has not ended after [`SOON`].
    #[track_caller]
    pub fn run<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Ended {
        Client::start(arguments).wait()
    }

    /// Waits until standard error holds a line with `text`.
    ///
    /// # Panics
    ///
    /// If the client ends first, or after [`SOON`].
    #[track_caller]
    pub fn says(&mut self, text: &str) -> String {
        self.awaits(text, |client| &client.stderr)
    }

    /// Waits until the client follows the slot.
    ///
    /// # Panics
    ///
    /// As [`Client::says`].
    #[track_caller]
    pub fn streams(&mut self) {
        self.says(STREAMING);
    }

    /// Waits until standard output holds a line with `text`, and returns that.
    ///
    /// # Panics
    ///
    /// As [`Client::says`].
    #[track_caller]
    pub fn prints(&mut self, text: &str) -> String {
        self.awaits(text, |client| &client.stdout)
    }

    /// Waits until the client follows the slot, or has ended without.
    ///
    /// # Errors
    ///
    /// What it wrote to standard error, if it has ended.
    ///
    /// # Panics
    ///
    /// After [`SOON`].
    #[track_caller]
    pub fn try_streams(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        while self
            .stderr
            .find(STREAMING, Duration::from_millis(50))
            .is_none()
        {
            if self.process.ended().is_some() {
                return Err(self.stderr.text());
            }
            assert!(begin.elapsed() < SOON, "{self} does not stream");
        }
        Ok(())
    }

    #[track_caller]
    fn awaits(&mut self, text: &str, output: impl Fn(&Self) -> &Lines) -> String {
        let begin = Instant::now();
        loop {
            // In this order: what an ended client said has all been read after its end.
            let ended = self.process.ended();
            if ended.is_some() {
                output(self).join();
            }
            if let Some(line) = output(self).find(text, Duration::from_millis(50)) {
                return line;
            }
            assert!(
                ended.is_none() && begin.elapsed() < SOON,
                "no {text:?} after {} s from {self}; it {}; stderr:\n{}",
                begin.elapsed().as_secs(),
                ended.map_or("still runs".to_owned(), |exit| format!(
                    "ended with {exit:?}"
                )),
                self.stderr.text()
            );
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid().as_raw().cast_unsigned()
    }

    /// Waits until it ends; kills it if it goes on for longer than `within`.
    pub fn wait_or_kill(mut self, within: Duration) -> Ended {
        let begin = Instant::now();
        while self.is_running() && begin.elapsed() < within {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.is_running() {
            self.signal(Signal::SIGKILL);
        }
        self.wait()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it outright.
    pub fn kill(mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait(SOON);
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    ///
    /// If it has not ended after [`SOON`].
    #[track_caller]
    pub fn terminate(self) -> Ended {
        self.process.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Panics
    ///
    /// If it has not ended after [`SOON`].
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let begin = Instant::now();
        let exit = loop {
            if let Some(exit) = self.process.ended() {
                break exit;
            }
            assert!(
                begin.elapsed() < SOON,
                "{self} has not ended after {} s; stderr:\n{}",
                SOON.as_secs(),
                self.stderr.text()
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        self.stdout.join();
        self.stderr.join();
        Ended {
            exit,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    /// The first line of standard error with `text`, if there is one by now.
    pub fn said(&self, text: &str) -> Option<String> {
        self.stderr.find(text, Duration::ZERO)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "headwater {}", self.arguments.join(" "))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- standard error of {self}\n{}", self.stderr.text());
        }
    }
}

/// A client that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Ended {
    /// Fails unless it ended by itself with `code`, without a panic, and standard error
    /// has all of `texts`.
    ///
    /// # Panics
    ///
    /// Otherwise, with standard error.
    #[track_caller]
    pub fn expect(&self, code: i32, texts: &[&str]) -> &Self {
        assert_eq!(self.exit, Exit::Code(code), "stderr:\n{}", self.stderr);
        assert!(
            !self.stderr.contains("panicked"),
            "stderr:\n{}",
            self.stderr
        );
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "no {text:?} in stderr:\n{}",
                self.stderr
            );
        }
        self
    }
}
