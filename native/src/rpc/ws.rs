//! JSON-RPC over WebSocket: requests, responses and the notifications of subscriptions on one connection.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use hyper::body::{Bytes, Incoming};
use hyper::{header, Request, Response, StatusCode};
use hyper_tungstenite::tungstenite::error::CapacityError;
use hyper_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use hyper_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use hyper_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use tokio::sync::mpsc;

use super::bridge::Caller;
use super::connection::Entry;
use super::execute::Dispatcher;
use super::http::Payload;
use super::pubsub::Session;
use super::server::{plain, Shared};

/// Calls of one connection that may be under way at a time; then its requests wait in the socket.
const MAX_IN_FLIGHT: usize = 32;
/// Silence after which the peer is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes of a message at most: unlike bodies, messages share no budget of memory.
const MAX_MESSAGE: usize = 16 << 20;
/// Notifications written between two flushes.
const BURST: usize = 64;

/// Answers the handshake and serves the connection in a task of its own.
pub(super) fn upgrade(mut request: Request<Incoming>, shared: &Arc<Shared>, entry: Arc<Entry>) -> Response<Payload> {
    let max = shared.dispatcher.config().max_body.min(MAX_MESSAGE);
    let config = WebSocketConfig::default()
        .max_message_size(Some(max))
        .max_frame_size(Some(max))
        .read_buffer_size(16 << 10)
        .write_buffer_size(16 << 10);
    let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).map(Box::<str>::from);
    match hyper_tungstenite::upgrade(&mut request, Some(config)) {
        Ok((response, socket)) => {
            let dispatcher = Arc::clone(&shared.dispatcher);
            let activity = Arc::clone(&entry.activity);
            let task = tokio::spawn(async move {
                serve(socket, &dispatcher, agent, &entry).await;
                drop(entry);
            });
            activity.upgraded(task.abort_handle());
            response.map(|_| Payload::default())
        }
        Err(error) => plain(StatusCode::BAD_REQUEST, format!("no WebSocket handshake: {error}\n")),
    }
}

async fn serve(socket: HyperWebsocket, dispatcher: &Arc<Dispatcher>, agent: Option<Box<str>>, entry: &Entry) {
    let Ok(mut socket) = socket.await else { return };
    let (session, drain) = Session::open();
    let session = Open { session, dispatcher };
    let caller = Caller { agent: agent.as_deref(), peer: entry.peer, session: Some(&session.session) };
    tokio::select! {
        _ = converse(&mut socket, dispatcher, &session.session, caller, drain) => {}
        // The peer does not read: a farewell would not get through either.
        () = session.session.overrun() => {}
    }
}

/// Ends the subscriptions with the connection, also when its task is aborted.
struct Open<'d> {
    session: Arc<Session>,
    dispatcher: &'d Arc<Dispatcher>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(context) = self.dispatcher.context() {
            self.session.close(context);
        }
    }
}

async fn converse(
    socket: &mut HyperWebsocketStream,
    dispatcher: &Arc<Dispatcher>,
    session: &Session,
    caller: Caller<'_>,
    mut drain: mpsc::Receiver<Bytes>,
) -> Result<(), Error> {
    let mut in_flight = FuturesUnordered::new();
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
    loop {
        tokio::select! {
            Some(answer) = in_flight.next(), if !in_flight.is_empty() => {
                if let Some(json) = answer {
                    socket.send(text(json)).await?;
                }
            }
            Some(notification) = drain.recv() => {
                feed(socket, session, notification).await?;
                for _ in 1..BURST {
                    match drain.try_recv() {
                        Ok(notification) => feed(socket, session, notification).await?,
                        Err(_) => break,
                    }
                }
                socket.flush().await?;
            }
            message = socket.next(), if in_flight.len() < MAX_IN_FLIGHT => {
                let body = match message {
                    Some(Ok(Message::Text(text))) => Bytes::from(text),
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                        // tungstenite has queued the pong.
                        socket.flush().await?;
                        continue;
                    }
                    Some(Err(error)) => return farewell(socket, error).await,
                };
                let mut answer = Box::pin(async move { dispatcher.answer(&body, caller).await });
                // Short calls are done by now, and their answers keep the order of the questions.
                match std::future::poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await {
                    Poll::Ready(Some(json)) => socket.send(text(json)).await?,
                    Poll::Ready(None) => {}
                    Poll::Pending => in_flight.push(answer),
                }
            }
            _ = ping.tick() => socket.send(Message::Ping(Bytes::new())).await?,
        }
    }
}

async fn feed(socket: &mut HyperWebsocketStream, session: &Session, notification: Bytes) -> Result<(), Error> {
    session.taken(&notification);
    socket.feed(message(notification)).await
}

fn text(json: Vec<u8>) -> Message {
    message(json.into())
}

fn message(json: Bytes) -> Message {
    match Utf8Bytes::try_from(json) {
        Ok(text) => Message::Text(text),
        // Writers append UTF-8 only; an empty message would still keep the connection's state sound.
        Err(_) => Message::Text(Utf8Bytes::default()),
    }
}

/// Says why the connection ends, where the reason is the peer's to know.
async fn farewell(socket: &mut HyperWebsocketStream, error: Error) -> Result<(), Error> {
    let frame = match &error {
        Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => CloseFrame {
            code: CloseCode::Size,
            reason: format!("message too large: want at most {max_size} bytes").into(),
        },
        Error::Utf8(_) => CloseFrame { code: CloseCode::Invalid, reason: "text is not UTF-8".into() },
        Error::Protocol(_) => CloseFrame { code: CloseCode::Protocol, reason: Utf8Bytes::default() },
        _ => return Err(error),
    };
    socket.close(Some(frame)).await
}
