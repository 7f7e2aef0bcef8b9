//! Python's fastavro, in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::installation;

/// A running reader: `read.py`, which ends with its standard input. Dropped, it is gone.
pub struct Fastavro {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Fastavro {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// If fastavro was not fetched, or there is no Python.
    pub fn start() -> Self {
        let mut process = Command::new("python3")
            .args(["-c", include_str!("read.py")])
            .env("PYTHONPATH", installation::fastavro())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start python3: {e}"));
        let stdin = process.stdin.take();
        let Some(stdout) = process.stdout.take() else {
            panic!("a process without its pipes");
        };
        Fastavro {
            process,
            stdin,
            stdout: BufReader::new(stdout),
        }
    }

    /// What a datum holds.
    ///
    /// # Errors
    ///
    /// The library cannot read it.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub fn read(&mut self, schema: &str, datum: &[u8]) -> Result<Value, String> {
        self.read_as(schema, None, datum)
    }

    /// What a datum holds for those who read it with a schema of their own.
    ///
    /// # Errors
    ///
    /// The library cannot read it, or the schemas do not resolve.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub fn read_as(
        &mut self,
        writer: &str,
        reader: Option<&str>,
        datum: &[u8],
    ) -> Result<Value, String> {
        let asked = json!([writer, reader, super::postgres::hex(datum)]);
        let mut line = String::new();
        let answered = match &mut self.stdin {
            Some(stdin) => {
                writeln!(stdin, "{asked}").and_then(|()| self.stdout.read_line(&mut line))
            }
            None => Ok(0),
        };
        match answered {
            Ok(1..) => {}
            Ok(0) => panic!("fastavro's process has ended"),
            Err(e) => panic!("fastavro's process does not answer: {e}"),
        }
        let found: Value = serde_json::from_str(&line).map_err(|e| format!("{e}: {line}"))?;
        match found.get("error").and_then(Value::as_str) {
            Some(error) if found.as_object().is_some_and(|fields| fields.len() == 1) => {
                Err(error.to_owned())
            }
            _ => Ok(found),
        }
    }
}

impl Drop for Fastavro {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ended = self.process.wait();
    }
}
