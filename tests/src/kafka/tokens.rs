//! Who gives tokens for `OAUTHBEARER`: an issuer whose keys the broker knows, and the endpoint at
//! which it is asked for tokens (RFC 6749, 4.4).

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::base64::encode_block;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use serde_json::json;

use crate::certificates;
use crate::kafka::secured::SUBJECT;
use crate::keeper::Folder;
use crate::port;
use crate::registry::proxy::Request;

/// What tokens name as their issuer.
pub const ISSUER: &str = "https://issuer.example";

/// Who asks for tokens.
pub const CLIENT_ID: &str = "headwater";

/// The secret of [`CLIENT_ID`].
pub const CLIENT_SECRET: &str = "a-secret-which-nobody-may-log";

/// Bytes of a coordinate or half a signature.
const COORDINATE: i32 = 32;

/// Signs tokens.
pub struct Issuer {
    key: PKey<Private>,
    folder: Folder,
}

impl Issuer {
    /// Makes a key, and the file by which a broker knows it.
    ///
    /// # Panics
    ///
    /// If OpenSSL refuses, or the file cannot be written.
    pub fn new() -> Self {
        let made = certificates::key().and_then(|key| {
            let known = known_by(&key)?;
            Ok((key, known))
        });
        let (key, known) = made.unwrap_or_else(|e| panic!("cannot make a key: {e}"));
        let issuer = Issuer {
            key,
            folder: Folder::new(),
        };
        std::fs::write(issuer.keys(), known)
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", issuer.keys().display()));
        issuer
    }

    /// The JSON Web Key Set.
    pub fn keys(&self) -> PathBuf {
        let folder: &Path = self.folder.path();
        folder.join("keys.json")
    }

    /// A token for [`SUBJECT`] that ends so much later.
    ///
    /// # Panics
    ///
    /// If OpenSSL refuses.
    pub fn token(&self, lifetime: Duration) -> String {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since_1970.unwrap_or_default().as_secs();
        // Claims are of whole seconds. One that was cut would end before the life that is told, and a
        // broker that has the token from a client shortly before lets nobody in again within a second.
        let end = now + 1 + lifetime.as_secs();
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": KEY_ID });
        let claims = json!({
            "iss": ISSUER,
            "sub": SUBJECT,
            "iat": now,
            "exp": end,
        });
        let signed = format!(
            "{}.{}",
            base64url(header.to_string().as_bytes()),
            base64url(claims.to_string().as_bytes())
        );
        let signature = self.sign(signed.as_bytes());
        let signature = signature.unwrap_or_else(|e| panic!("cannot sign a token: {e}"));
        format!("{signed}.{}", base64url(&signature))
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let signature = EcdsaSig::sign(&sha256(text), &*self.key.ec_key()?)?;
        let mut bytes = signature.r().to_vec_padded(COORDINATE)?;
        bytes.extend(signature.s().to_vec_padded(COORDINATE)?);
        Ok(bytes)
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Issuer::new()
    }
}

const KEY_ID: &str = "tests";

/// The public half, as RFC 7517 and RFC 7518, 6.2 write it.
fn known_by(key: &PKey<Private>) -> Result<String, ErrorStack> {
    let key = key.ec_key()?;
    let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
    let mut context = BigNumContext::new()?;
    key.public_key()
        .affine_coordinates(key.group(), &mut x, &mut y, &mut context)?;
    let keys = json!({ "keys": [{
        "kty": "EC",
        "crv": "P-256",
        "alg": "ES256",
        "use": "sig",
        "kid": KEY_ID,
        "x": base64url(&x.to_vec_padded(COORDINATE)?),
        "y": base64url(&y.to_vec_padded(COORDINATE)?),
    }] });
    Ok(keys.to_string())
}

fn base64url(bytes: &[u8]) -> String {
    let text = encode_block(bytes).replace('+', "-").replace('/', "_");
    text.trim_end_matches('=').to_owned()
}

/// The endpoint of an issuer. Dropped, it ends.
pub struct TokenEndpoint {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    issuer: Arc<Issuer>,
    lifetime_seconds: AtomicU64,
    /// What is answered in place of a token; 0 for none.
    status: AtomicU16,
    given: AtomicUsize,
    ended: AtomicBool,
}

impl TokenEndpoint {
    /// Gives tokens that live so long, on a free port of loopback.
    ///
    /// # Panics
    ///
    /// If it cannot listen.
    pub fn of(issuer: &Arc<Issuer>, lifetime: Duration) -> Self {
        let port = port::free();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .unwrap_or_else(|e| panic!("cannot listen on port {port}: {e}"));
        let shared = Arc::new(Shared {
            issuer: Arc::clone(issuer),
            lifetime_seconds: AtomicU64::new(lifetime.as_secs()),
            status: AtomicU16::new(0),
            given: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                // A client that goes away in the middle is its own affair.
                drop(accepting.serve(&client));
            }
        });
        TokenEndpoint { port, shared }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    /// How many tokens it has given.
    pub fn given(&self) -> usize {
        self.shared.given.load(Ordering::Relaxed)
    }

    /// From now on the answer is this status, or a token again where it is 0.
    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }
}

impl Drop for TokenEndpoint {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the listener up.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    fn serve(&self, mut client: &TcpStream) -> io::Result<()> {
        let request = Request::read(client)?;
        let (status, body) = self.answer_to(&request);
        let answer = format!(
            "HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        );
        client.write_all(answer.as_bytes())?;
        client.shutdown(Shutdown::Both)
    }

    fn answer_to(&self, request: &Request) -> (u16, String) {
        let told = self.status.load(Ordering::Relaxed);
        if told != 0 {
            return (told, json!({ "error": "told_to" }).to_string());
        }
        let pair = encode_block(format!("{CLIENT_ID}:{CLIENT_SECRET}").as_bytes());
        if request.header("authorization") != Some(&format!("Basic {pair}")) {
            let why =
                json!({ "error": "invalid_client", "error_description": "Nobody here knows you" });
            return (401, why.to_string());
        }
        if request.body() != b"grant_type=client_credentials&scope=topics%3Awrite" {
            return (400, json!({ "error": "invalid_request" }).to_string());
        }
        self.given.fetch_add(1, Ordering::Relaxed);
        let seconds = self.lifetime_seconds.load(Ordering::Relaxed);
        let token = self.issuer.token(Duration::from_secs(seconds));
        let given = json!({ "access_token": token, "token_type": "Bearer", "expires_in": seconds });
        (200, given.to_string())
    }
}
