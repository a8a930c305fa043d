//! A web app for Zexio, as one binary: it listens on `$HOST:$PORT`, answers `/up` when it can serve, and ends on
//! SIGTERM once the requests in flight are answered.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::RwLock;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// Each request holds it for reading; once it can be locked for writing, no request is left.
static BUSY: RwLock<()> = RwLock::new(());

fn main() -> io::Result<()> {
    // Blocked before the first thread starts, so that only the wait below receives it.
    let term = SigSet::from(Signal::SIGTERM);
    term.thread_block()?;
    let host = env::var("HOST").unwrap_or_else(|_| "127.0.0.1".into());
    let port = env::var("PORT").unwrap_or_else(|_| "3000".into());
    let listener = TcpListener::bind(format!("{host}:{port}"))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(&stream));
        }
    });
    term.wait()?;
    let _all_answered = BUSY.write();
    Ok(())
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let _busy = BUSY.read();
    while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
    let body = match request.split(' ').nth(1) {
        Some("/up") => "ok\n".to_owned(),
        _ => format!("hello from rust, release {}\n", env::var("ZEXIO_RELEASE").unwrap_or_default()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
