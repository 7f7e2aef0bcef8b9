//! What a look came to: a sentence, how bad it is, and what mends it.

use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::kafka::ToolCommand;

/// How bad it is, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// It could not be looked at, or does not matter to this stream: the sentence says why.
    Skipped,
    /// A stream starts, and something will hurt it one day.
    Warning,
    /// A stream does not start, or stops at its first change.
    Fail,
}

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// A sentence: lower case, no full stop, never a row's value.
    pub(super) found: String,
    pub(super) cure: Option<Cure>,
    /// What else helps, or what to know before the cure is applied, in sentences.
    pub(super) hint: Option<String>,
    /// What the start of a stream would end with.
    pub(super) kind: ErrorKind,
}

/// What mends it, as text to run as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cure {
    /// Who reads the text.
    pub(super) by: By,
    /// The text, of one line or several.
    pub(super) text: String,
    /// Where SQL is to be run; none where any database does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<String>,
    /// Whether the server has to be restarted after it.
    pub(super) restart: bool,
}

/// Who reads a cure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    /// psql, as a superuser.
    Sql,
    /// A shell.
    Shell,
    /// `pg_hba.conf`, whose first line that fits decides; then the server has to reload.
    Hba,
    /// `headwater stream` and `headwater doctor`: options to add.
    Option,
}

impl Finding {
    fn new(severity: Severity, found: impl Into<String>) -> Self {
        Finding {
            severity,
            found: found.into(),
            cure: None,
            hint: None,
            kind: ErrorKind::Failed,
        }
    }

    pub(super) fn ok(found: impl Into<String>) -> Self {
        Finding::new(Severity::Ok, found)
    }

    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Finding::new(Severity::Skipped, why)
    }

    pub(super) fn warning(found: impl Into<String>) -> Self {
        Finding::new(Severity::Warning, found)
    }

    pub(super) fn fail(found: impl Into<String>) -> Self {
        Finding::new(Severity::Fail, found)
    }

    /// What the start of a stream would end with, in its words.
    pub(super) fn refusal(error: &Error) -> Self {
        Finding {
            hint: error.hint().map(str::to_owned),
            kind: error.kind(),
            ..Finding::fail(error.to_string())
        }
    }

    /// What the start of a stream would say and not end with, in its words.
    pub(super) fn warning_of(warning: &Error) -> Self {
        Finding {
            hint: warning.hint().map(str::to_owned),
            ..Finding::warning(warning.to_string())
        }
    }

    /// The same with the text that mends it, which says more than a sentence.
    #[must_use]
    pub(super) fn cured_by(mut self, cure: Cure) -> Self {
        self.cure = Some(cure);
        self.hint = None;
        self
    }

    /// The same with what mends it by one of Kafka's tools.
    #[must_use]
    pub(super) fn cured_by_tool(self, command: &ToolCommand) -> Self {
        let finding = self.cured_by(Cure::shell(command.line()));
        match command.note() {
            Some(note) => finding.with_hint(format!("{note}.")),
            None => finding,
        }
    }

    /// The same with a sentence more.
    #[must_use]
    pub(super) fn and_hint(mut self, sentence: &str) -> Self {
        self.hint = Some(match self.hint {
            Some(hint) => format!("{hint} {sentence}"),
            None => sentence.to_owned(),
        });
        self
    }

    /// The same with sentences beside the cure.
    #[must_use]
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Cure {
    fn new(by: By, text: impl Into<String>) -> Self {
        Cure {
            by,
            text: text.into(),
            database: None,
            restart: false,
        }
    }

    /// Statements, each ending in `;`, for any database.
    pub(super) fn sql(text: impl Into<String>) -> Self {
        Cure::new(By::Sql, text)
    }

    /// Statements for one database.
    pub(super) fn sql_in(database: &str, text: impl Into<String>) -> Self {
        Cure {
            database: Some(database.to_owned()),
            ..Cure::sql(text)
        }
    }

    /// A setting of the server, in force as soon as it is read again.
    pub(super) fn reloaded(setting: &str, value: &str) -> Self {
        Cure::sql(format!(
            "ALTER SYSTEM SET {setting} = {value};\nSELECT pg_reload_conf();"
        ))
    }

    /// A setting of the server, in force after a restart.
    pub(super) fn restarted(setting: &str, value: &str) -> Self {
        Cure {
            restart: true,
            ..Cure::sql(format!("ALTER SYSTEM SET {setting} = {value};"))
        }
    }

    /// A command of a shell, or several.
    pub(super) fn shell(text: impl Into<String>) -> Self {
        Cure::new(By::Shell, text)
    }

    /// A line of `pg_hba.conf`.
    pub(super) fn hba(text: impl Into<String>) -> Self {
        Cure::new(By::Hba, text)
    }

    /// Options of `headwater stream`.
    pub(super) fn option(text: impl Into<String>) -> Self {
        Cure::new(By::Option, text)
    }
}
