//! The options of `headwater config`.

use std::ffi::OsString;

use clap::{Args, Subcommand};

/// Says whether settings are right, and what they are.
///
/// A setting comes from the command line, else from its variable, else from the file of
/// --config, else it has its default. An option's long name is its key in the file, and in
/// capitals, with underscores, behind HEADWATER_, its variable.
#[derive(Clone, Debug, Args)]
pub struct ConfigOptions {
    /// What is asked.
    #[command(subcommand)]
    pub question: ConfigQuestion,
}

/// What is asked about settings.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigQuestion {
    /// Say what is wrong in file and environment, and what they set for which command
    ///
    /// Every key, every value, and what does not go together, of all commands. Nothing is
    /// connected to. The exit code is 0 when all is right, else 2; warnings do not count.
    #[command(after_help = "Examples:\n  \
        headwater config check --config headwater.toml\n  \
        HEADWATER_SLOT=orders headwater config check")]
    Check,
    /// Print the settings a command would go by, and where each is from
    ///
    /// The command is not run. What is printed can be used as the file, but for passwords and
    /// tokens, in whose place stands ***.
    #[command(after_help = "Examples:\n  \
        headwater config print --config headwater.toml\n  \
        headwater config print --json verify -d shop --workers 4")]
    Print(PrintOptions),
}

/// The options of `headwater config print`.
#[derive(Clone, Debug, Args)]
pub struct PrintOptions {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// The command and its options, as it would be run; `stream` where none is given
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
}
