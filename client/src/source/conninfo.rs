//! Completes the user's connection string with what Headwater needs.
//!
//! libpq takes three forms: a URI, `key=value` pairs, or the bare name of a database.
//! Where a key is given twice, the last one counts, in a URI's query too. So what is
//! put in front is a default that the user's own words override, and what is put
//! behind overrides them. Nothing of the user's string is parsed or changed, and the
//! environment and the service file keep filling what it leaves open.

use std::fmt::{self, Write};

use libpq::connection::Info;

use crate::config::Secret;
use crate::config::secret::redacted;

/// The parts of a connection string.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Conninfo {
    /// `-d`: a URI, `key=value` pairs or the name of a database.
    pub dbname: Option<String>,
    /// `-h`: overrides the string's host.
    pub host: Option<String>,
    /// `-p`: overrides the string's port.
    pub port: Option<String>,
    /// `-U`: overrides the string's user.
    pub user: Option<String>,
    /// Overrides the string's password.
    pub password: Option<Secret>,
}

impl Conninfo {
    /// The whole string: `defaults`, the user's words, the user's overrides, then
    /// `overrides`.
    pub fn complete(&self, defaults: &[(&str, &str)], overrides: &[(&str, &str)]) -> String {
        let user_overrides = [
            ("host", self.host.as_deref()),
            ("port", self.port.as_deref()),
            ("user", self.user.as_deref()),
            ("password", self.password.as_ref().map(Secret::reveal)),
        ];
        let overrides: Vec<(&str, &str)> = user_overrides
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .chain(overrides.iter().copied())
            .collect();
        match self.dbname.as_deref() {
            Some(uri) if is_uri(uri) => complete_uri(uri, defaults, &overrides),
            Some(pairs) if pairs.contains('=') => complete_pairs(defaults, pairs, &overrides),
            Some(name) => complete_pairs(defaults, &pair("dbname", name), &overrides),
            None => complete_pairs(defaults, "", &overrides),
        }
    }
}

impl Conninfo {
    /// What is said here without secrets, to be shown: with another database of the same server, if
    /// one is named. Where nothing but a database is said, its name alone; empty where nothing is, or
    /// libpq cannot read it.
    pub(crate) fn shown(&self, database: Option<&str>) -> String {
        let other = database.map(|name| ("dbname", name));
        let whole = self.complete(&[], other.as_slice());
        let parameters = parameters(&whole).unwrap_or_default();
        let given = |parameter: &Info| Some((parameter.keyword.clone(), parameter.val.clone()?));
        let mut given: Vec<(String, String)> = parameters.iter().filter_map(given).collect();
        given.retain(|(keyword, _)| !is_secret(keyword));
        match &given[..] {
            [] => database.unwrap_or_default().to_owned(),
            [(keyword, name)] if keyword == "dbname" && !is_uri(name) && !name.contains('=') => {
                name.clone()
            }
            given => {
                let pairs: Vec<String> = given.iter().map(|(k, v)| shown_pair(k, v)).collect();
                pairs.join(" ")
            }
        }
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conninfo")
            .field("dbname", &self.dbname.as_deref().map(redacted))
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("password", &self.password)
            .finish()
    }
}

/// What a connection string says, by libpq's own reading. None where libpq cannot read it, or reads
/// a part of a password as something else: its messages quote what they are about.
pub(crate) fn parameters(conninfo: &str) -> Option<Vec<Info>> {
    // At a NUL the binding would panic.
    if conninfo.contains('\0') || (is_uri(conninfo) && has_stray_at(conninfo)) {
        return None;
    }
    Info::from(conninfo).ok()
}

/// Whether a URI has an `@` behind the one that ends its login, or in place of it: of a password
/// with `@` or `/` in it that nobody encoded, the rest is taken for host, port and database.
fn has_stray_at(uri: &str) -> bool {
    let credentials = end_of_credentials(uri);
    let behind = uri[credentials..].strip_prefix('@');
    let behind = behind.unwrap_or(&uri[credentials..]);
    behind
        .split('?')
        .next()
        .is_some_and(|base| base.contains('@'))
}

pub(crate) fn is_uri(text: &str) -> bool {
    text.starts_with("postgresql://") || text.starts_with("postgres://")
}

/// Whether the value of a libpq keyword is a secret.
pub(crate) fn is_secret(keyword: &str) -> bool {
    keyword.contains("password") || keyword.contains("secret") || keyword.starts_with("scram_")
}

/// A pair as people write it: quoted where it has to be.
pub(crate) fn shown_pair(keyword: &str, value: &str) -> String {
    if value.is_empty() || value.contains([' ', '\'', '\\']) {
        pair(keyword, value)
    } else {
        format!("{keyword}={value}")
    }
}

fn complete_pairs(defaults: &[(&str, &str)], own: &str, overrides: &[(&str, &str)]) -> String {
    let mut parts: Vec<String> = defaults
        .iter()
        .map(|(key, value)| pair(key, value))
        .collect();
    if !own.is_empty() {
        parts.push(own.to_owned());
    }
    parts.extend(overrides.iter().map(|(key, value)| pair(key, value)));
    parts.join(" ")
}

fn pair(key: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('\'', "\\'");
    format!("{key}='{value}'")
}

