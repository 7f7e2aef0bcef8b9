//! Why a server's certificate was refused.
//!
//! Neither libpq nor librdkafka says it: "certificate verify failed" is an authority that nobody
//! named, a certificate that has ended, or another host's. OpenSSL knows, and tells only those who
//! ask while it verifies (`X509_STORE_CTX_get_error` in the callback of `SSL_CTX_set_verify`), which
//! both keep to themselves. So after such a failure the handshake is made once more, here, with the
//! same authorities, up to the point at which the certificate is refused again. Nothing is sent
//! behind it: no login, no request. What is found explains an error; it never decides whether a
//! server is trusted.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVerifyMode};
use openssl::x509::{X509, X509NameRef, X509Ref, X509StoreContextRef};
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use crate::error::{Error, ErrorKind, Result};

/// How long the server may take for each step of the handshake: an error is waiting to be told.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a Postgres server is asked before TLS begins (`SSLRequest`), and its yes.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const SSL_YES: u8 = b'S';

/// Of the names in a certificate, at most so many are told.
const NAMES: usize = 4;

/// By what a certificate is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    /// Who may vouch for it.
    pub(crate) authorities: Authorities,
    /// Whether it has to be that of the host that was named.
    pub(crate) checks_host: bool,
}

/// Who may vouch for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authorities {
    /// Those whom this system trusts.
    System,
    /// Those in a file of PEM.
    File(PathBuf),
    /// Those in a folder, as OpenSSL hashes their names.
    Folder(PathBuf),
    /// Those in this PEM.
    Pem(String),
}

/// What is said before TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Nothing.
    None,
    /// What Postgres wants to hear.
    Postgres,
}

/// Why a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    flaw: Flaw,
    endpoint: String,
    /// Whose certificate it is that has the flaw, where it is not the server's own.
    authority: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Flaw {
    /// When it ended.
    Ended(String),
    /// When it begins.
    NotYet(String),
    /// The name that was looked for, and those it has.
    OtherHost(String, Vec<String>),
    /// Who issued it, and where nobody of that name is.
    UnknownIssuer(String, Authorities),
    /// What OpenSSL calls it.
    Other(&'static str),
}

/// Numbers of OpenSSL's x509_vfy.h.
mod code {
    pub(super) const NOT_YET_VALID: i32 = 9;
    pub(super) const HAS_EXPIRED: i32 = 10;
    pub(super) const HOSTNAME_MISMATCH: i32 = 62;
    pub(super) const IP_ADDRESS_MISMATCH: i32 = 64;
    /// No issuer found, self-signed, self-signed in the chain, no issuer found here, and only one
    /// certificate, whose issuer is not known.
    pub(super) const ISSUER: [i32; 5] = [2, 18, 19, 20, 21];
}

/// Whether TLS fails in a way that only a person mends, by OpenSSL's words (ssl/ssl_err.c), which it
/// gives in English alone. The rest may pass: a load balancer that has nobody to pass a connection
/// on to accepts it, and closes it or sends an alert.
pub(crate) fn lasts(words: &str) -> bool {
    const LASTING: [&str; 9] = [
        "certificate verify failed",
        "alert bad certificate",
        "alert certificate",
        "certificate required",
        "alert unknown ca",
        // The two ends have no version or cipher in common.
        "protocol",
        "handshake failure",
        // What answers speaks no TLS.
        "wrong version number",
        "packet length too long",
    ];
    LASTING.iter().any(|lasting| words.contains(lasting))
}

/// Whether the same request of HTTP will fail again by its TLS. Only what TLS itself says counts:
/// an answer that breaks off or is none of HTTP may be another the next time.
pub(crate) fn is_lasting(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Tls(_) | ureq::Error::Pem(_) | ureq::Error::Der(_) => true,
        ureq::Error::NativeTls(error) => lasts(&error.to_string()),
        _ => false,
    }
}

