//! What environment and file say, by the option that it is for.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use super::command_line;
use super::environment::{Environment, FILE_SUFFIX, KAFKA_PREFIX};
use super::file::{Entry, File, Value};
use super::flags;
use super::secret;
use super::table::{CommandSettings, KAFKA, Kind, Secrecy, Setting};
use crate::error::{Error, ErrorKind, Result};

/// Who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A line of the file, before its first table or in `[kafka]`.
    File(PathBuf, usize),
    /// A line in the table of the command.
    OwnTable(PathBuf, usize),
    /// A variable, by its name.
    Environment(String),
    /// The command line.
    Flag,
}

impl Origin {
    /// Of two, the greater one counts.
    fn rank(&self) -> u8 {
        match self {
            Origin::File(..) => 0,
            Origin::OwnTable(..) => 1,
            Origin::Environment(_) => 2,
            Origin::Flag => 3,
        }
    }

    /// The kind of place.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Origin::File(..) | Origin::OwnTable(..) => "file",
            Origin::Environment(_) => "environment",
            Origin::Flag => "command line",
        }
    }

    fn refuse(&self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Usage, format!("{self}: {what}"))
    }

    /// An error, with where it is.
    fn locate(&self, error: &Error) -> Error {
        let located = self.refuse(error);
        match error.hint() {
            Some(hint) => located.with_hint(hint),
            None => located,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) | Origin::OwnTable(path, line) => {
                write!(f, "{}:{line}", path.display())
            }
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag => f.write_str(self.kind()),
        }
    }
}

/// What an option is given.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Words {
    /// That it is there, or not.
    Flag(bool),
    /// That it is there so many times.
    Count(u8),
    /// Its values.
    Values(Vec<OsString>),
}

/// An option and what it is given.
#[derive(Clone)]
pub(crate) struct Assignment {
    pub(crate) setting: Setting,
    pub(crate) words: Words,
    pub(crate) origin: Origin,
}

/// A property of librdkafka and what it is given.
#[derive(Clone)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) value: OsString,
    pub(crate) origin: Origin,
}

impl Property {
    fn check(&self) -> Result<()> {
        let value = self.value.to_str().ok_or_else(|| {
            self.origin
                .refuse(format!("the value of {} is not UTF-8", self.name))
        })?;
        crate::kafka::check_property(&self.name, value).map_err(|error| self.origin.locate(&error))
    }
}

/// Environment and file.
pub(crate) struct Layers<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) file: Option<&'a File>,
}

