//! What an app speaks on its port if it does not answer in HTTP: it is asked in the languages that are there by mistake.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often an app is asked: each question is noise in its log.
const TRIES: u8 = 3;
/// How much of an answer is read, and how much is quoted.
const HEARD: u64 = 256;
const QUOTED: usize = 60;

const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const POSTGRESQL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
/// The preface, and a SETTINGS frame without settings.
const H2C: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const TLS_SAID: &str = "it speaks TLS on its port; Caddy ends TLS for visitors and passes plain HTTP on, so let the app \
                        serve plain HTTP on $PORT, without a certificate of its own";
const H2C_SAID: &str = "it speaks HTTP/2 without TLS, as gRPC does; then set h2c: true";

/// The language of one app, as far as it was found out.
#[derive(Default)]
pub struct Language {
    tries: Cell<u8>,
    found: RefCell<Option<String>>,
}

impl Language {
    /// Explains why a request failed by what the app speaks; unchanged if that is not found out.
    pub fn explain(&self, port: u16, said: String) -> String {
        if self.found.borrow().is_none() && self.tries.get() < TRIES {
            self.tries.set(self.tries.get() + 1);
            *self.found.borrow_mut() = of_port(port);
        }
        self.found.borrow().as_ref().map_or(said.clone(), |found| format!("{found} ({said})"))
    }
}

/// Whether the body of an answer with status 400 says that it was asked without TLS: Go, nginx, Apache, Tomcat.
pub fn wants_tls(body: &[u8]) -> Option<&'static str> {
    const SAYINGS: [&str; 4] = [
        "http request to an https server",
        "http request was sent to https port",
        "ssl-enabled server port",
        "requires tls",
    ];
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    SAYINGS.iter().any(|saying| text.contains(saying)).then_some(TLS_SAID)
}

fn of_port(port: u16) -> Option<String> {
    let heard = ask(port, HTTP);
    if !heard.is_empty() {
        return by_answer(&heard);
    }
    if matches!(ask(port, &hello()).as_slice(), [0x15 | 0x16, 3, ..]) {
        return Some(TLS_SAID.to_owned());
    }
    if matches!(ask(port, POSTGRESQL).as_slice(), b"S" | b"N") {
        return Some(other("PostgreSQL"));
    }
    is_http2(&ask(port, H2C)).then(|| H2C_SAID.to_owned())
}

/// Tells a language by its greeting, or by what it answers to HTTP.
fn by_answer(heard: &[u8]) -> Option<String> {
    const GREETINGS: [(&[u8], &str); 14] = [
        (b"SSH-", "SSH"),
        (b"220", "SMTP or FTP"),
        (b"421", "SMTP or FTP"),
        (b"554", "SMTP"),
        (b"+OK", "POP3"),
        (b"* OK", "IMAP"),
        (b"-ERR", "Redis"),
        (b"-NOAUTH", "Redis"),
        (b"-DENIED", "Redis"),
        (b"ERROR\r\n", "memcached"),
        (b"AMQP", "AMQP"),
        (b"RFB ", "VNC"),
        (b"INFO {", "NATS"),
        (b"RTSP/", "RTSP"),
    ];
    if heard.starts_with(b"HTTP/") {
        return None;
    }
    if matches!(heard, [0x15 | 0x16, 3, ..]) {
        return Some(TLS_SAID.to_owned());
    }
    if is_http2(heard) {
        return Some(H2C_SAID.to_owned());
    }
    // Its first packet: a length in three bytes, number 0, protocol 10.
    if matches!(heard, [_, _, 0, 0, 10, ..]) {
        return Some(other("MySQL"));
    }
    let name = GREETINGS.iter().find(|(greeting, _)| heard.starts_with(greeting)).map(|(_, name)| *name);
    Some(match name {
        Some(name) => format!("{}; it answers {}", other(name), quoted(heard)),
        None => format!("it does not speak HTTP; it answers {}; {WAY_OUT}", quoted(heard)),
    })
}

const WAY_OUT: &str = "let it serve plain HTTP on $PORT, or, where no visitor is to reach it, give it `ready: { tcp: true }` \
                       and no route";

fn other(name: &str) -> String {
    format!("it speaks {name} and not HTTP; {WAY_OUT}")
}

/// What can be read of an answer.
fn quoted(heard: &[u8]) -> String {
    let shown: String = heard.iter().take(QUOTED).map(|byte| std::ascii::escape_default(*byte).to_string()).collect();
    format!("\"{shown}\"")
}

