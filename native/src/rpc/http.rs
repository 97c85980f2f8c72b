//! HTTP beyond JSON-RPC: paths that belong to handlers outside this crate, and their answers, whole or streamed.
//!
//! The server reads the request (bounded), hands an [`Exchange`] to the bridge and waits for the head of the answer.
//! A streamed answer goes through a queue of a few pieces: a client that reads slowly holds back its own handler and
//! nobody else. Whatever ends early is told: to the client by a cut connection, to the handler by a refused write.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use super::bridge::Wakes;
use super::connection::Answering;

/// Pieces of a streamed answer that wait for the client.
const QUEUE: usize = 4;

/// Paths that belong to the bridge.
#[derive(Debug, Default)]
pub struct Routes {
    /// The longest prefix first.
    routes: Vec<Route>,
}

/// One path prefix, and what its requests may bring.
#[derive(Clone, Debug)]
pub struct Route {
    pub prefix: Box<str>,
    /// Bytes of a body where the bound is tighter than the server's.
    pub max_body: Option<usize>,
}

impl Routes {
    /// # Errors
    /// A text that names the prefix that is none.
    pub fn new(prefixes: impl IntoIterator<Item = String>) -> Result<Routes, String> {
        let route = |prefix: String| Route { prefix: prefix.into_boxed_str(), max_body: None };
        let mut routes: Vec<Route> = prefixes.into_iter().map(route).collect();
        if let Some(Route { prefix, .. }) = routes.iter().find(|r| !r.prefix.starts_with('/') || r.prefix.len() < 2) {
            return Err(format!("{prefix:?} is no route: want a path below \"/\", which is JSON-RPC's own"));
        }
        routes.sort_by(|a, b| b.prefix.len().cmp(&a.prefix.len()).then_with(|| a.prefix.cmp(&b.prefix)));
        routes.dedup_by(|a, b| a.prefix == b.prefix);
        Ok(Routes { routes })
    }

    /// Bounds the bodies of some prefixes, in bytes.
    ///
    /// # Errors
    /// A text that names the prefix that is not among the routes.
    pub fn bounded(mut self, limits: impl IntoIterator<Item = (String, usize)>) -> Result<Routes, String> {
        for (prefix, limit) in limits {
            let route = self.routes.iter_mut().find(|route| *route.prefix == *prefix);
            route.ok_or_else(|| format!("{prefix:?} is no route: its body cannot be bounded"))?.max_body = Some(limit);
        }
        Ok(self)
    }

    /// The longest prefix that covers the raw path: whole segments only, `/file` does not cover `/files`.
    pub fn find(&self, path: &str) -> Option<&Route> {
        let covers = |prefix: &str| match path.strip_prefix(prefix) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'),
            None => false,
        };
        self.routes.iter().find(|route| covers(&route.prefix))
    }
}

/// One request for a route. Dropped without an answer, the client gets status 500.
pub struct Exchange {
    pub method: Method,
    /// As it came: percent-encoded, neither decoded nor normalised.
    pub path: Box<str>,
    pub query: Box<str>,
    /// The prefix that covers the path.
    pub route: Box<str>,
    pub headers: HeaderMap,
    pub peer: Option<SocketAddr>,
    pub body: Bytes,
    /// The body's share of the memory for bodies.
    pub held: Box<dyn Send + Sync>,
    pub responder: Responder,
    pub wakes: Wakes,
}

/// Why an answer is refused: always a mistake of the handler.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("{0} is no status of an answer: want 200 to 599")]
    Status(u16),
    #[error("header {0:?} is malformed")]
    Header(String),
    #[error("header {0} is set by the server alone")]
    OwnHeader(String),
    #[error("{0} bytes more than the answer's announced length")]
    TooLong(u64),
    #[error("{0} bytes less than the answer's announced length")]
    TooShort(u64),
}

/// Status and headers of an answer, checked.
pub struct Head {
    status: StatusCode,
    headers: HeaderMap,
}

