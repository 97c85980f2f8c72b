//! The listeners and HTTP: POST requests, WebSocket upgrades and the routes of handlers, on every port alike.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::bridge::{Bridge, BridgeHandle, Caller};
use super::config::{Listen, RpcConfig};
use super::connection::{Answering, Connections, Entry, Limits, Watched};
use super::dispatch::Context;
use super::error::{RpcError, INTERNAL, INVALID_REQUEST};
use super::execute::Dispatcher;
use super::http::{Exchange, Payload, Responder, Route, Routes};
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
    #[error("{0}")]
    Route(String),
    #[error("cannot start the server: {0}")]
    Start(#[from] io::Error),
}

/// A running server; dropping it stops it.
pub struct Server {
    runtime: Option<Runtime>,
    dispatcher: Arc<Dispatcher>,
    address: SocketAddr,
    /// Of the further ports, in their order; `None` for an optional one that could not be had.
    listening: Vec<Option<SocketAddr>>,
    stop: watch::Sender<bool>,
}

/// What every connection needs.
pub(super) struct Shared {
    pub dispatcher: Arc<Dispatcher>,
    origins: Origins,
    bodies: AtomicUsize,
    connections: Arc<Connections>,
    next_connection: AtomicU64,
}

impl Server {
    /// Listens and serves. `methods` are answered by `bridge`.
    pub fn start(
        context: Arc<Context>,
        bridge: Option<Arc<dyn Bridge>>,
        methods: Vec<String>,
    ) -> Result<Server, ServeError> {
        let bridge = bridge.map(|bridge| start_bridge(&context.config, bridge, methods)).transpose()?;
        // In this order no block falls between the two.
        let last = context.engine.head().header.number;
        let events = context.engine.subscribe();
        let server = Server::serve(Arc::new(Dispatcher::new(Arc::clone(&context), bridge)))?;
        if let Some(runtime) = &server.runtime {
            runtime.spawn(pubsub::publish(context, events, last));
        }
        Ok(server)
    }

    /// Listens and serves without a chain: `methods` and the routes of `bridge` only.
    pub fn start_alone(config: RpcConfig, bridge: Arc<dyn Bridge>, methods: Vec<String>) -> Result<Server, ServeError> {
        let bridge = start_bridge(&config, bridge, methods)?;
        Server::serve(Arc::new(Dispatcher::alone(config, bridge)))
    }

