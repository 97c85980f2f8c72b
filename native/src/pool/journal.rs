//! The pool on disk: an append-only file of what came in and what went out, so that a restart (also after `kill -9`)
//! brings every waiting transaction back, impersonated senders and blob sidecars included.
//!
//! ```text
//! file    = "zerogpool" ‖ format version (1 byte) ‖ record*
//! record  = payload length (u32 LE) ‖ first 8 bytes of keccak256(payload) ‖ payload
//! payload = 1 ‖ flags ‖ sender (20) ‖ hash (32) ‖ raw length (u32 LE) ‖ raw ‖ sidecar fields (RLP)     added
//!         | 2 ‖ hash (32)                                                                              dropped
//! flags   = 1: impersonated sender, 2: a sidecar follows
//! ```
//! Records are handed to the operating system before the sender of a transaction gets its answer; there is no fsync, so
//! a power cut may cut the tail off. Reading stops at the first record that is cut or does not match its checksum, and
//! what follows is overwritten. Mined transactions need no record at once: their nonce is used up.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_eips::eip7594::BlobTransactionSidecarVariant;
use alloy_primitives::map::HashMap;
use alloy_primitives::{keccak256, Address, Bytes, B256};

use super::decode::decode_block_form;
use super::PooledTx;
use crate::primitives::SignedTx;

const MAGIC: &[u8; 10] = b"zerogpool\x01";
const HEAD_LENGTH: usize = 12;
const ADDED: u8 = 1;
const DROPPED: u8 = 2;
const IMPERSONATED: u8 = 1;
const WITH_SIDECAR: u8 = 2;
/// No honest record is longer: it bounds what a damaged length can make us allocate.
const MAX_RECORD: usize = 64 << 20;
/// A file below this is never rewritten.
const COMPACT_FROM: u64 = 1 << 20;
/// Bounds the buffer of a rewrite: a record with six blobs is 0.8 MiB.
const RECORDS_PER_WRITE: usize = 32;

/// A change of the pool that the file has to know.
#[derive(Clone, Debug)]
pub(super) enum Record {
    Add(PooledTx),
    Drop(B256),
}

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole records, header included: where the next one goes.
    length: u64,
    /// Length after the last rewrite.
    base: u64,
    /// A write failed half-way: the file must be cut back to `length` first.
    torn: bool,
}

impl Journal {
    /// Opens or creates the file and reads what is waiting in it, oldest first. Nothing is written to an existing file.
    pub fn open(path: &Path) -> io::Result<(Journal, Vec<PooledTx>)> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let (entries, length) = read_all(&mut file)?;
        let mut journal = Journal { path: path.to_owned(), file, length, base: length, torn: true };
        if length == 0 {
            journal.start_file()?;
        }
        Ok((journal, entries))
    }

    /// Writes records in one call.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(256 * records.len());
        for record in records {
            encode(record, &mut buffer);
        }
        if self.torn {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            self.torn = false;
        }
        self.torn = true;
        self.file.write_all(&buffer)?;
        self.torn = false;
        self.length += buffer.len() as u64;
        Ok(())
    }

    /// True when most of the file may be about transactions that are gone.
    pub fn wants_rewrite(&self) -> bool {
        self.length > COMPACT_FROM && self.length > 2 * self.base
    }

    /// Replaces the file by one with just these transactions; a crash leaves the old or the new one.
    pub fn rewrite(&mut self, pooled: Vec<PooledTx>) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let fresh = PathBuf::from(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh)?;
        let mut next = Journal { path: fresh, file, length: 0, base: 0, torn: true };
        next.start_file()?;
        let records: Vec<Record> = pooled.into_iter().map(Record::Add).collect();
        for part in records.chunks(RECORDS_PER_WRITE) {
            next.append(part)?;
        }
        std::fs::rename(&next.path, &self.path)?;
        (self.file, self.length, self.base, self.torn) = (next.file, next.length, next.length, false);
        Ok(())
    }

    /// Waits until the file is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_file(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(MAGIC)?;
        (self.length, self.base, self.torn) = (MAGIC.len() as u64, MAGIC.len() as u64, false);
        Ok(())
    }
}

