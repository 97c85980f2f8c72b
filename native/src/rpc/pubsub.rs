//! eth_subscribe: what happens on the chain, pushed to WebSocket connections.
//!
//! One task reads the engine's events and writes each notification once; a connection has a bounded queue of its own.
//! A connection that does not read while its queue fills is closed: it costs nobody else anything.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use alloy_primitives::hex;
use hyper::body::Bytes;
use parking_lot::{Mutex, RwLock};
use serde_json::value::RawValue;
use tokio::sync::broadcast::{error::RecvError, Receiver};
use tokio::sync::{mpsc, Notify};

use super::dispatch::Context;
use super::error::{RpcError, METHOD_NOT_FOUND};
use super::eth::encode;
use super::eth::logs::{block_logs, LogFilter, LogQuery};
use super::json::Json;
use super::params::Params;
use crate::engine::ChainEvent;
use crate::primitives::{Receipt, SealedBlock, SignedTx};

/// Notifications that a connection may lag behind.
const QUEUE: usize = 8_192;
/// Bytes of notifications that a connection may lag behind.
const QUEUE_BYTES: usize = 16 << 20;
/// Blocks that are sent after the fact when the reader of events lagged itself.
const MAX_CATCH_UP: u64 = 4_096;

/// What a subscription wants.
enum Wanted {
    Heads,
    Logs(LogFilter),
    PendingHashes,
    PendingFull,
}

struct Subscription {
    wanted: Wanted,
    session: Arc<Session>,
}

/// All subscriptions of the server.
#[derive(Default)]
pub struct Hub {
    subscriptions: RwLock<HashMap<u128, Subscription>>,
}

/// The server's side of one WebSocket connection.
pub struct Session {
    queue: mpsc::Sender<Bytes>,
    queued_bytes: AtomicUsize,
    subscriptions: Mutex<HashSet<u128>>,
    overrun: Notify,
}

impl Session {
    /// The session and the end of its queue, which the connection drains with [`Session::taken`].
    pub fn open() -> (Arc<Session>, mpsc::Receiver<Bytes>) {
        let (queue, drain) = mpsc::channel(QUEUE);
        let session = Session {
            queue,
            queued_bytes: AtomicUsize::new(0),
            subscriptions: Mutex::default(),
            overrun: Notify::new(),
        };
        (Arc::new(session), drain)
    }

    /// Ends when the connection lags too far behind and must go.
    pub async fn overrun(&self) {
        self.overrun.notified().await;
    }

    /// A notification left the queue.
    pub fn taken(&self, message: &Bytes) {
        self.queued_bytes.fetch_sub(message.len(), Ordering::Relaxed);
    }

    /// False when the connection does not take it; one that lags is on its way out then.
    fn push(&self, message: Bytes) -> bool {
        let length = message.len();
        let queued = self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let taken = queued + length <= QUEUE_BYTES && self.queue.try_send(message).is_ok();
        if !taken {
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            self.overrun.notify_one();
        }
        taken
    }

    /// eth_subscribe.
    pub fn subscribe(
        self: &Arc<Session>,
        context: &Context,
        params: Option<&RawValue>,
        out: &mut Json,
    ) -> Result<(), RpcError> {
        let params = Params::parse(params)?;
        let kind: String = params.required(0)?;
        let wanted = match kind.as_str() {
            "newHeads" => Wanted::Heads,
            "logs" => Wanted::Logs(match params.raw(1) {
                // The block range of the object, if any, does not matter here.
                Some(_) => LogQuery::argument(&params, 1)?.filter,
                None => LogFilter::default(),
            }),
            "newPendingTransactions" => match params.optional::<bool>(1)? {
                Some(true) => Wanted::PendingFull,
                _ => Wanted::PendingHashes,
            },
            other => {
                let shown: String = other.chars().take(100).collect();
                return Err(RpcError::new(METHOD_NOT_FOUND, format!("no \"{shown}\" subscription in eth namespace")));
            }
        };
        let id: u128 = rand::random();
        {
            let mut mine = self.subscriptions.lock();
            let bound = context.config.max_subscriptions;
            if mine.len() >= bound {
                return Err(RpcError::limit(format!("too many subscriptions: want at most {bound} per connection")));
            }
            mine.insert(id);
        }
        let subscription = Subscription { wanted, session: Arc::clone(self) };
        context.hub.subscriptions.write().insert(id, subscription);
        write_id(out, id);
        Ok(())
    }

    /// eth_unsubscribe: true when the subscription was this connection's own.
    pub fn unsubscribe(&self, context: &Context, params: Option<&RawValue>, out: &mut Json) -> Result<(), RpcError> {
        let params = Params::parse(params)?;
        params.at_most(1)?;
        let text: String = params.required(0)?;
        let id = parse_id(&text).ok_or_else(|| RpcError::server("subscription not found"))?;
        if !self.subscriptions.lock().remove(&id) {
            return Err(RpcError::server("subscription not found"));
        }
        context.hub.subscriptions.write().remove(&id);
        out.bool(true);
        Ok(())
    }

    /// The connection has ended.
    pub fn close(&self, context: &Context) {
        let mine = std::mem::take(&mut *self.subscriptions.lock());
        if mine.is_empty() {
            return;
        }
        let mut all = context.hub.subscriptions.write();
        for id in mine {
            all.remove(&id);
        }
    }
}

/// Sends notifications of a bridged method's own over the connection that called it.
#[derive(Clone)]
pub struct Push(Arc<Session>);

