//! What the doctor prints, and whoever runs it.

use std::path::Path;
use std::process::Command;

use headwater_tests::client::Ended;
use headwater_tests::installation::{output, workspace};
use headwater_tests::keeper::{Exit, Folder};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Kafka, Postgres};
use serde::Deserialize;

/// A report, as the documentation of its JSON has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) version: u32,
    pub(crate) worst: String,
    pub(crate) checks: Vec<Found>,
    pub(crate) next: Option<String>,
    #[serde(skip)]
    pub(crate) exit_code: i32,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) severity: String,
    pub(crate) found: String,
    pub(crate) cure: Option<Cure>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Cure {
    by: String,
    pub(crate) text: String,
    database: Option<String>,
    restart: bool,
}

impl Report {
    /// What a check has found.
    #[track_caller]
    pub(crate) fn of(&self, id: &str) -> Vec<&Found> {
        let found: Vec<&Found> = self.checks.iter().filter(|found| found.id == id).collect();
        assert!(!found.is_empty(), "no check \"{id}\" in {:#?}", self.checks);
        found
    }

    /// What would keep a stream from starting, in the order of the report.
    pub(crate) fn fails(&self) -> Vec<&Found> {
        let checks = self.checks.iter();
        checks.filter(|found| found.severity == "fail").collect()
    }
}

/// A user with a terminal: the options of a stream, psql, a shell.
pub(crate) struct User<'s> {
    pub(crate) arguments: Vec<String>,
    pub(crate) postgres: &'s mut Postgres,
    tools: Folder,
}

impl<'s> User<'s> {
    pub(crate) fn new(postgres: &'s mut Postgres, arguments: &[&str]) -> Self {
        User {
            arguments: arguments.iter().map(|&it| it.to_owned()).collect(),
            postgres,
            tools: Folder::new(),
        }
    }

    /// Has Kafka's command-line tools in the shell's path.
    pub(crate) fn with_tools_of(self, kafka: &Kafka) -> Self {
        for (name, class) in [
            ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
            ("kafka-configs.sh", "kafka.admin.ConfigCommand"),
            ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
        ] {
            let tool = kafka.tool(class);
            let words: Vec<String> = std::iter::once(tool.get_program())
                .chain(tool.get_args())
                .map(|word| format!("'{}'", word.to_string_lossy()))
                .collect();
            let script = format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "));
            write_program(&self.tools.path().join(name), &script);
        }
        self
    }

