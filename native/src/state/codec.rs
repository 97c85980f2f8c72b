//! Binary records of the tables. Small integers are LEB128, amounts are big-endian without leading zeros,
//! constants that most records would repeat (empty code hash, empty storage root, empty bloom) are flags.
//! Golden bytes in the tests below pin every format: changing one needs a new format version.

use alloy_consensus::Header;
use alloy_eips::eip2718::Decodable2718;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{LogData, KECCAK256_EMPTY};
use alloy_rlp::{Decodable, Encodable};
use alloy_trie::EMPTY_ROOT_HASH;

use super::tables::u64_at;
use super::TxLocation;
use crate::primitives::*;

/// A record that does not decode: the data directory is damaged or was written by something else.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl From<Malformed> for ReadError {
    fn from(malformed: Malformed) -> ReadError {
        ReadError::Store(format!("malformed {} record", malformed.0))
    }
}

/// Takes values off the front of a record.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Reader<'a> {
        Reader { rest: bytes, what }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.rest.split_at_checked(count).ok_or(Malformed(self.what))?;
        self.rest = rest;
        Ok(front)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| Malformed(self.what))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn varint(&mut self) -> Result<u128, Malformed> {
        let mut value = 0u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed(self.what))
    }

    pub(super) fn varint64(&mut self) -> Result<u64, Malformed> {
        u64::try_from(self.varint()?).map_err(|_| Malformed(self.what))
    }

    pub(super) fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.varint()?).map_err(|_| Malformed(self.what))
    }

    pub(super) fn hash(&mut self) -> Result<B256, Malformed> {
        Ok(B256::from(self.array::<32>()?))
    }

    pub(super) fn address(&mut self) -> Result<Address, Malformed> {
        Ok(Address::from(self.array::<20>()?))
    }

    pub(super) fn rlp<T: Decodable>(&mut self) -> Result<T, Malformed> {
        T::decode(&mut self.rest).map_err(|_| Malformed(self.what))
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed(self.what))
        }
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// An account as it lies in the flat state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccountRecord {
    pub(super) info: AccountInfo,
    pub(super) storage_root: B256,
}

const HAS_CODE: u8 = 1;
const HAS_STORAGE: u8 = 2;

impl AccountRecord {
    /// flags ‖ nonce ‖ length of balance ‖ balance ‖ code hash, if any ‖ storage root, if any.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let has_code = self.info.code_hash != KECCAK256_EMPTY;
        let has_storage = self.storage_root != EMPTY_ROOT_HASH;
        out.push(if has_code { HAS_CODE } else { 0 } | if has_storage { HAS_STORAGE } else { 0 });
        put_varint(out, u128::from(self.info.nonce));
        let balance = self.info.balance.to_be_bytes::<32>();
        let length = self.info.balance.byte_len();
        out.push(length as u8);
        out.extend_from_slice(&balance[32 - length..]);
        if has_code {
            out.extend_from_slice(self.info.code_hash.as_slice());
        }
        if has_storage {
            out.extend_from_slice(self.storage_root.as_slice());
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<AccountRecord, Malformed> {
        let mut reader = Reader::new(bytes, "account");
        let flags = reader.byte()?;
        let nonce = reader.varint64()?;
        let length = usize::from(reader.byte()?);
        let balance = decode_value(reader.take(length)?)?;
        let code_hash = if flags & HAS_CODE != 0 { reader.hash()? } else { KECCAK256_EMPTY };
        let storage_root = if flags & HAS_STORAGE != 0 { reader.hash()? } else { EMPTY_ROOT_HASH };
        reader.finish()?;
        Ok(AccountRecord { info: AccountInfo { nonce, balance, code_hash }, storage_root })
    }

    /// An empty record of the history stands for an absent account.
    pub(super) fn decode_optional(bytes: &[u8]) -> Result<Option<AccountRecord>, Malformed> {
        if bytes.is_empty() {
            return Ok(None);
        }
        AccountRecord::decode(bytes).map(Some)
    }
}

/// A slot value without leading zeros; zero is empty.
pub(super) fn encode_value(value: &U256) -> ([u8; 32], usize) {
    (value.to_be_bytes::<32>(), 32 - value.byte_len())
}

pub(super) fn decode_value(bytes: &[u8]) -> Result<U256, Malformed> {
    if bytes.len() > 32 {
        return Err(Malformed("slot"));
    }
    Ok(U256::from_be_slice(bytes))
}

/// block hash ‖ RLP header.
pub(super) fn encode_header(hash: &B256, header: &Header) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + header.length());
    out.extend_from_slice(hash.as_slice());
    header.encode(&mut out);
    out
}

