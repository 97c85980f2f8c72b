//! Methods and paths that live outside this crate (Python coroutines): registered by name, called through one queue.
//!
//! A bridge may block (it takes the interpreter's lock), so one thread of its own calls it; the thread that serves the
//! connection only waits for the reply. The queue is bounded and every call has a deadline: a handler that hangs costs
//! its callers an error and nobody else anything.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::{bounded, select, unbounded, Receiver, Sender, TrySendError};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::error::RpcError;
use super::execute::at_length;
use super::http::{Exchange, Passage, Route, Routes};
use super::pubsub::{Push, Session};
use super::request::deeper_than;

/// Calls and exchanges that wait for the bridge's thread.
const QUEUE: usize = 1_024;
/// Nesting of parameters handed out.
const MAX_DEPTH: usize = 64;
/// The handler gave no answer in time.
const TIMED_OUT: i64 = -32_002;

/// The other side. `dispatch` starts the call and returns soon; the reply may come from any thread, any time later.
pub trait Bridge: Send + Sync {
    /// `params` is a JSON array or object.
    fn dispatch(&self, method: &str, params: &[u8], reply: Reply);

    /// Starts to answer a request for a route; returns soon. An exchange that is dropped is answered with status 500.
    fn exchange(&self, exchange: Exchange) {
        drop(exchange);
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Default)]
pub struct Caller<'c> {
    /// The User-Agent header.
    pub agent: Option<&'c str>,
    pub peer: Option<SocketAddr>,
    /// The WebSocket connection that asks, if it is one.
    pub(super) session: Option<&'c Arc<Session>>,
}

/// Answers one call, once. Dropping it unanswered is an answer too: an internal error.
pub struct Reply {
    sender: oneshot::Sender<Result<Vec<u8>, RpcError>>,
    agent: Option<Box<str>>,
    peer: Option<SocketAddr>,
    push: Option<Push>,
}

impl Reply {
    fn new(caller: Caller<'_>) -> (Reply, oneshot::Receiver<Result<Vec<u8>, RpcError>>) {
        let (sender, answer) = oneshot::channel();
        let push = caller.session.map(Push::new);
        (Reply { sender, agent: caller.agent.map(Box::from), peer: caller.peer, push }, answer)
    }

    /// The caller's User-Agent header.
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The way to send notifications to the caller, over WebSocket.
    pub fn push(&self) -> Option<&Push> {
        self.push.as_ref()
    }

    /// `result` must be JSON.
    pub fn resolve(self, result: Vec<u8>) {
        // A caller that gave up does not hear the answer.
        let _ = self.sender.send(Ok(result));
    }

    pub fn reject(self, error: RpcError) {
        let _ = self.sender.send(Err(error));
    }
}

enum Job {
    Call { method: Box<str>, params: Box<[u8]>, reply: Reply },
    Exchange(Box<Exchange>),
}

impl Job {
    /// A job whose caller is gone already is not worth the interpreter's time.
    fn is_wanted(&self) -> bool {
        match self {
            Job::Call { reply, .. } => !reply.sender.is_closed(),
            Job::Exchange(exchange) => !exchange.responder.is_gone(),
        }
    }

    fn start(self, bridge: &dyn Bridge) {
        match self {
            Job::Call { method, params, reply } => bridge.dispatch(&method, &params, reply),
            Job::Exchange(exchange) => bridge.exchange(*exchange),
        }
    }
}

/// Told on the bridge's thread whether a piece of an answer was taken.
type Told = Box<dyn FnOnce(bool) + Send>;
/// What was to be told, and whether the piece was taken.
type Wake = (Told, bool);

/// Where handlers hear of writes that had to wait: at most one at a time for each answer under way.
#[derive(Clone)]
pub struct Wakes {
    queue: Sender<Wake>,
    runtime: tokio::runtime::Handle,
}