fn complete_uri(uri: &str, defaults: &[(&str, &str)], overrides: &[(&str, &str)]) -> String {
    let credentials = end_of_credentials(uri);
    let (base, own) = match uri[credentials..].find('?') {
        Some(query) => (&uri[..credentials + query], &uri[credentials + query + 1..]),
        None => (uri, ""),
    };
    let parameter = |(key, value): &(&str, &str)| format!("{key}={}", percent_encode(value));
    let parameters: Vec<String> = defaults
        .iter()
        .map(parameter)
        .chain((!own.is_empty()).then(|| own.to_owned()))
        .chain(overrides.iter().map(parameter))
        .collect();
    format!("{base}?{}", parameters.join("&"))
}

/// Where the `@` behind a URI's login is, or its authority begins where it has none. libpq ends the
/// password at the first `@` before a slash; a question mark up to there belongs to the password.
fn end_of_credentials(uri: &str) -> usize {
    let authority = uri.find("://").map_or(0, |scheme| scheme + 3);
    match uri[authority..].find(['@', '/']) {
        Some(end) if uri[authority + end..].starts_with('@') => authority + end,
        _ => authority,
    }
}

fn percent_encode(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(dbname: Option<&str>) -> String {
        Conninfo {
            dbname: dbname.map(str::to_owned),
            port: Some("5433".to_owned()),
            ..Conninfo::default()
        }
        .complete(
            &[("fallback_application_name", "headwater")],
            &[("client_encoding", "UTF8")],
        )
    }

    #[test]
    fn defaults_stand_before_and_overrides_behind_the_users_words() {
        for (given, expected) in [
            (
                None,
                "fallback_application_name='headwater' port='5433' client_encoding='UTF8'",
            ),
            (
                Some("it's"),
                "fallback_application_name='headwater' dbname='it\\'s' port='5433' client_encoding='UTF8'",
            ),
            (
                Some("host=db port=1"),
                "fallback_application_name='headwater' host=db port=1 port='5433' client_encoding='UTF8'",
            ),
            (
                Some("postgres://u@db/shop"),
                "postgres://u@db/shop?fallback_application_name=headwater&port=5433&client_encoding=UTF8",
            ),
            (
                Some("postgresql://u:a?b@db/shop?sslmode=require"),
                "postgresql://u:a?b@db/shop?fallback_application_name=headwater&sslmode=require&port=5433&client_encoding=UTF8",
            ),
        ] {
            assert_eq!(complete(given), expected);
        }
    }

    #[test]
    fn a_password_of_its_own_overrides_the_strings_and_is_not_shown() {
        for (dbname, expected) in [
            ("password=a", r"password=a password='it\'s'"),
            ("postgres://u:a@db/x", "postgres://u:a@db/x?password=it%27s"),
        ] {
            let conninfo = Conninfo {
                dbname: Some(dbname.to_owned()),
                password: "it's".parse().ok(),
                ..Conninfo::default()
            };
            assert_eq!(conninfo.complete(&[], &[]), expected);
            assert!(!format!("{conninfo:?}").contains("it's"), "{conninfo:?}");
        }
    }

    #[test]
    fn what_would_be_quoted_out_of_a_password_is_not_read() {
        for text in [
            "postgres://u:hunter%zz@h/d",
            "postgres://u:hun@ter2@h",
            "postgres://u:hunter/2@h/d",
            "postgres://u:a?b/c@h/d",
            "password=hun ter2",
            "password='hunter2",
            "host=h\0password=x",
        ] {
            assert!(parameters(text).is_none(), "{text:?}");
        }
        for text in [
            "postgres://u:a%40b@h/d",
            "postgresql://u:a?b@h/d?user=x@y",
            "postgres://h/d",
            "password=a@b host=/tmp",
        ] {
            assert!(parameters(text).is_some(), "{text:?}");
        }
        let conninfo = Conninfo {
            dbname: Some("host=db password=hunter2".to_owned()),
            ..Conninfo::default()
        };
        let shown = format!("{conninfo:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn the_way_to_another_database_is_shown_without_secrets() {
        for (dbname, expected) in [
            (None, "port=5433 dbname=other"),
            (Some("shop"), "port=5433 dbname=other"),
            (
                Some("host=db user=ann password=hunter2 sslmode=require dbname=shop"),
                "sslmode=require user=ann host=db port=5433 dbname=other",
            ),
            (
                Some("postgres://ann:hunter2@db/shop"),
                "user=ann host=db port=5433 dbname=other",
            ),
            (Some("postgres://ann:hun@ter2@db/shop"), "other"),
        ] {
            let conninfo = Conninfo {
                dbname: dbname.map(str::to_owned),
                port: Some("5433".to_owned()),
                password: "hunter3".parse().ok(),
                ..Conninfo::default()
            };
            let shown = conninfo.shown(Some("other"));
            let mut pairs: Vec<&str> = shown.split(' ').collect();
            let mut expected: Vec<&str> = expected.split(' ').collect();
            pairs.sort_unstable();
            expected.sort_unstable();
            assert_eq!(pairs, expected, "{dbname:?}");
        }
        let bare = Conninfo::default();
        assert_eq!(bare.shown(Some("shop")), "shop");
        assert_eq!(bare.shown(Some("a=b c")), "dbname='a=b c'");
        assert_eq!(bare.shown(Some("a=b")), "dbname=a=b");
        assert_eq!(bare.shown(None), "");
    }

    #[test]
    fn values_in_a_uri_are_percent_encoded() {
        let conninfo = Conninfo {
            dbname: Some("postgres://".to_owned()),
            host: Some("/var/run/pg".to_owned()),
            ..Conninfo::default()
        };
        assert_eq!(
            conninfo.complete(&[], &[]),
            "postgres://?host=%2Fvar%2Frun%2Fpg"
        );
    }
}
