//! Processes that cannot be left behind.
//!
//! A server or a client runs under a small shell, the keeper, whose standard input is a
//! pipe from the harness. When the pipe closes, which the kernel sees to however the
//! harness ends, the keeper ends the process. A temporary [`Folder`] has a keeper too,
//! which removes it. Keepers are in process groups of their own, so that Ctrl-C in a
//! terminal reaches the harness alone.
//!
//! ```text
//! harness ──pipe──> keeper (sh) ──> postgres | java | headwater
//! ```
//!
//! A process ends with its keeper and the keeper with its process, whose exit code it
//! hands on.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, chown};

use crate::wait::eventually;

/// `$1` the signal that ends the process, the rest the command, which prints its process
/// id first. The end of standard input ends the process.
const PROCESS_KEEPER: &str = r#"
signal=$1
shift
exec 4<&0
sh -c 'echo "$$"; exec "$@"' sh "$@" 4<&- </dev/null &
pid=$!
{
    cat
    kill -s "$signal" "$pid"
} <&4 >/dev/null 2>&1 &
reader=$!
exec 4<&-
wait "$pid"
status=$?
kill "$reader" 2>/dev/null
exit "$status"
"#;

/// `$1` the folder, removed at the end of standard input: again and again for 5 s, as a
/// server that is being ended at the same time may still write to it.
const FOLDER_KEEPER: &str = r#"
cat >/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$1" 2>/dev/null && [ ! -e "$1" ] && break
    sleep 0.5
done
"#;

/// Who runs a server when the harness runs as root: Postgres refuses root.
const SERVICE_USERS: [&str; 2] = ["postgres", "nobody"];

/// What to run.
#[derive(Debug)]
pub struct Service {
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    end_signal: Signal,
    log: Option<PathBuf>,
}

impl Service {
    /// A program, ended by SIGKILL unless told otherwise.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Service {
            command: vec![program.as_ref().to_owned()],
            environment: Vec::new(),
            end_signal: Signal::SIGKILL,
            log: None,
        }
    }

    /// An argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.push(argument.as_ref().to_owned());
        self
    }

    /// Several arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// A variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs as an unprivileged user where the harness is root.
    #[must_use]
    pub fn unprivileged(mut self) -> Self {
        self.command = unprivileged_prefix()
            .into_iter()
            .chain(self.command)
            .collect();
        self
    }

    /// The signal that ends it when the harness is done with it.
    #[must_use]
    pub fn ended_by(mut self, signal: Signal) -> Self {
        self.end_signal = signal;
        self
    }

    /// Appends standard output and standard error to a file.
    #[must_use]
    pub fn logging_to(mut self, log: &Path) -> Self {
        self.log = Some(log.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// If no shell can be started.
    pub fn start(self) -> Kept {
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", PROCESS_KEEPER, "keeper"])
            .arg(self.end_signal.as_str().trim_start_matches("SIG"));
        if let Some(log) = &self.log {
            // The process id has gone to standard output by then.
            let redirect = r#"log=$1; shift; exec "$@" >>"$log" 2>&1"#;
            keeper.args(["sh", "-c", redirect, "log"]).arg(log);
        }
        let program = self.command[0].clone();
        let mut child = keeper
            .args(self.command)
            .env_clear()
            .envs(clean_environment())
            .envs(self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start a shell for {}: {e}", program.display()));
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            panic!("a shell without its pipes");
        };
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        let pid = match stdout.read_line(&mut line) {
            Ok(_) => line.trim().parse().map(Pid::from_raw),
            Err(e) => panic!("cannot read the process id of {}: {e}", program.display()),
        };
        let pid = pid.unwrap_or_else(|_| panic!("no process id, but {line:?}"));
        Kept {
            keeper: child,
            line: Some(stdin),
            pid,
            stdout: Some(stdout),
            stderr: Some(stderr),
        }
    }
}

/// The harness's environment without what would steer libpq or the client from outside.
pub fn clean_environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        !name.starts_with("PG") && !name.starts_with("HEADWATER_")
    })
}

/// A running process and its keeper. Dropped, the process ends.
#[derive(Debug)]
pub struct Kept {
    keeper: Child,
    line: Option<ChildStdin>,
    pid: Pid,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<ChildStderr>,
}

impl Kept {
    /// The process itself, not its keeper.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to the process; to one that is gone already, none.
    pub fn signal(&self, signal: Signal) {
        let _gone = kill(self.pid, signal);
    }

    /// Its standard output, once.
    pub fn take_stdout(&mut self) -> Option<BufReader<ChildStdout>> {
        self.stdout.take()
    }

    /// Its standard error, once.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.stderr.take()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<Exit> {
        self.keeper.try_wait().ok().flatten().map(Exit::of)
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    ///
    /// After `deadline`.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> Exit {
        let pid = self.pid;
        eventually("the process's end", deadline, || {
            self.ended().ok_or(format!("{pid} still runs"))
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.line.take());
        let _ended = self.keeper.wait();
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            // A shell's way to say that a signal ended the process it waited for.
            (Some(code), _) if code > 128 => Exit::Signal(code - 128),
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(0)),
        }
    }
}

/// What to put before a command that must not run as root: nothing if this is not root.
///
/// # Panics
///
/// As root without any of the users that servers run as.
pub fn unprivileged_prefix() -> Vec<OsString> {
    let Some(user) = service_user() else {
        return Vec::new();
    };
    vec![
        "setpriv".into(),
        format!("--reuid={}", user.uid).into(),
        format!("--regid={}", user.gid).into(),
        "--clear-groups".into(),
    ]
}

fn service_user() -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    let user = SERVICE_USERS
        .iter()
        .find_map(|name| User::from_name(name).ok().flatten());
    assert!(
        user.is_some(),
        "root, and none of the users {SERVICE_USERS:?} to run a server as"
    );
    user
}

/// Makes a file or folder belong to whom servers run as, where this is root.
///
/// # Panics
///
/// If it cannot.
pub(crate) fn give_away(path: &Path) {
    if let Some(user) = service_user() {
        chown(path, Some(user.uid), Some(user.gid))
            .unwrap_or_else(|e| panic!("cannot give {} away: {e}", path.display()));
    }
}

/// A temporary folder that belongs to whom servers run as, with a path short enough for
/// a Unix socket in it. Dropped, it is gone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keeper: Child,
    line: Option<ChildStdin>,
}

impl Folder {
    /// Makes it, in `TMPDIR` or `/tmp`.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn new() -> Self {
        let made = tempfile::Builder::new()
            .prefix("headwater-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir();
        // From here on its keeper removes it.
        let path = match made {
            Ok(folder) => folder.keep(),
            Err(e) => panic!("cannot make a temporary folder: {e}"),
        };
        let mut keeper = Command::new("sh")
            .args(["-c", FOLDER_KEEPER, "keeper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start a shell to keep {}: {e}", path.display()));
        give_away(&path);
        Folder {
            line: keeper.stdin.take(),
            keeper,
            path,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.line.take());
        let _ended = self.keeper.wait();
    }
}

/// The last lines of a log, to show with a failure.
pub fn tail_of(log: &Path, lines: usize) -> String {
    let Ok(file) = File::open(log) else {
        return format!("(no log at {})", log.display());
    };
    let all: Vec<String> = BufReader::new(file)
        .split(b'\n')
        .map_while(Result::ok)
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
