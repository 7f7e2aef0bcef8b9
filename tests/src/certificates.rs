//! Certificates made on the spot: an authority, those whom it vouches for, and one that nobody
//! knows.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

use crate::keeper::Folder;

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// Who shows a certificate of the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A server on loopback, by the names `localhost` and `127.0.0.1`.
    Server,
    /// The same, whose certificate has ended.
    Expired,
    /// A server of another name.
    Elsewhere,
    /// Someone who logs in by it, as [`CLIENT`].
    Client,
}

/// The common name of [`Holder::Client`].
pub const CLIENT: &str = "headwater";

/// The name of [`Holder::Elsewhere`].
pub const ELSEWHERE: &str = "elsewhere.example";

/// Files in PEM. Dropped, they are gone.
#[derive(Debug)]
pub struct Certificates {
    folder: Folder,
}

impl Certificates {
    /// Makes them all.
    ///
    /// # Panics
    ///
    /// If OpenSSL refuses, or a file cannot be written.
    pub fn new() -> Self {
        let certificates = Certificates {
            folder: Folder::new(),
        };
        match certificates.fill() {
            Ok(()) => certificates,
            Err(e) => panic!("cannot make certificates: {e}"),
        }
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.file("authority")
    }

    /// The certificate of an authority that vouches for nobody here.
    pub fn stranger(&self) -> PathBuf {
        self.file("stranger")
    }

    /// The key and the certificate of somebody, in one file that its owner alone may read.
    pub fn identity(&self, holder: Holder) -> PathBuf {
        self.file(&holder.to_string())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.pem"))
    }

    fn fill(&self) -> Result<(), ErrorStack> {
        let authority = Authority::new("Headwater's tests")?;
        let stranger = Authority::new("A stranger")?;
        write(&self.authority(), &authority.certificate.to_pem()?);
        write(&self.stranger(), &stranger.certificate.to_pem()?);
        for holder in [
            Holder::Server,
            Holder::Expired,
            Holder::Elsewhere,
            Holder::Client,
        ] {
            write(&self.identity(holder), &authority.identity(holder)?);
        }
        Ok(())
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Certificates::new()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Holder::Server => "server",
            Holder::Expired => "expired",
            Holder::Elsewhere => "elsewhere",
            Holder::Client => "client",
        })
    }
}

struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

impl Authority {
    fn new(name: &str) -> Result<Self, ErrorStack> {
        let key = key()?;
        let name = common_name(name)?;
        let mut builder = builder(&name, &name, &key, DAY)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().build()?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        let certificate = builder.build();
        Ok(Authority { key, certificate })
    }

    fn identity(&self, holder: Holder) -> Result<Vec<u8>, ErrorStack> {
        let (name, seconds) = match holder {
            Holder::Server => ("localhost", DAY),
            Holder::Expired => ("localhost", -DAY),
            Holder::Elsewhere => (ELSEWHERE, DAY),
            Holder::Client => (CLIENT, DAY),
        };
        let key = key()?;
        let issuer = self.certificate.subject_name().to_owned()?;
        let mut builder = builder(&common_name(name)?, &issuer, &key, seconds)?;
        if holder != Holder::Client {
            let mut names = SubjectAlternativeName::new();
            names.dns(name);
            if holder != Holder::Elsewhere {
                names.ip("127.0.0.1");
            }
            let extension = names.build(&builder.x509v3_context(None, None))?;
            builder.append_extension(extension)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        let mut pem = key.private_key_to_pem_pkcs8()?;
        pem.extend(builder.build().to_pem()?);
        Ok(pem)
    }
}

/// A new key, of a curve that OpenSSL and Java have.
pub(crate) fn key() -> Result<PKey<Private>, ErrorStack> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&curve)?)
}

fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509Name::builder()?;
    builder.append_entry_by_nid(Nid::COMMONNAME, name)?;
    Ok(builder.build())
}

/// A certificate that ends in so many seconds, or ended so many ago.
fn builder(
    subject: &X509Name,
    issuer: &X509Name,
    key: &PKey<Private>,
    seconds: i64,
) -> Result<X509Builder, ErrorStack> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since_1970.map_or(0, |time| time.as_secs().cast_signed());
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let serial = serial.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    let begin = Asn1Time::from_unix(now - 2 * DAY)?;
    let end = Asn1Time::from_unix(now + seconds)?;
    builder.set_not_before(&begin)?;
    builder.set_not_after(&end)?;
    Ok(builder)
}

/// Writes a file that its owner alone may read, as servers and libpq ask of keys.
fn write(file: &Path, content: &[u8]) {
    std::fs::write(file, content)
        .and_then(|()| {
            let owners = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(file, owners)
        })
        .unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
}
