//! Errors of Postgres: by SQLSTATE, and by words where one SQLSTATE means several things.
//!
//! Words are compared with the message as the server wrote it, in the language of its
//! `lc_messages`. Where that is not English they are not found, and the SQLSTATE alone decides, on the
//! side of caution: a person is asked where a new try would have done.

use super::Remedy::{self, Doubtful, Fatal, Operator, Resnapshot, Retry, Taken};

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub struct PostgresRow {
    /// A SQLSTATE, or the beginning of several.
    pub sqlstate: &'static str,
    /// What the message says; empty for any.
    pub says: &'static str,
    /// What may be done.
    pub remedy: Remedy,
    /// What it is.
    pub meaning: &'static str,
    /// What mends it, as a sentence; empty where nobody has to do anything or the server's own
    /// hint says it.
    pub cure: &'static str,
}

/// The first line that fits decides.
pub const POSTGRES: &[PostgresRow] = &[
    row(
        "08",
        "",
        Retry,
        "the connection broke, or a pooler ended it",
        "",
    ),
    row(
        "0A",
        "",
        Operator,
        "this server cannot do it, a standby before release 16 above all",
        "",
    ),
    row(
        "22023",
        "invalid snapshot identifier",
        Retry,
        "the exported snapshot is gone: it is taken anew",
        "",
    ),
    row("25P03", "", Retry, "the session was idle for too long", ""),
    row(
        "25P04",
        "",
        Retry,
        "the transaction took longer than the server allows",
        "",
    ),
    row(
        "28",
        "",
        Operator,
        "the login is refused",
        "Correct the user, the password or the server's pg_hba.conf.",
    ),
    row(
        "40001",
        "",
        Retry,
        "a conflict with recovery or with another transaction",
        "",
    ),
    row("40P01", "", Retry, "a deadlock", ""),
    row(
        "42501",
        "output plugin",
        Operator,
        "the server allows only listed output plugins",
        // Setting the list replaces its default, so the built-in plugins are named again.
        "Add this line to postgresql.conf, with any other plugin in use, and reload (no restart is \
         needed): output_plugin_libraries = 'pgoutput, test_decoding, headwater'",
    ),
    row(
        "42501",
        "for table",
        Operator,
        "a table may not be read",
        "The snapshot reads the tables: grant SELECT on them to the user, or leave them out with \
         --exclude-table.",
    ),
    row(
        "42501",
        "for schema",
        Operator,
        "a schema may not be used",
        "The snapshot reads the tables: grant USAGE on their schema to the user.",
    ),
    row(
        "42704",
        "\"headwater_tmp_",
        Retry,
        "the snapshot's slot went with its session: it is taken anew",
        "",
    ),
    row(
        "42704",
        "replication slot",
        Resnapshot,
        "the slot is gone",
        BEHIND_A_GAP,
    ),
    row(
        "42704",
        "snapshot \"",
        Retry,
        "the exported snapshot is gone: it is taken anew",
        "",
    ),
    row(
        "53100",
        "",
        Retry,
        "the server's disk is full: decoding spills large transactions there",
        "",
    ),
    row(
        "53200",
        "shared memory",
        Operator,
        "the server's table of locks is full",
        "Raise max_locks_per_transaction: the snapshot locks every captured table.",
    ),
    row("53200", "", Retry, "the server has no memory left", ""),
    row(
        "53300",
        "",
        Retry,
        "all connections or walsenders are taken",
        "",
    ),
    row(
        "53400",
        "replication slots",
        Operator,
        "all replication slots are taken",
        "Raise max_replication_slots and restart the server, or drop a slot not needed.",
    ),
    row(
        "53400",
        "",
        Operator,
        "a limit of the configuration is reached",
        "",
    ),
    row(
        "53",
        "",
        Retry,
        "the server lacks something for the moment",
        "",
    ),
    row(
        "55000",
        "wal_level",
        Operator,
        "the server does not write what decoding needs",
        "Run: ALTER SYSTEM SET wal_level = logical; then restart the server.",
    ),
    row(
        "55000",
        "can no longer get changes from replication slot",
        Resnapshot,
        "the slot was invalidated",
        BEHIND_A_GAP,
    ),
    row(
        "55000",
        "can no longer access replication slot",
        Resnapshot,
        "the slot was invalidated (18)",
        BEHIND_A_GAP,
    ),
    row(
        "55000",
        "cannot read from logical replication slot",
        Resnapshot,
        "the slot was invalidated",
        BEHIND_A_GAP,
    ),
    row(
        "55000",
        "could not import the requested snapshot",
        Retry,
        "the session that exported the snapshot is gone: it is taken anew",
        "",
    ),
    row(
        "55000",
        "",
        Operator,
        "something else has to be done first, as the message says",
        "",
    ),
    row(
        "55006",
        "",
        Taken,
        "another process streams from the slot",
        "Stop the other instance, or choose another name with --slot.",
    ),
    row("55P03", "", Retry, "a lock was not to be had", ""),
    row("57014", "", Retry, "somebody cancelled the statement", ""),
    row(
        "57P01",
        "",
        Retry,
        "the server shuts down, or somebody ended the session",
        "",
    ),
    row(
        "57P02",
        "",
        Retry,
        "a server process crashed, and all sessions ended",
        "",
    ),
    row(
        "57P03",
        "",
        Retry,
        "the server starts, stops or recovers",
        "",
    ),
    row(
        "57P04",
        "",
        Operator,
        "the database was dropped",
        "Name another database with -d.",
    ),
    row("57P05", "", Retry, "the session was idle for too long", ""),
    row(
        "58P01",
        "has already been removed",
        Resnapshot,
        "WAL that the slot needs is gone",
        BEHIND_A_GAP,
    ),
    row(
        "58P01",
        "headwater",
        Operator,
        "the extension's library is not there",
        "Install the extension on the server: make install PG_CONFIG=/path/to/pg_config.",
    ),
    row(
        "58",
        "",
        Operator,
        "a file of the server cannot be read or written",
        "",
    ),
    row(
        "72000",
        "",
        Retry,
        "the snapshot became too old: it is taken anew",
        "",
    ),
    row(
        "XX001",
        "",
        Fatal,
        "data of the server is damaged",
        "Have the server's storage looked at.",
    ),
    row(
        "XX002",
        "",
        Fatal,
        "an index of the server is damaged",
        "REINDEX it, and have the storage looked at.",
    ),
    row(
        "XX",
        "",
        Doubtful,
        "an internal error of the server or of the plugin",
        "Start again: nothing is lost. If it comes again, please report it with the server's log.",
    ),
];