impl Layers<'_> {
    /// What a command is given, but for options that are on the command line; and what is wrong with
    /// it, each value by itself.
    pub(crate) fn checked(
        &self,
        command: &CommandSettings,
        is_on_command_line: impl Fn(&Setting) -> bool,
    ) -> (Vec<Assignment>, Vec<Property>, Vec<Error>) {
        let (assignments, mut errors) = self.assignments(command, is_on_command_line);
        let (properties, of_properties) = self.properties(command);
        errors.extend(of_properties);
        errors.extend(
            assignments
                .iter()
                .filter_map(|it| command_line::check(it).err()),
        );
        errors.extend(properties.iter().filter_map(|it| it.check().err()));
        (assignments, properties, errors)
    }

    /// What the options of a command are given, but for those that are on the command line.
    ///
    /// The errors are of kind `Usage`: values of a kind that the option does not take, secrets that cannot be
    /// read, a secret that is given twice.
    fn assignments(
        &self,
        command: &CommandSettings,
        is_on_command_line: impl Fn(&Setting) -> bool,
    ) -> (Vec<Assignment>, Vec<Error>) {
        let mut assignments: Vec<Assignment> = Vec::new();
        let mut errors = Vec::new();
        for setting in &command.settings {
            if is_on_command_line(setting) {
                continue;
            }
            match self.assignment(command, setting) {
                Ok(assignment) => assignments.extend(assignment),
                Err(error) => errors.push(error),
            }
        }
        one_of_secret_and_file(command, &is_on_command_line, &mut assignments, &mut errors);
        (assignments, errors)
    }

    fn assignment(
        &self,
        command: &CommandSettings,
        setting: &Setting,
    ) -> Result<Option<Assignment>> {
        if let Some((words, origin)) = self.of_environment(command, setting)? {
            return Ok(Some(Assignment {
                setting: setting.clone(),
                words,
                origin,
            }));
        }
        let Some((entry, origin)) = self.entry(command, &setting.key) else {
            return Ok(None);
        };
        let words = self.words(setting, &entry.value, &origin)?;
        Ok(Some(Assignment {
            setting: setting.clone(),
            words,
            origin,
        }))
    }

    fn of_environment(
        &self,
        command: &CommandSettings,
        setting: &Setting,
    ) -> Result<Option<(Words, Origin)>> {
        let Some(variable) = setting.variable() else {
            return Ok(None);
        };
        let named = self.named_file(variable, || {
            setting.secrecy() != Secrecy::Open && !has_variable(command, variable, FILE_SUFFIX)
        })?;
        if let Some((text, origin)) = named {
            return Ok(Some((Words::Values(vec![text.into()]), origin)));
        }
        let Some(value) = self.environment.get(variable) else {
            return Ok(None);
        };
        let origin = Origin::Environment(variable.to_owned());
        let refuse = |expected: &str| {
            let (key, value) = (&setting.key, value.display());
            origin.refuse(format!("invalid value '{value}' for {key}: {expected}"))
        };
        let words = match setting.kind() {
            Kind::Flag => {
                Words::Flag(flags::boolean(value).ok_or_else(|| refuse(flags::EXPECTED))?)
            }
            Kind::Count => Words::Count(
                number(value).ok_or_else(|| refuse("expected a number from 0 to 255"))?,
            ),
            Kind::Value | Kind::List => Words::Values(vec![value.to_owned()]),
        };
        Ok(Some((words, origin)))
    }

    /// What the file holds that `<variable>_FILE` names.
    fn named_file(
        &self,
        variable: &str,
        is_for_secrets: impl Fn() -> bool,
    ) -> Result<Option<(String, Origin)>> {
        let name = format!("{variable}{FILE_SUFFIX}");
        let Some(path) = self.environment.get(&name).filter(|_| is_for_secrets()) else {
            return Ok(None);
        };
        let origin = Origin::Environment(name);
        if self.environment.get(variable).is_some() {
            let both = format!("{variable} is set, too");
            return Err(origin.refuse(both).with_hint("Leave one of them out."));
        }
        let text = secret::read(Path::new(path)).map_err(|error| origin.refuse(error))?;
        Ok(Some((text, origin)))
    }

    /// The entry of a key that counts for a command.
    fn entry(&self, command: &CommandSettings, key: &str) -> Option<(&Entry, Origin)> {
        let file = self.file?;
        let find = |path: &[&str]| file.entries.iter().find(|entry| entry.path == path);
        if let Some(entry) = find(&[&command.name, key]) {
            return Some((entry, Origin::OwnTable(file.path.clone(), entry.line)));
        }
        find(&[key]).map(|entry| (entry, Origin::File(file.path.clone(), entry.line)))
    }

    fn words(&self, setting: &Setting, value: &Value, origin: &Origin) -> Result<Words> {
        let key = &setting.key;
        let refuse = |expected: &str| {
            Err(origin.refuse(format!("{key} takes {expected}, not {}", value.kind())))
        };
        match (setting.kind(), value) {
            (Kind::Flag, Value::Boolean(value)) => Ok(Words::Flag(*value)),
            (Kind::Flag, _) => refuse("true or false"),
            (Kind::Count, Value::Number(digits)) => match digits.parse() {
                Ok(count) => Ok(Words::Count(count)),
                Err(_) => refuse("a number from 0 to 255"),
            },
            (Kind::Count, _) => refuse("a number from 0 to 255"),
            (Kind::List, Value::List(values)) => {
                let values = values.iter().map(|value| self.text(value, origin));
                match values.collect::<Result<Option<Vec<_>>>>()? {
                    Some(values) => Ok(Words::Values(values)),
                    None => Err(origin.refuse(format!("{key} takes a list of strings"))),
                }
            }
            (Kind::Value | Kind::List, value) => match self.text(value, origin)? {
                Some(text) => Ok(Words::Values(vec![text])),
                None if setting.kind() == Kind::List => refuse("a string or a list of them"),
                None => refuse("a string or a number"),
            },
        }
    }

    /// A single value as it would be written on a command line.
    fn text(&self, value: &Value, origin: &Origin) -> Result<Option<OsString>> {
        let text = match value {
            Value::Boolean(value) => value.to_string(),
            Value::Number(text) | Value::Text(text) => text.clone(),
            Value::File(path) => secret::read(path).map_err(|error| origin.refuse(error))?,
            Value::Variable(name) => match self.environment.get(name) {
                Some(value) => return Ok(Some(value.to_owned())),
                None => return Err(origin.refuse(format!("variable {name} is not set"))),
            },
            Value::List(_) | Value::Other(_) => return Ok(None),
        };
        Ok(Some(OsString::from(text)))
    }

    /// Properties of librdkafka, of which the last one of a name counts: those of `[kafka]`, of the
    /// command's own table, of variables by their names, and of the variable that lists them.
    fn properties(&self, command: &CommandSettings) -> (Vec<Property>, Vec<Error>) {
        let mut properties = Vec::new();
        let mut errors = Vec::new();
        let Some(arg) = &command.properties else {
            return (properties, errors);
        };
        let mut add = |property: Result<Property>| match property {
            Ok(property) => properties.push(property),
            Err(error) => errors.push(error),
        };
        for property in self.properties_of_file(&[KAFKA], Origin::File) {
            add(property);
        }
        for property in self.properties_of_file(&[&command.name, KAFKA], Origin::OwnTable) {
            add(property);
        }
        for (variable, value) in self.environment.beginning_with(KAFKA_PREFIX) {
            add(self.property_of_variable(variable, value));
        }
        let list = arg.get_env().and_then(OsStr::to_str);
        if let Some((variable, value)) =
            list.and_then(|name| Some((name, self.environment.get(name)?)))
        {
            for line in value
                .to_string_lossy()
                .lines()
                .filter(|line| !line.trim().is_empty())
            {
                let origin = Origin::Environment(variable.to_owned());
                add(match crate::kafka::parse_property(line) {
                    Ok(property) => Ok(Property {
                        name: property.name,
                        value: property.value.into(),
                        origin,
                    }),
                    Err(error) => Err(origin.refuse(error)),
                });
            }
        }
        (properties, errors)
    }

    fn properties_of_file(
        &self,
        table: &[&str],
        origin: fn(PathBuf, usize) -> Origin,
    ) -> Vec<Result<Property>> {
        let entries = self.file.iter().flat_map(|file| {
            let entries = file.entries.iter();
            entries.map(|entry| (entry, origin(file.path.clone(), entry.line)))
        });
        entries
            .filter(|(entry, _)| {
                entry.path.len() > table.len() && entry.path.iter().zip(table).all(|(a, b)| a == b)
            })
            .map(|(entry, origin)| {
                let name = entry.path[table.len()..].join(".");
                let value = match &entry.value {
                    // librdkafka's lists have commas between their elements.
                    Value::List(values) => {
                        let values = values.iter().map(|value| self.text(value, &origin));
                        let values: Option<Vec<OsString>> = values.collect::<Result<_>>()?;
                        values.map(|values| values.join(OsStr::new(",")))
                    }
                    value => self.text(value, &origin)?,
                };
                match value {
                    Some(value) => Ok(Property {
                        name,
                        value,
                        origin,
                    }),
                    None => {
                        let kind = entry.value.kind();
                        Err(origin.refuse(format!("{name} takes a string or a number, not {kind}")))
                    }
                }
            })
            .collect()
    }

    /// `HEADWATER_KAFKA_LINGER_MS`. One behind whose name `_FILE` stands names a file where it is
    /// a secret's: other properties end in `.file` themselves.
    fn property_of_variable(&self, variable: &str, value: &OsStr) -> Result<Property> {
        let name = |variable: &str| {
            variable[KAFKA_PREFIX.len()..]
                .to_lowercase()
                .replace('_', ".")
        };
        let of_file = variable
            .strip_suffix(FILE_SUFFIX)
            .filter(|base| base.len() > KAFKA_PREFIX.len())
            .filter(|base| secret::is_secret_property(&name(base)));
        if let Some(base) = of_file
            && let Some((text, origin)) = self.named_file(base, || true)?
        {
            return Ok(Property {
                name: name(base),
                value: text.into(),
                origin,
            });
        }
        Ok(Property {
            name: name(variable),
            value: value.to_owned(),
            origin: Origin::Environment(variable.to_owned()),
        })
    }
}

