//! Passwords and tokens: where they may come from, and that nobody gets to see them.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::source::conninfo;

/// What stands in place of a secret wherever settings are shown.
pub(crate) const REDACTED: &str = "***";

/// A value that is never shown. An option of this type is taken from the environment, from a file
/// that a variable names and from the configuration file, never from the command line.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Secret(text.to_owned()))
    }
}

/// What a file holds, but for the end of its last line.
///
/// # Errors
/// Of kind `Usage`, without anything of its contents.
pub(crate) fn read(path: &Path) -> Result<String> {
    let refuse = |what: &str| Error::new(ErrorKind::Usage, format!("{} {what}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| refuse("cannot be read").with_source(error))?;
    let mut text = String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8"))?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    // What follows goes through C.
    if text.contains('\0') {
        return Err(refuse("holds a NUL"));
    }
    match text.is_empty() {
        true => Err(refuse("is empty")),
        false => Ok(text),
    }
}

/// The properties of librdkafka 2.12 that hold a secret (its CONFIGURATION.md), and those whose value
/// may hold one among other things.
const SECRET_PROPERTIES: [&str; 10] = [
    "sasl.kerberos.kinit.cmd",
    "sasl.password",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

/// Whether a property of librdkafka is not to be shown.
pub(crate) fn is_secret_property(name: &str) -> bool {
    SECRET_PROPERTIES.contains(&name)
}

/// Every secret property, for those who list them.
pub(crate) fn secret_properties() -> &'static [&'static str] {
    &SECRET_PROPERTIES
}

/// A property as it may be shown.
pub(crate) fn redacted_property<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if is_secret_property(name) {
        REDACTED.into()
    } else if name.ends_with(".url") {
        redacted_url(value).into()
    } else {
        value.into()
    }
}

/// A connection string or a list of URLs as it may be shown.
pub(crate) fn redacted(text: &str) -> String {
    // A value of a connection string may hold `://`; a URL begins with it.
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    if conninfo::is_uri(text) || (text.contains('=') && !is_url) {
        return redacted_conninfo(text);
    }
    if !is_url && text.contains(['@', '?']) {
        return REDACTED.to_owned();
    }
    urls(text).map(redacted_url).collect::<Vec<_>>().join(",")
}

/// The URLs of a list. A comma that no URL stands behind is part of the one before it: of its password,
/// or its query.
fn urls(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let list = rest?;
        let ends = list.match_indices(',').map(|(comma, _)| comma);
        let mut ends = ends.filter(|comma| {
            let behind = list[comma + 1..].trim_start();
            behind.starts_with("http://") || behind.starts_with("https://")
        });
        let (url, more) = match ends.next() {
            Some(comma) => (&list[..comma], Some(&list[comma + 1..])),
            None => (list, None),
        };
        rest = more;
        Some(url)
    })
}

/// Whether there is a secret in a connection string or a list of URLs.
pub(crate) fn holds_secret(text: &str) -> bool {
    redacted(text).contains(REDACTED)
}

/// As `key=value` pairs, by libpq's own reading. One that libpq cannot read is not shown at all.
fn redacted_conninfo(text: &str) -> String {
    let Some(parameters) = conninfo::parameters(text) else {
        return REDACTED.to_owned();
    };
    if !parameters
        .iter()
        .any(|parameter| parameter.val.is_some() && conninfo::is_secret(&parameter.keyword))
    {
        return text.to_owned();
    }
    let pairs: Vec<String> = parameters
        .into_iter()
        .filter_map(|parameter| {
            let value = parameter.val?;
            let keyword = parameter.keyword;
            Some(match conninfo::is_secret(&keyword) {
                true => format!("{keyword}={REDACTED}"),
                false => conninfo::shown_pair(&keyword, &value),
            })
        })
        .collect();
    pairs.join(" ")
}

