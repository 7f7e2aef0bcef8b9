//! What the server has to be set to, and to have installed.

use headwater_protocol::VERSION;

use super::check::Check;
use super::examination::Examination;
use super::finding::{Cure, Finding};
use crate::error::{Error, Result};
use crate::source::connection::Connection;
use crate::source::plugin::PLUGIN;
use crate::source::preconditions::{self, OutputPlugins, STREAM_WAL_SENDERS};
use crate::source::sql;
use crate::stream;
use crate::terminal::bytes;

/// In the order in which they are mended: what needs a restart comes together.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "connection",
        title: "the server lets the role in, as psql would be let in",
        cure: "`CREATE ROLE`, `ALTER ROLE …`, `ALTER DATABASE …`, or the line of `pg_hba.conf`",
        look: super::login::connection,
    },
    Check {
        id: "version",
        title: "Postgres 14 or later",
        cure: "an upgrade",
        look: version,
    },
    Check {
        id: "primary",
        title: "the server takes writes: a snapshot needs the primary",
        cure: "another host, or `target_session_attrs=read-write` with several",
        look: primary,
    },
    Check {
        id: "encoding",
        title: "the database says what its text means",
        cure: "`--encoding assume-utf8` where a SQL_ASCII database holds UTF-8",
        look: encoding,
    },
    Check {
        id: "wal_level",
        title: "`wal_level` is `logical`",
        cure: "`ALTER SYSTEM`, restart",
        look: wal_level,
    },
    Check {
        id: "replication_slots",
        title: "`max_replication_slots` leaves room: two slots for a start with a snapshot, one for a \
                start without, none where the slot is there",
        cure: "`ALTER SYSTEM`, restart",
        look: replication_slots,
    },
    Check {
        id: "wal_senders",
        title: "`max_wal_senders` leaves room for two: the stream, and a look at its slot beside it",
        cure: "`ALTER SYSTEM`, restart",
        look: wal_senders,
    },
    Check {
        id: "extension",
        title: "the extension of this client's release is installed on the server and created in the \
                database",
        cure: "`make install`, `CREATE EXTENSION`, `ALTER EXTENSION … UPDATE`, or to make it anew where \
               no update leads from one release to the other",
        look: extension,
    },
    Check {
        id: "library",
        title: "the server loads `headwater.so`, of this client's release",
        cure: "`make install`",
        look: library,
    },
    Check {
        id: "output_plugins",
        title: "`output_plugin_libraries` lists `headwater`, on the releases that have this setting \
                (14.24, 15.19, 16.15, 17.11, 18.6 and later); on older ones it stands nowhere, since \
                they would not start with it",
        cure: "`ALTER SYSTEM` with what is listed already, reload; on older ones the `sed` that takes \
               the line away",
        look: output_plugins,
    },
    Check {
        id: "slot_wal_limit",
        title: "something bounds the WAL that a slot keeps while Kafka is away: \
                `max_slot_wal_keep_size`, or `--max-retained-wal` while the client runs",
        cure: "`ALTER SYSTEM`, reload",
        look: slot_wal_limit,
    },
    Check {
        id: "wal_sender_timeout",
        title: "`wal_sender_timeout` notices a client that is gone, and leaves a slow network time",
        cure: "`ALTER SYSTEM`, reload",
        look: wal_sender_timeout,
    },
];

fn version(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let connection = exam.connection()?;
    if let Err(error) = preconditions::check_version(connection.server_version()) {
        return Ok(vec![Finding::refusal(&error)]);
    }
    let text = connection.query("SELECT pg_catalog.current_setting('server_version')")?;
    let found = Finding::ok(format!("Postgres {}", text.text(0, 0)?));
    exam.facts = Some(preconditions::Facts::read(connection)?);
    super::start::first_sample(exam)?;
    Ok(vec![found])
}

fn primary(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    judged(exam.facts()?.check_primary(), "the server is a primary")
}

