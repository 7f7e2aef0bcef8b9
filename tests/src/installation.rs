//! Where the programs under test lie.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::keeper::unprivileged_prefix;

/// The folder that `cargo` builds in and `make` fetches into.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => workspace().join("target"),
    }
}

/// The checkout.
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The client as it is released, or the program that `HW_TEST_CLIENT` names.
///
/// # Panics
///
/// If there is none.
pub fn client() -> PathBuf {
    let client = std::env::var_os("HW_TEST_CLIENT")
        .map_or_else(|| target().join("release/headwater"), PathBuf::from);
    assert!(
        client.is_file(),
        "no client at {}: `make test` builds it first",
        client.display()
    );
    client
}

/// The folder with Kafka's jars.
///
/// # Panics
///
/// If they were not fetched.
pub fn kafka() -> PathBuf {
    let libs = target().join("kafka/libs");
    assert!(
        libs.is_dir(),
        "no Kafka at {}: `make setup` fetches it",
        libs.display()
    );
    libs
}

/// The folder with Python's fastavro.
///
/// # Panics
///
/// If it was not fetched.
pub fn fastavro() -> PathBuf {
    python("fastavro")
}

/// The folder with Prometheus' library for Python.
///
/// # Panics
///
/// If it was not fetched.
pub fn prometheus_client() -> PathBuf {
    python("prometheus_client")
}

fn python(name: &str) -> PathBuf {
    let folder = target().join(name);
    assert!(
        folder.is_dir(),
        "no {name} at {}: `setup/python.sh {name}` fetches it",
        folder.display()
    );
    folder
}

/// Prometheus' own reader of rules and metrics: the one in `PATH`, or the one that was fetched.
///
/// # Panics
///
/// If there is none.
pub fn promtool() -> PathBuf {
    let program = output(&mut Command::new(workspace().join("setup/promtool.sh")));
    PathBuf::from(program.trim_end())
}

/// The program of the schema registry.
///
/// # Panics
///
/// If it was not fetched.
pub fn registry() -> PathBuf {
    let folder = target().join("registry");
    let jar = std::fs::read_dir(&folder).ok().and_then(|files| {
        let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
        paths.find(|path| path.to_string_lossy().ends_with("-runner.jar"))
    });
    jar.unwrap_or_else(|| {
        panic!(
            "no schema registry at {}: `setup/registry.sh` fetches it",
            folder.display()
        )
    })
}

/// One Postgres server's programs, with the extension installed.
#[derive(Clone, Debug)]
pub struct Installation {
    pg_config: PathBuf,
    programs: PathBuf,
    version: String,
}

impl Installation {
    /// The server of `HW_TEST_PG_CONFIG`, or else the private copy that `make server` makes
    /// of the one whose `pg_config` is in `PATH`.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn from_environment() -> Self {
        if let Some(pg_config) = std::env::var_os("HW_TEST_PG_CONFIG") {
            return Installation::of(Path::new(&pg_config));
        }
        Installation::copied("system", "server")
    }

    /// The private copy that `make server-panics` makes, with a library that panics where a
    /// test asks it to.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn panicking() -> Self {
        Installation::copied("panics", "server-panics")
    }

    fn copied(name: &str, target_of_make: &str) -> Self {
        let system = std::env::var_os("PG_CONFIG").unwrap_or_else(|| "pg_config".into());
        let programs = ask(Path::new(&system), "--bindir");
        let copy = target()
            .join("postgres")
            .join(name)
            .join(programs.trim_start_matches('/'))
            .join("pg_config");
        assert!(
            copy.is_file(),
            "no server at {}: `make {target_of_make}` makes it",
            copy.display()
        );
        Installation::of(&copy)
    }

    /// The server of a `pg_config`.
    ///
    /// # Panics
    ///
    /// If that does not answer.
    pub fn of(pg_config: &Path) -> Self {
        Installation {
            pg_config: pg_config.to_owned(),
            programs: ask(pg_config, "--bindir").into(),
            version: ask(pg_config, "--version")
                .trim_start_matches("PostgreSQL ")
                .to_owned(),
        }
    }

    /// As Postgres prints it: `15.20 (Debian 15.20-0+deb12u1)`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A program of the server.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Whether the server has a library of this name to load.
    pub fn has_library(&self, name: &str) -> bool {
        let libraries = ask(&self.pg_config, "--pkglibdir");
        Path::new(&libraries).join(format!("{name}.so")).is_file()
    }

    /// Whether this minor version asks for output plugins to be listed in
    /// `output_plugin_libraries`. Where it does not, the setting's name keeps the server
    /// from starting.
    pub fn lists_output_plugins(&self) -> bool {
        let described = output(Command::new(self.program("postgres")).arg("--describe-config"));
        described
            .lines()
            .any(|line| line.starts_with("output_plugin_libraries\t"))
    }

    /// This installation, or a copy of it in `folder` where the user that servers run as
    /// may not enter this one: root's checkout can lie in a folder that is root's alone.
    ///
    /// # Panics
    ///
    /// If the copy fails.
    pub(crate) fn reachable(self, folder: &Path) -> Self {
        let mut words = unprivileged_prefix();
        if words.is_empty() {
            return self;
        }
        words.extend([
            OsString::from("test"),
            "-x".into(),
            self.program("postgres").into(),
        ]);
        let reached = Command::new(&words[0]).args(&words[1..]).status();
        if reached.is_ok_and(|status| status.success()) {
            return self;
        }
        let copied = output(
            Command::new(workspace().join("setup/server-copy.sh"))
                .arg(&self.pg_config)
                .arg(folder.join("server")),
        );
        Installation::of(Path::new(copied.trim()))
    }
}

fn ask(pg_config: &Path, what: &str) -> String {
    output(Command::new(pg_config).arg(what)).trim().to_owned()
}

/// A program's standard output.
///
/// # Panics
///
/// If it fails, with what it said.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(
        status.success(),
        "{command:?} ended with {status}: {}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).unwrap_or_else(|e| panic!("{command:?} printed no UTF-8: {e}"))
}

/// A program's standard output, when `input` is its standard input.
///
/// # Panics
///
/// If it fails, with what it said.
#[track_caller]
pub fn fed(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended already says why in its output.
        let _ended = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .unwrap_or_else(|e| panic!("cannot wait for {command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {}\nin: {input}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap_or_else(|e| panic!("{command:?} printed no UTF-8: {e}"))
}