/// Of a connection that failed there is no SQLSTATE, only what libpq says of it. What is not
/// listed is a retry: most of it is a server that is not there.
pub const CONNECT: &[PostgresRow] = &[
    // A socket's file that "does not exist" is a server that is down, not a name.
    row(
        "",
        "No such file or directory",
        Retry,
        "no server has the socket",
        LISTENS,
    ),
    row(
        "",
        "could not translate host name",
        Retry,
        "no server has that name, or who knows names does not answer",
        "Check the name of the host: -h, PGHOST, or host in the connection string.",
    ),
    row(
        "",
        "Connection refused",
        Retry,
        "no server listens",
        LISTENS,
    ),
    row(
        "",
        "password authentication failed",
        Operator,
        "the password is wrong",
        PASSWORD,
    ),
    row(
        "",
        "no password supplied",
        Operator,
        "a password is asked for",
        PASSWORD,
    ),
    row(
        "",
        "no encryption",
        Operator,
        "the server lets in only those who come by TLS, or nobody from here",
        "Choose sslmode=verify-full, or add a line for this host, user and database to the server's \
         pg_hba.conf, then reload.",
    ),
    row(
        "",
        "no pg_hba.conf entry",
        Operator,
        "the server lets nobody in from here",
        "Add a line for this host, user and database to the server's pg_hba.conf, then reload.",
    ),
    row(
        "",
        "Peer authentication failed",
        Operator,
        "the operating system's user is another",
        "Name the user with -U, or add a line for it to the server's pg_hba.conf, then reload.",
    ),
    row(
        "",
        "permission denied for database",
        Operator,
        "the database may not be used",
        "Grant CONNECT on the database to the user.",
    ),
    row(
        "",
        "must be superuser or replication role to start walsender",
        Operator,
        "the user may not replicate",
        REPLICATION,
    ),
    row(
        "",
        "permission denied to start WAL sender",
        Operator,
        "the user may not replicate",
        REPLICATION,
    ),
    row(
        "",
        "is not permitted to log in",
        Operator,
        "the role has no LOGIN",
        "Give the user the right: ALTER ROLE … LOGIN.",
    ),
    row(
        "",
        "is not currently accepting connections",
        Operator,
        "the database has ALLOW_CONNECTIONS false",
        "Run: ALTER DATABASE … ALLOW_CONNECTIONS true.",
    ),
    row(
        "",
        "does not exist",
        Operator,
        "there is no such database or user",
        "Name an existing database with -d and an existing user with -U.",
    ),
    row(
        "",
        "invalid connection option",
        Operator,
        "the connection string is wrong",
        STRING,
    ),
    row(
        "",
        "in connection info string",
        Operator,
        "the connection string is wrong",
        STRING,
    ),
    row(
        "",
        "definition of service",
        Operator,
        "there is no such service",
        "Correct PGSERVICE or the service file.",
    ),
    row(
        "",
        "certificate verify failed",
        Operator,
        "the server's certificate is not trusted",
        "Correct sslrootcert, or have the server's certificate renewed.",
    ),
    row(
        "",
        "root certificate file",
        Operator,
        "there is nothing to verify the server by",
        "Give sslrootcert, or sslrootcert=system.",
    ),
    row(
        "",
        "does not match host name",
        Operator,
        "the server's certificate is that of another host",
        "Connect by a name that the certificate is for, or have one made that is for this name \
         (subjectAltName); sslmode=verify-ca looks at its authority alone.",
    ),
    row(
        "",
        "valid client certificate",
        Operator,
        "the server asks for a certificate of the client",
        CERTIFICATE,
    ),
    row(
        "",
        "certificate required",
        Operator,
        "the server asks for a certificate of the client",
        CERTIFICATE,
    ),
    row(
        "",
        "alert unknown ca",
        Operator,
        "the server does not know who vouches for the client",
        CERTIFICATE,
    ),
    row(
        "",
        "alert bad certificate",
        Operator,
        "the server refuses the client's certificate",
        CERTIFICATE,
    ),
    row(
        "",
        "alert certificate",
        Operator,
        "the server refuses the client's certificate, which may have expired",
        CERTIFICATE,
    ),
    row(
        "",
        "certificate authentication failed",
        Operator,
        "the client's certificate is of another name than the user",
        "Connect as the user that the certificate's common name says, or map it in pg_ident.conf.",
    ),
    row(
        "",
        "private key file",
        Operator,
        "the key of the client's certificate cannot be used",
        "Correct sslkey: a file that its owner alone may read (chmod 600).",
    ),
    row(
        "",
        "certificate file",
        Operator,
        "the client's certificate cannot be read",
        "Correct sslcert and sslkey.",
    ),
    row(
        "",
        "channel binding",
        Operator,
        "channel_binding=require asks for more than the server has",
        "It needs TLS and scram-sha-256 in the server's pg_hba.conf.",
    ),
    row(
        "",
        "sslmode value",
        Operator,
        "there is no such sslmode, or it is too weak for what else is asked for",
        "Choose sslmode=verify-full.",
    ),
    row(
        "",
        "does not support SSL",
        Operator,
        "sslmode asks for more than the server has",
        "Switch ssl on on the server, or choose another sslmode.",
    ),
];

