//! Answers scrapes and probes over HTTP/1.1.
//!
//! A few threads accept connections from one socket; each takes one request from each connection,
//! answers and closes it. A request has a largest size and a time by which it must be there
//! and its answer taken, so that whatever connects holds a bounded amount of memory and of a thread's
//! time, and nothing of the stream's. What is read is a request line and headers; the crate
//! `httparse`, which the registry's client brings along, reads them.
//!
//! There is no login and no TLS: what is told are numbers and the names of tables that are in
//! trouble. Whoever is not to read even that is kept out by the address, which is loopback unless a
//! host is given.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Metrics;
use super::samples::Format;
use crate::cli::MetricsAddress;
use crate::error::{Error, Result};

/// Prometheus and the probes at the same time, and a few that say nothing.
const THREADS: usize = 8;

/// How long a connection may take to send its request, which is a packet or two. What is opened and
/// left alone, by a scanner or for later, is closed soon enough for a probe that waits behind it.
const REQUEST_PATIENCE: Duration = Duration::from_millis(500);

/// How long an answer may take to be taken. A probe gives up after a second by default, Prometheus
/// after ten.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest request: what Prometheus sends has about 400 bytes.
const REQUEST_BYTES: usize = 8 * 1024;

/// Headers of a request at most.
const HEADERS: usize = 64;

/// After an error to accept a connection, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

const PLAIN: &str = "text/plain; charset=utf-8";

/// Serves `metrics` for as long as the process lives. Returns where.
///
/// # Errors
/// Nothing can listen at the address.
pub fn serve(metrics: &Metrics, address: &MetricsAddress) -> Result<SocketAddr> {
    let refused = |error: io::Error| {
        let message = format!("cannot serve metrics at {address} (--metrics)");
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "Another process listens there, another instance of headwater for one. Choose \
                 another port, or 0 for any that is free."
            }
            io::ErrorKind::PermissionDenied => "Choose a port from 1024 on.",
            _ => "Give an address of this machine: HOST:PORT, or a port alone for loopback.",
        };
        Error::failed(format!("{message}: {error}")).with_hint(hint)
    };
    let listener = TcpListener::bind((&*address.host, address.port)).map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let listener = Arc::new(listener);
    for _ in 0..THREADS {
        let (listener, metrics) = (Arc::clone(&listener), metrics.clone());
        std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                let _mourner = Mourner(bound);
                answer_all(&listener, &metrics);
            })
            .map_err(|error| Error::failed("cannot start a thread").with_source(error))?;
    }
    tracing::info!(address = %bound, "serving metrics");
    Ok(bound)
}

/// Says when a thread has ended, which none should.
struct Mourner(SocketAddr);

impl Drop for Mourner {
    fn drop(&mut self) {
        tracing::error!(
            address = %self.0,
            "a thread that serves metrics has ended; when none is left, nobody answers"
        );
    }
}

