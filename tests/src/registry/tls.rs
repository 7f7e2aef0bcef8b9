//! TLS before a registry, as a reverse proxy has it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslStream};

use crate::port;

/// How long one side may keep the other waiting.
const TURN: Duration = Duration::from_millis(5);

/// A listener that passes on what comes by TLS. Dropped, it ends.
pub struct Terminator {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Terminator {
    /// Listens before a port of loopback, and shows the certificate of `identity`, a file with its
    /// key.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn before(target: u16, identity: &Path) -> Self {
        let acceptor = acceptor(identity)
            .unwrap_or_else(|e| panic!("cannot show {}: {e}", identity.display()));
        let acceptor = Arc::new(acceptor);
        let port = port::free();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .unwrap_or_else(|e| panic!("cannot listen on port {port}: {e}"));
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                let acceptor = Arc::clone(&acceptor);
                std::thread::spawn(move || {
                    // A client that takes no such certificate goes away.
                    if let Ok(client) = acceptor.accept(client) {
                        drop(pass_on(client, target));
                    }
                });
            }
        });
        Terminator { port, ended }
    }

    /// The URL of the registry behind it.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/apis/ccompat/v7", self.port)
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listener up.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

fn acceptor(identity: &Path) -> Result<SslAcceptor, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_private_key_file(identity, SslFiletype::PEM)?;
    builder.set_certificate_chain_file(identity)?;
    Ok(builder.build())
}

/// Copies both ways until the target has no more.
fn pass_on(mut client: SslStream<TcpStream>, target: u16) -> io::Result<()> {
    let mut target = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    client.get_ref().set_read_timeout(Some(TURN))?;
    target.set_read_timeout(Some(TURN))?;
    let mut buffer = [0; 16 * 1024];
    loop {
        if turn(&mut client, &mut target, &mut buffer)? == Some(0) {
            target.shutdown(Shutdown::Write)?;
        }
        if turn(&mut target, &mut client, &mut buffer)? == Some(0) {
            // The client's part of the farewell is its own affair.
            drop(client.shutdown());
            return Ok(());
        }
    }
}

/// Copies what is there: so many bytes, 0 at the end, none where nothing came in time.
fn turn(from: &mut impl Read, to: &mut impl Write, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match from.read(buffer) {
        Ok(bytes) => to.write_all(&buffer[..bytes]).map(|()| Some(bytes)),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(e) => Err(e),
    }
}
