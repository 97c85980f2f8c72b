//! The tree of a whole file: segment roots, submission nodes, proofs. Only the roots are kept, 64 bytes a segment.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::merkle::{self, leaf_hashes, padded_leaves, Proof};
use super::{invalid, DataError, Hash, MAX_FILE_SIZE, SEGMENT, SEGMENT_HEIGHT, SEGMENT_LEAVES};

/// Segments that are read at a time.
const BLOCK_SEGMENTS: u64 = 8;
/// How often a caller hears of a slow disk, so that it can cancel.
const TICK: Duration = Duration::from_millis(100);

/// Lengths that follow from the size of a file.
#[derive(Clone, Copy)]
struct Shape {
    size: u64,
    padded: u64,
}

impl Shape {
    fn new(size: u64) -> Result<Shape, DataError> {
        if !(1..=MAX_FILE_SIZE).contains(&size) {
            return invalid(format!("a file has from 1 to {MAX_FILE_SIZE} bytes, not {size}"));
        }
        Ok(Shape { size, padded: padded_leaves(size) })
    }

    /// Segments with data.
    fn segments(&self) -> u64 {
        self.size.div_ceil(SEGMENT as u64)
    }

    fn padded_segments(&self) -> u64 {
        self.padded.div_ceil(SEGMENT_LEAVES as u64)
    }

    /// Leaves of a segment in the padded file.
    fn leaves(&self, segment: u64) -> usize {
        (self.padded - segment * SEGMENT_LEAVES as u64).min(SEGMENT_LEAVES as u64) as usize
    }

    /// Root of a segment; the hashes of its leaves too if it is shorter than the others.
    fn hash(&self, segment: u64, data: &[u8]) -> (Hash, Option<Vec<Hash>>) {
        let mut hashes = vec![[0; 32]; self.leaves(segment)];
        leaf_hashes(data, &mut hashes);
        let root = merkle::fold(&hashes);
        (root, (hashes.len() < SEGMENT_LEAVES).then_some(hashes))
    }
}

/// The tree of one file.
pub struct FileTree {
    shape: Shape,
    levels: Vec<Vec<Hash>>,
    /// Leaves of the last segment of the padded file, if it is not a full one.
    tail: Vec<Hash>,
}

impl FileTree {
    /// From the roots of the segments with data.
    fn assemble(shape: Shape, mut roots: Vec<Hash>, tail: Option<Vec<Hash>>) -> FileTree {
        let mut tail = tail.unwrap_or_default();
        for segment in roots.len() as u64..shape.padded_segments() {
            let (root, leaves) = shape.hash(segment, &[]);
            roots.push(root);
            tail = leaves.unwrap_or_default();
        }
        FileTree { shape, levels: merkle::levels(roots), tail }
    }

    pub fn from_bytes(data: &[u8]) -> Result<FileTree, DataError> {
        use rayon::prelude::*;
        let shape = Shape::new(data.len() as u64)?;
        let hashed: Vec<_> =
            data.par_chunks(SEGMENT).enumerate().map(|(index, bytes)| shape.hash(index as u64, bytes)).collect();
        let tail = hashed.last().and_then(|(_, leaves)| leaves.clone());
        Ok(FileTree::assemble(shape, hashed.into_iter().map(|(root, _)| root).collect(), tail))
    }

