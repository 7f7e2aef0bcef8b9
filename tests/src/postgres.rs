//! A throwaway Postgres cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::certificates::{Certificates, Holder};
use crate::installation::{Installation, fed, output};
use crate::keeper::{self, Folder, Kept, Service, clean_environment};
use crate::port;
use crate::session::Session;
use crate::wait::{SOON, eventually};

/// The plugins that the tests compare with stand beside Headwater: setting the list
/// replaces the default.
const OUTPUT_PLUGINS: &str = "pgoutput, test_decoding, headwater, wal2json";

/// What every cluster is set to, unless a test says otherwise. Nothing here outlives the
/// test, so nothing is synced.
const SETTINGS: [(&str, &str); 9] = [
    ("wal_level", "logical"),
    ("fsync", "off"),
    // What it compiles queries with is not copied along.
    ("jit", "off"),
    ("max_wal_senders", "40"),
    ("max_replication_slots", "1000"),
    ("max_connections", "120"),
    ("listen_addresses", "127.0.0.1"),
    ("log_line_prefix", "%m [%p] %a "),
    ("log_min_messages", "info"),
];

/// How a cluster differs from the ordinary one.
#[derive(Debug, Default)]
pub struct Options {
    settings: Vec<(String, String)>,
    password: Option<String>,
    plugins_unlisted: bool,
    stock: bool,
    installation: Option<Installation>,
}

impl Options {
    /// A setting of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Every connection over TCP has to bring this password, for the user `postgres`.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Leaves `output_plugin_libraries` at its default.
    #[must_use]
    pub fn with_output_plugins_unlisted(mut self) -> Self {
        self.plugins_unlisted = true;
        self
    }

    /// As `initdb` leaves it: no setting is given, so that `ALTER SYSTEM` decides.
    #[must_use]
    pub fn stock(mut self) -> Self {
        self.stock = true;
        self
    }

    /// Another server than the usual one.
    #[must_use]
    pub fn installation(mut self, installation: Installation) -> Self {
        self.installation = Some(installation);
        self
    }

    /// Makes the cluster and starts it.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn start(self) -> Postgres {
        let folder = Folder::new();
        let installation = self
            .installation
            .unwrap_or_else(Installation::from_environment)
            .reachable(folder.path());

        let mut initdb = unprivileged(installation.program("initdb"));
        initdb
            .args(["-D".as_ref(), data_of(&folder).as_os_str()])
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"])
            .args(["--no-sync", "--no-instructions"]);
        output(&mut initdb);

        let usual: &[(&str, &str)] = if self.stock { &[] } else { &SETTINGS };
        let mut settings: Vec<(String, String)> = usual
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if !self.plugins_unlisted && !self.stock && installation.lists_output_plugins() {
            settings.push(("output_plugin_libraries".into(), OUTPUT_PLUGINS.into()));
        }
        settings.extend(self.settings);

        let mut postgres = Postgres {
            server: None,
            port: port::free(),
            installation,
            settings,
            folder,
        };
        postgres.start();
        if let Some(password) = &self.password {
            postgres.require_password(password);
        }
        postgres
    }
}

/// A running cluster of one server. Dropped, it is gone.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Kept>,
    port: u16,
    installation: Installation,
    settings: Vec<(String, String)>,
    folder: Folder,
}