    /// Serves without watching the chain.
    pub(super) fn serve(dispatcher: Arc<Dispatcher>) -> Result<Server, ServeError> {
        let config = dispatcher.config();
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.clamp(2, 8))
            .max_blocking_threads(BLOCKING_THREADS.max(2 * cores))
            .thread_name("zerog-rpc")
            .thread_stack_size(STACK)
            .thread_keep_alive(Duration::from_secs(5))
            .enable_all()
            .build()?;
        let (listener, further) = {
            let _inside = runtime.enter();
            (listen(&config.host, config.port)?, listen_further(&config.listen)?)
        };
        let address = listener.local_addr()?;
        let addresses = further.iter().map(|listener| listener.as_ref().map(TcpListener::local_addr).transpose());
        let listening: Vec<Option<SocketAddr>> = addresses.collect::<io::Result<_>>()?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            dispatcher: Arc::clone(&dispatcher),
            origins: Origins::new(&config.cors),
            bodies: AtomicUsize::new(0),
            connections: Arc::default(),
            next_connection: AtomicU64::new(0),
        });
        let limits = Limits { transfer: config.transfer_timeout_secs, idle: config.idle_timeout_secs };
        runtime.spawn(watch_connections(Arc::clone(&shared.connections), limits));
        for listener in std::iter::once(listener).chain(further.into_iter().flatten()) {
            runtime.spawn(accept(listener, Arc::clone(&shared), stopped.clone()));
        }
        Ok(Server { runtime: Some(runtime), dispatcher, address, listening, stop })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Addresses of the further ports, in the order of the configuration.
    pub fn listening(&self) -> &[Option<SocketAddr>] {
        &self.listening
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

    /// Replaces the path prefixes that the bridge answers; `limits` bounds the bodies of some of them, in bytes.
    pub fn set_routes(&self, routes: Vec<String>, limits: HashMap<String, usize>) -> Result<(), ServeError> {
        let routes = Routes::new(routes).and_then(|routes| routes.bounded(limits)).map_err(ServeError::Route)?;
        if let Some(bridge) = self.dispatcher.bridge() {
            bridge.set_routes(routes);
        }
        Ok(())
    }

    /// Frees the ports and ends every connection. Calls that compute are waited for briefly.
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

fn start_bridge(config: &RpcConfig, bridge: Arc<dyn Bridge>, methods: Vec<String>) -> Result<BridgeHandle, ServeError> {
    let routes = Routes::new(config.routes.iter().cloned()).map_err(ServeError::Route)?;
    let bridge = BridgeHandle::start(bridge, methods, Duration::from_millis(config.bridge_timeout_ms))?;
    bridge.set_routes(routes);
    Ok(bridge)
}

fn listen_further(wanted: &[Listen]) -> Result<Vec<Option<TcpListener>>, ServeError> {
    let open = |wanted: &Listen| match listen(&wanted.host, wanted.port) {
        Err(_) if wanted.optional => Ok(None),
        outcome => outcome.map(Some),
    };
    wanted.iter().map(open).collect()
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

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let max = shared.dispatcher.config().max_connections;
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    // Out of file descriptors, most likely: one that closes makes room.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            _ = stopped.changed() => return,
        };
        let id = shared.next_connection.fetch_add(1, Ordering::Relaxed);
        // Beyond the bound the connection is closed at once; the client may try again.
        let Some(entry) = shared.connections.enter(id, max, Some(peer)) else { continue };
        let activity = Arc::clone(&entry.activity);
        let shared = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let entry = Arc::new(entry);
            serve_connection(stream, shared, entry).await;
        });
        activity.served_by(task.abort_handle());
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>, entry: Arc<Entry>) {
    // Only speed is lost where the option is refused.
    let _ = stream.set_nodelay(true);
    let (stream, cork) = Watched::new(stream, Arc::clone(&entry.activity));
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        let entry = Arc::clone(&entry);
        async move { handle(request, shared, entry).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // A connection that breaks concerns its client alone.
    poll_fn(|cx| cork.serve(connection.as_mut(), cx)).await;
}

type Answer = Response<Payload>;

/// An error ends the connection without an answer: the client has gone.
async fn handle(request: Request<Incoming>, shared: Arc<Shared>, entry: Arc<Entry>) -> Result<Answer, hyper::Error> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    if origin.as_ref().is_some_and(|origin| !shared.origins.allow(origin)) {
        return Ok(plain(StatusCode::FORBIDDEN, "this origin is not allowed\n"));
    }
    let mut answer = answer(request, &shared, entry).await?;
    if let Some(origin) = origin {
        shared.origins.mark(answer.headers_mut(), origin);
    }
    Ok(answer)
}

async fn answer(request: Request<Incoming>, shared: &Arc<Shared>, entry: Arc<Entry>) -> Result<Answer, hyper::Error> {
    let bridge = shared.dispatcher.bridge();
    let route = bridge.and_then(|bridge| bridge.route(request.uri().path()));
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    if read && hyper_tungstenite::is_upgrade_request(&request) {
        return Ok(ws::upgrade(request, shared, entry));
    }
    if *request.method() == Method::OPTIONS {
        return Ok(shared.origins.preflight(request.headers(), route.is_some()));
    }
    if let (Some(bridge), Some(route)) = (bridge, route) {
        return exchange(request, shared, &entry, bridge, route).await;
    }
    if *request.method() == Method::POST {
        return post(request, shared, &entry).await;
    }
    if read {
        let text = format!("{} JSON-RPC: POST a request, or open a WebSocket here.\n", net::client());
        return Ok(plain(StatusCode::OK, text));
    }
    let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
    refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, GET, HEAD, OPTIONS"));
    Ok(refusal)
}