/// What stands before the last `@` of a URL's authority is the login; its password goes, and all of
/// it where it has one part, which is then a token. A query goes as a whole.
fn redacted_url(url: &str) -> String {
    let without_login = redacted_login(url);
    match without_login.split_once('?') {
        Some((head, query)) if !query.is_empty() => format!("{head}?{REDACTED}"),
        _ => without_login,
    }
}

fn redacted_login(url: &str) -> String {
    let Some(scheme) = url.find("://") else {
        return match url.contains('@') {
            true => REDACTED.to_owned(),
            false => url.to_owned(),
        };
    };
    let start = scheme + "://".len();
    let end = url[start..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |end| start + end);
    // A password with a slash in it that nobody encoded ends the authority too early.
    let Some(at) = url[start..].rfind('@').map(|at| start + at) else {
        return url.to_owned();
    };
    let login = &url[start..at];
    match login.split_once(':') {
        Some((user, _)) if at < end => format!("{}{user}:{REDACTED}{}", &url[..start], &url[at..]),
        _ => format!("{}{REDACTED}{}", &url[..start], &url[at..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_connection_strings_and_urls_are_not_shown() {
        for (text, expected) in [
            ("shop", "shop"),
            ("host=db dbname=shop", "host=db dbname=shop"),
            ("postgres://cdc@db/shop", "postgres://cdc@db/shop"),
            ("http://registry:8081", "http://registry:8081"),
            (
                "http://ann:s@ret@a:1,http://b:1/x",
                "http://ann:***@a:1,http://b:1/x",
            ),
            ("http://token@a:1", "http://***@a:1"),
            ("http://ann:s@a:1/x?token=t,u", "http://ann:***@a:1/x?***"),
            ("http://a:1?t=u,http://b:1", "http://a:1?***,http://b:1"),
            ("http://ann:hunter2,xyz@a:1", "http://ann:***@a:1"),
            (
                "http://a:1,http://ann:h,2@b:1",
                "http://a:1,http://ann:***@b:1",
            ),
            ("a:1,b:2", "a:1,b:2"),
            ("ann:hunter2,xyz@a:1", "***"),
            ("https://ann:s/cret@a:1", "https://***@a:1"),
            ("host=db password='s e' dbname=shop", "host=db dbname=shop"),
        ] {
            let shown = redacted(text);
            if text.contains("password") {
                assert!(!shown.contains("s e"), "{shown}");
                assert!(shown.contains("password=***"), "{shown}");
            } else {
                assert_eq!(shown, expected, "{text}");
            }
        }
        let shown = redacted("postgres://ann:s%20e@db/shop?application_name=a%20b");
        assert!(
            !shown.contains("s e") && !shown.contains("s%20e"),
            "{shown}"
        );
        assert!(shown.contains("password=***"), "{shown}");
        assert!(shown.contains("application_name='a b'"), "{shown}");
        assert_eq!(
            redacted("host=db password=a://b"),
            "password=*** host=db",
            "a password with :// in it"
        );
        assert_eq!(redacted("postgres://u:hun@ter2@h/d"), REDACTED);
        assert_eq!(redacted("password='never closed"), REDACTED);
        assert_eq!(redacted("host=a\0password=x"), REDACTED);
    }

    #[test]
    fn urls_among_the_properties_are_shown_without_logins_and_queries() {
        let name = "sasl.oauthbearer.token.endpoint.url";
        for (value, shown) in [
            ("https://id.example/token", "https://id.example/token"),
            (
                "https://u:s@id.example/token?k=q",
                "https://u:***@id.example/token?***",
            ),
        ] {
            assert_eq!(redacted_property(name, value), shown);
        }
        assert_eq!(redacted_property("acks", "all"), "all");
    }

    #[test]
    fn a_secret_has_no_debug_form() {
        let secret: Secret = match "hunter2".parse() {
            Ok(secret) => secret,
            Err(never) => match never {},
        };
        assert_eq!(format!("{secret:?}"), REDACTED);
        assert_eq!(secret.reveal(), "hunter2");
    }
}
