//! Methods that live outside this crate (Python coroutines): registered by name, called through one queue.
//!
//! A bridge may block (it takes the interpreter's lock), so one thread of its own calls it; the thread that serves the
//! connection only waits for the reply. The queue is bounded and every call has a deadline: a handler that hangs costs
//! its callers an error and nobody else anything.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::{bounded, Receiver, Sender, TrySendError};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::error::RpcError;
use super::request::deeper_than;

/// Calls that wait for the bridge's thread.
const QUEUE: usize = 1_024;
/// Nesting of parameters handed out.
const MAX_DEPTH: usize = 64;
/// The handler gave no answer in time.
const TIMED_OUT: i64 = -32_002;

/// The other side. `dispatch` starts the call and returns soon; the reply may come from any thread, any time later.
pub trait Bridge: Send + Sync {
    /// `params` is a JSON array or object.
    fn dispatch(&self, method: &str, params: &[u8], reply: Reply);
}

/// Answers one call, once. Dropping it unanswered is an answer too: an internal error.
#[derive(Debug)]
pub struct Reply {
    sender: oneshot::Sender<Result<Vec<u8>, RpcError>>,
}

impl Reply {
    /// `result` must be JSON.
    pub fn resolve(self, result: Vec<u8>) {
        // A caller that gave up does not hear the answer.
        let _ = self.sender.send(Ok(result));
    }

    pub fn reject(self, error: RpcError) {
        let _ = self.sender.send(Err(error));
    }
}

struct Job {
    method: Box<str>,
    params: Box<[u8]>,
    reply: Reply,
}

/// The registered names and the queue to the bridge's thread, which ends with the last handle.
pub struct BridgeHandle {
    methods: ArcSwap<HashSet<Box<str>>>,
    queue: Sender<Job>,
    timeout: Duration,
}

impl BridgeHandle {
    pub fn start(
        bridge: Arc<dyn Bridge>,
        methods: impl IntoIterator<Item = String>,
        timeout: Duration,
    ) -> std::io::Result<BridgeHandle> {
        let (queue, jobs): (Sender<Job>, Receiver<Job>) = bounded(QUEUE);
        std::thread::Builder::new().name("zerog-bridge".to_owned()).stack_size(1 << 20).spawn(move || {
            // A job whose caller is gone already is not worth the interpreter's time.
            for job in jobs.iter().filter(|job| !job.reply.sender.is_closed()) {
                bridge.dispatch(&job.method, &job.params, job.reply);
            }
        })?;
        let handle = BridgeHandle { methods: ArcSwap::default(), queue, timeout };
        handle.set_methods(methods);
        Ok(handle)
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
    pub async fn call(&self, method: &str, params: Option<&RawValue>) -> Result<Vec<u8>, RpcError> {
        let params = match params.map(RawValue::get) {
            None | Some("null") => "[]",
            Some(text) => text,
        };
        if deeper_than(params, MAX_DEPTH) {
            return Err(RpcError::invalid_params(format!("params nest deeper than {MAX_DEPTH} levels")));
        }
        let (sender, answer) = oneshot::channel();
        let job = Job { method: method.into(), params: params.as_bytes().into(), reply: Reply { sender } };
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => RpcError::limit(format!("{QUEUE} calls wait already; try again later")),
            TrySendError::Disconnected(_) => RpcError::internal("the handlers have shut down"),
        })?;
        let result = tokio::time::timeout(self.timeout, answer)
            .await
            .map_err(|_| RpcError::new(TIMED_OUT, format!("{method} did not answer within {:?}", self.timeout)))?
            .map_err(|_| RpcError::internal(format!("{method} ended without an answer")))??;
        if serde_json::from_slice::<&RawValue>(&result).is_err() {
            return Err(RpcError::internal(format!("{method} answered something that is not JSON")));
        }
        Ok(result)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// Answers by name: echo, broken, silent (drops the reply), hang (keeps it), refuse.
    #[derive(Default)]
    pub struct FakeBridge {
        kept: Mutex<Vec<Reply>>,
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
                _ => drop(reply),
            }
        }
    }

    pub const FAKE_METHODS: [&str; 5] = ["test_echo", "test_broken", "test_silent", "test_hang", "test_refuse"];

    fn handle(timeout: Duration) -> BridgeHandle {
        BridgeHandle::start(Arc::new(FakeBridge::default()), FAKE_METHODS.map(str::to_owned), timeout).unwrap()
    }

    fn call(handle: &BridgeHandle, method: &str, params: Option<&str>) -> Result<String, RpcError> {
        let params = params.map(|text| RawValue::from_string(text.to_owned()).unwrap());
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(handle.call(method, params.as_deref()))
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