    /// Streams `length` bytes of a file from `offset` on (to its end if there is no length) through `threads` threads
    /// (0: as many as there are processors). `progress` hears the bytes done and ends the work by answering false.
    pub fn from_file(
        path: &Path,
        offset: u64,
        length: Option<u64>,
        threads: usize,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<FileTree, DataError> {
        let failed = |failure: std::io::Error| DataError::Invalid(format!("{}: {failure}", path.display()));
        let file = File::open(path).map_err(failed)?;
        let on_disk = file.metadata().map_err(failed)?.len();
        let Some(rest) = on_disk.checked_sub(offset) else {
            return invalid(format!("{}: offset {offset} lies behind its {on_disk} bytes", path.display()));
        };
        let size = length.unwrap_or(rest);
        if size > rest {
            return invalid(format!("{}: {size} bytes from {offset} on, but it has {on_disk}", path.display()));
        }
        let shape = Shape::new(size)?;
        let blocks = shape.segments().div_ceil(BLOCK_SEGMENTS);
        let wanted = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
        let workers = wanted.min(256).min(blocks as usize);

        let job = Job {
            shape,
            file: &file,
            offset,
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            roots: Mutex::new(vec![[0; 32]; shape.segments() as usize]),
            tail: Mutex::new(None),
        };
        let (done, reports) = crossbeam_channel::bounded(workers * 2);
        let outcome = std::thread::scope(|scope| {
            for _ in 0..workers {
                let (job, done) = (&job, done.clone());
                scope.spawn(move || job.work(&done));
            }
            drop(done);
            let mut total = 0;
            let outcome = loop {
                match reports.recv_timeout(TICK) {
                    Ok(Ok(bytes)) => total += bytes,
                    Ok(Err(failure)) => break Err(failed(failure)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break Ok(total),
                }
                if !progress(total) {
                    break Err(DataError::Cancelled);
                }
            };
            job.stop.store(true, Ordering::Relaxed);
            // A worker that waits to report must not wait for ever.
            drop(reports);
            outcome
        })?;
        if outcome != size {
            return invalid(format!("{}: a thread that hashes it ended early", path.display()));
        }
        let (roots, tail) = (job.roots.into_inner(), job.tail.into_inner());
        match (roots, tail) {
            (Ok(roots), Ok(tail)) => Ok(FileTree::assemble(shape, roots, tail)),
            _ => invalid(format!("{}: a thread that hashes it ended early", path.display())),
        }
    }

    pub fn size(&self) -> u64 {
        self.shape.size
    }

    pub fn root(&self) -> Hash {
        self.levels[self.levels.len() - 1][0]
    }

    /// Roots of the segments of the padded file.
    pub fn segment_roots(&self) -> &[Hash] {
        &self.levels[0]
    }

    /// The submission nodes: root and height of the perfect subtrees, largest first.
    pub fn nodes(&self) -> Vec<(Hash, u32)> {
        let mut nodes = Vec::new();
        let mut position = 0;
        let mut height = self.shape.padded.ilog2();
        loop {
            let rest = self.shape.padded - position;
            if rest >= 1 << height {
                nodes.push((self.node(position, height as usize), height));
                position += 1 << height;
            }
            if position == self.shape.padded {
                return nodes;
            }
            height -= 1;
        }
    }

    /// Root of the perfect subtree of `height` at leaf `position`, which is aligned to it.
    fn node(&self, position: u64, height: usize) -> Hash {
        if height >= SEGMENT_HEIGHT {
            return self.levels[height - SEGMENT_HEIGHT][(position >> height) as usize];
        }
        let first = (position % SEGMENT_LEAVES as u64) as usize;
        merkle::fold(&self.tail[first..first + (1 << height)])
    }

    pub fn proof(&self, index: u64) -> Result<Proof, DataError> {
        merkle::proof(&self.levels, usize::try_from(index).unwrap_or(usize::MAX))
    }
}

/// What the threads over one file share.
struct Job<'a> {
    shape: Shape,
    file: &'a File,
    offset: u64,
    next: AtomicU64,
    stop: AtomicBool,
    roots: Mutex<Vec<Hash>>,
    tail: Mutex<Option<Vec<Hash>>>,
}

impl Job<'_> {
    fn work(&self, done: &crossbeam_channel::Sender<std::io::Result<u64>>) {
        let most = (BLOCK_SEGMENTS * SEGMENT as u64).min(self.shape.size);
        let mut buffer = vec![0; most as usize];
        while !self.stop.load(Ordering::Relaxed) {
            let first = self.next.fetch_add(1, Ordering::Relaxed) * BLOCK_SEGMENTS;
            if first >= self.shape.segments() {
                return;
            }
            let start = first * SEGMENT as u64;
            let length = most.min(self.shape.size - start) as usize;
            let bytes = &mut buffer[..length];
            let report = self.file.read_exact_at(bytes, self.offset + start).map(|()| length as u64);
            if report.is_ok() {
                self.hash(first, bytes);
            }
            let failed = report.is_err();
            if done.send(report).is_err() || failed {
                return;
            }
        }
    }

    fn hash(&self, first: u64, bytes: &[u8]) {
        let mut found = Vec::with_capacity(BLOCK_SEGMENTS as usize);
        for (index, data) in bytes.chunks(SEGMENT).enumerate() {
            let (root, leaves) = self.shape.hash(first + index as u64, data);
            found.push(root);
            if leaves.is_some() {
                if let Ok(mut tail) = self.tail.lock() {
                    *tail = leaves;
                }
            }
        }
        // The lock is poisoned only if a thread panicked, and then the whole result is refused.
        if let Ok(mut roots) = self.roots.lock() {
            roots[first as usize..first as usize + found.len()].copy_from_slice(&found);
        }
    }
}

/// Builds a [`FileTree`] out of a stream of bytes.
pub struct FileTreeBuilder {
    shape: Shape,
    received: u64,
    pending: Vec<u8>,
    roots: Vec<Hash>,
    tail: Option<Vec<Hash>>,
}

impl FileTreeBuilder {
    pub fn new(size: u64) -> Result<FileTreeBuilder, DataError> {
        let shape = Shape::new(size)?;
        Ok(FileTreeBuilder { shape, received: 0, pending: Vec::new(), roots: Vec::new(), tail: None })
    }

    pub fn update(&mut self, mut data: &[u8]) -> Result<(), DataError> {
        if data.len() as u64 > self.shape.size - self.received {
            return invalid(format!(
                "{} bytes after {} are more than the {} announced",
                data.len(),
                self.received,
                self.shape.size
            ));
        }
        self.received += data.len() as u64;
        if !self.pending.is_empty() {
            let taken = data.len().min(SEGMENT - self.pending.len());
            self.pending.extend_from_slice(&data[..taken]);
            data = &data[taken..];
            if self.pending.len() == SEGMENT {
                let full = std::mem::take(&mut self.pending);
                self.push(&full);
                self.pending = full;
                self.pending.clear();
            }
        }
        let mut segments = data.chunks_exact(SEGMENT);
        for segment in segments.by_ref() {
            self.push(segment);
        }
        self.pending.extend_from_slice(segments.remainder());
        Ok(())
    }

    fn push(&mut self, data: &[u8]) {
        let (root, leaves) = self.shape.hash(self.roots.len() as u64, data);
        self.roots.push(root);
        self.tail = leaves;
    }

    pub fn finish(mut self) -> Result<FileTree, DataError> {
        if self.received != self.shape.size {
            return invalid(format!("{} of {} bytes came", self.received, self.shape.size));
        }
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.push(&rest);
        }
        Ok(FileTree::assemble(self.shape, self.roots, self.tail))
    }
}