fn encoding(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    let found = match facts.check_encoding(exam.options.encoding) {
        Ok(()) => Finding::ok(format!("the database's text is {}", facts.encoding)),
        Err(error) => Finding::refusal(&error)
            .cured_by(Cure::option("--encoding assume-utf8"))
            .with_hint(
                "Only where its text is UTF-8: otherwise recreate the database with the encoding \
                 that its text has.",
            ),
    };
    Ok(vec![found])
}

fn wal_level(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let found = match exam.facts()?.check_wal_level() {
        Ok(()) => Finding::ok("wal_level is logical"),
        Err(error) => Finding::refusal(&error).cured_by(Cure::restarted("wal_level", "'logical'")),
    };
    Ok(vec![found])
}

fn replication_slots(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    let needed = stream::new_slots(exam.options, exam.slot().is_ok_and(|slot| slot.is_some()));
    let (free, all) = (facts.free_slots.max(0), facts.max_slots);
    let found = match facts.check_slots(needed) {
        Ok(()) => Finding::ok(format!(
            "{free} of {all} replication slots are free, {needed} needed"
        )),
        Err(error) => {
            let value = facts.slots_for(needed).to_string();
            Finding::refusal(&error).cured_by(Cure::restarted("max_replication_slots", &value))
        }
    };
    Ok(vec![found])
}

fn wal_senders(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    // A stream that runs has one of them already.
    let is_active = matches!(exam.slot(), Ok(Some(slot)) if slot.active_pid.is_some());
    let needed = STREAM_WAL_SENDERS - i32::from(is_active);
    let (free, all) = (facts.free_senders.max(0), facts.max_senders);
    let found = match facts.check_senders(needed) {
        Ok(()) => Finding::ok(format!(
            "{free} of {all} walsenders are free, {needed} needed"
        )),
        Err(error) => {
            let value = facts.senders_for(needed).to_string();
            Finding::refusal(&error)
                .cured_by(Cure::restarted("max_wal_senders", &value))
                .with_hint("A standby needs as many, and before its primary has them.")
        }
    };
    Ok(vec![found])
}

fn output_plugins(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    match facts.output_plugins {
        OutputPlugins::Any => return unlisted(exam.connection()?),
        OutputPlugins::Hidden => {
            return Ok(vec![Finding::skipped(
                "the role may not see output_plugin_libraries: the extension shows it to a role that \
                 may replicate",
            )]);
        }
        OutputPlugins::Listed(_) => {}
    }
    let found = match (facts.check_output_plugins(), facts.output_plugins_to_list()) {
        (Err(error), Some(all)) => {
            let all: Vec<String> = all.into_iter().map(sql::literal).collect();
            let cure = Cure::reloaded("output_plugin_libraries", &all.join(", "));
            Finding::refusal(&error).cured_by(cure).with_hint(format!(
                "Every role with REPLICATION may then load {PLUGIN}.so and choose its options."
            ))
        }
        _ => Finding::ok(format!("output_plugin_libraries lists {PLUGIN}")),
    };
    Ok(vec![found])
}

/// The SQLSTATE of what the role may not do.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// A release that knows no list takes every library, and does not start where its files name the
/// setting. Only the files tell, which not every role may read.
fn unlisted(connection: &Connection) -> Result<Vec<Finding>> {
    let taken = Finding::ok("this release has no output_plugin_libraries and takes every plugin");
    let rows = connection.query(
        "SELECT DISTINCT f.sourcefile FROM pg_catalog.pg_file_settings f \
         WHERE f.name = 'output_plugin_libraries' ORDER BY 1",
    );
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) if error.is_any_of(&[INSUFFICIENT_PRIVILEGE]) => {
            return Ok(vec![
                Finding::skipped(
                    "this release takes every plugin; whether its files name output_plugin_libraries, \
                     with which it would not start again, the role may not see",
                )
                .with_hint("A superuser may: SELECT * FROM pg_file_settings."),
            ]);
        }
        Err(error) => return Err(error.into()),
    };
    let mut findings = Vec::new();
    for row in 0..rows.len() {
        let file = rows.text(row, 0)?;
        let found = format!(
            "{file} sets output_plugin_libraries, which this release does not know: the server would \
             not start again"
        );
        let file = crate::shell::quoted(file);
        let cure = Cure::shell(format!(
            "sed -i '/^[[:space:]]*output_plugin_libraries/d' {file}"
        ));
        findings.push(Finding::fail(found).cured_by(cure));
    }
    Ok(match findings.is_empty() {
        true => vec![taken],
        false => findings,
    })
}

