//! `make torture SECONDS=… SEED=… FORMAT=…`: writers write and everything goes wrong at random, then
//! the topics are compared with what was committed, change by change. Exit code 1 if
//! anything is against the rules.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use headwater_tests::torture::nemesis::Fault;
use headwater_tests::torture::{self, Format, Settings};

fn main() -> ExitCode {
    let seconds = variable("SECONDS").unwrap_or(120);
    let seed = variable("SEED").unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(1, |since| since.as_secs())
    });
    let (format, name) = match std::env::var("FORMAT").as_deref() {
        Ok("avro") => (Format::Avro, " FORMAT=avro"),
        Ok("json" | "") | Err(_) => (Format::Json, ""),
        Ok(other) => panic!("FORMAT is \"{other}\": it is json or avro"),
    };
    println!("torture: {seconds} s, seed {seed}: make torture SECONDS={seconds} SEED={seed}{name}");
    let settings = Settings {
        format,
        faults: faults(format),
        verbose: true,
        ..Settings::new(seed, Duration::from_secs(seconds))
    };
    let (report, _) = torture::run(settings);
    println!("\n{report}");
    if report.violations().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The kinds of faults that `FAULTS` names, separated by commas; all if it names none.
fn faults(format: Format) -> Vec<Fault> {
    let names = std::env::var("FAULTS").unwrap_or_default();
    let named = |name: &str| {
        let all = Fault::of(format);
        let found = all.iter().copied().find(|fault| fault.name() == name);
        found.unwrap_or_else(|| {
            let names: Vec<_> = all.into_iter().map(Fault::name).collect();
            panic!("FAULTS has \"{name}\"; there are {names:?}")
        })
    };
    let names = names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let faults: Vec<Fault> = names.map(named).collect();
    if faults.is_empty() {
        Fault::of(format)
    } else {
        faults
    }
}

/// A number from the environment.
fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    let number = value.parse();
    Some(number.unwrap_or_else(|e| panic!("{name} is \"{value}\": {e}")))
}
