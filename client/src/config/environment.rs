//! Variables: `HEADWATER_` and the option's name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::suggestion::suggestion;
use super::table::{PREFIX, Secrecy, Table};
use crate::error::{Error, ErrorKind};

/// What properties' variables begin with: `HEADWATER_KAFKA_SASL_PASSWORD` is `sasl.password`. No
/// property that takes a text has an underscore in its name, but for `log_level`, which follows
/// from `--verbose`.
pub(crate) const KAFKA_PREFIX: &str = "HEADWATER_KAFKA_";

/// Where the configuration file is.
pub(crate) const CONFIG: &str = "HEADWATER_CONFIG";

/// What is put behind the variable of a secret to name a file that holds it, as containers mount them.
pub(crate) const FILE_SUFFIX: &str = "_FILE";

/// The variables of a process.
#[derive(Debug, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Those of this process. Names that are not UTF-8 are nobody's that is asked for.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        Environment(
            variables
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
        )
    }

    /// A variable's value. An empty one is none: templates of deployments leave such behind.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        let value = self.0.get(name)?;
        (!value.is_empty() && !is_service_link(name, value)).then_some(value)
    }

    /// Those that begin with `prefix`, and have a value.
    pub(crate) fn beginning_with<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a OsStr)> {
        self.0
            .keys()
            .filter(move |name| name.starts_with(prefix))
            .filter_map(|name| Some((name.as_str(), self.get(name)?)))
    }

    /// A warning for each name that looks like an option's and is none. It is no error, since the
    /// environment is not the client's alone.
    pub(crate) fn unknown(&self, table: &Table) -> Vec<Error> {
        let known = known(table);
        let is_known = |name: &str| {
            name == CONFIG
                || name.starts_with(KAFKA_PREFIX)
                || known.iter().any(|known| known == name)
        };
        self.beginning_with(PREFIX)
            .filter(|(name, _)| !is_known(name))
            .map(|(name, _)| {
                let error = Error::new(ErrorKind::Usage, format!("no option has variable {name}"));
                match suggestion(name, known.iter().map(String::as_str)) {
                    Some(similar) => error.with_hint(format!("Did you mean {similar}?")),
                    None => error,
                }
            })
            .collect()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        let pairs = pairs.map(|(name, value)| (name.to_owned(), OsString::from(value)));
        Environment(pairs.into())
    }
}

/// The variable of a property.
pub(crate) fn variable_of_property(name: &str) -> String {
    format!(
        "{KAFKA_PREFIX}{}",
        name.replace('.', "_").to_ascii_uppercase()
    )
}

fn known(table: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for command in &table.commands {
        for setting in &command.settings {
            let Some(variable) = setting.variable() else {
                continue;
            };
            names.push(variable.to_owned());
            if setting.secrecy() != Secrecy::Open {
                names.push(format!("{variable}{FILE_SUFFIX}"));
            }
        }
        let properties = command.properties.as_ref();
        let variable = properties.and_then(|arg| arg.get_env()?.to_str());
        names.extend(variable.map(str::to_owned));
    }
    names
}

/// What Kubernetes tells every pod of each service of its namespace: of one by the name of
/// `headwater` it says `HEADWATER_PORT=tcp://10.0.0.1:9187`, which is not the port of Postgres.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let is_url = value.to_str().is_some_and(|value| {
        ["tcp://", "udp://", "sctp://"]
            .iter()
            .any(|scheme| value.starts_with(scheme))
    });
    if is_url && (name.ends_with("_PORT") || name.contains("_PORT_")) {
        return true;
    }
    let of_port = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        rest.split('_')
            .zip(["port", "protocol"])
            .all(|(part, what)| match what {
                "port" => part.bytes().all(|byte| byte.is_ascii_digit()),
                _ => ["TCP", "UDP", "SCTP"].contains(&part),
            })
    });
    of_port || name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_says_of_services_is_no_option() {
        let environment = Environment::from([
            ("HEADWATER_PORT", "tcp://10.0.0.1:9187"),
            ("HEADWATER_PORT_9187_TCP", "tcp://10.0.0.1:9187"),
            ("HEADWATER_PORT_9187_TCP_ADDR", "10.0.0.1"),
            ("HEADWATER_PORT_9187_TCP_PORT", "9187"),
            ("HEADWATER_SERVICE_HOST", "10.0.0.1"),
            ("HEADWATER_SERVICE_PORT_METRICS", "9187"),
            ("HEADWATER_METRICS_SERVICE_PORT", "9187"),
        ]);
        assert_eq!(environment.get("HEADWATER_PORT"), None);
        let table = Table {
            commands: Vec::new(),
            global: Vec::new(),
        };
        let warnings: Vec<String> = environment
            .unknown(&table)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(warnings, [""; 0]);
        let plain = Environment::from([("HEADWATER_PORT", "5433")]);
        assert_eq!(plain.get("HEADWATER_PORT"), Some(OsStr::new("5433")));
    }

    #[test]
    fn an_empty_variable_is_none() {
        assert_eq!(
            Environment::from([("HEADWATER_SLOT", "")]).get("HEADWATER_SLOT"),
            None
        );
    }
}
