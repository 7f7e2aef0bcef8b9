//! A network between client and server that can be cut, slow, or silent.
//!
//! ```text
//! client ──> 127.0.0.1:port ──pump──> target
//!                           <──pump──
//! ```
//!
//! A connection that is cut loses what is under way. One that is held does not: what was
//! sent arrives when the network is back, however late. That may not happen to what a client
//! sent that has died since: its successor would find records appearing among its own, and at
//! least once has nothing to fence them off with. So whoever kills a client cuts its
//! connections too, as its host would.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::port;

/// How much is passed on at a time: with a delay of d at most this much in d.
const CHUNK_BYTES: usize = 64 << 10;

/// How often a pump that holds looks whether its connection was cut.
const LOOK: Duration = Duration::from_millis(100);

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// They are passed on.
    Fair,
    /// They are passed on later, in either direction.
    Slow(Duration),
    /// They are held, and new connections are taken and then silent: half-open.
    Silent,
    /// New connections are closed at once.
    Closed,
}

/// A listener and the connections through it. Dropped, they end.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    weather: Mutex<Weather>,
    changed: Condvar,
    connections: Mutex<Vec<Arc<Link>>>,
    tamper: Mutex<Option<Tamper>>,
    ended: AtomicBool,
}

/// Alters what the client sends, a read at a time.
pub type Tamper = fn(&mut [u8]);

/// One connection: both of its halves.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
    cut: AtomicBool,
}

impl Proxy {
    /// Listens on a free port of loopback for those who want to go to `target`.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn to(target: u16) -> Self {
        let port = port::free();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .unwrap_or_else(|e| panic!("cannot listen on port {port}: {e}"));
        let shared = Arc::new(Shared {
            target,
            weather: Mutex::new(Weather::Fair),
            changed: Condvar::new(),
            connections: Mutex::default(),
            tamper: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Proxy { port, shared }
    }

    /// The port to come by.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the weather, for connections that are open as well.
    pub fn set(&self, weather: Weather) {
        *lock(&self.shared.weather) = weather;
        self.shared.changed.notify_all();
    }

    /// Alters from now on what the client sends: to see whether a client that did so would
    /// be found out.
    pub fn tamper(&self, with: Tamper) {
        *lock(&self.shared.tamper) = Some(with);
    }

    /// Cuts every connection: what is under way is lost.
    pub fn cut(&self) {
        for link in lock(&self.shared.connections).drain(..) {
            link.cut();
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the listener up.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Link {
    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        // One that is gone already needs no cut.
        let _client = self.client.shutdown(Shutdown::Both);
        let _server = self.server.shutdown(Shutdown::Both);
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Waits for the weather in which bytes of a link may go on.
    fn wait(&self, link: &Link) {
        let mut weather = lock(&self.weather);
        while *weather == Weather::Silent && !link.is_cut() {
            weather = self
                .changed
                .wait_timeout(weather, LOOK)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
        let delay = match *weather {
            Weather::Slow(delay) => delay,
            _ => Duration::ZERO,
        };
        drop(weather);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let closed = *lock(&shared.weather) == Weather::Closed;
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.target));
        let (Ok(client), Ok(server), false) = (client, server, closed) else {
            continue;
        };
        let link = Arc::new(Link {
            client,
            server,
            cut: AtomicBool::new(false),
        });
        let mut connections = lock(&shared.connections);
        connections.retain(|link| !link.is_cut());
        connections.push(Arc::clone(&link));
        drop(connections);
        for towards_server in [true, false] {
            let (link, shared) = (Arc::clone(&link), Arc::clone(shared));
            std::thread::spawn(move || {
                let (from, to, tamper) = match towards_server {
                    true => (&link.client, &link.server, *lock(&shared.tamper)),
                    false => (&link.server, &link.client, None),
                };
                pump(from, to, tamper, &link, &shared);
                link.cut();
            });
        }
    }
}

/// Passes bytes on until either end closes.
fn pump(
    mut from: &TcpStream,
    mut to: &TcpStream,
    tamper: Option<Tamper>,
    link: &Link,
    shared: &Shared,
) {
    let _slower = to.set_nodelay(true);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = match from.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        if let Some(tamper) = tamper {
            tamper(&mut chunk[..length]);
        }
        shared.wait(link);
        if link.is_cut() || to.write_all(&chunk[..length]).is_err() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