impl Push {
    pub fn new(session: &Arc<Session>) -> Push {
        Push(Arc::clone(session))
    }

    /// Queues one notification, a whole JSON text. False when the connection has closed, or is closed now because it
    /// lags too far behind.
    pub fn send(&self, notification: String) -> bool {
        self.0.push(notification.into())
    }

    pub fn is_closed(&self) -> bool {
        self.0.queue.is_closed()
    }
}

fn write_id(out: &mut Json, id: u128) {
    out.hex(id.to_be_bytes());
}

fn parse_id(text: &str) -> Option<u128> {
    let mut bytes = [0u8; 16];
    hex::decode_to_slice(text.strip_prefix("0x")?, &mut bytes).ok()?;
    Some(u128::from_be_bytes(bytes))
}

fn notification(id: u128, result: &[u8]) -> Bytes {
    let mut out = Json::with_capacity(result.len() + 128);
    out.raw("{\"jsonrpc\":\"2.0\",\"method\":\"eth_subscription\",\"params\":{\"subscription\":");
    write_id(&mut out, id);
    out.raw(",\"result\":");
    out.raw(result);
    out.raw("}}");
    out.into_bytes().into()
}

impl Hub {
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.subscriptions.read().len()
    }

    /// A committed block: heads and logs.
    pub(super) fn block(&self, block: &SealedBlock, receipts: &[Receipt]) {
        let subscriptions = self.subscriptions.read();
        let mut head: Option<Vec<u8>> = None;
        for (id, subscription) in subscriptions.iter() {
            match &subscription.wanted {
                Wanted::Heads => {
                    let result = head.get_or_insert_with(|| {
                        let mut out = Json::with_capacity(1_536);
                        encode::header(&mut out, &block.header, &block.hash, false);
                        out.into_bytes()
                    });
                    subscription.session.push(notification(*id, result));
                }
                Wanted::Logs(filter) => {
                    for log in block_logs(filter, block, receipts, false) {
                        subscription.session.push(notification(*id, &log));
                    }
                }
                Wanted::PendingHashes | Wanted::PendingFull => {}
            }
        }
    }

    pub(super) fn pending(&self, transactions: &[Arc<SignedTx>]) {
        let subscriptions = self.subscriptions.read();
        for (id, subscription) in subscriptions.iter() {
            let full = match subscription.wanted {
                Wanted::PendingHashes => false,
                Wanted::PendingFull => true,
                Wanted::Heads | Wanted::Logs(_) => continue,
            };
            for tx in transactions {
                let mut out = Json::new();
                match full {
                    true => encode::transaction(&mut out, tx, None),
                    false => out.hex(tx.hash),
                }
                subscription.session.push(notification(*id, out.as_bytes()));
            }
        }
    }
}

/// Feeds subscriptions and filters from the engine's events until the engine goes away. `last` is the block before
/// the first event.
pub async fn publish(context: Arc<Context>, mut events: Receiver<ChainEvent>, mut last: u64) {
    loop {
        match events.recv().await {
            Ok(ChainEvent::Committed(executed)) => {
                let number = executed.block.header.number;
                // A block that a catch-up has sent already is not sent twice.
                if number == last + 1 {
                    context.hub.block(&executed.block, &executed.receipts);
                    last = number;
                } else if number > last {
                    last = catch_up(&context, last);
                }
            }
            Ok(ChainEvent::Rewound(head)) => {
                last = head.header.number;
                context.filters.rewind(last);
            }
            Ok(ChainEvent::Pending(transactions)) => {
                context.hub.pending(&transactions);
                context.filters.pending(&transactions);
            }
            Err(RecvError::Lagged(_)) => last = catch_up(&context, last),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Sends the blocks after `last` from the store; returns the number of the newest one sent.
fn catch_up(context: &Context, last: u64) -> u64 {
    let Ok(view) = context.engine.view() else { return last };
    let head = view.head().header.number;
    if head < last {
        // The rewind is among the events that were lost.
        context.filters.rewind(head);
        return head;
    }
    for number in (last + 1).max(head.saturating_sub(MAX_CATCH_UP))..=head {
        if let (Ok(Some(block)), Ok(Some(receipts))) = (view.block(number), view.receipts(number)) {
            context.hub.block(&block, &receipts);
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_that_is_full_ends_its_connection() {
        let (session, mut drain) = Session::open();
        for _ in 0..QUEUE {
            session.push(Bytes::from_static(b"x"));
        }
        assert!(futures_util::FutureExt::now_or_never(session.overrun()).is_none());
        session.push(Bytes::from_static(b"x"));
        session.overrun().await;
        session.taken(&drain.recv().await.unwrap());
        assert_eq!(session.queued_bytes.load(Ordering::Relaxed), QUEUE - 1);
    }

    #[tokio::test]
    async fn bytes_are_bounded_as_well_as_messages() {
        let (session, _drain) = Session::open();
        let large = Bytes::from(vec![b'x'; QUEUE_BYTES / 2 + 1]);
        session.push(large.clone());
        assert!(futures_util::FutureExt::now_or_never(session.overrun()).is_none());
        session.push(large);
        session.overrun().await;
    }

    #[test]
    fn ids_survive_their_text() {
        let mut out = Json::new();
        write_id(&mut out, 0x0123);
        let text = out.into_string();
        assert_eq!(parse_id(text.trim_matches('"')), Some(0x0123));
        assert_eq!(parse_id("0x12"), None);
    }
}
