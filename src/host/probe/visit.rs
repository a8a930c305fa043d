//! One request to an app of this machine, as a visitor's would arrive through Caddy.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::language::{self, Language};
use crate::model::quantity::Timestamp;
use crate::model::spec::ProbeRequest;

/// How much of a response is read: unread data would cause a connection reset in the app's log.
const BODY: usize = 1 << 20;
/// How much of it is looked at.
const HEAD: usize = 2048;

/// How many results are kept.
const RESULTS: usize = 20;

/// Appends a result to those before it; the oldest are dropped.
pub fn write_down(results: &mut Vec<String>, at: Timestamp, result: &str) {
    results.push(format!("{at} {result}"));
    results.drain(..results.len().saturating_sub(RESULTS));
}

/// Like [`get`], from a thread. An app that does not answer in HTTP is asked what it speaks, if there is a `language`
/// to note it in.
pub fn get_now(
    port: u16,
    request: &ProbeRequest,
    timeout: Duration,
    runtime: &Runtime,
    language: Option<&Language>,
) -> Result<u16, String> {
    runtime.block_on(get(port, request, timeout)).map_err(|said| match language {
        Some(language) if !said.starts_with(NO_ANSWER) && !said.contains("Connection refused") => {
            language.explain(port, said)
        }
        _ => said,
    })
}

const NO_ANSWER: &str = "no answer within";

/// Requests a path from an app; returns the status. Always on this machine and the app's own port, without following
/// redirects: a spec cannot direct a request elsewhere.
///
/// # Errors
/// What the app did instead of answering.
pub async fn get(port: u16, request: &ProbeRequest, timeout: Duration) -> Result<u16, String> {
    let deadline = Instant::now() + timeout;
    let Ok(begun) = timeout_at(deadline, begin(port, request)).await else {
        return Err(format!("{NO_ANSWER} {} ms", timeout.as_millis()));
    };
    let (answer, connection) = begun?;
    let status = answer.status().as_u16();
    // A response that never ends counts as an answer.
    let head = timeout_at(deadline, read(answer)).await.unwrap_or_default();
    connection.abort();
    let _ = connection.await;
    match language::wants_tls(&head) {
        Some(said) if status == 400 => Err(format!("{said} (it answered 400)")),
        _ => Ok(status),
    }
}

/// Sends the request; returns the response's head, and the connection task that carries its body.
async fn begin(port: u16, asked: &ProbeRequest) -> Result<(Response<Incoming>, JoinHandle<()>), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TokioIo::new(TcpStream::connect(address).await.map_err(|e| e.to_string())?);
    let request = request(asked).map_err(|e| e.to_string())?;
    let said = |error: hyper::Error| explain(&error, asked.h2c);
    if asked.h2c {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.map_err(said)?;
        let carrier = tokio::spawn(async { drop(connection.await) });
        return Ok((sender.send_request(request).await.map_err(said)?, carrier));
    }
    let (mut sender, connection) = http1::handshake(stream).await.map_err(said)?;
    let carrier = tokio::spawn(async { drop(connection.await) });
    Ok((sender.send_request(request).await.map_err(said)?, carrier))
}

fn request(asked: &ProbeRequest) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let ProbeRequest { path, host, tls, h2c } = asked;
    let proto = if *tls { "https" } else { "http" };
    let builder = Request::builder().header(header::USER_AGENT, "zexio").header(header::ACCEPT, "*/*");
    let builder = builder.header("x-forwarded-proto", proto);
    match h2c {
        true => builder.uri(format!("http://{host}{path}")),
        false => builder.uri(path).header(header::HOST, host).header(header::CONNECTION, "close"),
    }
    .body(Empty::new())
}

/// Reads a response to its end, up to the size limit. Returns the first piece of it.
async fn read(answer: Response<Incoming>) -> Bytes {
    let (mut body, mut read, mut head) = (answer.into_body(), 0, Bytes::new());
    while let Some(Ok(frame)) = body.frame().await {
        let piece = frame.into_data().unwrap_or_default();
        read += piece.len();
        if read > BODY {
            break;
        }
        if head.is_empty() {
            head = piece.slice(..piece.len().min(HEAD));
        }
    }
    head
}

/// Explains an error, and which spec key may be the cause.
fn explain(error: &hyper::Error, h2c: bool) -> String {
    let mut said = error.to_string();
    if let Some(cause) = error.source() {
        said = format!("{said}: {cause}");
    }
    let garbled = error.is_parse() || said.contains("unexpected message");
    match h2c {
        false if garbled => {
            format!("it does not answer in HTTP/1.1: {said}")
        }
        true if !error.is_timeout() => format!("it does not answer in HTTP/2 without TLS, as h2c: true says ({said})"),
        _ => said,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Sends a request to a server that answers with these pieces and then waits for the client to close; returns the
    /// result, and what the server received: the request, and how the connection ended.
    fn ask(pieces: &[&'static [u8]], h2c: bool) -> (Result<u16, String>, String, std::io::Result<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let pieces = pieces.to_vec();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).unwrap();
            for piece in pieces {
                let _ = stream.write_all(piece);
            }
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let end = stream.read(&mut [0; 1]);
            (String::from_utf8_lossy(&request[..read]).into_owned(), end)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let request = ProbeRequest::to("shop.example.com", "/up?deep=1", true, h2c);
        let answer = runtime.block_on(get(port, &request, Duration::from_secs(20)));
        drop(runtime);
        let (request, end) = server.join().unwrap();
        (answer, request.to_lowercase(), end)
    }

    #[test]
    fn a_probe_asks_as_a_visitor_does_and_hears_the_answer_out() {
        let (answer, request, end) = ask(&[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"hello"], false);
        assert_eq!(answer, Ok(200));
        for line in
            ["get /up?deep=1 http/1.1", "host: shop.example.com", "x-forwarded-proto: https", "user-agent: zexio"]
        {
            assert!(request.lines().any(|found| found == line), "{line} in {request}");
        }
        assert_eq!(end.unwrap(), 0, "the connection was reset");
    }

    #[test]
    fn answers_of_every_form_are_understood() {
        const BIG: &[u8] = &[b'x'; 300_000];
        for (pieces, status) in [
            (
                &[b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".as_slice(), b"HTTP/1.1 204 No Content\r\n\r\n"][..],
                204,
            ),
            (&[b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n"], 302),
            (&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n"], 200),
            (&[b"HTTP/1.0 200 OK\r\n\r\n", BIG], 200),
            (&[b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 300000\r\n\r\n", BIG], 503),
        ] {
            let (answer, _, end) = ask(pieces, false);
            assert_eq!((answer, end.unwrap()), (Ok(status), 0));
        }
    }

    #[test]
    fn an_app_that_speaks_another_protocol_is_told_by_the_key_that_is_wrong() {
        let settings: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
        let (answer, ..) = ask(&[settings], false);
        assert!(answer.as_ref().is_err_and(|said| said.contains("does not answer in HTTP/1.1")), "{answer:?}");
        let go: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        let (answer, ..) = ask(&[go], false);
        assert!(answer.as_ref().is_err_and(|said| said.starts_with("it speaks TLS on its port")), "{answer:?}");
        let (answer, ..) = ask(&[b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"], true);
        assert!(answer.as_ref().is_err_and(|said| said.contains("as h2c: true says")), "{answer:?}");
    }
}