impl Head {
    pub fn new<'h>(status: u16, headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Result<Head, AnswerError> {
        let code = StatusCode::from_u16(status).ok().filter(|_| (200..600).contains(&status));
        let status = code.ok_or(AnswerError::Status(status))?;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let malformed = || AnswerError::Header(name.chars().take(100).collect());
            let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
            // What frames the message on the wire is not the handler's to say.
            if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(&known) {
                return Err(AnswerError::OwnHeader(known.to_string()));
            }
            map.append(known, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| malformed())?);
        }
        Ok(Head { status, headers: map })
    }

    fn with(self, body: Payload) -> Response<Payload> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// True when a body follows.
    fn has_body(&self, to_head: bool) -> bool {
        !to_head && self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED
    }

    fn announce(&mut self, length: u64) {
        if self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED {
            self.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
}

/// Answers one exchange, once.
pub struct Responder {
    sender: oneshot::Sender<Response<Payload>>,
    /// The request was HEAD: the answer ends with its headers.
    to_head: bool,
    /// Longest pause between two pieces of a streamed answer.
    patience: Duration,
}

impl Responder {
    pub(super) fn new(method: &Method, patience: Duration) -> (Responder, oneshot::Receiver<Response<Payload>>) {
        let (sender, answer) = oneshot::channel();
        (Responder { sender, to_head: *method == Method::HEAD, patience }, answer)
    }

    /// True when nobody waits for the answer any more.
    pub fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// A whole answer.
    pub fn respond(self, mut head: Head, body: Bytes) {
        head.announce(body.len() as u64);
        let body = if head.has_body(self.to_head) { body } else { Bytes::new() };
        // A client that has gone does not hear it.
        let _ = self.sender.send(head.with(Payload::whole(body)));
    }

    /// The head of a streamed answer; `length` announces its bytes, without one it is sent in chunks.
    pub fn start(self, mut head: Head, length: Option<u64>) -> Stream {
        if let Some(length) = length {
            head.announce(length);
        }
        let finished = Arc::new(AtomicBool::new(false));
        if !head.has_body(self.to_head) {
            let _ = self.sender.send(head.with(Payload::default()));
            return Stream { queue: None, left: None, finished };
        }
        let (queue, pieces) = mpsc::channel(QUEUE);
        let streamed = Streamed {
            pieces,
            left: length,
            finished: Arc::clone(&finished),
            patience: self.patience,
            silence: None,
            ended: false,
            answering: None,
        };
        let _ = self.sender.send(head.with(Payload(Form::Streamed(Box::new(streamed)))));
        Stream { queue: Some(queue), left: length, finished }
    }
}

/// The handler's end of a streamed answer. Dropped unfinished, the client sees the connection break.
pub struct Stream {
    /// `None`: no body is wanted.
    queue: Option<mpsc::Sender<Bytes>>,
    /// Bytes of the announced length that are still to come.
    left: Option<u64>,
    finished: Arc<AtomicBool>,
}

/// What a piece goes through on its way to the client; apart from the stream so that no lock is held meanwhile.
pub type Passage = mpsc::Sender<Bytes>;

impl Stream {
    /// Accounts for a piece of `length` bytes; `None` when there is nobody to send it to.
    pub fn passage(&mut self, length: usize) -> Result<Option<Passage>, AnswerError> {
        let Some(queue) = &self.queue else { return Ok(None) };
        if queue.is_closed() {
            return Ok(None);
        }
        if let Some(left) = &mut self.left {
            let length = length as u64;
            *left = left.checked_sub(length).ok_or(AnswerError::TooLong(length - *left))?;
        }
        Ok(Some(queue.clone()))
    }

    /// True when nobody reads the answer any more.
    pub fn is_gone(&self) -> bool {
        self.queue.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// The answer is complete.
    pub fn finish(self) -> Result<(), AnswerError> {
        let gone = self.is_gone();
        match self.left {
            Some(left) if left > 0 && !gone => Err(AnswerError::TooShort(left)),
            _ => {
                self.finished.store(true, Ordering::Release);
                Ok(())
            }
        }
    }
}

/// The handler ended before its answer did, or was silent for too long: the connection breaks.
#[derive(Debug, thiserror::Error)]
#[error("the answer was not completed")]
pub struct Unfinished;

/// The body of any answer.
#[derive(Default)]
pub struct Payload(Form);

enum Form {
    Whole(Bytes),
    Streamed(Box<Streamed>),
}

impl Default for Form {
    fn default() -> Form {
        Form::Whole(Bytes::new())
    }
}

struct Streamed {
    pieces: mpsc::Receiver<Bytes>,
    left: Option<u64>,
    finished: Arc<AtomicBool>,
    patience: Duration,
    /// Runs while the handler keeps the client waiting.
    silence: Option<Pin<Box<Sleep>>>,
    ended: bool,
    answering: Option<Answering>,
}

impl Payload {
    pub fn whole(bytes: impl Into<Bytes>) -> Payload {
        Payload(Form::Whole(bytes.into()))
    }

    /// Keeps `answering` while the handler still has to say something.
    pub(super) fn answered_by(&mut self, answering: Answering) {
        if let Form::Streamed(streamed) = &mut self.0 {
            streamed.answering = Some(answering);
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        match &mut self.0 {
            Form::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Form::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Form::Streamed(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Form::Whole(bytes) => bytes.is_empty(),
            Form::Streamed(streamed) => streamed.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Form::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Form::Streamed(streamed) => streamed.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.pieces.poll_recv(cx) {
            Poll::Ready(Some(piece)) => {
                self.silence = None;
                self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Poll::Ready(None) => {
                self.ended = true;
                self.answering = None;
                Poll::Ready(if self.finished.load(Ordering::Acquire) { None } else { Some(Err(Unfinished)) })
            }
            Poll::Pending => {
                let patience = self.patience;
                let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                match silence.as_mut().poll(cx) {
                    Poll::Ready(()) => {
                        self.ended = true;
                        Poll::Ready(Some(Err(Unfinished)))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(prefixes: &[&str]) -> Result<Routes, String> {
        Routes::new(prefixes.iter().map(|prefix| (*prefix).to_owned()))
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let routes = routes(&["/file", "/file/info", "/zerog/"]).unwrap();
        for (path, route) in [
            ("/file", Some("/file")),
            ("/file/0x12", Some("/file")),
            ("/file/info", Some("/file/info")),
            ("/file/info/7", Some("/file/info")),
            ("/file/information", Some("/file")),
            ("/files/info", None),
            ("/zerog/segments", Some("/zerog/")),
            ("/zerog", None),
            ("/", None),
        ] {
            assert_eq!(routes.find(path).map(|found| &*found.prefix), route, "{path}");
        }
    }

    #[test]
    fn only_routes_can_be_bounded() {
        let bounded = |prefix: &str| routes(&["/file", "/files"]).unwrap().bounded([(prefix.to_owned(), 7)]);
        let routes = bounded("/file").unwrap();
        assert_eq!(routes.find("/file/1").unwrap().max_body, Some(7));
        assert_eq!(routes.find("/files").unwrap().max_body, None);
        assert!(bounded("/fil").unwrap_err().contains("\"/fil\" is no route"));
    }

    #[test]
    fn the_root_and_relative_paths_are_no_routes() {
        for prefix in ["/", "", "file"] {
            assert!(routes(&[prefix]).unwrap_err().contains(&format!("{prefix:?}")));
        }
    }

    #[test]
    fn a_head_that_would_break_the_framing_is_refused() {
        let refused = |status, name, value| Head::new(status, [(name, value)]).err().unwrap();
        assert_eq!(refused(200, "content-length", "5"), AnswerError::OwnHeader("content-length".to_owned()));
        assert_eq!(refused(200, "x-name", "a\r\nset-cookie: b"), AnswerError::Header("x-name".to_owned()));
        assert_eq!(refused(200, "x name", "a"), AnswerError::Header("x name".to_owned()));
        assert_eq!(refused(101, "x-name", "a"), AnswerError::Status(101));
        assert_eq!(refused(999, "x-name", "a"), AnswerError::Status(999));
    }

    #[test]
    fn a_stream_keeps_to_its_announced_length() {
        let (responder, _answer) = Responder::new(&Method::GET, Duration::from_secs(1));
        let mut stream = responder.start(Head::new(200, []).unwrap(), Some(10));
        assert!(stream.passage(6).unwrap().is_some());
        assert_eq!(stream.passage(5).err(), Some(AnswerError::TooLong(1)));
        assert_eq!(stream.finish(), Err(AnswerError::TooShort(4)));
    }

    #[test]
    fn nobody_reads_the_body_of_an_answer_to_head() {
        let (responder, mut answer) = Responder::new(&Method::HEAD, Duration::from_secs(1));
        let mut stream = responder.start(Head::new(200, []).unwrap(), Some(10));
        assert!(stream.passage(6).unwrap().is_none());
        assert_eq!(stream.finish(), Ok(()));
        assert_eq!(answer.try_recv().unwrap().headers()[header::CONTENT_LENGTH], "10");
    }
}
