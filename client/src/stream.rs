//! `headwater stream`: preconditions, snapshot, then the stream.
//!
//! Whatever breaks before the stream runs is tried again where that can help: a
//! snapshot whose server went away begins anew, which is safe because nothing of it
//! was made permanent.

mod contradictions;
mod launch;
mod target;

use headwater_protocol::options::Operations;

use crate::cli::{CopyMode, ErrorMode, SinkKind, SnapshotMode, StreamOptions, UnkeyedMode};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{self, Activity, Metrics};
use crate::route::Router;
use crate::source::catalog::Catalog;
use crate::source::connection::{Connection, Connector};
use crate::source::plugin::Plugin;
use crate::source::preconditions;
use crate::source::slot::Slot;
use crate::stop::Stop;
use crate::watch::{self, Watch};

pub(crate) use self::contradictions::check_options;
use self::launch::Launch;
pub(crate) use self::launch::decide_by;
use self::target::Target;

/// Runs the command to its end.
pub fn run(options: &StreamOptions) -> Result<()> {
    let stop = Stop::on_signals()?;
    match stream(options, &stop) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            tracing::info!(reason = %error, "stopped");
            Ok(())
        }
        other => other,
    }
}

fn stream(options: &StreamOptions, stop: &Stop) -> Result<()> {
    check_options(options)?;
    let metrics = Metrics::new();
    metrics.count(|figures| figures.retained_limit = options.max_retained_wal);
    if let Some(address) = &options.metrics.address {
        metrics::serve(&metrics, address)?;
    }
    let plugin = Plugin::new(options)?;
    let connector = Connector::new(options.connection.conninfo(), stop.clone());
    let connection = connector.connect()?;
    check(&connection, &plugin, options)?;
    let database = connection.database()?;
    drop(connection);
    let Target {
        sink,
        dead_letters,
        registrar,
        mut store,
    } = match Target::open(options, &plugin, &database, stop, &metrics) {
        Err(error) if error.kind() == ErrorKind::Disconnected => {
            return Err(watch::unreachable_sink(&connector, options, error));
        }
        opened => opened?,
    };
    // From here on another instance is refused, or asked to end: this one could run.
    let watch = match options.snapshot {
        SnapshotMode::Only => None,
        SnapshotMode::Initial | SnapshotMode::Never => {
            metrics.enter(Activity::Waiting);
            let watch = Watch::begin(&connector, options, stop, &metrics)?;
            metrics.enter(Activity::Starting);
            Some(watch)
        }
    };
    let mut launch = Launch {
        options,
        connector: &connector,
        plugin: &plugin,
        sink: &sink,
        dead_letters: dead_letters.as_ref(),
        registrar: registrar.as_ref(),
        router: router(options, &plugin)?,
        stop,
        metrics: &metrics,
        attempt: 0,
    };
    let restart_lsn = watch.as_ref().map(Watch::restart_lsn).unwrap_or_default();
    let outcome = launch.begin(&mut store).and_then(|begun| match begun {
        Some(begun) => launch.follow(&begun, store, restart_lsn),
        None => Ok(()),
    });
    if let Some(dead_letters) = &dead_letters {
        dead_letters.say_totals();
    }
    // What is still in flight is given up before another instance may begin. Who reads chunks
    // has it too, sends nothing with it, and has ended by now but for a call that hangs.
    drop(sink);
    match watch {
        Some(watch) => watch.end(outcome),
        None => outcome,
    }
}

/// Knows the topics of logical messages and of dead letters before that of any table, so that
/// a table which would have the same is refused, whenever it appears.
pub(crate) fn router(options: &StreamOptions, plugin: &Plugin) -> Result<Router> {
    let mut router = Router::new(options.topic.clone(), options.topic_prefix.clone());
    if plugin.sends_messages() && options.snapshot != SnapshotMode::Only {
        router.reserve_for_messages(&options.messages())?;
    }
    if options.on_error == ErrorMode::Quarantine {
        router.reserve_for_dead_letters(&options.dead_letters())?;
    }
    Ok(router)
}

/// Everything that can be refused before anything is changed.
fn check(connection: &Connection, plugin: &Plugin, options: &StreamOptions) -> Result<()> {
    let slot_exists = Slot::find(connection, &options.slot)?.is_some();
    preconditions::check(
        connection,
        options.encoding,
        new_slots(options, slot_exists),
        preconditions::STREAM_WAL_SENDERS,
    )?;
    let catalog = Catalog::read(connection, plugin)?;
    catalog.check_patterns(options.tables.included().as_ref())?;
    catalog.check_keys(options.unkeyed)?;
    if options.snapshot_mode == CopyMode::Chunked {
        check_chunked(options, &catalog)?;
    }
    catalog.check_toast(options.toast)?;
    catalog.check_identities();
    warn_of_operations(&plugin.options().operations);
    let mut names = router(options, plugin)?;
    for table in &catalog.tables {
        names.topic(&table.sent_as.schema, &table.sent_as.table)?;
    }
    Ok(())
}

/// How many replication slots a start makes, the temporary one of a snapshot included.
pub(crate) fn new_slots(options: &StreamOptions, slot_exists: bool) -> i32 {
    match options.snapshot {
        _ if slot_exists => 0,
        SnapshotMode::Initial => 2,
        SnapshotMode::Never | SnapshotMode::Only => 1,
    }
}

/// What is copied in chunks needs an order, and a record of how far it is.
pub(crate) fn check_chunked(options: &StreamOptions, catalog: &Catalog) -> Result<()> {
    let refuse = |message: String| Err(Error::new(ErrorKind::Usage, message));
    if options.sink == SinkKind::Stdout {
        return refuse(
            "--snapshot-mode chunked needs a record of how far it is, and stdout keeps none"
                .to_owned(),
        );
    }
    if options.snapshot != SnapshotMode::Initial {
        return refuse("--snapshot-mode chunked is for --snapshot initial".to_owned());
    }
    let unkeyed = catalog.unkeyed();
    if options.unkeyed == UnkeyedMode::Send && !unkeyed.is_empty() {
        return refuse(format!(
            "tables without a key have no order for --snapshot-mode chunked to copy them by: {unkeyed}"
        ));
    }
    Ok(())
}

/// Without one of them a topic does not come to equal its table.
fn warn_of_operations(operations: &Operations) {
    let missing: Vec<&str> = [
        ("insert", operations.insert),
        ("update", operations.update),
        ("delete", operations.delete),
        ("truncate", operations.truncate),
    ]
    .into_iter()
    .filter_map(|(name, is_sent)| (!is_sent).then_some(name))
    .collect();
    if !missing.is_empty() {
        tracing::warn!(
            left_out = %missing.join(","),
            "--operations leaves out kinds of changes: topics will not come to equal their tables"
        );
    }
}