pub(super) fn decode_header(bytes: &[u8]) -> Result<(B256, Header), Malformed> {
    let mut reader = Reader::new(bytes, "header");
    let hash = reader.hash()?;
    let header = reader.rlp()?;
    reader.finish()?;
    Ok((hash, header))
}

pub(super) fn decode_header_hash(bytes: &[u8]) -> Result<B256, Malformed> {
    Reader::new(bytes, "header").hash()
}

/// What a block has beside its header, transactions and receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BodyRecord {
    pub(super) transactions: u32,
    pub(super) ommers: Vec<Header>,
    pub(super) withdrawals: Option<Vec<Withdrawal>>,
    pub(super) requests: Vec<Bytes>,
}

impl BodyRecord {
    /// transaction count ‖ flag: has withdrawals ‖ RLP lists: ommers, withdrawals if any, requests.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, u128::from(self.transactions));
        out.push(u8::from(self.withdrawals.is_some()));
        self.ommers.encode(&mut out);
        if let Some(withdrawals) = &self.withdrawals {
            withdrawals.encode(&mut out);
        }
        self.requests.encode(&mut out);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<BodyRecord, Malformed> {
        let mut reader = Reader::new(bytes, "body");
        let transactions = u32::try_from(reader.varint()?).map_err(|_| Malformed("body"))?;
        let has_withdrawals = reader.byte()? != 0;
        let ommers = reader.rlp()?;
        let withdrawals = if has_withdrawals { Some(reader.rlp()?) } else { None };
        let requests = reader.rlp()?;
        reader.finish()?;
        Ok(BodyRecord { transactions, ommers, withdrawals, requests })
    }

    pub(super) fn decode_count(bytes: &[u8]) -> Result<u32, Malformed> {
        u32::try_from(Reader::new(bytes, "body").varint()?).map_err(|_| Malformed("body"))
    }
}

/// flag: impersonated ‖ sender ‖ hash ‖ EIP-2718 encoding.
pub(super) fn encode_transaction(tx: &SignedTx, out: &mut Vec<u8>) {
    out.push(u8::from(tx.impersonated));
    out.extend_from_slice(tx.sender.as_slice());
    out.extend_from_slice(tx.hash.as_slice());
    out.extend_from_slice(&tx.raw);
}

pub(super) fn decode_transaction(bytes: &[u8]) -> Result<SignedTx, Malformed> {
    let mut reader = Reader::new(bytes, "transaction");
    let impersonated = reader.byte()? != 0;
    let sender = reader.address()?;
    let hash = reader.hash()?;
    let raw = reader.rest();
    let mut rest = raw;
    let tx = Transaction::decode_2718(&mut rest).map_err(|_| Malformed("transaction"))?;
    Reader::new(rest, "transaction").finish()?;
    Ok(SignedTx { tx, sender, hash, raw: Bytes::copy_from_slice(raw), impersonated })
}

/// The hash inside a transaction record.
pub(super) fn decode_transaction_hash(bytes: &[u8]) -> Result<B256, Malformed> {
    let mut reader = Reader::new(bytes, "transaction");
    reader.take(21)?;
    reader.hash()
}

const SUCCESS: u8 = 1;
const POST_STATE: u8 = 2;
const CREATED: u8 = 4;
const DENSE_BLOOM: u8 = 8;