const CERTIFICATE: &str =
    "Give sslcert and sslkey, of an authority that is in the server's ssl_ca_file.";
const PASSWORD: &str = "Set the password by HEADWATER_PASSWORD, PGPASSWORD or in ~/.pgpass.";
const REPLICATION: &str = "Give the user the right: ALTER ROLE … REPLICATION.";
const STRING: &str = "Write the connection as psql takes it: -d 'host=… dbname=…' or a URI.";
const LISTENS: &str = "Check that the server runs and listens there; -h and -p name another place.";
const BEHIND_A_GAP: &str = "Start again: the start says what is lost and names the ways on.";

const fn row(
    sqlstate: &'static str,
    says: &'static str,
    remedy: Remedy,
    meaning: &'static str,
    cure: &'static str,
) -> PostgresRow {
    PostgresRow {
        sqlstate,
        says,
        remedy,
        meaning,
        cure,
    }
}

/// What may be done about an error of the server, and what mends it.
pub fn of_server(sqlstate: &str, message: &str) -> (Remedy, Option<&'static str>) {
    let is_it =
        |row: &&PostgresRow| sqlstate.starts_with(row.sqlstate) && message.contains(row.says);
    decided(POSTGRES.iter().find(is_it), Operator)
}

/// What may be done about a connection that failed, and what mends it.
pub fn of_connecting(message: &str) -> (Remedy, Option<&'static str>) {
    let is_it = |row: &&PostgresRow| message.contains(row.says);
    decided(CONNECT.iter().find(is_it), Retry)
}