async fn post(request: Request<Incoming>, shared: &Arc<Shared>, entry: &Entry) -> Result<Answer, hyper::Error> {
    if let Some(refusal) = shared.origins.check_content_type(request.headers()) {
        return Ok(refusal);
    }
    let (head, body) = request.into_parts();
    let mut held = Held { shared: Arc::clone(shared), bytes: 0 };
    let body = match receive(body, shared.dispatcher.config().max_body, &mut held).await? {
        Ok(body) => body,
        Err(refusal) => return Ok(refusal),
    };
    let agent = head.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let caller = Caller { agent, peer: entry.peer, session: None };
    entry.activity.request_received();
    let answer = shared.dispatcher.answer(&body, caller).await;
    entry.activity.answer_ready();
    Ok(match answer {
        Some(json) => json_answer(StatusCode::OK, json),
        None => empty(StatusCode::NO_CONTENT),
    })
}

/// Hands a request for a route to the bridge, and passes on its answer.
async fn exchange(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    bridge: &BridgeHandle,
    route: Route,
) -> Result<Answer, hyper::Error> {
    let (head, body) = request.into_parts();
    let mut held = Held { shared: Arc::clone(shared), bytes: 0 };
    let server = shared.dispatcher.config().max_body;
    let max = route.max_body.map_or(server, |tighter| tighter.min(server));
    let body = match receive(body, max, &mut held).await? {
        Ok(body) => body,
        Err(refusal) => return Ok(refusal),
    };
    let answering = Answering::begin(entry);
    let (responder, answer) = Responder::new(&head.method, bridge.timeout());
    let taken = bridge.exchange(Exchange {
        path: head.uri.path().into(),
        query: head.uri.query().unwrap_or_default().into(),
        method: head.method,
        route: route.prefix,
        headers: head.headers,
        peer: entry.peer,
        body,
        held: Box::new(held),
        responder,
        wakes: bridge.wakes(),
    });
    if !taken {
        return Ok(failure(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait already; try again later"));
    }
    Ok(match tokio::time::timeout(bridge.timeout(), answer).await {
        Ok(Ok(mut answer)) => {
            answer.body_mut().answered_by(answering);
            answer
        }
        Ok(Err(_)) => failure(StatusCode::INTERNAL_SERVER_ERROR, "the handler ended without an answer"),
        Err(_) => failure(StatusCode::GATEWAY_TIMEOUT, "the handler did not answer in time"),
    })
}

/// A share of the budget for bodies, given back when the request is done.
struct Held {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Held {
    /// False when the budget is spent.
    fn take(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.shared.bodies.fetch_add(bytes, Ordering::Relaxed) + bytes <= BODY_BUDGET
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads a body of at most `max` bytes; a longer one is refused by its announced length before it is read.
async fn receive(mut body: Incoming, max: usize, held: &mut Held) -> Result<Result<Bytes, Answer>, hyper::Error> {
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

/// A request was understood, and its handler failed.
fn failure(status: StatusCode, message: &'static str) -> Answer {
    let mut out = Json::with_capacity(160);
    respond_error(&mut out, None, &RpcError::new(INTERNAL, message));
    json_answer(status, out.into_bytes())
}

fn json_answer(status: StatusCode, json: Vec<u8>) -> Answer {
    let mut answer = Response::new(Payload::whole(json));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

pub(super) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Payload::whole(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Payload::default());
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

    fn preflight(&self, asked: &HeaderMap, is_route: bool) -> Answer {
        let mut answer = empty(StatusCode::NO_CONTENT);
        let headers = answer.headers_mut();
        let verbs = HeaderValue::from_static(match is_route {
            true => "POST, GET, HEAD, PUT, DELETE, OPTIONS",
            false => "POST, GET, HEAD, OPTIONS",
        });
        headers.insert(header::ALLOW, verbs.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, verbs);
        let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            wanted.unwrap_or_else(|| HeaderValue::from_static("content-type")),
        );
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        answer
    }
}