/// The waiting transactions and the length of the readable part; 0 for a file without a whole header.
fn read_all(file: &mut File) -> io::Result<(Vec<PooledTx>, u64)> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut magic = [0u8; MAGIC.len()];
    let got = read_up_to(&mut reader, &mut magic)?;
    if magic[..got] != MAGIC[..got] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a transaction pool journal of format 1"));
    }
    if got < MAGIC.len() {
        return Ok((Vec::new(), 0));
    }
    let mut length = MAGIC.len() as u64;
    let mut order: u64 = 0;
    let mut waiting: HashMap<B256, (u64, PooledTx)> = HashMap::default();
    while let Some(payload) = read_record(&mut reader)? {
        length += (HEAD_LENGTH + payload.len()) as u64;
        order += 1;
        match decode(&payload) {
            Some(Record::Add(pooled)) => drop(waiting.insert(pooled.tx.hash, (order, pooled))),
            Some(Record::Drop(hash)) => drop(waiting.remove(&hash)),
            None => {}
        }
    }
    let mut entries: Vec<(u64, PooledTx)> = waiting.into_values().collect();
    entries.sort_unstable_by_key(|(order, _)| *order);
    Ok((entries.into_iter().map(|(_, pooled)| pooled).collect(), length))
}

/// The next whole and undamaged payload; `None` at the end of the readable part.
fn read_record(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0u8; HEAD_LENGTH];
    if read_up_to(reader, &mut head)? < HEAD_LENGTH {
        return Ok(None);
    }
    let (length, sum) = head.split_at(4);
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if length > MAX_RECORD {
        return Ok(None);
    }
    let mut payload = Vec::new();
    // `take` grows the buffer with what is there, so that a damaged length allocates nothing.
    if reader.take(length as u64).read_to_end(&mut payload)? < length || checksum(&payload) != sum {
        return Ok(None);
    }
    Ok(Some(payload))
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn checksum(payload: &[u8]) -> [u8; 8] {
    let digest = keccak256(payload);
    let mut short = [0u8; 8];
    short.copy_from_slice(&digest[..8]);
    short
}

fn encode(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0u8; HEAD_LENGTH]);
    match record {
        Record::Drop(hash) => {
            out.push(DROPPED);
            out.extend_from_slice(hash.as_slice());
        }
        Record::Add(PooledTx { tx, sidecar }) => {
            let flags =
                if tx.impersonated { IMPERSONATED } else { 0 } | if sidecar.is_some() { WITH_SIDECAR } else { 0 };
            out.extend_from_slice(&[ADDED, flags]);
            out.extend_from_slice(tx.sender.as_slice());
            out.extend_from_slice(tx.hash.as_slice());
            out.extend_from_slice(&(tx.raw.len() as u32).to_le_bytes());
            out.extend_from_slice(&tx.raw);
            if let Some(sidecar) = sidecar {
                sidecar.rlp_encode_fields(out);
            }
        }
    }
    let payload = start + HEAD_LENGTH;
    let length = ((out.len() - payload) as u32).to_le_bytes();
    let sum = checksum(&out[payload..]);
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..payload].copy_from_slice(&sum);
}

/// `None` for a payload that this version cannot read: it is skipped.
fn decode(payload: &[u8]) -> Option<Record> {
    let (kind, rest) = payload.split_first()?;
    match *kind {
        DROPPED => Some(Record::Drop(B256::try_from(rest).ok()?)),
        ADDED => decode_added(rest).map(Record::Add),
        _ => None,
    }
}

fn decode_added(payload: &[u8]) -> Option<PooledTx> {
    let (flags, rest) = payload.split_first()?;
    let (sender, rest) = rest.split_at_checked(Address::len_bytes())?;
    let (hash, rest) = rest.split_at_checked(B256::len_bytes())?;
    let (length, rest) = rest.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let (raw, mut rest) = rest.split_at_checked(length)?;
    let sidecar = match flags & WITH_SIDECAR {
        0 => None,
        _ => Some(Arc::new(BlobTransactionSidecarVariant::rlp_decode_fields(&mut rest).ok()?)),
    };
    if !rest.is_empty() {
        return None;
    }
    let tx = SignedTx {
        tx: decode_block_form(raw)?,
        sender: Address::from_slice(sender),
        hash: B256::from_slice(hash),
        raw: Bytes::copy_from_slice(raw),
        impersonated: flags & IMPERSONATED != 0,
    };
    Some(PooledTx { tx: Arc::new(tx), sidecar })
}
