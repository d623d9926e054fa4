//! What is done to a connection when it is taken, and what is kept of it.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use log::debug;
use socket2::{SockRef, Socket, TcpKeepalive};

/// A client that takes nothing of an answer for this long is cut off by the system, so that answers do not pile up.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNTAKEN_MAX: Duration = Duration::from_secs(30);
/// Idle time after which it is asked whether the client is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// File descriptors that are wanted: two for each connection of the server, one for each master, the database and the journal.
const DESCRIPTORS: u64 = 8_192;

/// Asks the system for as many file descriptors as may be needed; many systems give 1,024 and allow more.
pub(super) fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS));
    if current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        debug!("http: the limit of file descriptors stays at {current:?}: {error}");
    }
}

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Connections that the process' servers have open now.
pub(super) fn open() -> usize {
    OPEN.load(Ordering::Relaxed)
}

/// A second handle of a connection's socket: with it the connection can be ended while the server waits to write to it. Lives
/// and is counted for as long as the connection.
struct Handle(Option<Arc<Socket>>);

impl Handle {
    fn new(socket: Option<Socket>) -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self(socket.map(Arc::new))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Prepares a connection that was just taken.
pub(super) fn taken(io: &dyn Any, data: &mut Extensions) {
    let Some(tcp) = io.downcast_ref::<TcpStream>() else { return };
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
    if let Err(error) = limit(&socket, &keepalive) {
        debug!("http: a connection goes without time limits: {error}");
    }
    // Without file descriptors to spare it goes without.
    data.insert(Handle::new(socket.try_clone().ok()));
}

fn limit(socket: &SockRef<'_>, keepalive: &TcpKeepalive) -> std::io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(UNTAKEN_MAX))?;
    socket.set_tcp_keepalive(keepalive)
}

/// The socket of a request's connection.
pub(super) fn socket(request: &HttpRequest) -> Option<Arc<Socket>> {
    request.conn_data::<Handle>().and_then(|handle| handle.0.clone())
}
