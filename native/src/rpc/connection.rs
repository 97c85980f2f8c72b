//! A TCP stream that notes when bytes last moved, and the watch that closes connections which hold theirs back.
//!
//! Instead of timers per request, one task looks at every connection once a second: a request that takes too long to
//! arrive, a response that the client does not take, a connection that stays silent.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Bytes per second of a large request that is given its time.
const SLOWEST: u32 = 32 << 10;

/// Seconds since the server started, from 1 on; 0 stands for "never".
#[derive(Debug)]
pub struct Clock(AtomicU32);

impl Default for Clock {
    fn default() -> Clock {
        Clock(AtomicU32::new(1))
    }
}

impl Clock {
    fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is known about one connection. All stores are relaxed: a second's inaccuracy does not matter.
#[derive(Debug)]
pub struct Activity {
    clock: Arc<Clock>,
    /// When a byte last moved either way.
    moved: AtomicU32,
    /// When the request under way began to arrive.
    receiving: AtomicU32,
    /// How much of it has come, in bytes.
    received: AtomicU32,
    /// Since when a write waits for the peer.
    blocked: AtomicU32,
    /// A request is being answered: silence is ours.
    answering: AtomicBool,
    /// Frames come at any time: there is no request that must be complete.
    streaming: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
}

impl Activity {
    /// The request is complete; the answer is being made.
    pub fn request_received(&self) {
        self.receiving.store(0, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
    }

    pub fn answer_ready(&self) {
        let now = self.clock.now();
        self.answering.store(false, Ordering::Relaxed);
        self.moved.store(now, Ordering::Relaxed);
        // What came meanwhile is the next request; its time starts when it can be read.
        if self.receiving.load(Ordering::Relaxed) != 0 {
            self.receiving.store(now, Ordering::Relaxed);
        }
    }

    /// The connection became a WebSocket, served by `task` from now on.
    pub fn upgraded(&self, task: AbortHandle) {
        self.streaming.store(true, Ordering::Relaxed);
        self.receiving.store(0, Ordering::Relaxed);
        *self.task.lock() = Some(task);
    }

    pub fn served_by(&self, task: AbortHandle) {
        // An upgrade may have come first: its task stays.
        self.task.lock().get_or_insert(task);
    }

    fn read(&self, bytes: usize) {
        let now = self.clock.now();
        self.moved.store(now, Ordering::Relaxed);
        if self.receiving.load(Ordering::Relaxed) == 0 && !self.streaming.load(Ordering::Relaxed) {
            self.receiving.store(now, Ordering::Relaxed);
            self.received.store(0, Ordering::Relaxed);
        }
        // One task reads: nothing is lost between the two.
        let received = self.received.load(Ordering::Relaxed).saturating_add(bytes as u32);
        self.received.store(received, Ordering::Relaxed);
    }

    fn wrote<T>(&self, outcome: &Poll<io::Result<T>>) {
        match outcome {
            Poll::Ready(_) => {
                self.moved.store(self.clock.now(), Ordering::Relaxed);
                self.blocked.store(0, Ordering::Relaxed);
            }
            Poll::Pending => {
                if self.blocked.load(Ordering::Relaxed) == 0 {
                    self.blocked.store(self.clock.now(), Ordering::Relaxed);
                }
            }
        }
    }

    /// True when the connection should be closed.
    fn is_stale(&self, limits: Limits) -> bool {
        let now = self.clock.now();
        let beyond = |since: &AtomicU32, limit: u32| {
            let since = since.load(Ordering::Relaxed);
            since != 0 && now.saturating_sub(since) > limit
        };
        let answering = self.answering.load(Ordering::Relaxed);
        let arrival = limits.transfer.saturating_add(self.received.load(Ordering::Relaxed) / SLOWEST);
        beyond(&self.blocked, limits.transfer)
            || (!answering && (beyond(&self.receiving, arrival) || beyond(&self.moved, limits.idle)))
    }
}

/// Seconds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub transfer: u32,
    pub idle: u32,
}

/// The open connections.
#[derive(Default)]
pub struct Connections {
    clock: Arc<Clock>,
    open: Mutex<HashMap<u64, Arc<Activity>>>,
}

/// While it lives, the connection's request is being answered.
pub struct Answering(Arc<Entry>);

impl Answering {
    pub fn begin(entry: &Arc<Entry>) -> Answering {
        entry.activity.request_received();
        Answering(Arc::clone(entry))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.activity.answer_ready();
    }
}

/// Takes a connection out of the list when it ends, however it ends.
pub struct Entry {
    connections: Arc<Connections>,
    id: u64,
    pub peer: Option<SocketAddr>,
    pub activity: Arc<Activity>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.open.lock().remove(&self.id);
    }
}

