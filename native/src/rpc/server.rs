//! The listener and HTTP: one port for POST requests and WebSocket upgrades.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::bridge::{Bridge, BridgeHandle};
use super::connection::{Activity, Connections, Limits, Watched};
use super::dispatch::Context;
use super::error::{RpcError, INVALID_REQUEST};
use super::execute::Dispatcher;
use super::json::Json;
use super::request::respond_error;
use super::{net, pubsub, ws};

/// Bytes of bodies that may be in memory at a time over all connections.
const BODY_BUDGET: usize = 512 << 20;
/// Bytes of the head of a request.
const MAX_HEAD: usize = 64 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4_096;
/// Stack of a thread that serves connections or runs calls.
const STACK: usize = 4 << 20;
/// Threads for calls that block, at most; they end when they have nothing to do.
const BLOCKING_THREADS: usize = 16;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("port {port} on {host} is in use")]
    PortTaken { host: String, port: u16 },
    #[error("cannot listen on {host}:{port}: {reason}")]
    Listen { host: String, port: u16, reason: String },
    #[error("cannot start the server: {0}")]
    Start(#[from] io::Error),
}

/// A running server; dropping it stops it.
pub struct Server {
    runtime: Option<Runtime>,
    dispatcher: Arc<Dispatcher>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

/// What every connection needs.
pub(super) struct Shared {
    pub dispatcher: Arc<Dispatcher>,
    origins: Origins,
    bodies: AtomicUsize,
}

impl Server {
    /// Listens and serves. `methods` are answered by `bridge`.
    pub fn start(
        context: Arc<Context>,
        bridge: Option<Arc<dyn Bridge>>,
        methods: Vec<String>,
    ) -> Result<Server, ServeError> {
        let timeout = Duration::from_millis(context.config.bridge_timeout_ms);
        let bridge = bridge.map(|bridge| BridgeHandle::start(bridge, methods, timeout)).transpose()?;
        // In this order no block falls between the two.
        let last = context.engine.head().header.number;
        let events = context.engine.subscribe();
        let server = Server::serve(Arc::new(Dispatcher::new(Arc::clone(&context), bridge)))?;
        if let Some(runtime) = &server.runtime {
            runtime.spawn(pubsub::publish(context, events, last));
        }
        Ok(server)
    }

    /// Serves without watching the chain.
    pub(super) fn serve(dispatcher: Arc<Dispatcher>) -> Result<Server, ServeError> {
        let config = &dispatcher.context().config;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.clamp(2, 8))
            .max_blocking_threads(BLOCKING_THREADS.max(2 * cores))
            .thread_name("zerog-rpc")
            .thread_stack_size(STACK)
            .thread_keep_alive(Duration::from_secs(5))
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            listen(&config.host, config.port)?
        };
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            dispatcher: Arc::clone(&dispatcher),
            origins: Origins::new(&config.cors),
            bodies: AtomicUsize::new(0),
        });
        let connections = Arc::new(Connections::default());
        let limits = Limits { transfer: config.transfer_timeout_secs, idle: config.idle_timeout_secs };
        runtime.spawn(watch_connections(Arc::clone(&connections), limits));
        runtime.spawn(accept(listener, shared, connections, config.max_connections, stopped));
        Ok(Server { runtime: Some(runtime), dispatcher, address, stop })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://host:port`, as clients write it.
    pub fn url(&self) -> String {
        match self.address.ip() {
            ip if ip.is_unspecified() => format!("http://127.0.0.1:{}", self.address.port()),
            _ => format!("http://{}", self.address),
        }
    }

    pub fn dispatcher(&self) -> &Arc<Dispatcher> {
        &self.dispatcher
    }

    /// Replaces the names that the bridge answers.
    pub fn set_methods(&self, methods: Vec<String>) {
        if let Some(bridge) = self.dispatcher.bridge() {
            bridge.set_methods(methods);
        }
    }

    /// Frees the port and ends every connection. Calls that compute are waited for briefly.
    pub fn close(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

fn listen(host: &str, port: u16) -> Result<TcpListener, ServeError> {
    let failed = |reason: String| ServeError::Listen { host: host.to_owned(), port, reason };
    let addresses: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|error| failed(format!("{host:?} is no address: {error}")))?.collect();
    // A name such as localhost may stand for several; IPv4 comes first since every client tries it.
    let address = addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or(addresses.first())
        .ok_or_else(|| failed(format!("{host:?} has no address")))?;
    let bind = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(*address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ServeError::PortTaken { host: host.to_owned(), port },
        _ => failed(error.to_string()),
    })
}

async fn watch_connections(connections: Arc<Connections>, limits: Limits) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        connections.tick(limits);
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    max: usize,
    mut stopped: watch::Receiver<bool>,
) {
    for id in 0u64.. {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of file descriptors, most likely: one that closes makes room.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            _ = stopped.changed() => return,
        };
        // Beyond the bound the connection is closed at once; the client may try again.
        let Some(entry) = connections.enter(id, max) else { continue };
        let activity = Arc::clone(&entry.activity);
        let shared = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let entry = Arc::new(entry);
            serve_connection(stream, shared, entry).await;
        });
        activity.served_by(task.abort_handle());
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>, entry: Arc<super::connection::Entry>) {
    // Only speed is lost where the option is refused.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&entry.activity)));
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        let entry = Arc::clone(&entry);
        async move { handle(request, shared, entry).await }
    });
    // A connection that breaks concerns its client alone.
    let _ = hyper::server::conn::http1::Builder::new()
        .pipeline_flush(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(io, service)
        .with_upgrades()
        .await;
}