/// Whether a server says, by an alert (RFC 8446, 6.2), that it does not take the certificate of its
/// client, or that there is none.
pub(crate) fn is_about_the_clients_certificate(words: &str) -> bool {
    const ALERTS: [&str; 4] = [
        "alert bad certificate",
        "alert certificate",
        "certificate required",
        "alert unknown ca",
    ];
    ALERTS.iter().any(|alert| words.contains(alert))
}

/// Whether somebody shows a certificate there, whoever it is.
pub(crate) fn is_spoken(host: &str, port: u16) -> bool {
    let nobody = Trust {
        authorities: Authorities::Pem(String::new()),
        checks_host: false,
    };
    examine(host, port, &nobody, Greeting::None).is_some()
}

/// The certificates of authorities in a file.
///
/// # Errors
/// Of kind `Usage`, naming the file.
pub(crate) fn roots_in(file: &Path) -> Result<RootCerts> {
    let pem = std::fs::read(file).map_err(|error| {
        let text = format!("cannot read file {}", file.display());
        Error::new(ErrorKind::Usage, text).with_source(error)
    })?;
    roots_of(&pem, &format!("file {}", file.display()))
}

/// The certificates of authorities in a text, which errors call `name`.
///
/// # Errors
/// Of kind `Usage` where it holds none.
pub(crate) fn roots_of(pem: &[u8], name: &str) -> Result<RootCerts> {
    let none = || {
        Error::new(
            ErrorKind::Usage,
            format!("{name} holds no certificates in PEM"),
        )
    };
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| none())? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(none());
    }
    Ok(RootCerts::new_with_certs(&found))
}

/// A client of HTTP that answers are had from, whatever their status. `connect` bounds the wait for
/// a host that does not answer at all, `answer` all of it, from the look at the host's name to the
/// answer's last byte. `accept` is the media type that is asked for.
///
/// Nothing is followed elsewhere: a login is for the host that was named, and a POST that is
/// redirected is none any more.
pub(crate) fn agent(
    roots: RootCerts,
    connect: Duration,
    answer: Duration,
    accept: &'static str,
) -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(roots)
        .build();
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(answer))
        .timeout_connect(Some(connect))
        .tls_config(tls)
        .user_agent(concat!("headwater/", env!("CARGO_PKG_VERSION")))
        .accept(accept)
        .build()
        .new_agent()
}

/// Whether nobody but this machine hears what is said to the host: an address of its own, or a name
/// for one (RFC 6761, 6.3). No name is looked up.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    let name = host.to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// Shakes hands with a server once more and says why its certificate is refused; none where it is
/// not, or nobody answers.
pub(crate) fn examine(host: &str, port: u16, trust: &Trust, greeting: Greeting) -> Option<Refusal> {
    let found = Arc::new(Mutex::new(None));
    let mut stream = reach(host, port)?;
    if greeting == Greeting::Postgres {
        let mut answer = [0];
        stream.write_all(&SSL_REQUEST).ok()?;
        stream.read_exact(&mut answer).ok()?;
        if answer != [SSL_YES] {
            return None;
        }
    }
    let heard = Arc::clone(&found);
    let ssl = handshake(host, trust, move |context| {
        let mut found = heard.lock().unwrap_or_else(PoisonError::into_inner);
        found.get_or_insert_with(|| Seen::of(context));
    });
    // Accepted or refused, the connection ends here.
    drop(ssl.ok()?.connect(stream));
    let seen = found
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()?;
    Some(seen.judged(host, port, trust))
}

fn reach(host: &str, port: u16) -> Option<TcpStream> {
    let mut addresses = (host, port).to_socket_addrs().ok()?;
    let stream =
        addresses.find_map(|address| TcpStream::connect_timeout(&address, PATIENCE).ok())?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

fn handshake(
    host: &str,
    trust: &Trust,
    refused: impl Fn(&X509StoreContextRef) + Send + Sync + 'static,
) -> std::result::Result<Ssl, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    trust.authorities.load(&mut context)?;
    context.set_verify_callback(SslVerifyMode::PEER, move |is_fine, context| {
        if !is_fine {
            refused(context);
        }
        is_fine
    });
    let mut ssl = Ssl::new(&context.build())?;
    let address: Option<IpAddr> = host.parse().ok();
    if address.is_none() {
        ssl.set_hostname(host)?;
    }
    if trust.checks_host {
        match address {
            Some(address) => ssl.param_mut().set_ip(address)?,
            None => ssl.param_mut().set_host(host)?,
        }
    }
    Ok(ssl)
}

