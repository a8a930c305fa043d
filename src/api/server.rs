//! Listens on a Unix socket and a TCP address. Input is bounded before it is parsed: connections, headers, and the time
//! for both.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::parser_errors::Refusing;
use super::request_smuggling::{Flaws, Watched};
use super::write_timeout::Patient;
use super::{ApiState, In, Origin, handle};

/// How many connections one listener has at once; more wait to be accepted. Each listener has its own limit, so that
/// filling the TCP one from outside cannot lock the operator out of the socket.
const CONNECTIONS: usize = 512;
/// How long reading a request's head may take.
const HEAD: Duration = Duration::from_secs(10);
/// How many headers a request may have.
const HEADERS: usize = 100;
/// Maximum length of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// How long requests may take to finish once the agent stops.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `stop` becomes true and requests in flight have finished or timed out. `opened` is called as soon as
/// clients can connect: a process that waits for the agent's start may use it at once.
///
/// # Errors
/// Names the address that could not be listened on, and what to change.
pub async fn serve(
    state: Arc<ApiState>,
    unix: PathBuf,
    tcp: Option<String>,
    stop: watch::Receiver<bool>,
    opened: impl FnOnce() + Send,
) -> Result<(), String> {
    let outside = match &tcp {
        Some(address) => Some(Listener::Tcp(bind_tcp(address).await?)),
        None => None,
    };
    let local = accept_all(Arc::clone(&state), Listener::Unix(bind_unix(&unix)?), stop.clone());
    opened();
    match outside {
        Some(outside) => drop(tokio::join!(local, accept_all(state, outside, stop))),
        None => local.await,
    }
    // If left behind, it would only be a name that refuses connections.
    let _ = fs::remove_file(&unix);
    Ok(())
}

async fn bind_tcp(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|e| {
        format!("could not listen on {address}: {e}; change listen in agent.yaml, or stop what has that address")
    })
}

/// Makes the socket under a temporary name and renames it into place: it never exists with other permissions than its
/// own, and one that a crash left behind is replaced in the same step.
fn bind_unix(path: &Path) -> Result<UnixListener, String> {
    let failed = |cause: &dyn std::fmt::Display| {
        format!("could not listen on {}: {cause}; its directory must exist and be the agent's", path.display())
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(failed(&"something that is no socket is there")),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(failed(&"another agent answers there; stop it first"));
        }
        _ => {}
    }
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&draft);
    let bound = || -> io::Result<UnixListener> {
        let listener = UnixListener::bind(&draft)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
        fs::rename(&draft, path)?;
        Ok(listener)
    };
    bound().map_err(|e| failed(&e))
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Listener::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

async fn accept_all(state: Arc<ApiState>, listener: Listener, mut stop: watch::Receiver<bool>) {
    let origin = Origin { local: matches!(listener, Listener::Unix(_)), stop: stop.clone(), flaws: Flaws::default() };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            next = next => next,
            () = ended(&mut stop) => break,
        };
        while open.try_join_next().is_some() {}
        match (place, stream) {
            (Ok(place), Ok(stream)) => {
                open.spawn(converse(Arc::clone(&state), origin.clone(), stream, place));
            }
            (_, Err(error)) => {
                // Most likely out of file descriptors: retrying at once would not help.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (Err(_), Ok(_)) => break,
        }
    }
    drop(listener);
    // Remaining connections are cut off when the set is dropped.
    let all = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
}

async fn converse(state: Arc<ApiState>, mut origin: Origin, stream: Box<dyn Stream>, _place: OwnedSemaphorePermit) {
    let mut stop = origin.stop.clone();
    origin.flaws = Flaws::default();
    let stream = Watched::new(Patient::new(stream), origin.flaws.clone());
    let stream = Refusing::new(stream);
    let understood = stream.understood();
    let service = service_fn(move |request: Request<Incoming>| {
        understood.store(true, Ordering::Release);
        let (state, origin) = (Arc::clone(&state), origin.clone());
        let request = request.map(|body| -> In { body.map_err(Into::into).boxed_unsync() });
        async move { Ok::<_, Infallible>(handle(state, origin, request).await) }
    });
    // One request per connection: nothing can hide between two of them, and the head that is checked is the one that is
    // answered.
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = ended(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = done {
        tracing::debug!(error = ?error.to_string(), "a connection ended early");
    }
}

/// Waits for the agent to stop.
pub async fn ended(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: that is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}
