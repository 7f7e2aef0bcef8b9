//! What is installed on the server: on a copy of it, since it is taken away.

use std::path::{Path, PathBuf};
use std::process::Command;

use headwater_tests::Installation;
use headwater_tests::installation::{output, workspace};
use headwater_tests::keeper::Folder;
use headwater_tests::postgres::Options;

use super::printed::User;

/// An earlier release, which never was.
const EARLIER: &str = "0.0.9";
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// A server of the test's own.
struct Own {
    pg_config: PathBuf,
    _folder: Folder,
}

impl Own {
    fn new() -> Self {
        let folder = Folder::new();
        let usual = Installation::from_environment().program("pg_config");
        let mut copy = Command::new(workspace().join("setup/server-copy.sh"));
        let copied = output(copy.arg(usual).arg(folder.path().join("server")));
        Own {
            pg_config: copied.trim().into(),
            _folder: folder,
        }
    }

    /// The headers that the extension is built with, which copies of servers have none of.
    fn has_headers(&self) {
        let system = std::env::var_os("PG_CONFIG").unwrap_or_else(|| "pg_config".into());
        let headers = output(Command::new(system).arg("--includedir-server"));
        let own = self.folder("--includedir-server");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(headers.trim(), &own).unwrap();
    }

    fn options(&self) -> Options {
        Options::default().installation(Installation::of(&self.pg_config))
    }

    fn folder(&self, what: &str) -> PathBuf {
        output(Command::new(&self.pg_config).arg(what))
            .trim()
            .into()
    }

    fn library(&self) -> PathBuf {
        self.folder("--pkglibdir").join("headwater.so")
    }

    fn control(&self) -> PathBuf {
        self.folder("--sharedir")
            .join("extension/headwater.control")
    }

    /// The script that makes a release, or leads to it from another.
    fn script(&self, release: &str) -> PathBuf {
        let extensions = self.folder("--sharedir").join("extension");
        extensions.join(format!("headwater--{release}.sql"))
    }

    /// A control file with another release, as one that was installed later brings.
    fn has_default(&self, release: &str) {
        let control = self.control();
        let text = std::fs::read_to_string(&control).unwrap();
        let setting = |release| format!("default_version = '{release}'");
        let other = text.replace(&setting(RELEASE), &setting(release));
        assert_ne!(other, text);
        std::fs::write(&control, other).unwrap();
    }

    fn has_earlier(&self) {
        std::fs::copy(self.script(RELEASE), self.script(EARLIER)).unwrap();
    }
}

fn remove(file: &Path) {
    std::fs::remove_file(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

#[test]
fn an_extension_of_another_release_is_updated_or_made_anew() {
    let own = Own::new();
    own.has_earlier();
    let update = own.script(&format!("{EARLIER}--{RELEASE}"));
    std::fs::write(&update, "").unwrap();
    let mut postgres = own.options().start();
    let sql = postgres.database("outdated");
    sql.run("create table items (id int primary key)");
    let conninfo = postgres.conninfo("outdated");
    let options = ["-d", &conninfo, "--sink", "stdout", "--sample", "0"];
    let mut user = User::new(&mut postgres, &options);
    let made = format!("drop extension headwater; create extension headwater version '{EARLIER}'");
    sql.run(&made);
    user.hears_and_mends("extension", "fail", EARLIER);

    remove(&update);
    sql.run(&made);
    user.hears_and_mends("extension", "fail", EARLIER);
    user.is_well("library");

    // The earlier release is what CREATE EXTENSION makes unless it is told.
    own.has_default(EARLIER);
    sql.run(&made);
    user.hears_and_mends("extension", "fail", EARLIER);
    sql.run("drop extension headwater");
    user.hears_and_mends("extension", "fail", "\"outdated\"");
    assert_eq!(user.asks().exit_code, 0);
}

#[test]
#[ignore = "builds a release: make test-doctor"]
fn what_is_not_installed_is_built_and_installed() {
    let own = Own::new();
    own.has_headers();
    let mut postgres = own.options().start();
    postgres.session("postgres").run("create database shop");
    let sql = postgres.session("shop");
    sql.run("create table items (id int primary key)");
    let conninfo = postgres.conninfo("shop");
    let options = ["-d", &conninfo, "--sink", "stdout", "--sample", "0"];
    let mut user = User::new(&mut postgres, &options);

    // Nothing of it.
    remove(&own.script(RELEASE));
    remove(&own.control());
    remove(&own.library());
    let found = user.hears("extension", "fail");
    assert!(found[0].found.contains("is not installed"), "{found:?}");
    user.mends(&found[0]);
    user.hears_and_mends("extension", "fail", "\"shop\"");
    user.is_well("library");

    // Another release alone, which is made already.
    own.has_earlier();
    sql.run(&format!(
        "drop extension headwater; create extension headwater version '{EARLIER}'"
    ));
    remove(&own.script(RELEASE));
    let found = user.hears("extension", "fail");
    assert!(found[0].found.contains("another release"), "{found:?}");
    user.mends(&found[0]);
    user.hears_and_mends("extension", "fail", EARLIER);

    // The library is gone.
    remove(&own.library());
    user.hears_and_mends("library", "fail", "headwater");
    assert_eq!(user.asks().exit_code, 0);
}