impl Wakes {
    /// Sends a piece when there is room, then tells on the bridge's thread whether the client took it.
    pub fn send_later(&self, passage: Passage, piece: hyper::body::Bytes, told: impl FnOnce(bool) + Send + 'static) {
        let mut told = Waiting { told: Some(Box::new(told)), queue: self.queue.clone() };
        self.runtime.spawn(async move {
            let taken = passage.send(piece).await.is_ok();
            told.tell(taken);
        });
    }
}

/// Tells once; of a failure when the server ends first.
struct Waiting {
    told: Option<Told>,
    queue: Sender<Wake>,
}

impl Waiting {
    fn tell(&mut self, taken: bool) {
        if let Some(told) = self.told.take() {
            // Without a bridge there is nobody to tell.
            let _ = self.queue.send((told, taken));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.tell(false);
    }
}

/// The registered names and the queue to the bridge's thread, which ends with the last handle.
pub struct BridgeHandle {
    methods: ArcSwap<HashSet<Box<str>>>,
    routes: ArcSwap<Routes>,
    queue: Sender<Job>,
    wakes: Sender<Wake>,
    timeout: Duration,
}

impl BridgeHandle {
    pub fn start(
        bridge: Arc<dyn Bridge>,
        methods: impl IntoIterator<Item = String>,
        timeout: Duration,
    ) -> std::io::Result<BridgeHandle> {
        let (queue, jobs): (Sender<Job>, Receiver<Job>) = bounded(QUEUE);
        let (wakes, woken): (Sender<Wake>, Receiver<Wake>) = unbounded();
        std::thread::Builder::new()
            .name("zerog-bridge".to_owned())
            .stack_size(1 << 20)
            .spawn(move || serve(&*bridge, &jobs, &woken))?;
        let handle = BridgeHandle { methods: ArcSwap::default(), routes: ArcSwap::default(), queue, wakes, timeout };
        handle.set_methods(methods);
        Ok(handle)
    }

    /// Replaces the paths that the bridge answers.
    pub fn set_routes(&self, routes: Routes) {
        self.routes.store(Arc::new(routes));
    }

    /// The route that covers a raw path.
    pub fn route(&self, path: &str) -> Option<Route> {
        // Nearly every request is a call to the root.
        if path.len() < 2 {
            return None;
        }
        self.routes.load().find(path).cloned()
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The way of waiting writes, for handlers of exchanges. Inside the server's runtime only.
    pub fn wakes(&self) -> Wakes {
        Wakes { queue: self.wakes.clone(), runtime: tokio::runtime::Handle::current() }
    }

    /// Hands out an exchange; `false` when too much waits already, and the exchange is dropped.
    pub fn exchange(&self, exchange: Exchange) -> bool {
        self.queue.try_send(Job::Exchange(Box::new(exchange))).is_ok()
    }

    pub fn set_methods(&self, methods: impl IntoIterator<Item = String>) {
        self.methods.store(Arc::new(methods.into_iter().map(String::into_boxed_str).collect()));
    }

    pub fn serves(&self, method: &str) -> bool {
        self.methods.load().contains(method)
    }

    /// The registered names, sorted.
    pub fn method_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.methods.load().iter().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    /// Calls and waits; the result is checked to be JSON.
    pub async fn call(&self, method: &str, params: Option<&RawValue>, caller: Caller<'_>) -> Result<Vec<u8>, RpcError> {
        let params = match params.map(RawValue::get) {
            None | Some("null") => "[]",
            Some(text) => text,
        };
        if at_length(params.len(), || deeper_than(params, MAX_DEPTH)) {
            return Err(RpcError::invalid_params(format!("params nest deeper than {MAX_DEPTH} levels")));
        }
        let (reply, answer) = Reply::new(caller);
        let job = Job::Call { method: method.into(), params: params.as_bytes().into(), reply };
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => RpcError::limit(format!("{QUEUE} calls wait already; try again later")),
            TrySendError::Disconnected(_) => RpcError::internal("the handlers have shut down"),
        })?;
        let result = tokio::time::timeout(self.timeout, answer)
            .await
            .map_err(|_| RpcError::new(TIMED_OUT, format!("{method} did not answer within {:?}", self.timeout)))?
            .map_err(|_| RpcError::internal(format!("{method} ended without an answer")))??;
        if at_length(result.len(), || serde_json::from_slice::<&RawValue>(&result).is_err()) {
            return Err(RpcError::internal(format!("{method} answered something that is not JSON")));
        }
        Ok(result)
    }
}

