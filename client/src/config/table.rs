//! The one table of settings: the options of clap's command tree.

use std::any::TypeId;
use std::mem;

use clap::{Arg, ArgAction, Command};

use super::secret::Secret;

/// What every variable's name begins with.
pub(crate) const PREFIX: &str = "HEADWATER_";

/// The table of the file that holds properties of librdkafka, as `-X` does.
pub(crate) const KAFKA: &str = "kafka";

/// The option that says where the file is.
const CONFIG: &str = "config";

/// How an option takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// There or not.
    Flag,
    /// There so many times.
    Count,
    /// One value.
    Value,
    /// Any number of values.
    List,
}

/// Whether a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Secrecy {
    /// To everybody.
    Open,
    /// A part of it may be a password: clap's mark for it is `hide_env_values`.
    Partly,
    /// Never; it is not taken from the command line either, which every user of the machine sees.
    Secret,
}

/// An option, as one command has it.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The long name, which is the key in the file.
    pub(crate) key: String,
    /// The option itself.
    pub(crate) arg: Arg,
}

impl Setting {
    fn new(arg: &Arg) -> Option<Self> {
        // The file does not say where it is itself.
        let key = name(arg).filter(|key| *key != CONFIG)?;
        Some(Setting {
            key: key.to_owned(),
            arg: arg.clone(),
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.arg.get_action() {
            ArgAction::SetTrue | ArgAction::SetFalse => Kind::Flag,
            ArgAction::Count => Kind::Count,
            ArgAction::Append => Kind::List,
            _ => Kind::Value,
        }
    }

    pub(crate) fn secrecy(&self) -> Secrecy {
        if self.arg.get_value_parser().type_id() == TypeId::of::<Secret>() {
            Secrecy::Secret
        } else if self.arg.is_hide_env_values_set() {
            Secrecy::Partly
        } else {
            Secrecy::Open
        }
    }

    /// The variable that it is read from.
    pub(crate) fn variable(&self) -> Option<&str> {
        self.arg.get_env()?.to_str()
    }

    /// Whether another command means the same by this name, so that one value may serve both.
    pub(crate) fn means_the_same(&self, other: &Setting) -> bool {
        mem::discriminant(self.arg.get_action()) == mem::discriminant(other.arg.get_action())
            && self.arg.get_value_parser().type_id() == other.arg.get_value_parser().type_id()
    }
}

/// The options of one command.
#[derive(Clone, Debug)]
pub(crate) struct CommandSettings {
    /// The command's name, which is the name of its table in the file.
    pub(crate) name: String,
    /// Its options, those of every command included.
    pub(crate) settings: Vec<Setting>,
    /// Its `-X`, where it has one.
    pub(crate) properties: Option<Arg>,
}

impl CommandSettings {
    /// Those of a command that has no options of its own.
    pub(crate) fn of_every_command(name: &str, table: &Table) -> Self {
        CommandSettings {
            name: name.to_owned(),
            settings: table.global.clone(),
            properties: None,
        }
    }

    pub(crate) fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }
}

/// All settings of all commands.
#[derive(Debug)]
pub(crate) struct Table {
    /// Those of commands that have options of their own, which are the ones with a table in the file.
    pub(crate) commands: Vec<CommandSettings>,
    /// The options that every command has.
    pub(crate) global: Vec<Setting>,
}

impl Table {
    /// The settings of a command tree that was not built yet: of each command that has options of
    /// its own.
    pub(crate) fn new(root: &Command) -> Self {
        let global: Vec<Setting> = root
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .filter_map(Setting::new)
            .collect();
        let commands = root.get_subcommands();
        let commands = commands.filter_map(|command| {
            let own: Vec<Setting> = command.get_arguments().filter_map(Setting::new).collect();
            let properties = command.get_arguments().find(|arg| is_properties(arg));
            (!own.is_empty()).then(|| CommandSettings {
                name: command.get_name().to_owned(),
                settings: own.into_iter().chain(global.iter().cloned()).collect(),
                properties: properties.cloned(),
            })
        });
        Table {
            commands: commands.collect(),
            global,
        }
    }

    pub(crate) fn command(&self, name: &str) -> Option<&CommandSettings> {
        self.commands.iter().find(|command| command.name == name)
    }

    /// The commands that have an option of that name.
    pub(crate) fn having<'a>(
        &'a self,
        key: &'a str,
    ) -> impl Iterator<Item = (&'a CommandSettings, &'a Setting)> {
        self.commands
            .iter()
            .filter_map(move |command| Some((command, command.setting(key)?)))
    }

    /// Whether commands mean different things by a name, so that only their own tables have it.
    pub(crate) fn is_ambiguous(&self, key: &str) -> bool {
        let mut settings = self.having(key).map(|(_, setting)| setting);
        let Some(first) = settings.next() else {
            return false;
        };
        !settings.all(|setting| setting.means_the_same(first))
    }

    /// Every key there is, once.
    pub(crate) fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = Vec::new();
        for setting in self.commands.iter().flat_map(|command| &command.settings) {
            if !keys.contains(&setting.key.as_str()) {
                keys.push(&setting.key);
            }
        }
        keys
    }
}

/// Gives every option the variable that follows from its name. One that commands differ about
/// has only those that are written beside it.
pub(crate) fn with_variables(root: Command) -> Command {
    let table = Table::new(&root);
    let with_variable = |arg: Arg| match name(&arg) {
        Some(key) if arg.get_env().is_none() && !table.is_ambiguous(key) => {
            let variable = variable(key);
            arg.env(variable)
        }
        _ => arg,
    };
    root.mut_args(with_variable)
        .mut_subcommands(|command| command.mut_args(with_variable))
}

/// The long name of an option that says how to do what is asked, and not to do something else.
fn name(arg: &Arg) -> Option<&str> {
    let is_question = matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpLong | ArgAction::HelpShort | ArgAction::Version
    );
    arg.get_long().filter(|_| !is_question)
}

/// The variable of an option.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('-', "_").to_ascii_uppercase())
}

fn is_properties(arg: &Arg) -> bool {
    arg.get_short() == Some('X')
}