fn decided(row: Option<&PostgresRow>, otherwise: Remedy) -> (Remedy, Option<&'static str>) {
    match row {
        None => (otherwise, None),
        Some(row) => (row.remedy, Some(row.cure).filter(|cure| !cure.is_empty())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_decides_what_it_is_about() {
        for row in POSTGRES {
            let sqlstate = format!("{:0<5}", row.sqlstate);
            let message = format!("before {} behind", row.says);
            let cure = Some(row.cure).filter(|cure| !cure.is_empty());
            let decided = of_server(&sqlstate, &message);
            assert_eq!(
                decided,
                (row.remedy, cure),
                "{row:?} is hidden by one before it"
            );
        }
        for row in CONNECT {
            let decided = of_connecting(&format!("FATAL:  {} \"x\"", row.says));
            assert_eq!(decided.0, row.remedy, "{row:?} is hidden by one before it");
        }
    }

    #[test]
    fn what_nobody_has_thought_of_is_for_a_person() {
        for sqlstate in [
            "P0001", "42P01", "42883", "22003", "3D000", "0A000", "F0000", "ZZ999",
        ] {
            assert_eq!(of_server(sqlstate, "in Worten").0, Operator, "{sqlstate}");
        }
        assert_eq!(of_connecting("what no release has said yet"), (Retry, None));
    }

    #[test]
    fn what_passes_is_told_from_what_is_lost_and_from_what_stays() {
        for (sqlstate, message, remedy) in [
            ("08006", "x", Retry),
            (
                "57P01",
                "terminating connection due to administrator command",
                Retry,
            ),
            ("57P03", "the database system is starting up", Retry),
            (
                "53100",
                "could not write to file: No space left on device",
                Retry,
            ),
            ("53200", "out of memory", Retry),
            ("53200", "out of shared memory", Operator),
            ("53300", "sorry, too many clients already", Retry),
            ("53400", "all replication slots are in use", Operator),
            ("55000", "could not import the requested snapshot", Retry),
            (
                "55000",
                "can no longer get changes from replication slot \"s\"",
                Resnapshot,
            ),
            (
                "55000",
                "can no longer access replication slot \"s\"",
                Resnapshot,
            ),
            (
                "55000",
                "replication slot \"s\" was not created in this database",
                Operator,
            ),
            ("55006", "replication slot \"s\" is active for PID 7", Taken),
            (
                "58P01",
                "requested WAL segment 0000 has already been removed",
                Resnapshot,
            ),
            ("58030", "could not read file: Input/output error", Operator),
            ("42501", "permission denied for table t", Operator),
            ("XX000", "cache lookup failed for relation 1", Doubtful),
            ("XX001", "invalid page in block 7", Fatal),
        ] {
            assert_eq!(
                of_server(sqlstate, message).0,
                remedy,
                "{sqlstate} {message}"
            );
        }
    }
}