/// flags ‖ type ‖ cumulative gas ‖ gas ‖ price ‖ index of the first log ‖ post state, if any ‖ created
/// address, if any ‖ bloom ‖ log count ‖ logs. A bloom is a count and that many bit positions (2 bytes
/// each), or all 256 bytes where that is shorter.
pub(super) fn encode_receipt(receipt: &Receipt, first_log: u64, out: &mut Vec<u8>) {
    let bits = receipt.bloom.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
    let dense = bits > 127;
    let mut flags = if dense { DENSE_BLOOM } else { 0 };
    match receipt.outcome {
        ReceiptOutcome::Status(true) => flags |= SUCCESS,
        ReceiptOutcome::Status(false) => {}
        ReceiptOutcome::PostState(_) => flags |= POST_STATE,
    }
    if receipt.contract_address.is_some() {
        flags |= CREATED;
    }
    out.push(flags);
    out.push(receipt.tx_type);
    put_varint(out, u128::from(receipt.cumulative_gas_used));
    put_varint(out, u128::from(receipt.gas_used));
    put_varint(out, receipt.effective_gas_price);
    put_varint(out, u128::from(first_log));
    if let ReceiptOutcome::PostState(root) = receipt.outcome {
        out.extend_from_slice(root.as_slice());
    }
    if let Some(address) = receipt.contract_address {
        out.extend_from_slice(address.as_slice());
    }
    if dense {
        out.extend_from_slice(receipt.bloom.as_slice());
    } else {
        out.push(bits as u8);
        encode_bloom_bits(&receipt.bloom, bits, out);
    }
    put_varint(out, receipt.logs.len() as u128);
    for log in &receipt.logs {
        out.extend_from_slice(log.address.as_slice());
        out.push(log.topics().len() as u8);
        for topic in log.topics() {
            out.extend_from_slice(topic.as_slice());
        }
        put_varint(out, log.data.data.len() as u128);
        out.extend_from_slice(&log.data.data);
    }
}

fn encode_bloom_bits(bloom: &Bloom, bits: usize, out: &mut Vec<u8>) {
    if bits == 0 {
        return;
    }
    for (index, byte) in bloom.iter().enumerate() {
        for bit in 0..8u16 {
            if byte & 1 << bit != 0 {
                out.extend_from_slice(&(index as u16 * 8 + bit).to_be_bytes());
            }
        }
    }
}

fn decode_bloom(reader: &mut Reader<'_>, dense: bool) -> Result<Bloom, Malformed> {
    if dense {
        return Ok(Bloom::from(reader.array::<256>()?));
    }
    let mut bloom = [0u8; 256];
    for _ in 0..reader.byte()? {
        let position = usize::from(u16::from_be_bytes(reader.array()?));
        *bloom.get_mut(position / 8).ok_or(Malformed("receipt"))? |= 1 << (position % 8);
    }
    Ok(Bloom::from(bloom))
}

/// The receipt and the index of its first log within the block.
pub(super) fn decode_receipt(bytes: &[u8]) -> Result<(Receipt, u64), Malformed> {
    let mut reader = Reader::new(bytes, "receipt");
    let flags = reader.byte()?;
    let tx_type = reader.byte()?;
    let cumulative_gas_used = reader.varint64()?;
    let gas_used = reader.varint64()?;
    let effective_gas_price = reader.varint()?;
    let first_log = reader.varint64()?;
    let outcome = if flags & POST_STATE != 0 {
        ReceiptOutcome::PostState(reader.hash()?)
    } else {
        ReceiptOutcome::Status(flags & SUCCESS != 0)
    };
    let contract_address = if flags & CREATED != 0 { Some(reader.address()?) } else { None };
    let bloom = decode_bloom(&mut reader, flags & DENSE_BLOOM != 0)?;
    let count = reader.length()?;
    let mut logs = Vec::new();
    for _ in 0..count {
        let address = reader.address()?;
        let topics = (0..reader.byte()?).map(|_| reader.hash()).collect::<Result<Vec<_>, _>>()?;
        let length = reader.length()?;
        let data = LogData::new(topics, Bytes::copy_from_slice(reader.take(length)?));
        logs.push(Log { address, data: data.ok_or(Malformed("receipt"))? });
    }
    reader.finish()?;
    let receipt =
        Receipt { tx_type, outcome, cumulative_gas_used, logs, bloom, gas_used, effective_gas_price, contract_address };
    Ok((receipt, first_log))
}