impl Postgres {
    /// A cluster as the tests use it: see [`Options`] for others.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn new() -> Self {
        Options::default().start()
    }

    /// A second cluster, restored from a base backup of this one as it is now.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn restored_backup(&self) -> Postgres {
        self.copied(|data| self.base_backup(data, &[]))
    }

    /// A standby that follows this cluster.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn standby(&self) -> Postgres {
        self.copied(|data| self.base_backup(data, &["--write-recovery-conf"]))
    }

    /// Ends recovery: this standby begins a timeline of its own.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn promote(&self) {
        let promoted = self.session("postgres").holds("select pg_promote()");
        assert!(promoted, "the standby was not promoted:\n{}", self.log());
    }

    /// A second cluster with a copy of this one's files, which must be [stopped](Self::stop).
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn file_copy(&self) -> Postgres {
        assert!(self.server.is_none(), "files of a running server");
        self.copied(|data| {
            let mut copy = unprivileged("cp".into());
            output(copy.arg("-a").arg(data_of(&self.folder)).arg(data));
        })
    }

    fn base_backup(&self, data: &Path, options: &[&str]) {
        let socket = self.folder.path().display().to_string();
        let mut backup = unprivileged(self.installation.program("pg_basebackup"));
        backup
            .args([
                "-h",
                &socket,
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
            ])
            .args([
                "--checkpoint=fast",
                "--wal-method=stream",
                "--no-sync",
                "-D",
            ])
            .arg(data)
            .args(options);
        output(&mut backup);
    }

    /// A cluster with the same settings, whose files `fill` makes.
    fn copied(&self, fill: impl FnOnce(&Path)) -> Postgres {
        let folder = Folder::new();
        fill(&data_of(&folder));
        let mut postgres = Postgres {
            server: None,
            port: port::free(),
            installation: self.installation.clone().reachable(folder.path()),
            settings: self.settings.clone(),
            folder,
        };
        postgres.start();
        postgres
    }

    /// Stops it as an operator would, with a checkpoint.
    pub fn stop(&mut self) {
        self.end(Signal::SIGINT);
    }

    /// Stops it and starts it again, as settings ask for that are read at the start alone.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Stops it at once, as a crash would: what is on disk is recovered at the next start.
    pub fn crash(&mut self) {
        self.end(Signal::SIGQUIT);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut server) = self.server.take() {
            server.signal(signal);
            server.wait(SOON);
        }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the postmaster.
    ///
    /// # Panics
    ///
    /// If the server does not run.
    pub fn pid(&self) -> u32 {
        let file = data_of(&self.folder).join("postmaster.pid");
        std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.lines().next()?.parse().ok())
            .unwrap_or_else(|| panic!("no process id in {}", file.display()))
    }

    /// The server's programs.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The connection string of a database, over TCP.
    pub fn conninfo(&self, database: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user=postgres dbname={database}",
            self.port
        )
    }

    /// The same over the Unix socket, where no password is asked for.
    pub fn local_conninfo(&self, database: &str) -> String {
        let socket = self.folder.path().display();
        format!(
            "host={socket} port={} user=postgres dbname={database}",
            self.port
        )
    }

    /// A session with a database.
    ///
    /// # Panics
    ///
    /// If it is refused.
    #[track_caller]
    pub fn session(&self, database: &str) -> Session {
        match Session::connect(&self.local_conninfo(database)) {
            Ok(session) => session,
            Err(e) => panic!(
                "cannot connect to database \"{database}\": {e}\n{}",
                self.log()
            ),
        }
    }

    /// Runs SQL in psql as the superuser, to its end or to the first error.
    ///
    /// # Panics
    ///
    /// If a statement fails, with what psql says.
    #[track_caller]
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut psql = self.program("psql", database);
        psql.env("PGHOST", self.folder.path());
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
        fed(&mut psql, sql)
    }

    /// What stands in `pg_hba.conf`.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    pub fn rules(&self) -> String {
        let file = data_of(&self.folder).join("pg_hba.conf");
        std::fs::read_to_string(&file)
            .unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()))
    }

    /// Has `pg_hba.conf` say these rules, and the server read them.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn let_in(&self, rules: &str) {
        let file = data_of(&self.folder).join("pg_hba.conf");
        std::fs::write(&file, rules)
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
        self.session("postgres").run("select pg_reload_conf()");
    }

    /// Makes a database with the extension in it and opens a session there.
    ///
    /// # Panics
    ///
    /// If it cannot.
    #[track_caller]
    pub fn database(&self, name: &str) -> Session {
        self.session("postgres")
            .run(&format!("create database {name}"));
        let session = self.session(name);
        session.run("create extension headwater");
        session
    }

    /// One of the server's client programs, connected to a database by its environment.
    pub fn program(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(self.installation.program(name));
        command
            .env_clear()
            .envs(clean_environment())
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", database);
        command
    }

    /// pg_recvlogical, printing what a slot has up to an LSN.
    pub fn pg_recvlogical(&self, database: &str, slot: &str, end: &str) -> Command {
        let mut command = self.program("pg_recvlogical", database);
        command
            .args(["--dbname", database, "--slot", slot, "--start"])
            .args(["--no-loop", "--endpos", end, "--file", "-"]);
        command
    }

    /// Kills one server process outright; the postmaster then restarts all of them.
    pub fn kill_backend(&self, pid: i32) {
        let _gone = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }

    /// Lines of the server's log that hold any of `texts`.
    pub fn logged(&self, texts: &[&str]) -> Vec<String> {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&log)
            .lines()
            .filter(|line| texts.iter().any(|text| line.contains(text)))
            .map(str::to_owned)
            .collect()
    }

    /// The end of the server's log.
    pub fn log(&self) -> String {
        keeper::tail_of(&self.log_file(), 60)
    }

    /// How often the server's log has a text.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    pub fn times_logged(&self, text: &str) -> usize {
        let file = self.log_file();
        let log =
            std::fs::read(&file).unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()));
        String::from_utf8_lossy(&log).matches(text).count()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Starts it again where it was stopped: same port, same files.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn start(&mut self) {
        let mut service = Service::new(self.installation.program("postgres"))
            .arg("-D")
            .arg(data_of(&self.folder))
            .args(["-p", &self.port.to_string()])
            .arg("-c")
            .arg(format!(
                "unix_socket_directories={}",
                self.folder.path().display()
            ));
        for (name, value) in &self.settings {
            service = service.arg("-c").arg(format!("{name}={value}"));
        }
        let mut server = service
            .unprivileged()
            // An immediate shutdown: it ends every server process and its shared memory.
            .ended_by(Signal::SIGQUIT)
            .logging_to(&self.log_file())
            .start();
        eventually("Postgres answers", SOON, || {
            if let Some(exit) = server.ended() {
                panic!("Postgres ended with {exit:?}:\n{}", self.log());
            }
            Session::connect(&self.local_conninfo("postgres"))
        });
        self.server = Some(server);
    }

    /// Lets in over TCP only those who come by TLS: `certified` by a certificate of the authority
    /// with its name, whoever else by a password. [`Postgres::show`] says which certificate
    /// it shows.
    ///
    /// # Panics
    ///
    /// If it refuses.
    pub fn require_tls(&self, certificates: &Certificates, certified: &str, password: &str) {
        let authority = self.adopt("authority.pem", &certificates.authority());
        let session = self.session("postgres");
        session.run(&format!("alter user postgres password '{password}'"));
        session.run(&format!("create role {certified} superuser login"));
        session.run(&format!("alter system set ssl_ca_file = '{authority}'"));
        let rules = format!(
            "local all all trust\nlocal replication all trust\n\
             hostssl all {certified} 127.0.0.1/32 cert\n\
             hostssl all all 127.0.0.1/32 scram-sha-256\n"
        );
        let file = data_of(&self.folder).join("pg_hba.conf");
        std::fs::write(&file, rules)
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
        session.run("alter system set ssl = on");
        self.show(certificates, Holder::Server);
    }

    /// Shows the certificate of `holder` from now on.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn show(&self, certificates: &Certificates, holder: Holder) {
        let file = self.adopt(&format!("{holder}.pem"), &certificates.identity(holder));
        let session = self.session("postgres");
        for setting in ["ssl_cert_file", "ssl_key_file"] {
            session.run(&format!("alter system set {setting} = '{file}'"));
        }
        session.run("select pg_reload_conf()");
        let reloaded =
            format!("select setting = '{file}' from pg_settings where name = 'ssl_cert_file'");
        // A new session is forked from a postmaster that has read it.
        eventually("the certificate is shown", SOON, || {
            let shown = self.session("postgres").holds(&reloaded);
            if shown { Ok(()) } else { Err("another one is") }
        });
    }

    /// A copy of a file that belongs to the server's user.
    fn adopt(&self, name: &str, file: &Path) -> String {
        let copy = data_of(&self.folder).join(name);
        let mut install = Command::new("install");
        install.args(["-m", "600"]).arg(file).arg(&copy);
        output(&mut install);
        keeper::give_away(&copy);
        copy.display().to_string()
    }

    fn require_password(&self, password: &str) {
        let session = self.session("postgres");
        session.run(&format!("alter user postgres password '{password}'"));
        self.let_in(
            "local all all trust\nlocal replication all trust\n\
             host all all 127.0.0.1/32 scram-sha-256\n\
             host replication all 127.0.0.1/32 scram-sha-256\n",
        );
        eventually(
            "the password is asked for",
            SOON,
            || match Session::connect(&self.conninfo("postgres")) {
                Ok(_) => Err("a connection without password was let in"),
                Err(_) => Ok(()),
            },
        );
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Postgres::new()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the Postgres log\n{}", self.log());
        }
    }
}

fn data_of(folder: &Folder) -> PathBuf {
    folder.path().join("data")
}

/// A command that the server's own user runs: Postgres refuses root.
fn unprivileged(program: PathBuf) -> Command {
    let mut words = keeper::unprivileged_prefix();
    words.push(program.into_os_string());
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env_clear()
        .envs(clean_environment());
    command
}
