//! A way to the registry on which things go wrong, a request at a time.
//!
//! [`crate::torture::proxy`] knows bytes only. This one knows where a request begins and
//! ends, so that it can answer one itself, or lose the answer to one that was carried out.
//! It also keeps what was asked for, which is how a test sees that nothing was.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{Registry, url_at};
use crate::port;

/// What becomes of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are passed on.
    None,
    /// They are passed on after this time.
    Late(Duration),
    /// They are answered with this status and body, and not passed on.
    Answer(u16, String),
    /// They are passed on, and the answer is lost with the connection.
    Lost,
    /// Connections are closed before anything is read.
    Closed,
    /// They are passed on if they come with this `Authorization`, else answered with 401.
    Guarded(String),
}

/// A listener before a registry. Dropped, it ends.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: u16,
    fault: Mutex<Fault>,
    requests: Mutex<Vec<String>>,
    ended: AtomicBool,
}

/// A request as it came.
pub(crate) struct Request {
    /// `GET /path HTTP/1.1`
    line: String,
    /// Without those that are about the connection.
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Proxy {
    /// Listens on a free port of loopback.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn to(registry: &Registry) -> Self {
        let port = port::free();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .unwrap_or_else(|e| panic!("cannot listen on port {port}: {e}"));
        let shared = Arc::new(Shared {
            target: registry.port(),
            fault: Mutex::new(Fault::None),
            requests: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // A client that goes away in the middle is its own affair.
                std::thread::spawn(move || drop(shared.serve(&client)));
            }
        });
        Proxy { port, shared }
    }

    /// What clients are given as the registry's URL.
    pub fn url(&self) -> String {
        url_at(self.port)
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What becomes of the requests that come from now on.
    pub fn set(&self, fault: Fault) {
        *lock(&self.shared.fault) = fault;
    }

    /// Answers from now on with a status, in the words of Confluent's registry.
    pub fn answer(&self, status: u16, message: &str) {
        let body = serde_json::json!({ "error_code": status, "message": message });
        self.set(Fault::Answer(status, body.to_string()));
    }

    /// `METHOD path` of every request that has come, the oldest first.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the listener up.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    /// Takes one request from a connection and closes it: a client that wants more comes again.
    fn serve(&self, mut client: &TcpStream) -> io::Result<()> {
        if *lock(&self.fault) == Fault::Closed {
            return client.shutdown(Shutdown::Both);
        }
        let request = Request::read(client)?;
        lock(&self.requests).push(request.name());
        let fault = lock(&self.fault).clone();
        let answer = match fault {
            Fault::Closed => return client.shutdown(Shutdown::Both),
            Fault::None => self.pass_on(&request)?,
            Fault::Late(delay) => {
                std::thread::sleep(delay);
                self.pass_on(&request)?
            }
            Fault::Lost => {
                self.pass_on(&request)?;
                return client.shutdown(Shutdown::Both);
            }
            Fault::Answer(status, body) => answer(status, &body),
            Fault::Guarded(wanted) => match request.header("authorization") {
                Some(given) if given == wanted => self.pass_on(&request)?,
                _ => answer(401, r#"{"error_code":401,"message":"Unauthorized"}"#),
            },
        };
        client.write_all(&answer)?;
        client.shutdown(Shutdown::Both)
    }

    fn pass_on(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut registry = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target))?;
        registry.write_all(&request.bytes())?;
        let mut answer = Vec::new();
        registry.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

impl Request {
    pub(crate) fn read(client: &TcpStream) -> io::Result<Self> {
        let mut reader = BufReader::new(client);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            Ok::<_, io::Error>(line.trim_end().to_owned())
        };
        let mut request = Request {
            line: line()?,
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let header = line()?;
            if header.is_empty() {
                break;
            }
            if named(&header, "connection").is_none() {
                request.headers.push(header);
            }
        }
        let length = request
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        reader.take(length).read_to_end(&mut request.body)?;
        Ok(request)
    }

    fn name(&self) -> String {
        let version = self.line.rfind(" HTTP/").unwrap_or(self.line.len());
        self.line[..version].to_owned()
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|header| named(header, name))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        for header in &self.headers {
            bytes.extend(format!("{header}\r\n").into_bytes());
        }
        bytes.extend(b"connection: close\r\n\r\n");
        bytes.extend(&self.body);
        bytes
    }
}

/// The value of a header, if it has this name.
fn named<'h>(header: &'h str, name: &str) -> Option<&'h str> {
    let (found, value) = header.split_once(':')?;
    found.eq_ignore_ascii_case(name).then_some(value.trim())
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} Told\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        super::MEDIA_TYPE,
        body.len()
    )
    .into_bytes()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