/// The bridge's thread. Waiting writes never wait for new work, nor the other way round.
fn serve(bridge: &dyn Bridge, jobs: &Receiver<Job>, woken: &Receiver<Wake>) {
    loop {
        select! {
            recv(jobs) -> job => match job {
                Ok(job) if job.is_wanted() => job.start(bridge),
                Ok(_) => {}
                Err(_) => break,
            },
            recv(woken) -> wake => if let Ok((told, taken)) = wake {
                told(taken);
            },
        }
    }
    for (told, taken) in woken.try_iter() {
        told(taken);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;
    use std::sync::LazyLock;

    use super::super::http::{Head, Stream};
    use super::*;
    use parking_lot::Mutex;

    /// Answers by name: echo, broken, silent (drops the reply), hang (keeps it), refuse, caller, push.
    #[derive(Default)]
    pub struct FakeBridge {
        kept: Mutex<Vec<Reply>>,
        exchanges: Mutex<Vec<Exchange>>,
        streams: Mutex<Vec<Stream>>,
    }

    impl Bridge for FakeBridge {
        fn dispatch(&self, method: &str, params: &[u8], reply: Reply) {
            match method {
                "test_echo" => reply.resolve(params.to_vec()),
                "test_broken" => reply.resolve(b"{\"a\":".to_vec()),
                "test_hang" => self.kept.lock().push(reply),
                "test_refuse" => {
                    reply.reject(RpcError::new(-32_099, "no").with_data("{\"why\":\"because\"}".to_owned()));
                }
                "test_caller" => {
                    let peer = reply.peer().is_some_and(|peer| peer.ip().is_loopback());
                    let caller = serde_json::json!([reply.agent(), peer, reply.push().is_some()]);
                    reply.resolve(caller.to_string().into_bytes());
                }
                "test_push" => {
                    let taken = reply.push().is_some_and(|push| push.send("{\"note\":1}".to_owned()));
                    reply.resolve(taken.to_string().into_bytes());
                }
                _ => drop(reply),
            }
        }

        /// By the last part of the path: echo, silent, hang, broken (ends early), held (stops in the middle), loud (has no
        /// end), or a number of pieces of a megabyte.
        fn exchange(&self, exchange: Exchange) {
            let ask = exchange.path.rsplit('/').next().unwrap_or_default().to_owned();
            let head = || Head::new(200, [("x-route", &*exchange.route)]).unwrap();
            match ask.as_str() {
                "echo" => {
                    let text = format!("{} {}?{} ", exchange.method, exchange.path, exchange.query);
                    exchange.responder.respond(head(), [text.as_bytes(), &exchange.body].concat().into());
                }
                "silent" => drop(exchange),
                "hang" => self.exchanges.lock().push(exchange),
                "broken" => {
                    let mut stream = exchange.responder.start(Head::new(200, []).unwrap(), Some(100));
                    let passage = stream.passage(5).unwrap().unwrap();
                    passage.blocking_send("start".into()).unwrap();
                }
                "held" => {
                    let mut stream = exchange.responder.start(Head::new(200, []).unwrap(), Some(100));
                    let passage = stream.passage(6).unwrap().unwrap();
                    passage.blocking_send("start\n".into()).unwrap();
                    self.streams.lock().push(stream);
                }
                "loud" => {
                    let mut stream = exchange.responder.start(Head::new(200, []).unwrap(), None);
                    let passage = stream.passage(5).unwrap().unwrap();
                    std::thread::spawn(move || {
                        let piece = hyper::body::Bytes::from(vec![b'x'; 1 << 20]);
                        let mut sent = 0u64;
                        while passage.blocking_send(piece.clone()).is_ok() {
                            sent += 1;
                        }
                        SENT.lock().insert(exchange.query.into(), sent);
                        drop(stream);
                    });
                }
                pieces => {
                    let pieces: u64 = pieces.parse().unwrap();
                    let mut stream = exchange.responder.start(head(), pieces.is_multiple_of(2).then_some(pieces << 20));
                    std::thread::spawn(move || {
                        for number in 0..pieces {
                            let piece = vec![number as u8; 1 << 20];
                            let Some(passage) = stream.passage(piece.len()).unwrap() else { return };
                            if passage.blocking_send(piece.into()).is_err() {
                                return;
                            }
                        }
                        stream.finish().unwrap();
                    });
                }
            }
        }
    }

    /// How many pieces each endless answer got rid of, by its query.
    pub static SENT: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

    pub const FAKE_METHODS: [&str; 7] =
        ["test_echo", "test_broken", "test_silent", "test_hang", "test_refuse", "test_caller", "test_push"];

    fn handle(timeout: Duration) -> BridgeHandle {
        BridgeHandle::start(Arc::new(FakeBridge::default()), FAKE_METHODS.map(str::to_owned), timeout).unwrap()
    }

    fn call(handle: &BridgeHandle, method: &str, params: Option<&str>) -> Result<String, RpcError> {
        let params = params.map(|text| RawValue::from_string(text.to_owned()).unwrap());
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(handle.call(method, params.as_deref(), Caller::default()))
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn parameters_and_result_pass_unchanged() {
        let handle = handle(Duration::from_secs(30));
        assert_eq!(call(&handle, "test_echo", Some("{\"a\":[1.50]}")).unwrap(), "{\"a\":[1.50]}");
        assert_eq!(call(&handle, "test_echo", None).unwrap(), "[]");
        assert_eq!(call(&handle, "test_echo", Some("null")).unwrap(), "[]");
    }

    #[test]
    fn a_rejection_keeps_code_and_data() {
        let error = call(&handle(Duration::from_secs(30)), "test_refuse", None).unwrap_err();
        assert_eq!((error.code, error.data.as_deref()), (-32_099, Some("{\"why\":\"because\"}")));
    }

    #[test]
    fn a_result_that_is_no_json_does_not_reach_the_client() {
        let error = call(&handle(Duration::from_secs(30)), "test_broken", None).unwrap_err();
        assert_eq!(error.message, "test_broken answered something that is not JSON");
    }

    #[test]
    fn a_dropped_reply_is_an_error() {
        let error = call(&handle(Duration::from_secs(30)), "test_silent", None).unwrap_err();
        assert_eq!(error.message, "test_silent ended without an answer");
    }

    #[test]
    fn a_handler_that_hangs_times_out() {
        let error = call(&handle(Duration::from_millis(20)), "test_hang", None).unwrap_err();
        assert_eq!((error.code, &*error.message), (TIMED_OUT, "test_hang did not answer within 20ms"));
    }

    #[test]
    fn deep_parameters_are_refused_before_they_are_handed_out() {
        let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        let error = call(&handle(Duration::from_secs(30)), "test_echo", Some(&deep)).unwrap_err();
        assert_eq!(error.message, "params nest deeper than 64 levels");
    }

    #[test]
    fn names_can_be_exchanged_while_running() {
        let handle = handle(Duration::from_secs(30));
        assert!(handle.serves("test_echo"));
        handle.set_methods(["zgs_getStatus".to_owned()]);
        assert!(!handle.serves("test_echo") && handle.serves("zgs_getStatus"));
    }
}