    /// Has a file where commands are run.
    pub(crate) fn with_file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.tools.path().join(name), content).unwrap();
        self
    }

    /// Asks the doctor, as a program and as a person, who are told the same.
    #[track_caller]
    pub(crate) fn asks(&self) -> Report {
        self.asks_with(&[])
    }

    #[track_caller]
    pub(crate) fn asks_with(&self, more: &[&str]) -> Report {
        let told = self.runs(more, &["--json"]);
        let mut report: Report = serde_json::from_str(&told.stdout)
            .unwrap_or_else(|e| panic!("no report: {e}\n{}\n{}", told.stdout, told.stderr));
        assert_eq!(report.version, 1);
        report.exit_code = match told.exit {
            Exit::Code(code) => code,
            Exit::Signal(signal) => panic!("ended by signal {signal}"),
        };
        let printed = self.runs(more, &[]).stdout;
        for cure in report.checks.iter().filter_map(|found| found.cure.as_ref()) {
            for line in cure.text.lines() {
                let line = format!("          {line}\n");
                assert!(
                    printed.contains(&line),
                    "{line:?} is not printed:\n{printed}"
                );
            }
        }
        report
    }

    fn runs(&self, more: &[&str], form: &[&str]) -> Ended {
        let arguments = self.arguments.iter().map(String::as_str);
        let doctor = std::iter::once("doctor").chain(arguments);
        Client::run(
            doctor
                .chain(more.iter().copied())
                .chain(form.iter().copied()),
        )
    }

    /// Runs what mends a finding, as it is printed.
    #[track_caller]
    pub(crate) fn mends(&mut self, found: &Found) {
        let Some(cure) = &found.cure else {
            panic!("nothing mends {found:?}");
        };
        let text = &cure.text;
        match cure.by.as_str() {
            "sql" => {
                let database = cure.database.as_deref().unwrap_or("postgres");
                self.postgres.psql(database, text);
            }
            "shell" => {
                let path = std::env::var("PATH").unwrap_or_default();
                let path = format!("{}:{path}", self.tools.path().display());
                // That of the source says that it is one.
                let folder = match text.starts_with("make ") {
                    true => workspace(),
                    false => self.tools.path(),
                };
                let mut shell = Command::new("sh");
                output(
                    shell
                        .args(["-c", text])
                        .env("PATH", path)
                        .current_dir(folder),
                );
            }
            "hba" => {
                let rules = format!("{text}\n{}", self.postgres.rules());
                self.postgres.let_in(&rules);
            }
            "option" => self.adds(words(text)),
            other => panic!("nobody reads {other}"),
        }
        if cure.restart {
            self.postgres.restart();
        }
    }

    /// An option takes the place of the same one.
    fn adds(&mut self, option: Vec<String>) {
        if let Some(at) = self.arguments.iter().position(|old| *old == option[0])
            && option.len() > 1
            && !option[0].ends_with("table")
        {
            self.arguments.splice(at..at + 2, option);
        } else {
            self.arguments.extend(option);
        }
    }

    /// Asks until a check is well: settings take a moment to be read.
    #[track_caller]
    pub(crate) fn is_well(&self, id: &str) {
        eventually(&format!("check {id} is well"), SOON, || {
            let report = self.asks();
            let found = report.of(id);
            check(found.iter().all(|it| it.severity == "ok"), || {
                format!("{found:#?}")
            })
        });
    }

    /// Asks until a check complains.
    #[track_caller]
    pub(crate) fn hears(&self, id: &str, severity: &str) -> Vec<Found> {
        eventually(&format!("check {id} complains"), SOON, || {
            let report = self.asks();
            let found = report.of(id);
            match found.iter().any(|it| it.severity == severity) {
                true => Ok(found.into_iter().cloned().collect()),
                false => Err(format!("{found:#?}")),
            }
        })
    }

    /// The doctor names what is broken, what it prints mends it, and then it is well.
    #[track_caller]
    pub(crate) fn hears_and_mends(&mut self, id: &str, severity: &str, names: &str) {
        let found = self.hears(id, severity);
        let is_named = found.iter().any(|it| it.found.contains(names));
        assert!(is_named, "{names:?} is not named: {found:#?}");
        for found in found.iter().filter(|it| it.severity == severity) {
            self.mends(found);
        }
        self.is_well(id);
    }

    /// The doctor names what is broken and no text mends it alone: whoever reads the sentence does
    /// what it says, and then it is well.
    #[track_caller]
    pub(crate) fn hears_and_heeds(
        &mut self,
        id: &str,
        severity: &str,
        names: &str,
        heeds: impl FnOnce(&mut Self),
    ) {
        let found = self.hears(id, severity);
        let is_named = found.iter().any(|it| it.found.contains(names));
        assert!(is_named, "{names:?} is not named: {found:#?}");
        heeds(self);
        self.is_well(id);
    }

    /// Changes what stands behind an option.
    #[track_caller]
    pub(crate) fn gives(&mut self, option: &str, value: &str) {
        let at = self.arguments.iter().position(|it| it == option).unwrap();
        self.arguments[at + 1] = value.to_owned();
    }
}

/// A line as a shell takes it apart.
#[track_caller]
pub(crate) fn words(line: &str) -> Vec<String> {
    let script = format!("printf '%s\\n' {line}");
    let printed = output(Command::new("sh").args(["-c", &script]));
    printed.lines().map(str::to_owned).collect()
}

fn write_program(file: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, script).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}