impl Connections {
    /// `None` when `max` are open already.
    pub fn enter(self: &Arc<Connections>, id: u64, max: usize, peer: Option<SocketAddr>) -> Option<Entry> {
        let activity = Arc::new(Activity {
            clock: Arc::clone(&self.clock),
            moved: AtomicU32::new(self.clock.now()),
            receiving: AtomicU32::new(0),
            received: AtomicU32::new(0),
            blocked: AtomicU32::new(0),
            answering: AtomicBool::new(false),
            streaming: AtomicBool::new(false),
            task: Mutex::new(None),
        });
        let mut open = self.open.lock();
        if open.len() >= max {
            return None;
        }
        open.insert(id, Arc::clone(&activity));
        drop(open);
        Some(Entry { connections: Arc::clone(self), id, peer, activity })
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// A second has passed: closes what is stale.
    pub fn tick(&self, limits: Limits) {
        self.clock.0.fetch_add(1, Ordering::Relaxed);
        let stale: Vec<Arc<Activity>> =
            self.open.lock().values().filter(|activity| activity.is_stale(limits)).cloned().collect();
        for activity in stale {
            if let Some(task) = activity.task.lock().take() {
                task.abort();
            }
        }
    }
}

/// Bytes of short answers that are put together.
const TOGETHER: usize = 128 << 10;
/// Bytes of a piece that is not short.
const LARGE: usize = 16 << 10;
/// Answers after which hyper lets other connections have their turn.
const ROUND: usize = 16;
/// How long one connection's answers are put together before others have their turn.
const TURN: Duration = Duration::from_micros(200);
/// Bytes of memory that a connection keeps for them while it is silent.
const KEPT: usize = 32 << 10;

/// The writing side of a connection. What is short waits until the connection has nothing more to do at once: the
/// answers to requests that came together leave together. hyper's `pipeline_flush` does that, too, but lifts its bound
/// on what a client leaves unread, and holds up a streamed answer while requests wait behind it.
struct Outgoing {
    stream: OwnedWriteHalf,
    waiting: Vec<u8>,
    written: usize,
    /// `Cork::serve` writes what waits.
    corked: bool,
    /// Pieces that came to those that wait since the connection was last asked to go on.
    pieces: usize,
}

impl Outgoing {
    fn drain(&mut self, activity: &Activity, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            let outcome = Pin::new(&mut self.stream).poll_write(cx, &self.waiting[self.written..]);
            activity.wrote(&outcome);
            match ready!(outcome)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.written = 0;
        if self.waiting.capacity() > KEPT {
            self.waiting = Vec::new();
        } else {
            self.waiting.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// True for a piece of `length` bytes that is better copied to those that wait than written by itself.
    fn takes(&self, length: usize) -> bool {
        let worth = length < LARGE || !self.waiting.is_empty();
        self.corked && worth && self.waiting.len() + length <= TOGETHER
    }
}

/// Writes what waits in a [`Watched`] stream.
pub struct Cork {
    outgoing: Arc<Mutex<Outgoing>>,
    activity: Arc<Activity>,
}

impl Cork {
    /// Lets a connection do what it can, then writes what waits. Ready when the connection has ended.
    pub fn serve<F: Future>(&self, mut connection: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<()> {
        let mut begun = None;
        loop {
            self.outgoing.lock().pieces = 0;
            let ended = connection.as_mut().poll(cx).is_ready();
            let mut outgoing = self.outgoing.lock();
            // hyper pauses after so many answers although more requests may be there.
            let paused = !ended && outgoing.pieces >= ROUND;
            if paused && begun.get_or_insert_with(Instant::now).elapsed() < TURN {
                continue;
            }
            let broken = matches!(outgoing.drain(&self.activity, cx), Poll::Ready(Err(_)));
            if ended || broken {
                // Whoever has the stream now, a WebSocket, writes at once.
                outgoing.corked = false;
                return Poll::Ready(());
            }
            return Poll::Pending;
        }
    }
}

/// The stream of one connection.
pub struct Watched {
    incoming: OwnedReadHalf,
    outgoing: Arc<Mutex<Outgoing>>,
    activity: Arc<Activity>,
}

impl Watched {
    pub fn new(stream: TcpStream, activity: Arc<Activity>) -> (Watched, Cork) {
        let (incoming, stream) = stream.into_split();
        let outgoing =
            Arc::new(Mutex::new(Outgoing { stream, waiting: Vec::new(), written: 0, corked: true, pieces: 0 }));
        let cork = Cork { outgoing: Arc::clone(&outgoing), activity: Arc::clone(&activity) };
        (Watched { incoming, outgoing, activity }, cork)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.incoming).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read(buf.filled().len() - before);
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut outgoing = self.outgoing.lock();
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if outgoing.takes(length) {
            bufs.iter().for_each(|buf| outgoing.waiting.extend_from_slice(buf));
            outgoing.pieces += 1;
            return Poll::Ready(Ok(length));
        }
        ready!(outgoing.drain(&self.activity, cx))?;
        let outcome = Pin::new(&mut outgoing.stream).poll_write_vectored(cx, bufs);
        self.activity.wrote(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.lock();
        if outgoing.corked {
            return Poll::Ready(Ok(()));
        }
        outgoing.drain(&self.activity, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.lock();
        ready!(outgoing.drain(&self.activity, cx))?;
        Pin::new(&mut outgoing.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { transfer: 10, idle: 100 };

    fn pass(connections: &Connections, seconds: u32) {
        connections.clock.0.fetch_add(seconds, Ordering::Relaxed);
    }

    fn entry() -> (Arc<Connections>, Entry) {
        let connections = Arc::new(Connections::default());
        let entry = connections.enter(1, 1, None).unwrap();
        (connections, entry)
    }

    #[test]
    fn a_request_that_trickles_in_becomes_stale() {
        let (connections, entry) = entry();
        entry.activity.read(1);
        for _ in 0..11 {
            pass(&connections, 1);
            entry.activity.read(1);
        }
        assert!(entry.activity.is_stale(LIMITS));
        entry.activity.request_received();
        assert!(!entry.activity.is_stale(LIMITS));
    }

    #[test]
    fn a_large_request_may_take_its_time_while_it_moves() {
        let (connections, entry) = entry();
        for _ in 0..30 {
            entry.activity.read(2 * SLOWEST as usize);
            pass(&connections, 1);
        }
        assert!(!entry.activity.is_stale(LIMITS));
        pass(&connections, 41);
        assert!(entry.activity.is_stale(LIMITS));
        // The next request starts anew.
        entry.activity.request_received();
        entry.activity.answer_ready();
        entry.activity.read(1);
        pass(&connections, 11);
        assert!(entry.activity.is_stale(LIMITS));
    }

    #[test]
    fn a_silent_connection_becomes_stale_later_and_never_while_answering() {
        let (connections, entry) = entry();
        entry.activity.request_received();
        pass(&connections, 1_000);
        assert!(!entry.activity.is_stale(LIMITS));
        entry.activity.answer_ready();
        pass(&connections, 100);
        assert!(!entry.activity.is_stale(LIMITS));
        pass(&connections, 1);
        assert!(entry.activity.is_stale(LIMITS));
    }

    #[test]
    fn a_request_that_waits_behind_a_long_answer_is_not_late() {
        let (connections, entry) = entry();
        let entry = Arc::new(entry);
        let answering = Answering::begin(&entry);
        // The next request comes while this one is answered.
        entry.activity.read(1);
        pass(&connections, 1_000);
        assert!(!entry.activity.is_stale(LIMITS));
        drop(answering);
        pass(&connections, 10);
        assert!(!entry.activity.is_stale(LIMITS));
        pass(&connections, 1);
        assert!(entry.activity.is_stale(LIMITS));
    }

    #[test]
    fn a_client_that_does_not_read_becomes_stale() {
        let (connections, entry) = entry();
        entry.activity.wrote::<usize>(&Poll::Pending);
        pass(&connections, 11);
        assert!(entry.activity.is_stale(LIMITS));
        entry.activity.wrote(&Poll::Ready(Ok(1usize)));
        assert!(!entry.activity.is_stale(LIMITS));
    }

    #[test]
    fn connections_are_bounded_and_leave_when_dropped() {
        let (connections, entry) = entry();
        assert!(connections.enter(2, 1, None).is_none());
        drop(entry);
        assert_eq!(connections.count(), 0);
        assert!(connections.enter(2, 1, None).is_some());
    }
}
