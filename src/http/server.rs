//! The HTTP server: one worker on a thread of its own, so that rendering an answer never delays ingest.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{self, DefaultHeaders};
use actix_web::{App, HttpServer, web};

use super::archive::Archive;
use super::connection;
use super::guard::{self, Guard};
use super::head;
use super::identity;
use super::parameters;
use super::recorder::RecorderApi;
use super::routes;
use crate::clock::{SharedClock, SystemClock};
use crate::config::HttpConfig;

/// Connections at a time. Readers of a page and a monitor need a handful; the rest waits in the system's queue.
const CONNECTIONS_MAX: usize = 1_024;
/// Time for a request's head, against clients that send a byte now and then.
const REQUEST_HEAD: Duration = Duration::from_secs(10);
/// Time that requests under way are given at shutdown, in seconds.
const SHUTDOWN_SECS: u64 = 2;

/// How far the server's thread steps back behind the recorder's.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Takes the address, before anything else is begun.
///
/// # Errors
/// As the system gives them: in use, no permission, not an address of this machine.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // A restart must not wait for connections of the last run to time out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1_024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A server for `recorder` and `archive` on `listener`; it runs while it is polled. Signals are left to the caller.
///
/// # Errors
/// As the system gives them.
pub fn serve<R: RecorderApi>(
    listener: TcpListener,
    recorder: R,
    archive: Archive,
    http: &HttpConfig,
    identity: &str,
) -> io::Result<Server> {
    connection::raise_limit();
    // One for all, so that a session begun on one worker is known to the next.
    let clock: SharedClock = Arc::new(SystemClock);
    let guard = web::Data::new(Guard::new(http.token.as_ref(), identity, clock.clone()));
    let identity = identity.to_owned();
    let server = HttpServer::new(move || {
        // This runs on the server's own thread. Where the processor is short, answers wait and not events.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(NICE);
        app(&guard, recorder.clone(), &archive, clock.clone(), &identity)
    });
    let server = server
        .workers(1)
        .on_connect(connection::taken)
        .max_connections(CONNECTIONS_MAX)
        .client_request_timeout(REQUEST_HEAD)
        // Or the end of an answer, and each message of the stream, waits for the reader's word on what came before: up to 40 ms.
        .tcp_nodelay(true)
        .shutdown_timeout(SHUTDOWN_SECS)
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// The routes and what stands before them, from the outside in: HEAD, headers, guard, parameters.
pub fn app<R: RecorderApi>(
    guard: &web::Data<Guard>,
    recorder: R,
    archive: &Archive,
    clock: SharedClock,
    identity: &str,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + 'static + use<R>>,
        Error = actix_web::Error,
        InitError = (),
    > + use<R>,
> {
    App::new()
        .app_data(guard.clone())
        .configure(routes::share(recorder, clock))
        .app_data(web::Data::new(archive.clone()))
        .wrap(middleware::from_fn(parameters::check))
        .wrap(middleware::from_fn(guard::check))
        .wrap(headers(identity))
        .wrap(middleware::from_fn(head::as_get))
        .configure(routes::configure::<R>)
}

/// What a page of ours may do: load its own scripts, styles and pictures, talk to its own origin, send its own forms.
/// Nothing inline, nothing from elsewhere, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Headers of every answer: whose it is, that nobody keeps or reinterprets it, and what a page may do. A route may say
/// otherwise, for example of what may be kept.
#[must_use]
pub fn headers(identity: &str) -> DefaultHeaders {
    DefaultHeaders::new()
        .add((identity::HEADER, identity))
        .add(("cache-control", "no-store"))
        .add(("x-content-type-options", "nosniff"))
        .add(("content-security-policy", CONTENT_SECURITY_POLICY))
        .add(("x-frame-options", "DENY"))
        // Not `no-referrer`, with which a browser sends `Origin: null` with a form.
        .add(("referrer-policy", "same-origin"))
        .add(("cross-origin-opener-policy", "same-origin"))
        .add(("cross-origin-resource-policy", "same-origin"))
}
