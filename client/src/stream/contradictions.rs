//! What options say of each other.

use crate::cli::{
    EnumMode, ErrorMode, FormatMode, OnRetainedWal, SinkKind, SnapshotMode, StreamOptions,
};
use crate::error::{Error, ErrorKind, Result};
use crate::registry;

/// Refuses options that do not go together.
///
/// # Errors
/// Of kind `Usage`, with the options and what to do about them.
pub(crate) fn check_options(options: &StreamOptions) -> Result<()> {
    let wrong = |what: String, cure: &str| {
        Err(Error::new(ErrorKind::Usage, what)
            .with_hint(format!("{cure} The environment and --config count, too.")))
    };
    if options.format == FormatMode::Avro && options.sink == SinkKind::Stdout {
        return wrong(
            "--format avro is binary, and --sink stdout prints lines".to_owned(),
            "Leave one of them out.",
        );
    }
    if options.format == FormatMode::Avro && options.registry.url.is_none() {
        return Err(registry::missing());
    }
    if options.enums == EnumMode::Avro && options.format == FormatMode::Json {
        return wrong(
            "--enum is about Avro, and the format is JSON".to_owned(),
            "Add --format avro, or leave it out.",
        );
    }
    if options.on_error == ErrorMode::Quarantine && options.sink == SinkKind::Stdout {
        return wrong(
            "--on-error quarantine needs a topic for dead letters, which --sink stdout has not"
                .to_owned(),
            "Leave out single changes with --quarantine LSN:SEQ.",
        );
    }
    if options.dead_letter_topic.is_some() && options.on_error == ErrorMode::Stop {
        return wrong(
            "--dead-letter-topic is of no use while changes that cannot be delivered stop the \
             stream"
                .to_owned(),
            "Add --on-error quarantine, or leave it out.",
        );
    }
    if options.on_retained_wal == OnRetainedWal::DropSlot && options.max_retained_wal.is_none() {
        return wrong(
            "--on-retained-wal drop-slot needs to know how much WAL is too much".to_owned(),
            "Add --max-retained-wal BYTES.",
        );
    }
    let mode = match options.snapshot {
        SnapshotMode::Never if options.resnapshot => "never",
        SnapshotMode::Only if options.resnapshot => "only",
        _ => return Ok(()),
    };
    wrong(
        format!("--resnapshot takes a snapshot, --snapshot {mode} says otherwise"),
        "Leave one of them out.",
    )
}
