//! The client in a terminal, or a shell: a pseudo-terminal of the kernel, and an emulator that
//! knows what is on its screen.
//!
//! The program is the leader of a session whose terminal this is, as under a shell: what is
//! typed reaches it through the kernel, and Ctrl-C is a signal. `setsid --ctty` sees to that.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::installation;
use crate::keeper::{Exit, Kept, Service};
use crate::wait::SOON;

/// As a terminal has them unless somebody pulls at its window.
pub const ROWS: u16 = 24;
/// The narrowest terminal in use.
pub const COLUMNS: u16 = 80;

/// What Ctrl-C types.
pub const CTRL_C: &[u8] = b"\x03";

/// A program in a terminal. Dropped, it is killed.
pub struct Terminal {
    process: Kept,
    keyboard: File,
    shown: Arc<Shown>,
}

struct Shown {
    emulator: Mutex<vt100::Parser>,
    changed: Condvar,
}

impl Terminal {
    /// Runs `headwater` with arguments, in a terminal of [`ROWS`] and [`COLUMNS`].
    ///
    /// # Panics
    ///
    /// If it was not built, or there is no terminal to be had.
    pub fn start<A: AsRef<str>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Terminal::sized(ROWS, COLUMNS, arguments)
    }

    /// As [`Terminal::start`], of another size.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn sized<A: AsRef<str>>(
        rows: u16,
        columns: u16,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let client = installation::client().into_os_string();
        let arguments = arguments
            .into_iter()
            .map(|argument| argument.as_ref().into());
        let command = std::iter::once(client).chain(arguments).collect();
        Terminal::of(rows, columns, command, &[])
    }

    /// Runs a shell as somebody would whose home is this folder.
    ///
    /// # Panics
    ///
    /// If there is no terminal to be had.
    pub fn shell(command: &[&str], home: &Path) -> Self {
        let home = home.as_os_str();
        let environment = [
            ("HOME", home),
            ("ZDOTDIR", home),
            ("XDG_CONFIG_HOME", OsStr::new("")),
            ("XDG_DATA_HOME", OsStr::new("")),
        ];
        let command = command.iter().map(OsString::from).collect();
        Terminal::of(ROWS, COLUMNS, command, &environment)
    }

    fn of(rows: u16, columns: u16, command: Vec<OsString>, environment: &[(&str, &OsStr)]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap_or_else(|e| panic!("cannot open a terminal: {e}"));
        grantpt(&master).unwrap_or_else(|e| panic!("cannot have a terminal: {e}"));
        unlockpt(&master).unwrap_or_else(|e| panic!("cannot unlock a terminal: {e}"));
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap_or_else(|e| panic!("cannot size a terminal: {e}"));
        let name = ptsname(&master, Vec::new());
        let name = name.unwrap_or_else(|e| panic!("a terminal without a name: {e}"));
        let in_terminal =
            r#"terminal=$1; shift; exec setsid --ctty "$@" <"$terminal" >"$terminal" 2>&1"#;
        let service = Service::new("sh")
            .args(["-c", in_terminal, "sh"])
            .arg(name.to_string_lossy().as_ref())
            .args(command)
            .env("TERM", "xterm-256color");
        let process = environment
            .iter()
            .fold(service, |service, (name, value)| service.env(name, value))
            .start();
        let keyboard = File::from(master);
        let shown = Arc::new(Shown {
            emulator: Mutex::new(emulator(rows, columns)),
            changed: Condvar::new(),
        });
        let display = keyboard
            .try_clone()
            .unwrap_or_else(|e| panic!("cannot read a terminal: {e}"));
        let theirs = Arc::clone(&shown);
        std::thread::spawn(move || theirs.follow(display));
        Terminal {
            process,
            keyboard,
            shown,
        }
    }

    /// Types.
    ///
    /// # Panics
    ///
    /// If nobody takes it.
    pub fn types(&mut self, keys: &[u8]) {
        self.keyboard
            .write_all(keys)
            .unwrap_or_else(|e| panic!("cannot type: {e}"));
    }

    /// Waits until the screen is as `holds` wants it, at whatever moment that is, and
    /// returns it.
    ///
    /// # Panics
    ///
    /// If the program ends first, or after [`SOON`], with `what` was waited for and the screen.
    #[track_caller]
    pub fn shows(&mut self, what: &str, holds: impl Fn(&vt100::Screen) -> bool) -> vt100::Screen {
        let begin = Instant::now();
        loop {
            let ended = self.process.ended();
            if let Some(screen) = self.shown.wait(&holds) {
                return screen;
            }
            assert!(
                ended.is_none() && begin.elapsed() < SOON,
                "{what}: not after {} s; the program {}; the screen:\n{}",
                begin.elapsed().as_secs(),
                ended.map_or("still runs".to_owned(), |exit| format!(
                    "ended with {exit:?}"
                )),
                self.screen().contents()
            );
        }
    }

    /// Waits until the screen has a text.
    ///
    /// # Panics
    ///
    /// As [`Terminal::shows`].
    #[track_caller]
    pub fn shows_text(&mut self, text: &str) -> vt100::Screen {
        self.shows(text, |screen| screen.contents().contains(text))
    }

    /// What is on the screen.
    pub fn screen(&self) -> vt100::Screen {
        self.shown.lock().screen().clone()
    }

    /// Waits for the end, and returns it with what the screen shows then.
    ///
    /// # Panics
    ///
    /// After [`SOON`].
    #[track_caller]
    pub fn ends(mut self) -> (Exit, vt100::Screen) {
        let exit = self.process.wait(SOON);
        // The kernel keeps what was written until it is read; what comes is read at once.
        let mut before = self.screen().contents();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let screen = self.screen();
            let after = screen.contents();
            if after == before {
                return (exit, screen);
            }
            before = after;
        }
    }
}

fn emulator(rows: u16, columns: u16) -> vt100::Parser {
    let least = NonZero::<u16>::MIN;
    let (rows, columns) = (NonZero::new(rows), NonZero::new(columns));
    vt100::Parser::new(rows.unwrap_or(least), columns.unwrap_or(least), 0)
}

impl Shown {
    /// Shows what comes until nobody has the terminal open any more.
    fn follow(&self, mut display: File) {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = display.read(&mut bytes) {
            self.lock().process(&bytes[..count]);
            self.changed.notify_all();
        }
    }

    /// The screen once it is as wanted, waiting a moment for it.
    fn wait(&self, holds: &impl Fn(&vt100::Screen) -> bool) -> Option<vt100::Screen> {
        let emulator = self.lock();
        let moment = Duration::from_millis(100);
        let (emulator, _) = self
            .changed
            .wait_timeout_while(emulator, moment, |emulator| !holds(emulator.screen()))
            .unwrap_or_else(PoisonError::into_inner);
        holds(emulator.screen()).then(|| emulator.screen().clone())
    }

    fn lock(&self) -> MutexGuard<'_, vt100::Parser> {
        self.emulator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