/// Whether it begins with a frame that begins a connection: SETTINGS, or GOAWAY, of stream 0.
fn is_http2(heard: &[u8]) -> bool {
    matches!(heard, [0, _, _, 4 | 7, _, 0, 0, 0, 0, ..])
}

/// A TLS client's first message.
fn hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut hello = Vec::new();
    let Ok(builder) = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() else {
        return hello;
    };
    let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let connection = ServerName::try_from("localhost").map(|name| ClientConnection::new(Arc::new(config), name));
    if let Ok(Ok(mut connection)) = connection {
        let _ = connection.write_tls(&mut hello);
    }
    hello
}

/// Sends a few bytes and reads the beginning of what comes back, in one piece or more.
fn ask(port: u16, question: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    let until = Instant::now() + PATIENCE;
    let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE) else {
        return heard;
    };
    // Some speak first, and close when they are spoken to at once.
    let _ = stream.write_all(question);
    let mut piece = [0; HEARD as usize];
    while heard.len() < 9 {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            break;
        }
        match stream.read(&mut piece) {
            Ok(read @ 1..) => heard.extend_from_slice(&piece[..read]),
            _ => break,
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each connection by what it is asked, until the test ends.
    fn server(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut asked = vec![0; 2048];
                let read = stream.read(&mut asked).unwrap_or(0);
                let _ = stream.write_all(&answer(&asked[..read]));
            }
        });
        port
    }

    fn found(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> String {
        Language::default().explain(server(answer), "closed".to_owned())
    }

    /// Answers one question alone, and closes silently on every other.
    fn only(begins: &'static [u8], answer: &'static [u8]) -> impl Fn(&[u8]) -> Vec<u8> + Send + 'static {
        move |asked| if asked.starts_with(begins) { answer.to_vec() } else { Vec::new() }
    }

    #[test]
    fn a_server_that_closes_without_a_word_is_asked_in_other_languages() {
        for (answer, says) in [
            (found(only(b"\x16\x03", b"\x16\x03\x03\0\x7a\x02")), "it speaks TLS on its port"),
            (found(only(b"\x16\x03", b"\x15\x03\x01\0\x02\x02\x28")), "it speaks TLS on its port"),
            (found(only(POSTGRESQL, b"N")), "it speaks PostgreSQL and not HTTP"),
            (found(only(b"PRI ", b"\0\0\x12\x04\0\0\0\0\0")), "then set h2c: true"),
            (found(only(b"nothing", b"")), "closed"),
        ] {
            assert!(answer.contains(says), "{says}: {answer}");
        }
    }

    #[test]
    fn a_server_is_known_by_what_it_answers_to_http() {
        for (answer, says) in [
            (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "it speaks SSH and not HTTP; let it serve plain HTTP"),
            (b"220 mail ESMTP\r\n", "SMTP or FTP and not HTTP"),
            (b"-ERR wrong number of arguments for 'get' command\r\n", "it speaks Redis and not HTTP"),
            (b"ERROR\r\nERROR\r\n", "memcached"),
            (b"\x4a\0\0\0\x0a8.0.36\0", "MySQL"),
            (b"\x15\x03\x01\0\x02\x02\x46", "it speaks TLS on its port"),
            (b"\0\0\0\x04\0\0\0\0\0", "then set h2c: true"),
            (b"hello\x01 you\r\n", "it answers \"hello\\x01 you\\r\\n\"; let it serve plain HTTP"),
        ] {
            let said = found(move |_| answer.to_vec());
            assert!(said.contains(says) && said.ends_with("(closed)"), "{said}");
        }
        assert_eq!(found(|_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), "closed");
    }

    #[test]
    fn an_app_is_asked_a_few_times_and_what_was_found_is_kept() {
        let language = Language::default();
        let port = server(|_| b"SSH-2.0-x\r\n".to_vec());
        for _ in 0..2 * TRIES {
            assert!(language.explain(port, String::new()).contains("SSH"));
        }
        assert_eq!(language.tries.get(), 1);
    }

    #[test]
    fn an_answer_that_asks_for_tls_is_understood() {
        for body in [
            "Client sent an HTTP request to an HTTPS server.\n",
            "<title>400 The plain HTTP request was sent to HTTPS port</title>",
            "Reason: You're speaking plain HTTP to an SSL-enabled server port.",
            "Bad Request\nThis combination of host and port requires TLS.\n",
        ] {
            assert!(wants_tls(body.as_bytes()).is_some(), "{body}");
        }
        assert!(wants_tls(b"Bad Request: host unknown").is_none());
    }
}