impl Authorities {
    fn load(&self, context: &mut SslContextBuilder) -> std::result::Result<(), ErrorStack> {
        match self {
            Authorities::System => context.set_default_verify_paths(),
            Authorities::File(file) => context.load_verify_locations(Some(file), None),
            Authorities::Folder(folder) => context.load_verify_locations(None, Some(folder)),
            Authorities::Pem(text) => {
                for certificate in X509::stack_from_pem(text.as_bytes())? {
                    context.cert_store_mut().add_cert(certificate)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Authorities::System => f.write_str("those whom this system trusts"),
            Authorities::File(place) | Authorities::Folder(place) => {
                write!(f, "{}", place.display())
            }
            Authorities::Pem(_) => f.write_str("the certificates that are given"),
        }
    }
}

/// A certificate at which verification ended.
struct Seen {
    code: i32,
    words: &'static str,
    /// 0 for the server's own, more for those who vouch for it.
    depth: u32,
    subject: String,
    issuer: String,
    begins: String,
    ends: String,
    names: Vec<String>,
}

impl Seen {
    fn of(context: &X509StoreContextRef) -> Self {
        let error = context.error();
        let certificate = context.current_cert();
        let told = |what: fn(&X509Ref) -> String| certificate.map_or_else(String::new, what);
        Seen {
            code: error.as_raw(),
            words: error.error_string(),
            depth: context.error_depth(),
            subject: told(|certificate| readable(certificate.subject_name())),
            issuer: told(|certificate| readable(certificate.issuer_name())),
            begins: told(|certificate| certificate.not_before().to_string()),
            ends: told(|certificate| certificate.not_after().to_string()),
            names: certificate.map(names).unwrap_or_default(),
        }
    }

    fn judged(self, host: &str, port: u16, trust: &Trust) -> Refusal {
        let flaw = match self.code {
            code::HAS_EXPIRED => Flaw::Ended(self.ends),
            code::NOT_YET_VALID => Flaw::NotYet(self.begins),
            code::HOSTNAME_MISMATCH | code::IP_ADDRESS_MISMATCH => {
                Flaw::OtherHost(host.to_owned(), self.names)
            }
            code if code::ISSUER.contains(&code) => {
                Flaw::UnknownIssuer(self.issuer, trust.authorities.clone())
            }
            _ => Flaw::Other(self.words),
        };
        Refusal {
            flaw,
            endpoint: format!("{host}:{port}"),
            authority: (self.depth > 0).then_some(self.subject),
        }
    }
}

/// A name as `CN=db.example, O=Example`.
fn readable(name: &X509NameRef) -> String {
    let entries = name.entries().filter_map(|entry| {
        let field = entry.object().nid().short_name().ok()?;
        let value = entry.data().to_string().ok()?;
        Some(format!("{field}={value}"))
    });
    entries.collect::<Vec<_>>().join(", ")
}

/// The hosts that a certificate is for. Its common name counts only where there is no other
/// (RFC 6125, 6.4.4).
fn names(certificate: &X509Ref) -> Vec<String> {
    let alternatives = certificate.subject_alt_names();
    let listed: Vec<String> = alternatives
        .iter()
        .flatten()
        .filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some(bytes)) => address(bytes).map(|address| address.to_string()),
            (None, None) => None,
        })
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    common
        .filter_map(|entry| entry.data().to_string().ok())
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = &self.endpoint;
        write!(f, "the certificate of {endpoint} is refused: ")?;
        let whose = match &self.authority {
            None => "it".to_owned(),
            Some(authority) => format!("that of {authority}, who vouches for it,"),
        };
        match &self.flaw {
            Flaw::Ended(when) => write!(f, "{whose} ended on {when}"),
            Flaw::NotYet(when) => write!(f, "{whose} begins on {when}"),
            Flaw::OtherHost(host, names) if names.is_empty() => {
                write!(f, "it is for no host, and not for {host}")
            }
            Flaw::OtherHost(host, names) => {
                let told: Vec<&str> = names.iter().take(NAMES).map(String::as_str).collect();
                let more = names.len().saturating_sub(NAMES);
                write!(f, "it is for {}", told.join(", "))?;
                if more > 0 {
                    write!(f, " and {more} more")?;
                }
                write!(f, ", and not for {host}")
            }
            Flaw::UnknownIssuer(issuer, authorities) => {
                write!(f, "its issuer, {issuer}, is not among {authorities}")
            }
            Flaw::Other(words) => f.write_str(words),
        }
    }
}