fn extension(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let facts = exam.facts()?;
    let database = &facts.database;
    let Err(error) = facts.check_extension() else {
        let found = format!("extension headwater {VERSION} is in database \"{database}\"");
        return Ok(vec![Finding::ok(found)]);
    };
    let rows = exam.connection()?.query(&format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_available_extension_versions v \
           WHERE v.name = {plugin} AND v.version = {version}), \
         (SELECT v.default_version FROM pg_catalog.pg_available_extensions v WHERE v.name = {plugin})",
        plugin = sql::literal(PLUGIN),
        version = sql::literal(VERSION)
    ))?;
    let (has_release, default) = (rows.flag(0, 0)?, rows.optional(0, 1)?);
    let create = match default {
        Some(VERSION) => "CREATE EXTENSION headwater;".to_owned(),
        // Beside another release, whose control file came last.
        _ => format!("CREATE EXTENSION headwater VERSION '{VERSION}';"),
    };
    let cured =
        |statements: &str| Finding::refusal(&error).cured_by(Cure::sql_in(database, statements));
    let found = match (has_release, &facts.extension) {
        (true, None) => cured(&create),
        (true, Some(installed)) if has_update(exam.connection()?, installed)? => {
            cured(&format!("ALTER EXTENSION headwater UPDATE TO '{VERSION}';"))
        }
        (true, Some(installed)) => cured(&format!("DROP EXTENSION headwater;\n{create}"))
            .with_hint(format!(
                "No update leads from {installed} to {VERSION}. Slots stay; what was granted on schema \
                 headwater is to be granted again."
            )),
        (false, _) => {
            let what = match default {
                Some(_) => {
                    format!("the server has another release of extension headwater than {VERSION}")
                }
                None => "extension headwater is not installed on the server".to_owned(),
            };
            install(exam.connection()?, Finding::fail(what))
        }
    };
    Ok(vec![found])
}

/// Whether a script leads from the release that is in the database to this one. To be asked only
/// where the extension is installed.
fn has_update(connection: &Connection, installed: &str) -> Result<bool> {
    let rows = connection.query(&format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension_update_paths({}) p \
           WHERE p.source = {} AND p.target = {} AND p.path IS NOT NULL)",
        sql::literal(PLUGIN),
        sql::literal(installed),
        sql::literal(VERSION)
    ))?;
    Ok(rows.flag(0, 0)?)
}

fn library(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    if exam.facts()?.extension.is_none() {
        let why = "extension headwater is not in the database, which would load it";
        return Ok(vec![Finding::skipped(why)]);
    }
    let connection = exam.connection()?;
    let found = match preconditions::library_version(connection) {
        Ok(version) => match preconditions::check_library(&version) {
            Ok(()) => Finding::ok(format!("the server loads headwater.so {version}")),
            Err(error) => install(connection, Finding::refusal(&error)),
        },
        // The library's file is missing, or of another major release of Postgres.
        Err(error) if error.is_any_of(&["58P01", "XX000", "42883"]) => {
            install(connection, Finding::refusal(&Error::from(error)))
        }
        Err(error) => return Err(error.into()),
    };
    Ok(vec![found])
}

