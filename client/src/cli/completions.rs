//! The options of `headwater completions`.

use clap::Args;
use clap_complete::Shell;

/// Prints a script by which a shell completes commands, options and their values.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    headwater completions bash > /usr/share/bash-completion/completions/headwater\n  \
    headwater completions zsh > \"${fpath[1]}/_headwater\"\n  \
    headwater completions fish > ~/.config/fish/completions/headwater.fish")]
pub struct CompletionsOptions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}
