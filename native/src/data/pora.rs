//! Proof of random access: sealing, scratch pads, the search for an answer and its check.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloy_primitives::U256;

use super::blake2b::{self, Mixed, BLOCK};
use super::keccak::{self, Lanes, LANES};
use super::{invalid, merkle, DataError, Hash, LEAF, SEGMENT, SEGMENT_LEAVES};

/// Bytes of a sealed piece.
pub const SEAL: usize = 4096;
/// Sectors of a sealed piece.
pub const SEAL_SECTORS: u64 = 16;
/// Pieces of a load.
pub const LOAD_SEALS: usize = SEGMENT / SEAL;
/// Bytes of a scratch pad.
pub const PAD: usize = 16384;
/// Longest Merkle proof of a piece.
pub const MAX_PROOF: usize = 64;
const WORD: usize = 32;

fn word(value: u64) -> Hash {
    U256::from(value).to_be_bytes()
}

fn xor(target: &mut [u8], mask: &[u8]) {
    for (byte, mask) in target.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

fn first_mask(miner: &Hash, context: &Hash, position: u64) -> Hash {
    keccak::hash([*miner, *context, word(position)].as_flattened())
}

fn check_pieces(data: &[u8], position: u64) -> Result<(), DataError> {
    if data.is_empty() || !data.len().is_multiple_of(SEAL) {
        return invalid(format!("sealed data comes in pieces of {SEAL} bytes, not {}", data.len()));
    }
    if !position.is_multiple_of(SEAL_SECTORS) || position > 1 << 62 {
        return invalid(format!("a piece starts at a multiple of {SEAL_SECTORS} sectors, not at {position}"));
    }
    Ok(())
}

/// Seals the pieces of `data`, the first of which starts at flow sector `position`.
pub fn seal(data: &mut [u8], miner: &Hash, context: &Hash, position: u64) -> Result<(), DataError> {
    check_pieces(data, position)?;
    for (group, pieces) in data.chunks_mut(SEAL * LANES).enumerate() {
        let start = position + (group * LANES) as u64 * SEAL_SECTORS;
        let mask = |lane: usize| first_mask(miner, context, start + lane as u64 * SEAL_SECTORS);
        if pieces.len() == SEAL * LANES {
            seal_eight(pieces, &std::array::from_fn(mask));
            continue;
        }
        for (lane, piece) in pieces.chunks_exact_mut(SEAL).enumerate() {
            seal_one(piece, mask(lane));
        }
    }
    Ok(())
}

fn seal_one(piece: &mut [u8], mut mask: Hash) {
    for word in piece.chunks_exact_mut(WORD) {
        xor(word, &mask);
        mask = keccak::hash(word);
    }
}

/// The words of a piece are a chain; the eight pieces are independent. The masks stay in lanes.
fn seal_eight(pieces: &mut [u8], first: &[Hash; LANES]) {
    let mut masks = [[0; LANES]; WORD / 8];
    for (lane, mask) in first.iter().enumerate() {
        for (words, bytes) in masks.iter_mut().zip(mask.chunks_exact(8)) {
            words[lane] = little(bytes);
        }
    }
    for at in (0..SEAL).step_by(WORD) {
        let mut lanes = Lanes::zero();
        lanes.0[..WORD / 8].copy_from_slice(&masks);
        for (lane, piece) in pieces.chunks_exact(SEAL).enumerate() {
            for (words, bytes) in lanes.0.iter_mut().zip(piece[at..at + WORD].chunks_exact(8)) {
                words[lane] ^= little(bytes);
            }
        }
        // After all reads: the pieces lie 4 KiB apart, and a read right behind such a write waits for it.
        for (lane, piece) in pieces.chunks_exact_mut(SEAL).enumerate() {
            for (words, bytes) in lanes.0.iter().zip(piece[at..at + WORD].chunks_exact_mut(8)) {
                bytes.copy_from_slice(&words[lane].to_le_bytes());
            }
        }
        lanes.0[WORD / 8] = [1; LANES];
        lanes.0[16] = [1 << 63; LANES];
        lanes.permute();
        masks.copy_from_slice(&lanes.0[..WORD / 8]);
    }
}

/// Undoes [`seal`].
pub fn unseal(data: &mut [u8], miner: &Hash, context: &Hash, position: u64) -> Result<(), DataError> {
    check_pieces(data, position)?;
    let mut masks = [[0; 32]; SEAL / WORD];
    for (index, piece) in data.chunks_exact_mut(SEAL).enumerate() {
        keccak::many(&piece[..SEAL - WORD], WORD, &mut masks[1..]);
        masks[0] = first_mask(miner, context, position + index as u64 * SEAL_SECTORS);
        xor(piece, masks.as_flattened());
    }
    Ok(())
}

/// What is mined: miner, subtask and the range of the flow, its numbers as 256-bit words.
#[derive(Clone)]
pub struct Task {
    pub miner: Hash,
    pub subtask: Hash,
    pub start: u64,
    pub length: u64,
    pub shard_id: u64,
    pub shard_mask: u64,
}

impl Task {
    pub fn check(&self) -> Result<(), DataError> {
        if self.length < SEGMENT_LEAVES as u64 {
            return invalid(format!("a mining range has at least {SEGMENT_LEAVES} sectors, not {}", self.length));
        }
        Ok(())
    }

    fn range_digest(&self) -> Hash {
        let words = [word(self.start), word(self.length), word(self.shard_id), word(self.shard_mask)];
        keccak::hash(words.as_flattened())
    }

    fn pad_seed(&self, nonce: &Hash, range: &Hash) -> [u8; 64] {
        let preimage = [self.miner, *nonce, self.subtask, *range];
        *blake2b_simd::blake2b(preimage.as_flattened()).as_array()
    }

    /// Load of the range that a recall seed points to; it may lie behind the end of the range.
    fn load(&self, recall_seed: &Hash) -> u64 {
        let loads = U256::from(self.length / SEGMENT_LEAVES as u64);
        let offset = (U256::from_be_bytes(*recall_seed) % loads).to::<u64>();
        (offset & self.shard_mask) | self.shard_id
    }
}

/// Scratch pad of one nonce, and the seeds before and after it.
#[derive(Clone)]
pub struct Pad {
    pub pad: Box<[u8]>,
    pub seed: [u8; 64],
    pub recall_seed: Hash,
}

/// Scratch pads of eight nonces, side by side: each pad is a chain of 512 hashes.
fn pads(task: &Task, nonces: &[Hash; LANES]) -> Vec<Pad> {
    let range = task.range_digest();
    let mut pads: Vec<Pad> = nonces
        .iter()
        .map(|nonce| Pad {
            pad: vec![0; PAD].into_boxed_slice(),
            seed: task.pad_seed(nonce, &range),
            recall_seed: [0; 32],
        })
        .collect();
    let mut digest = [[0; LANES]; 8];
    for (lane, pad) in pads.iter().enumerate() {
        for (index, bytes) in pad.seed.chunks_exact(8).enumerate() {
            digest[index][lane] = little(bytes);
        }
    }
    for cell in (0..PAD).step_by(64) {
        let hash = hash_digest(&digest);
        digest[..4].copy_from_slice(&hash);
        let hash = hash_digest(&digest);
        digest[4..].copy_from_slice(&hash);
        for (lane, pad) in pads.iter_mut().enumerate() {
            for (bytes, words) in pad.pad[cell..cell + 64].chunks_exact_mut(8).zip(&digest) {
                bytes.copy_from_slice(&words[lane].to_le_bytes());
            }
        }
    }
    let last = hash_digest(&digest);
    for (lane, pad) in pads.iter_mut().enumerate() {
        for (bytes, words) in pad.recall_seed.chunks_exact_mut(8).zip(&last) {
            bytes.copy_from_slice(&words[lane].to_le_bytes());
        }
    }
    pads
}

fn little(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// keccak-256 of eight 64-byte digests that already lie in lanes.
fn hash_digest(digest: &[[u64; LANES]; 8]) -> [[u64; LANES]; 4] {
    let mut lanes = Lanes::zero();
    lanes.0[..8].copy_from_slice(digest);
    lanes.0[8] = [1; LANES];
    lanes.0[16] = [1 << 63; LANES];
    lanes.permute();
    [lanes.0[0], lanes.0[1], lanes.0[2], lanes.0[3]]
}

/// Scratch pad of one nonce.
pub fn scratch_pad(task: &Task, nonce: &Hash) -> Result<Pad, DataError> {
    task.check()?;
    Ok(pad_of_digest(task.pad_seed(nonce, &task.range_digest())))
}

fn pad_of_digest(seed: [u8; 64]) -> Pad {
    let mut digest = seed;
    let mut pad = Vec::with_capacity(PAD);
    while pad.len() < PAD {
        let hash = keccak::hash(&digest);
        digest[..32].copy_from_slice(&hash);
        let hash = keccak::hash(&digest);
        digest[32..].copy_from_slice(&hash);
        pad.extend(digest);
    }
    Pad { pad: pad.into_boxed_slice(), seed, recall_seed: keccak::hash(&digest) }
}

impl Pad {
    /// What is hashed of piece `offset`.
    fn mix<'a>(&'a self, offset: u64, sealed: &'a [u8]) -> Mixed<'a> {
        let mut head = [0; BLOCK];
        head[..32].copy_from_slice(&word(offset));
        head[32..96].copy_from_slice(&self.seed);
        let mask = &self.pad[offset as usize % (PAD / SEAL) * SEAL..][..SEAL];
        Mixed { head, data: sealed, mask }
    }
}

/// The part of a digest that is compared with the target.
fn pora_hash(digest: &blake2b::Digest) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(&digest[..32]);
    hash
}

/// An answer: iteration, nonce, load within the range, piece within the load, and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    pub iteration: u64,
    pub nonce: Hash,
    pub load: u64,
    pub seal_offset: u64,
    pub hash: Hash,
}

