//! The command line: names, defaults, environment, help. What a command does is in the
//! module of its name.

mod bytes;
mod completions;
mod config;
mod connection;
mod doctor;
mod drop;
mod general;
mod metrics;
mod registry;
mod slot_name;
mod snapshot;
mod status;
mod stream;
mod stream_name;
mod tables;
mod tail;
mod verify;

use std::path::Path;

use clap::{CommandFactory, Parser, Subcommand};

pub use completions::CompletionsOptions;
pub use config::{ConfigOptions, ConfigQuestion, PrintOptions};
pub use connection::ConnectionOptions;
pub use doctor::DoctorOptions;
pub use drop::DropOptions;
pub use general::GeneralOptions;
pub use metrics::{MetricsAddress, MetricsAddressError, MetricsOptions};
pub use registry::RegistryOptions;
pub use snapshot::SnapshotOptions;
pub use status::StatusOptions;
pub use stream::{
    CopyMode, EncodingMode, EnumMode, ErrorMode, FormatMode, KafkaArguments, NumbersMode,
    OnRetainedWal, OriginMode, PartitionsMode, SinkKind, SnapshotMode, StreamOptions, ToastMode,
    TruncateMode, UnkeyedMode, ValueEnvelope,
};
pub use stream_name::StreamName;
pub use tables::TableOptions;
pub use tail::TailOptions;
pub use verify::VerifyOptions;

use crate::error::Result;
use crate::kafka::Property;

/// Streams every committed change of a Postgres database into Kafka.
#[derive(Debug, Parser)]
#[command(
    name = "headwater",
    version,
    disable_help_flag = true,
    max_term_width = 80,
    after_help = "Exit codes: 0 finished or stopped by a signal after draining; 1 failed; 2 usage; \
                  3 refused because changes would be lost or topics split; 4 another instance owns the slot; \
                  5 stopped on data it may not skip."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Where settings are, and how to log.
    #[command(flatten)]
    pub general: GeneralOptions,
}

impl Cli {
    /// Runs the command to its end.
    pub fn run(&self) -> Result<()> {
        self.command.run(self.general.config.as_deref())
    }
}

/// The command tree, with the variable of each option: what is parsed, and what help, manual,
/// completions and the reference of settings are made of.
pub fn command() -> clap::Command {
    crate::config::with_variables(Cli::command())
}

/// The subcommands. What each does is said at length by its options, as `--help` has it: a
/// comment here would take its place, so the line for the list is an attribute.
#[allow(missing_docs)]
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(about = "Take a snapshot, then follow the slot, into Kafka or stdout")]
    Stream(Box<StreamOptions>),
    #[command(about = "Look at all that a stream needs, and name what mends what is missing")]
    Doctor(Box<DoctorOptions>),
    #[command(about = "Say how streams fare, and what mends what is wrong")]
    Status(Box<StatusOptions>),
    #[command(about = "Copy tables again into a running stream")]
    Snapshot(Box<SnapshotOptions>),
    #[command(about = "Read topics: key TAB value, one record a line")]
    Tail(Box<TailOptions>),
    #[command(about = "Prove that topics equal their tables at a point of the WAL")]
    Verify(Box<VerifyOptions>),
    #[command(about = "Drop the slot and what belongs to it, saying what is lost")]
    Drop(Box<DropOptions>),
    #[command(about = "Say whether settings are right, and what they are")]
    Config(ConfigOptions),
    #[command(about = "Print a script that completes commands and options in a shell")]
    Completions(CompletionsOptions),
}

impl Command {
    /// What the options of the command say of each other, where they are not to be reconciled.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Command::Stream(options) => {
                crate::stream::check_options(options)?;
                match options.sink {
                    SinkKind::Kafka => crate::assemble::kafka_options(options).refuse_weaker(),
                    SinkKind::Stdout => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// The properties of librdkafka, of a command that has some.
    pub(crate) fn properties_mut(&mut self) -> Option<&mut Vec<Property>> {
        let kafka = match self {
            Command::Stream(options) => &mut options.kafka,
            Command::Doctor(options) => &mut options.stream.kafka,
            Command::Status(options) => &mut options.kafka,
            Command::Snapshot(options) => &mut options.kafka,
            Command::Tail(options) => &mut options.kafka,
            Command::Verify(options) => &mut options.kafka,
            Command::Drop(options) => &mut options.kafka,
            Command::Config(_) | Command::Completions(_) => return None,
        };
        Some(&mut kafka.properties)
    }

    fn run(&self, config: Option<&Path>) -> Result<()> {
        match self {
            Command::Stream(options) => crate::stream::run(options),
            Command::Doctor(options) => crate::doctor::run(options),
            Command::Status(options) => crate::status::run(options),
            Command::Snapshot(options) => crate::snapshot::run(options),
            Command::Tail(options) => crate::tail::run(options),
            Command::Verify(options) => crate::verify::run(options),
            Command::Drop(options) => crate::drop::run(options),
            Command::Config(options) => crate::config::run(options, config),
            Command::Completions(options) => crate::config::complete(options),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// A command and those below it, with the words that lead to each.
    fn commands(command: &clap::Command, words: &str, all: &mut Vec<(String, clap::Command)>) {
        all.push((words.to_owned(), command.clone()));
        for subcommand in command.get_subcommands() {
            commands(
                subcommand,
                &format!("{words} {}", subcommand.get_name()),
                all,
            );
        }
    }

    #[test]
    fn help_fits_eighty_columns_and_shows_how_each_command_is_used() {
        let mut root = command().disable_help_subcommand(true);
        root.build();
        let mut all = Vec::new();
        commands(&root, "headwater", &mut all);
        for (words, mut command) in all {
            for help in [command.render_help(), command.render_long_help()] {
                let help = help.to_string();
                let longest = help.lines().max_by_key(|line| line.chars().count());
                let longest = longest.unwrap_or_default();
                assert!(longest.chars().count() <= 80, "{words}: {longest}");
                let has_examples = help.contains(&format!("Examples:\n  {words}"));
                assert!(has_examples || command.has_subcommands(), "{words}: {help}");
            }
        }
    }

    #[test]
    fn help_shows_no_value_that_may_hold_a_password() {
        for subcommand in command().get_subcommands() {
            for argument in subcommand.get_arguments() {
                let variable = argument.get_env().and_then(|name| name.to_str());
                if let Some("HEADWATER_DBNAME" | "HEADWATER_PROPERTIES") = variable {
                    assert!(argument.is_hide_env_values_set(), "{argument}");
                }
            }
        }
    }

    #[test]
    fn short_h_is_the_host_as_in_psql() {
        let cli = Cli::try_parse_from(["headwater", "drop", "-h", "db", "-p", "5433", "-S", "s"]);
        let Command::Drop(options) = cli.unwrap().command else {
            panic!("not the drop command");
        };
        assert_eq!(options.connection.host.as_deref(), Some("db"));
        assert_eq!(options.stream.slot, "s");
    }

    #[test]
    fn patterns_repeat_and_hold_commas() {
        let cli = Cli::try_parse_from([
            "headwater",
            "stream",
            "-t",
            "a,s.b",
            "-t",
            "c",
            "-X",
            "a=b=c",
        ]);
        let Command::Stream(options) = cli.unwrap().command else {
            panic!("not the stream command");
        };
        let tables: Vec<String> = options
            .tables
            .tables
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(tables, ["public.a,s.b", "public.c"]);
        assert_eq!(options.kafka.properties, [Property::new("a", "b=c")]);
    }
}
