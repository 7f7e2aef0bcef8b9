//! A server that gives prepared answers, for what no real registry can be made to say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

/// What it answers to one question.
pub(super) enum Reply {
    /// A status and a body.
    Says(u16, &'static str),
    /// The connection is closed without an answer.
    Closes,
    /// Half an answer, and then nothing for as long as it is waited for.
    Stalls,
}

/// A question as it arrived.
#[derive(Debug)]
pub(super) struct Question {
    /// `GET /path`
    pub(super) line: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Question {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map(|(_, value)| &**value)
    }
}

/// Answers each connection's question with the next reply, then is gone.
pub(super) struct Replay {
    address: SocketAddr,
    questions: mpsc::Receiver<Question>,
}

impl Replay {
    pub(super) fn new(replies: Vec<Reply>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, questions) = mpsc::channel();
        std::thread::spawn(move || {
            for reply in replies {
                let Ok((connection, _)) = listener.accept() else {
                    return;
                };
                let mut reader = BufReader::new(&connection);
                let Ok(question) = hear(&mut reader) else {
                    return;
                };
                // Before the answer: whoever has that looks for the question next.
                let _ = sender.send(question);
                if answer(&mut reader, &connection, &reply).is_err() {
                    return;
                }
            }
        });
        Ok(Replay { address, questions })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The questions that were heard, those of every answer that was given among them.
    pub(super) fn questions(&self) -> Vec<Question> {
        self.questions.try_iter().collect()
    }
}

fn hear(reader: &mut impl BufRead) -> std::io::Result<Question> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Ok(Question {
        line,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn answer(reader: &mut impl Read, mut writer: &TcpStream, reply: &Reply) -> std::io::Result<()> {
    if let Reply::Says(status, body) = reply {
        write!(
            writer,
            "HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
    }
    if matches!(reply, Reply::Stalls) {
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{{\"id\""
        )?;
        // Until the other side gives up.
        reader.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}