fn answer_all(listener: &TcpListener, metrics: &Metrics) {
    loop {
        match listener.accept() {
            Ok((connection, _)) => {
                // One that breaks is the other side's to try again.
                if let Err(error) = answer(&connection, metrics) {
                    tracing::debug!(%error, "a connection to the metrics broke");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection to the metrics");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// What is said to a request.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: String,
    has_body: bool,
}

impl Answer {
    fn plain(status: &'static str, line: &str) -> Self {
        Answer {
            status,
            content_type: PLAIN,
            body: format!("{line}\n"),
            has_body: true,
        }
    }

    fn of(verdict: std::result::Result<(), String>) -> Self {
        match verdict {
            Ok(()) => Answer::plain("200 OK", "ok"),
            Err(reason) => Answer::plain("503 Service Unavailable", &reason),
        }
    }
}

/// A request, or the answer to what is none.
enum Heard {
    Answer(Answer),
    /// More is to come.
    Unfinished,
}

fn answer(connection: &TcpStream, metrics: &Metrics) -> io::Result<()> {
    let deadline = Instant::now() + REQUEST_PATIENCE;
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    let answer = loop {
        connection.set_read_timeout(Some(left(deadline)?))?;
        let mut stream = connection;
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => request.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
        match hear(&request, metrics) {
            Heard::Answer(answer) => break answer,
            Heard::Unfinished if request.len() >= REQUEST_BYTES => {
                break Answer::plain("431 Request Header Fields Too Large", "too large");
            }
            Heard::Unfinished => {}
        }
    };
    write(connection, &answer, Instant::now() + PATIENCE)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

fn hear(bytes: &[u8], metrics: &Metrics) -> Heard {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return Heard::Unfinished,
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Heard::Answer(Answer::plain("400 Bad Request", "not HTTP/1.1")),
    }
    let accept = request.headers.iter().find_map(|header| {
        let is_accept = header.name.eq_ignore_ascii_case("accept");
        std::str::from_utf8(header.value).ok().filter(|_| is_accept)
    });
    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let mut answer = match request.method {
        Some("GET" | "HEAD") => respond(path, accept.unwrap_or_default(), metrics),
        _ => Answer::plain("405 Method Not Allowed", "GET or HEAD"),
    };
    answer.has_body = request.method != Some("HEAD");
    Heard::Answer(answer)
}

fn respond(path: &str, accept: &str, metrics: &Metrics) -> Answer {
    match path {
        "/metrics" => {
            let format = Format::accepted(accept);
            Answer {
                status: "200 OK",
                content_type: format.content_type(),
                body: metrics.page(format),
                has_body: true,
            }
        }
        "/livez" => Answer::of(metrics.live()),
        "/readyz" => Answer::of(metrics.ready()),
        _ => Answer::plain("404 Not Found", "there are /metrics, /livez and /readyz"),
    }
}

fn write(mut connection: &TcpStream, answer: &Answer, deadline: Instant) -> io::Result<()> {
    let mut text = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    );
    if answer.has_body {
        text.push_str(&answer.body);
    }
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        connection.set_write_timeout(Some(left(deadline)?))?;
        match connection.write(rest)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => rest = rest.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::metrics::Activity;

    fn started() -> (Metrics, SocketAddr) {
        let metrics = Metrics::new();
        let bound = serve(&metrics, &"0".parse().unwrap()).unwrap();
        (metrics, bound)
    }

    /// What is answered to these bytes, which come in pieces.
    fn ask(address: SocketAddr, pieces: &[&[u8]]) -> String {
        let mut connection = TcpStream::connect(address).unwrap();
        for piece in pieces {
            connection.write_all(piece).unwrap();
            connection.flush().unwrap();
        }
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    fn status(answer: &str) -> &str {
        answer.lines().next().unwrap_or_default()
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let (metrics, bound) = started();
        let error = serve(&metrics, &bound.to_string().parse().unwrap()).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with(&format!("cannot serve metrics at {bound} (--metrics): ")),
            "{said}"
        );
        assert!(error.hint().unwrap().contains("Choose another port"));
    }

    #[test]
    fn probes_answer_with_a_status_and_a_line() {
        let (metrics, bound) = started();
        let answer = ask(bound, &[b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"]);
        assert_eq!(status(&answer), "HTTP/1.1 200 OK");
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
        let answer = ask(bound, &[b"GET /readyz HTTP/1.1\r\n\r\n"]);
        assert_eq!(status(&answer), "HTTP/1.1 503 Service Unavailable");
        assert!(answer.ends_with("\r\n\r\nit is starting\n"), "{answer}");
        metrics.enter(Activity::Snapshot);
        let answer = ask(bound, &[b"GET /readyz?verbose HTTP/1.1\r\n\r\n"]);
        assert_eq!(status(&answer), "HTTP/1.1 200 OK");
    }

    #[test]
    fn a_request_in_pieces_is_answered_when_it_is_whole() {
        let (_, bound) = started();
        let pieces: [&[u8]; 3] = [
            b"GET /met",
            b"rics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n",
            b"\r\n",
        ];
        let answer = ask(bound, &pieces);
        assert_eq!(status(&answer), "HTTP/1.1 200 OK");
        assert!(answer.contains("application/openmetrics-text; version=1.0.0"));
        assert!(answer.ends_with("# EOF\n"), "{answer}");
    }

    #[test]
    fn what_is_no_request_for_a_page_is_refused() {
        let (_, bound) = started();
        for (request, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
            (
                "POST /metrics HTTP/1.1\r\n\r\n",
                "HTTP/1.1 405 Method Not Allowed",
            ),
            (
                "\x16\x03\x01 a TLS hello\r\n\r\n",
                "HTTP/1.1 400 Bad Request",
            ),
        ] {
            let answer = ask(bound, &[request.as_bytes()]);
            assert_eq!(status(&answer), expected, "{request:?}");
        }
        let answer = ask(bound, &[b"HEAD /metrics HTTP/1.1\r\n\r\n"]);
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(REQUEST_BYTES));
        let metrics = Metrics::new();
        assert!(matches!(hear(long.as_bytes(), &metrics), Heard::Unfinished));
    }

    #[test]
    fn who_says_nothing_keeps_nobody_out() {
        let (_, bound) = started();
        // One fewer than there are threads.
        let _silent: Vec<TcpStream> = (1..THREADS)
            .map(|_| TcpStream::connect(bound).unwrap())
            .collect();
        let answer = ask(bound, &[b"GET /livez HTTP/1.1\r\n\r\n"]);
        assert_eq!(status(&answer), "HTTP/1.1 200 OK");
    }
}