impl Refusal {
    /// What mends it. `option` is how authorities are named there.
    pub(crate) fn cure(&self, option: &str) -> String {
        match self.flaw {
            Flaw::Ended(_) => {
                "Have the certificate renewed, or correct this machine's clock.".into()
            }
            Flaw::NotYet(_) => "Correct this machine's clock, or wait for that time.".into(),
            Flaw::OtherHost(..) => {
                "Connect by a name that the certificate is for, or have one made \
                                    that is for this name (subjectAltName)."
                    .into()
            }
            Flaw::UnknownIssuer(..) => format!("Name the certificate of its issuer: {option}."),
            Flaw::Other(_) => format!("Check the certificate, and {option}."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: i32, depth: u32, names: &[&str]) -> Refusal {
        let seen = Seen {
            code,
            words: "what OpenSSL says",
            depth,
            subject: "CN=one".to_owned(),
            issuer: "CN=issuer".to_owned(),
            begins: "Jan 1".to_owned(),
            ends: "Jan 2".to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let trust = Trust {
            authorities: Authorities::System,
            checks_host: true,
        };
        seen.judged("db.example", 5432, &trust)
    }

    #[test]
    fn a_flaw_is_told_with_whose_it_is() {
        for (refusal, told) in [
            (refusal(code::HAS_EXPIRED, 0, &[]), "it ended on Jan 2"),
            (
                refusal(code::HAS_EXPIRED, 1, &[]),
                "that of CN=one, who vouches for it, ended on Jan 2",
            ),
            (refusal(code::NOT_YET_VALID, 0, &[]), "it begins on Jan 1"),
            (
                refusal(code::HOSTNAME_MISMATCH, 0, &["a", "b", "c", "d", "e", "f"]),
                "it is for a, b, c, d and 2 more, and not for db.example",
            ),
            (
                refusal(code::HOSTNAME_MISMATCH, 0, &[]),
                "it is for no host, and not for db.example",
            ),
            (
                refusal(18, 0, &[]),
                "its issuer, CN=issuer, is not among those whom this system trusts",
            ),
            (refusal(7, 0, &[]), "what OpenSSL says"),
        ] {
            let expected = format!("the certificate of db.example:5432 is refused: {told}");
            assert_eq!(refusal.to_string(), expected);
            assert!(!refusal.cure("--ca FILE").is_empty());
        }
    }

    #[test]
    fn what_stays_on_this_machine_is_known_by_its_name() {
        for host in [
            "localhost",
            "LOCALHOST.",
            "kafka.localhost",
            "127.0.0.1",
            "127.1.2.3",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["::1", "[::1]", "::ffff:127.0.0.1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "notlocalhost",
            "localhost.example",
            "0.0.0.0",
            "10.0.0.1",
            "fe80::1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_connection_that_breaks_is_no_refusal() {
        assert!(!lasts("unexpected EOF") && !lasts("Connection reset by peer"));
        assert!(lasts(
            "error:0A000086:SSL routines::certificate verify failed"
        ));
    }
}
