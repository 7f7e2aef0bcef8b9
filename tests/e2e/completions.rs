//! Completions, installed as the help says and asked for by TAB in each of the shells.

use std::path::Path;

use headwater_tests::terminal::Terminal;
use headwater_tests::{Client, installation};

/// What each shell is made to show when it waits for a command.
const PROMPT: &str = "waits> ";

/// A shell, its settings, and where it looks for the script: in the home of whoever runs it.
struct Shell {
    name: &'static str,
    command: &'static [&'static str],
    settings: (&'static str, &'static str),
    script: &'static str,
}

const SHELLS: [Shell; 3] = [
    Shell {
        name: "bash",
        command: &["bash", "--noprofile", "-i"],
        settings: (
            ".bashrc",
            "PATH=~/bin:$PATH; PS1='waits> '; . ~/completions",
        ),
        script: "completions",
    },
    Shell {
        name: "zsh",
        command: &["zsh", "-i"],
        settings: (
            ".zshrc",
            "path=(~/bin $path); PS1='waits> '; fpath=(~/functions $fpath); autoload -Uz compinit; compinit -u -D",
        ),
        script: "functions/_headwater",
    },
    Shell {
        name: "fish",
        command: &["fish", "-i"],
        settings: (
            ".config/fish/config.fish",
            "set PATH ~/bin $PATH; set -g fish_greeting; function fish_prompt; echo 'waits> '; end",
        ),
        script: ".config/fish/completions/headwater.fish",
    },
];

/// What is typed, TAB behind it, and what stands on the line then.
const TYPED: [(&str, &str); 3] = [
    ("headwater str", "headwater stream"),
    ("--on-err", "headwater stream --on-error"),
    ("quar", "headwater stream --on-error quarantine"),
];

fn put(home: &Path, name: &str, text: &str) {
    let path = home.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
}

#[test]
fn shells_complete_a_command_an_option_and_its_value() {
    for shell in SHELLS {
        let home = tempfile::tempdir().unwrap();
        let script = Client::run(["completions", shell.name]);
        script.expect(0, &[]);
        put(home.path(), shell.script, &script.stdout);
        put(home.path(), shell.settings.0, shell.settings.1);
        // fish completes what there is to run.
        let bin = home.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(installation::client(), bin.join("headwater")).unwrap();

        let mut terminal = Terminal::shell(shell.command, home.path());
        terminal.shows_text(PROMPT.trim_end());
        for (typed, completed) in TYPED {
            terminal.types(typed.as_bytes());
            terminal.types(b"\t");
            let line = format!("{PROMPT}{completed}");
            // Some put `=` between an option and its value.
            terminal.shows(&format!("{}: {line}", shell.name), |screen| {
                screen.contents().replace('=', " ").contains(&line)
            });
        }
    }
}