/// With the command that installs this release. Where the server's programs are is told to a
/// superuser alone.
fn install(connection: &Connection, finding: Finding) -> Finding {
    let asked =
        connection.query("SELECT c.setting FROM pg_catalog.pg_config c WHERE c.name = 'BINDIR'");
    let folder = asked.and_then(|rows| Ok(rows.text(0, 0)?.to_owned()));
    let pg_config = match folder {
        Ok(folder) => crate::shell::quoted(&format!("{folder}/pg_config")),
        Err(_) => "pg_config".to_owned(),
    };
    finding
        .cured_by(Cure::shell(format!(
            "make build install PG_CONFIG={pg_config}"
        )))
        .with_hint(format!(
            "On the server's host, in Headwater's source of release {VERSION}."
        ))
}

/// What a slot may keep where nothing is set: more than an outage of some hours takes on a busy
/// server, less than most disks have to spare.
const SUGGESTED_LIMIT: u64 = 20 << 30;

/// Less than this is used up by a load of some minutes, and with it the slot.
const SMALL_LIMIT: u64 = 1 << 30;

fn slot_wal_limit(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    exam.facts()?;
    let rows = exam.connection()?.query(
        "SELECT s.setting::int8 << 20, \
           (SELECT pg_catalog.max(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() \
              THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, \
              r.restart_lsn))::int8 FROM pg_catalog.pg_replication_slots r \
              WHERE r.wal_status IS DISTINCT FROM 'lost') \
         FROM pg_catalog.pg_settings s WHERE s.name = 'max_slot_wal_keep_size'",
    )?;
    let limit: i64 = rows.parse(0, 0)?;
    let kept: u64 = rows
        .optional(0, 1)?
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(0);
    // A limit below what is kept already would take the slot's WAL away at once.
    let suggested = SUGGESTED_LIMIT.max(kept.saturating_mul(2)) >> 20;
    let cure = Cure::reloaded("max_slot_wal_keep_size", &format!("'{suggested}MB'"));
    let found = match u64::try_from(limit) {
        Ok(limit) if limit >= SMALL_LIMIT => Finding::ok(format!(
            "max_slot_wal_keep_size: a slot keeps {} of WAL at most, then it is lost",
            bytes(limit)
        )),
        Ok(limit) => Finding::warning(format!(
            "max_slot_wal_keep_size is {}: an outage of minutes can cost the slot",
            bytes(limit)
        ))
        .cured_by(cure),
        Err(_) => match exam.options.max_retained_wal {
            Some(own) => Finding::ok(format!(
                "--max-retained-wal: the client acts when its slot keeps {}",
                bytes(own)
            )),
            None => Finding::warning(
                "max_slot_wal_keep_size is -1: a slot whose client is away fills the server's disk",
            )
            .cured_by(cure)
            .with_hint(
                "A slot that would keep more loses its place, and the next start takes a new \
                 snapshot: choose what the disk can spare.",
            ),
        },
    };
    Ok(vec![found])
}

/// In milliseconds. Below it a round trip over a bad network, or a pause of the client's host,
/// ends connections that are well.
const SHORT_TIMEOUT: i64 = 10_000;

fn wal_sender_timeout(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    exam.facts()?;
    let rows = exam.connection()?.query(
        "SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'wal_sender_timeout'",
    )?;
    let timeout: i64 = rows.parse(0, 0)?;
    let cure = Cure::reloaded("wal_sender_timeout", "'60s'");
    let found = match timeout {
        0 => Finding::warning(
            "wal_sender_timeout is 0: a client that is cut off holds the slot until the network \
             gives it up",
        )
        .cured_by(cure),
        short if short < SHORT_TIMEOUT => Finding::warning(format!(
            "wal_sender_timeout is {short} ms: a pause of the network or the host ends the stream's \
             connection"
        ))
        .cured_by(cure),
        fine => Finding::ok(format!("wal_sender_timeout is {} s", fine / 1000)),
    };
    Ok(vec![found])
}

/// The finding of what is refused by a sentence or is as it should be.
pub(super) fn judged(judgement: Result<()>, well: &str) -> Result<Vec<Finding>> {
    Ok(vec![match judgement {
        Ok(()) => Finding::ok(well),
        Err(error) => Finding::refusal(&error),
    }])
}
