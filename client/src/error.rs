//! What went wrong, what it means for the process, and what mends it.

pub mod kafka;
pub mod postgres;
mod reference;
pub mod registry;
mod remedy;

pub use reference::reference;
pub use remedy::Remedy;

use std::fmt;

/// What an error allows: the exit code and whether trying again can help follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something failed and a person has to look at it.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Going on would lose changes or split topics: the slot or the command line does not fit
    /// the recorded state.
    Gap,
    /// Another instance owns the slot.
    SlotInUse,
    /// A record that may not be skipped cannot be delivered.
    Data,
    /// A connection broke, a server is starting or stopping, or lacks something for the moment:
    /// trying again can help.
    Disconnected,
    /// The server or the plugin failed in a way that may be chance or a defect: a few more tries
    /// tell.
    Doubtful,
    /// A signal asked to stop, or the reader of stdout went away: nothing is wrong.
    Interrupted,
}

impl ErrorKind {
    /// The process's exit code, as the manual lists them.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Interrupted => 0,
            ErrorKind::Failed | ErrorKind::Disconnected | ErrorKind::Doubtful => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Gap => 3,
            ErrorKind::SlotInUse => 4,
            ErrorKind::Data => 5,
        }
    }
}

/// An error of the client: one sentence that names the thing and the value, and
/// where there is one, a hint that says what to do. Never a row's value.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything in the client that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with its sentence: lower case, no full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            source: None,
        }))
    }

    /// An error of kind [`ErrorKind::Failed`].
    pub fn failed(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Failed, message)
    }

    /// Says what to do, as a sentence.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the error allows.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("hint", &self.0.hint)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}