/// `--x-file` names a file that holds the secret `x`: one setting by two names, of which the one
/// counts that was said nearer to the command line.
fn one_of_secret_and_file(
    command: &CommandSettings,
    is_on_command_line: &impl Fn(&Setting) -> bool,
    assignments: &mut Vec<Assignment>,
    errors: &mut Vec<Error>,
) {
    let secrets = command.settings.iter();
    for secret in secrets.filter(|setting| setting.secrecy() == Secrecy::Secret) {
        let Some(file) = command.setting(&format!("{}-file", secret.key)) else {
            continue;
        };
        let origin = |setting: &Setting, assignments: &[Assignment]| {
            if is_on_command_line(setting) {
                return Some(Origin::Flag);
            }
            let mut assignments = assignments.iter();
            assignments
                .find(|assignment| assignment.setting.key == setting.key)
                .map(|assignment| assignment.origin.clone())
        };
        let (Some(of_secret), Some(of_file)) =
            (origin(secret, assignments), origin(file, assignments))
        else {
            continue;
        };
        let loser = match of_secret.rank().cmp(&of_file.rank()) {
            std::cmp::Ordering::Less => &secret.key,
            std::cmp::Ordering::Greater => &file.key,
            std::cmp::Ordering::Equal => {
                let both = format!("{} and {} are both given", secret.key, file.key);
                errors.push(of_file.refuse(both).with_hint("Leave one of them out."));
                continue;
            }
        };
        assignments.retain(|assignment| assignment.setting.key != *loser);
    }
}

fn has_variable(command: &CommandSettings, variable: &str, suffix: &str) -> bool {
    command.settings.iter().any(|setting| {
        setting
            .variable()
            .and_then(|name| name.strip_suffix(suffix))
            == Some(variable)
    })
}

fn number(value: &OsStr) -> Option<u8> {
    value.to_str()?.parse().ok()
}