/// number ‖ index of a transaction.
pub(super) fn encode_location(at: TxLocation) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&at.block.to_be_bytes());
    out[8..].copy_from_slice(&at.index.to_be_bytes());
    out
}

/// `None` for the row of a block hash.
pub(super) fn decode_location(bytes: &[u8]) -> Option<TxLocation> {
    let bytes: &[u8; 12] = bytes.try_into().ok()?;
    let (block, index) = bytes.split_at(8);
    Some(TxLocation { block: u64_at(block, 0), index: u32::from_be_bytes(index.try_into().ok()?) })
}

/// Where the chain stands: the value of `head` in the meta table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadRecord {
    pub(super) number: u64,
    pub(super) hash: B256,
    pub(super) state_root: B256,
    pub(super) version: u64,
    /// The oldest block whose state is kept.
    pub(super) oldest: u64,
}

impl HeadRecord {
    pub(super) fn encode(&self) -> [u8; 88] {
        let mut out = [0; 88];
        out[..8].copy_from_slice(&self.number.to_be_bytes());
        out[8..40].copy_from_slice(self.hash.as_slice());
        out[40..72].copy_from_slice(self.state_root.as_slice());
        out[72..80].copy_from_slice(&self.version.to_be_bytes());
        out[80..].copy_from_slice(&self.oldest.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<HeadRecord, Malformed> {
        let mut reader = Reader::new(bytes, "head");
        let number = u64::from_be_bytes(reader.array()?);
        let hash = reader.hash()?;
        let state_root = reader.hash()?;
        let version = u64::from_be_bytes(reader.array()?);
        let oldest = u64::from_be_bytes(reader.array()?);
        reader.finish()?;
        Ok(HeadRecord { number, hash, state_root, version, oldest })
    }
}

/// What a version is and what it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChangesRecord {
    /// A devnet edit of the block's state, not the block itself.
    pub(super) edit: bool,
    /// State root after the version.
    pub(super) root: B256,
    /// Changed accounts with their changed slots, in order.
    pub(super) accounts: Vec<(Address, Vec<U256>)>,
}

impl ChangesRecord {
    /// flag: edit ‖ root ‖ account count ‖ for each: address, slot count, slots.
    pub(super) fn encode(&self) -> Vec<u8> {
        let slots = self.accounts.iter().map(|(_, slots)| slots.len()).sum::<usize>();
        let mut out = Vec::with_capacity(40 + self.accounts.len() * 22 + slots * 32);
        out.push(u8::from(self.edit));
        out.extend_from_slice(self.root.as_slice());
        put_varint(&mut out, self.accounts.len() as u128);
        for (address, slots) in &self.accounts {
            out.extend_from_slice(address.as_slice());
            put_varint(&mut out, slots.len() as u128);
            for slot in slots {
                out.extend_from_slice(&slot.to_be_bytes::<32>());
            }
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<ChangesRecord, Malformed> {
        let mut reader = Reader::new(bytes, "changes");
        let edit = reader.byte()? != 0;
        let root = reader.hash()?;
        let count = reader.length()?;
        let mut accounts = Vec::new();
        for _ in 0..count {
            let address = reader.address()?;
            let slots = reader.length()?;
            let slots = (0..slots).map(|_| reader.array().map(U256::from_be_bytes::<32>)).collect::<Result<_, _>>()?;
            accounts.push((address, slots));
        }
        reader.finish()?;
        Ok(ChangesRecord { edit, root, accounts })
    }
}
