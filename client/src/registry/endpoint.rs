//! A registry's URL, whose user and password nobody gets to see.

use std::fmt;

use ureq::http::Uri;

use crate::error::{Error, ErrorKind, Result};

/// Where one instance of a registry answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host, port and path, without a slash at its end.
    base: String,
    login: Option<Login>,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// The user's name.
    pub(super) user: String,
    /// Absent where the URL has only a name.
    pub(super) password: Option<String>,
}

impl Endpoint {
    /// Reads `http://user:password@host:port/path`, the parts but scheme and host being optional.
    ///
    /// # Errors
    /// Of kind `Usage`, without the text: it may hold a password.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::Usage, format!("--registry: {what}"))
                .with_hint("It is written as https://HOST:PORT/PATH.")
        };
        let (text, login) =
            split_login(text.trim()).ok_or_else(|| wrong("the URL has no scheme"))?;
        let uri: Uri = text.parse().map_err(|_| wrong("that is no URL"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if !matches!(scheme, "http" | "https") {
            return Err(wrong("the URL's scheme is neither http nor https"));
        }
        let host = uri
            .authority()
            .ok_or_else(|| wrong("the URL has no host"))?;
        if uri.query().is_some() {
            return Err(wrong(
                "the URL has a query, which a registry has no use for",
            ));
        }
        let path = uri.path().trim_end_matches('/');
        Ok(Endpoint {
            base: format!("{scheme}://{host}{path}"),
            login,
        })
    }

    /// The URL of what `path`, which begins with a slash, names.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Whether others on the way cannot read what is sent.
    pub(super) fn has_tls(&self) -> bool {
        self.base.starts_with("https:")
    }

    /// Host and port.
    pub(super) fn address(&self) -> Option<(String, u16)> {
        let uri: Uri = self.base.parse().ok()?;
        let default = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        Some((host, uri.port_u16().unwrap_or(default)))
    }

    /// Who the URL says that asks.
    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.base)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}, …)", self.user)
    }
}

/// The URL without what stands before `@`, and that.
fn split_login(text: &str) -> Option<(String, Option<Login>)> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((userinfo, host)) = authority.rsplit_once('@') else {
        return Some((text.to_owned(), None));
    };
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password))),
        None => (userinfo, None),
    };
    let login = Login {
        user: decoded(user),
        password,
    };
    Some((format!("{scheme}://{host}{path}"), Some(login)))
}

/// What is written as `%2F`, as it is meant.
fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_url_is_shown_without_its_login() {
        let endpoint =
            Endpoint::parse("https://ann:s%3Ac%40ret@host:8081/apis/ccompat/v7/").unwrap();
        assert_eq!(endpoint.to_string(), "https://host:8081/apis/ccompat/v7");
        let login = endpoint.login().unwrap();
        assert_eq!(login.user, "ann");
        assert_eq!(login.password.as_deref(), Some("s:c@ret"));
        for shown in [format!("{endpoint:?}"), format!("{login:?}")] {
            assert!(!shown.contains("ret"), "{shown}");
        }
        assert_eq!(
            endpoint.url("/schemas/ids/1"),
            "https://host:8081/apis/ccompat/v7/schemas/ids/1"
        );
    }

    #[test]
    fn what_is_no_url_is_refused_without_quoting_it() {
        for text in [
            "host:8081",
            "ftp://ann:secret@host",
            "http://ann:secret@",
            "http://ann:secret@ho st",
            "http://ann:secret@host/?a=b",
            "",
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
