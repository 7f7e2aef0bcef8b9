//! The options that every command has.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::log::LogFormat;

/// Where settings are, and how to log.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "General")]
pub struct GeneralOptions {
    /// A file of settings, in TOML: an option's long name is its key. HEADWATER_* variables win
    /// over it, and the command line over both
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Say more; twice, say everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// The form of log lines, on stderr
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,

    /// Print help: -? a summary, --help everything
    #[arg(short = '?', long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
}