/// From now on the calling thread runs only when no other wants the processor, where the system can do that.
fn use_spare_time() {
    #[cfg(target_os = "linux")]
    {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: `parameters` outlives the call; 0 names the calling thread. A refusal changes nothing.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    }
}

/// A search over `iterations` nonces.
pub struct Search<'a> {
    pub task: Task,
    /// Sealed data: load `i` of the flow lies at `i * 262144`.
    pub sealed: &'a File,
    /// For every load of the range, which of its pieces are there (bit 0: the first).
    pub available: Vec<u64>,
    /// Hashes up to this are hits.
    pub target: Hash,
    pub nonce: Hash,
    pub iterations: u64,
    pub threads: usize,
}

impl Search<'_> {
    /// The hits of the first iteration that has any. `keep_on` is asked between steps.
    pub fn run(&self, keep_on: &(dyn Fn() -> bool + Sync)) -> Result<Vec<Hit>, DataError> {
        self.task.check()?;
        if !self.task.start.is_multiple_of(SEGMENT_LEAVES as u64) || self.task.start > 1 << 61 {
            return invalid(format!("a mining range starts at a segment, not at sector {}", self.task.start));
        }
        let steps = self.iterations.div_ceil(LANES as u64);
        let next = AtomicU64::new(0);
        let best = AtomicU64::new(u64::MAX);
        let stop = AtomicBool::new(false);
        let workers = (self.threads.clamp(1, 256) as u64).min(steps.max(1));
        let work = || -> Result<Vec<Hit>, DataError> {
            let mut buffer = vec![0; SEGMENT];
            loop {
                let step = next.fetch_add(1, Ordering::Relaxed);
                // An earlier iteration wins, so that the result does not depend on the threads.
                if step >= steps || step * LANES as u64 > best.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed) {
                    return Ok(Vec::new());
                }
                if !keep_on() {
                    stop.store(true, Ordering::Relaxed);
                    return Err(DataError::Cancelled);
                }
                let hits = self.step(step * LANES as u64, &mut buffer).inspect_err(|_| {
                    stop.store(true, Ordering::Relaxed);
                })?;
                if let Some(hit) = hits.first() {
                    best.fetch_min(hit.iteration, Ordering::Relaxed);
                    return Ok(hits);
                }
            }
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            // Threads of its own also for one: the caller keeps its priority, and may hold locks that others wait for.
            let threads: Vec<_> = (0..workers)
                .map(|_| {
                    scope.spawn(|| {
                        use_spare_time();
                        work()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        let mut found = Vec::new();
        for outcome in outcomes {
            found.extend(outcome.unwrap_or_else(|_| invalid("a mining thread ended early"))?);
        }
        if let Some(first) = found.iter().map(|hit| hit.iteration).min() {
            found.retain(|hit| hit.iteration == first);
        }
        Ok(found)
    }

    fn nonce(&self, iteration: u64) -> Hash {
        let mut nonce = self.nonce;
        xor(&mut nonce[..8], &iteration.to_le_bytes());
        nonce
    }

    /// Eight iterations.
    fn step(&self, first: u64, buffer: &mut [u8]) -> Result<Vec<Hit>, DataError> {
        let nonces: [Hash; LANES] = std::array::from_fn(|lane| self.nonce(first.wrapping_add(lane as u64)));
        let pads = pads(&self.task, &nonces);
        for (lane, (pad, nonce)) in pads.iter().zip(nonces).enumerate() {
            let iteration = first + lane as u64;
            if iteration >= self.iterations {
                break;
            }
            let hits = self.try_load(pad, iteration, nonce, buffer)?;
            if !hits.is_empty() {
                return Ok(hits);
            }
        }
        Ok(Vec::new())
    }

    fn try_load(&self, pad: &Pad, iteration: u64, nonce: Hash, buffer: &mut [u8]) -> Result<Vec<Hit>, DataError> {
        let load = self.task.load(&pad.recall_seed);
        let in_range = usize::try_from(load).ok().filter(|_| load < self.task.length / SEGMENT_LEAVES as u64);
        let mut mask = in_range.and_then(|load| self.available.get(load)).copied().unwrap_or(0);
        if self.task.start == 0 && load == 0 {
            // Sector 0 is the root of the empty flow, not data.
            mask &= !1;
        }
        if mask == 0 {
            return Ok(Vec::new());
        }
        let base = (self.task.start / SEGMENT_LEAVES as u64 + load) * SEGMENT as u64;
        let low = mask.trailing_zeros() as usize;
        let high = 64 - mask.leading_zeros() as usize;
        let bytes = &mut buffer[low * SEAL..high * SEAL];
        self.sealed
            .read_exact_at(bytes, base + (low * SEAL) as u64)
            .map_err(|failure| DataError::Invalid(format!("sealed load {load} cannot be read: {failure}")))?;
        let offsets: Vec<u64> = (0..LOAD_SEALS as u64).filter(|offset| mask >> offset & 1 == 1).collect();
        let tries: Vec<Mixed<'_>> =
            offsets.iter().map(|offset| pad.mix(*offset, &buffer[*offset as usize * SEAL..][..SEAL])).collect();
        let mut digests = [[0; 64]; LOAD_SEALS];
        blake2b::many(&tries, &mut digests[..tries.len()]);
        let hashes = offsets.iter().zip(digests.iter().map(pora_hash));
        Ok(hashes
            .filter(|(_, hash)| *hash <= self.target)
            .map(|(offset, hash)| Hit { iteration, nonce, load, seal_offset: *offset, hash })
            .collect())
    }
}

/// An answer as it is checked.
pub struct Answer<'a> {
    pub task: Task,
    pub nonce: Hash,
    pub recall_position: u64,
    pub seal_offset: u64,
    pub sealed_context: Hash,
    pub unseal: bool,
    /// 4096 bytes.
    pub sealed: &'a [u8],
    /// Siblings of the piece, bottom to top.
    pub proof: &'a [Hash],
}

/// What an answer amounts to; the caller compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub hash: Hash,
    pub root: Hash,
    pub position: u64,
}

impl Answer<'_> {
    pub fn evaluate(&self) -> Result<Verdict, DataError> {
        self.task.check()?;
        if self.seal_offset >= LOAD_SEALS as u64 {
            return invalid(format!("a load has {LOAD_SEALS} pieces; none is {}", self.seal_offset));
        }
        if self.sealed.len() != SEAL {
            return invalid(format!("a sealed piece has {SEAL} bytes, not {}", self.sealed.len()));
        }
        if self.proof.len() > MAX_PROOF {
            return invalid(format!("a proof has at most {MAX_PROOF} hashes, not {}", self.proof.len()));
        }
        let pad = scratch_pad(&self.task, &self.nonce)?;
        let position = self
            .task
            .load(&pad.recall_seed)
            .checked_mul(SEGMENT_LEAVES as u64)
            .and_then(|sectors| sectors.checked_add(self.task.start))
            .and_then(|sectors| sectors.checked_add(self.seal_offset * SEAL_SECTORS));
        let Some(position) = position else {
            return invalid("the recall position is beyond 64 bits");
        };
        let mut digest = [[0; 64]];
        blake2b::many(&[pad.mix(self.seal_offset, self.sealed)], &mut digest);
        Ok(Verdict { hash: pora_hash(&digest[0]), root: self.recovered_root(), position })
    }

    fn recovered_root(&self) -> Hash {
        let mut raw = self.sealed.to_vec();
        if self.unseal {
            let mut masks = [[0; 32]; SEAL / WORD];
            keccak::many(&self.sealed[..SEAL - WORD], WORD, &mut masks[1..]);
            masks[0] = first_mask(&self.task.miner, &self.sealed_context, self.recall_position);
            xor(&mut raw, masks.as_flattened());
        }
        let mut leaves = [[0; 32]; SEAL / LEAF];
        merkle::leaf_hashes(&raw, &mut leaves);
        let mut node = merkle::fold(&leaves);
        let mut index = self.recall_position / SEAL_SECTORS;
        for sibling in self.proof {
            node = if index.is_multiple_of(2) { keccak::pair(&node, sibling) } else { keccak::pair(sibling, &node) };
            index /= 2;
        }
        node
    }
}