type Answer = Response<Full<Bytes>>;

/// An error ends the connection without an answer: the client has gone.
async fn handle(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    entry: Arc<super::connection::Entry>,
) -> Result<Answer, hyper::Error> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    if origin.as_ref().is_some_and(|origin| !shared.origins.allow(origin)) {
        return Ok(plain(StatusCode::FORBIDDEN, "this origin is not allowed\n"));
    }
    let mut answer = match *request.method() {
        Method::POST => post(request, &shared, &entry.activity).await?,
        Method::OPTIONS => shared.origins.preflight(request.headers()),
        Method::GET | Method::HEAD if hyper_tungstenite::is_upgrade_request(&request) => {
            ws::upgrade(request, &shared, entry)
        }
        Method::GET | Method::HEAD => {
            let text = format!("{} JSON-RPC: POST a request, or open a WebSocket here.\n", net::client());
            plain(StatusCode::OK, text)
        }
        _ => {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, GET, HEAD, OPTIONS"));
            answer
        }
    };
    if let Some(origin) = origin {
        shared.origins.mark(answer.headers_mut(), origin);
    }
    Ok(answer)
}

async fn post(request: Request<Incoming>, shared: &Shared, activity: &Activity) -> Result<Answer, hyper::Error> {
    if let Some(refusal) = shared.origins.check_content_type(request.headers()) {
        return Ok(refusal);
    }
    let mut held = Held { bodies: &shared.bodies, bytes: 0 };
    let body = match receive(request.into_body(), shared.dispatcher.context().config.max_body, &mut held).await? {
        Ok(body) => body,
        Err(refusal) => return Ok(refusal),
    };
    activity.request_received();
    let answer = shared.dispatcher.answer(&body, None).await;
    activity.answer_ready();
    Ok(match answer {
        Some(json) => json_answer(StatusCode::OK, json),
        None => empty(StatusCode::NO_CONTENT),
    })
}

/// A share of the budget for bodies, given back when the request is done.
struct Held<'a> {
    bodies: &'a AtomicUsize,
    bytes: usize,
}

impl Held<'_> {
    /// False when the budget is spent.
    fn take(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.bodies.fetch_add(bytes, Ordering::Relaxed) + bytes <= BODY_BUDGET
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads a body of at most `max` bytes; a longer one is refused by its announced length before it is read.
async fn receive(mut body: Incoming, max: usize, held: &mut Held<'_>) -> Result<Result<Bytes, Answer>, hyper::Error> {
    let announced = body.size_hint().lower();
    if announced > max as u64 {
        return Ok(Err(too_large(max)));
    }
    let mut whole: Option<Bytes> = None;
    let mut joined: Vec<u8> = Vec::new();
    let mut length = 0usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length += data.len();
        if length > max {
            return Ok(Err(too_large(max)));
        }
        if !held.take(data.len()) {
            return Ok(Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "too many large requests at a time".to_owned())));
        }
        // Most bodies come in one piece and are not copied.
        match whole.take() {
            None if joined.is_empty() => whole = Some(data),
            first => {
                if let Some(first) = first {
                    joined.extend_from_slice(&first);
                }
                joined.extend_from_slice(&data);
            }
        }
    }
    Ok(Ok(whole.unwrap_or_else(|| joined.into())))
}

fn too_large(max: usize) -> Answer {
    refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("request too large: want at most {max} bytes"))
}

/// A refusal before the request was understood: the rest of it is not read.
fn refuse(status: StatusCode, message: String) -> Answer {
    let mut out = Json::with_capacity(160);
    respond_error(&mut out, None, &RpcError::new(INVALID_REQUEST, message));
    let mut answer = json_answer(status, out.into_bytes());
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn json_answer(status: StatusCode, json: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(json)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub(super) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// Which web pages may use the server.
struct Origins {
    all: bool,
    list: Vec<String>,
}

impl Origins {
    fn new(cors: &[String]) -> Origins {
        Origins { all: cors.iter().any(|origin| origin == "*"), list: cors.to_vec() }
    }

    fn allow(&self, origin: &HeaderValue) -> bool {
        self.all || self.list.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
    }

    fn mark(&self, headers: &mut HeaderMap, origin: HeaderValue) {
        if self.all {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
        }
    }

    /// With a list of origins only requests count that a browser asks permission for first.
    fn check_content_type(&self, headers: &HeaderMap) -> Option<Answer> {
        if self.all || !headers.contains_key(header::ORIGIN) {
            return None;
        }
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if kind.len() >= 16 && kind[..16].eq_ignore_ascii_case(b"application/json") {
            return None;
        }
        Some(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content type must be application/json".to_owned()))
    }

    fn preflight(&self, asked: &HeaderMap) -> Answer {
        let mut answer = empty(StatusCode::NO_CONTENT);
        let headers = answer.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static("POST, GET, HEAD, OPTIONS"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, OPTIONS"));
        let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            wanted.unwrap_or_else(|| HeaderValue::from_static("content-type")),
        );
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        answer
    }
}
