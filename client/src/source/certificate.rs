//! Why libpq refuses a server's certificate, in more words than libpq has: "certificate verify
//! failed" is all that it says (`fe-secure-openssl.c`), and there is no asking it.

use std::collections::HashMap;
use std::path::PathBuf;

use libpq::connection::Info;

use super::sql_error::SqlError;
use crate::tls::{self, Authorities, Greeting, Trust};

/// What libpq says when OpenSSL refuses.
const REFUSED: &str = "certificate verify failed";

/// The error of a connection that failed with libpq's `message`.
pub(super) fn explain(conninfo: &str, message: String) -> SqlError {
    let refusal = message
        .contains(REFUSED)
        .then(|| server_of(&message))
        .flatten()
        .and_then(|(host, port)| {
            let trust = trust(&settings(conninfo));
            tls::examine(host, port, &trust, Greeting::Postgres)
        });
    match refusal {
        None => SqlError::Connect(message),
        Some(refusal) => SqlError::Untrusted {
            cure: refusal
                .cure("sslrootcert=FILE, or sslrootcert=system for those whom this system trusts"),
            message: refusal.to_string(),
        },
    }
}

/// The server that a message is about. Of several hosts each has its own, one behind the other:
/// `connection to server at "db" (192.0.2.7), port 5432 failed: …`.
fn server_of(message: &str) -> Option<(&str, u16)> {
    const BEFORE: &str = "connection to server at \"";
    let about = &message[..message.find(REFUSED)?];
    let about = &about[about.rfind(BEFORE)? + BEFORE.len()..];
    let (host, rest) = about.split_once('"')?;
    let (_, rest) = rest.split_once("port ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    Some((host, rest[..digits].parse().ok()?))
}

/// What a connection string says, and the environment and service files where it is silent.
fn settings(conninfo: &str) -> HashMap<String, String> {
    let defaults = Info::defaults().unwrap_or_default();
    let own = Info::from(conninfo).unwrap_or_default();
    let said = defaults.into_iter().chain(own);
    said.filter_map(|info| Some((info.keyword, info.val.filter(|value| !value.is_empty())?)))
        .collect()
}

/// As libpq reads them: a file, those of the system, or the file that it looks for by itself. OpenSSL
/// looks at the host only where libpq leaves that to it, which is nowhere.
fn trust(settings: &HashMap<String, String>) -> Trust {
    let authorities = match settings.get("sslrootcert").map(String::as_str) {
        Some("system") => Authorities::System,
        Some(file) => Authorities::File(PathBuf::from(file)),
        None => {
            let home = std::env::var_os("HOME")
                .map(PathBuf::from)
                .unwrap_or_default();
            Authorities::File(home.join(".postgresql/root.crt"))
        }
    };
    Trust {
        authorities,
        checks_host: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_the_one_whose_certificate_is_refused() {
        for (message, server) in [
            (
                "connection to server at \"db\" (192.0.2.7), port 5433 failed: SSL error: certificate \
                 verify failed",
                Some(("db", 5433)),
            ),
            (
                "connection to server at \"a\" (192.0.2.7), port 1 failed: Connection refused; \
                 connection to server at \"192.0.2.8\", port 2 failed: SSL error: certificate verify \
                 failed; connection to server at \"c\", port 3 failed: timeout expired",
                Some(("192.0.2.8", 2)),
            ),
            ("SSL error: certificate verify failed", None),
        ] {
            assert_eq!(server_of(message), server, "{message}");
        }
    }

    #[test]
    fn authorities_are_those_of_the_connection_string() {
        let said = settings("host=db sslrootcert=/ca.pem");
        let file = Authorities::File(PathBuf::from("/ca.pem"));
        assert_eq!(trust(&said).authorities, file);
        let said = settings("postgres://db/shop?sslrootcert=system");
        assert_eq!(trust(&said).authorities, Authorities::System);
    }
}
