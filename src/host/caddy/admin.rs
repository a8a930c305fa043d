//! Caddy's admin endpoint: where it is, and single requests to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::port::PortError;

use super::config::{admin_address, settled};
use super::{DRAFTS, REFUSED, down};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Caddy's admin address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    Socket(PathBuf),
    /// Host and port.
    Address(String),
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Admin {
    /// Reads the admin address from a configuration; None if the endpoint is switched off.
    pub fn of(config: &Value) -> Option<Self> {
        if config.pointer("/admin/disabled").and_then(Value::as_bool) == Some(true) {
            return None;
        }
        let listen = admin_address(config);
        Some(match listen.strip_prefix("unix/") {
            Some(path) => Self::Socket(path.split('|').next().unwrap_or(path).into()),
            None => Self::Address(listen.trim_start_matches("tcp/").to_owned()),
        })
    }

    /// Returns the port.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Socket(_) => None,
            Self::Address(address) => address.rsplit_once(':')?.1.parse().ok(),
        }
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Socket(path) => Box::new(UnixStream::connect(path).await?),
            Self::Address(address) => match address.strip_prefix(':') {
                Some(port) => Box::new(TcpStream::connect(format!("127.0.0.1:{port}")).await?),
                None => Box::new(TcpStream::connect(address.replace("0.0.0.0", "127.0.0.1")).await?),
            },
        })
    }

    /// On its socket Caddy 2.6 accepts only the empty host; newer versions accept that too.
    fn host(&self) -> &str {
        match self {
            Self::Socket(_) => "",
            Self::Address(address) => address,
        }
    }
}

impl std::fmt::Display for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Address(address) => f.write_str(address),
        }
    }
}

/// A blocking client of the admin endpoint.
pub struct Client(tokio::runtime::Runtime);

impl Client {
    /// Creates a client. Fails if its runtime cannot start.
    pub fn new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(Self).map_err(|e| format!("could not start a runtime: {e}"))
    }

    /// Returns the configuration that Caddy serves now.
    pub fn live(&self, admin: &Admin) -> Result<Value, PortError> {
        let (status, body) = self.call(admin, Method::GET, "/config/", "", Vec::new())?;
        if !status.is_success() {
            return Err(down(format!("could not ask Caddy on {admin}: it answered {status}")));
        }
        let config = serde_json::from_slice(&body);
        config
            .map(|config| settled(config, &[]))
            .map_err(|e| down(format!("could not read Caddy's configuration: {e}")))
    }

    /// Adapts a Caddyfile to JSON. A refusal is in Caddy's own words.
    ///
    /// # Errors
    /// `RouteRefused`, or the connection error.
    pub fn adapt(&self, admin: &Admin, text: &str) -> Result<Value, PortError> {
        let (status, body) = self.call(admin, Method::POST, "/adapt", "text/caddyfile", text.as_bytes().to_vec())?;
        if !status.is_success() {
            return Err(PortError::transient(REFUSED, said(&body)));
        }
        let answer: Value =
            serde_json::from_slice(&body).map_err(|e| down(format!("could not read Caddy's answer: {e}")))?;
        Ok(settled(answer.get("result").cloned().unwrap_or_default(), &DRAFTS))
    }

    /// Loads a configuration.
    ///
    /// # Errors
    /// `RouteRefused` in Caddy's own words, or the connection error.
    pub fn load(&self, admin: &Admin, config: &Value) -> Result<(), PortError> {
        let (status, body) =
            self.call(admin, Method::POST, "/load", "application/json", config.to_string().into_bytes())?;
        if status.is_success() { Ok(()) } else { Err(PortError::transient(REFUSED, said(&body))) }
    }

    fn call(
        &self,
        admin: &Admin,
        method: Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Vec<u8>), PortError> {
        let answer = async { tokio::time::timeout(TIMEOUT, exchange(admin, method, path, kind, body)).await };
        let failed = |cause: String| down(format!("could not ask Caddy on {admin}: {cause}"));
        match self.0.block_on(answer) {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }
}

/// Caddy's own error message, which quotes nothing but the configuration.
fn said(body: &[u8]) -> String {
    let said =
        serde_json::from_slice::<Value>(body).ok().and_then(|value| value.get("error")?.as_str().map(str::to_owned));
    said.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(500).collect())
}

async fn exchange(
    admin: &Admin,
    method: Method,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Vec<u8>), String> {
    let stream = admin.connect().await.map_err(|e| e.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, admin.host())
        .header(hyper::header::CONTENT_TYPE, kind)
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes().to_vec();
    driver.abort();
    Ok((status, body))
}

/// Returns the process that listens on a socket, if any.
pub fn listener_of(socket: &Path) -> Option<i32> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid != 0)
}
