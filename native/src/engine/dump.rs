//! The state as a file, read and written as a stream.
//!
//! JSON lines: a heading, one account per line in address order, a closing line with their number.
//!
//! ```text
//! {"format":"zerog-state","version":1,"chainId":31337,"number":7,"hash":"0x…","stateRoot":"0x…","timestamp":…,"baseFee":…}
//! {"address":"0x…","nonce":1,"balance":"0x…","code":"0x…","storage":{"0x…":"0x…"}}
//! {"accounts":1}
//! ```
//!
//! Loading checks the whole file before it changes anything. A chain that is shorter than the dumped one
//! first grows by empty blocks to the same number and time, because contracts remember both; then each account
//! of the file replaces the present one (others stay), as edits of the head. A load that is cut short is
//! undone, at the latest when the store is opened again.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Seek, Write};
use std::sync::Arc;

use alloy_primitives::{keccak256, KECCAK256_EMPTY};
use serde::{Deserialize, Serialize};

use super::overlay::Overlay;
use super::{Engine, EngineError};
use crate::execution::build_block;
use crate::primitives::*;
use crate::state::Store;

const FORMAT: &str = "zerog-state";
const VERSION: u32 = 1;
/// A longer line is refused; room for an account with about 400,000 slots.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// Accounts and slots that go into one commit.
const BATCH_ENTRIES: usize = 20_000;
/// Empty blocks that a load may add to reach the number of the dump, and how many go into one commit.
const MAX_ADVANCE: u64 = 1_000_000;
const ADVANCE_BATCH: u64 = 256;
/// Holds the version to go back to while a load is under way.
const LOADING_KEY: &str = "loading";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Heading {
    format: String,
    version: u32,
    chain_id: u64,
    number: u64,
    hash: B256,
    state_root: B256,
    #[serde(default)]
    timestamp: Option<u64>,
    #[serde(default)]
    base_fee: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountLine {
    address: Address,
    nonce: u64,
    balance: U256,
    #[serde(default)]
    code: Bytes,
    #[serde(default)]
    storage: BTreeMap<U256, U256>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    accounts: u64,
}

/// Undoes a load that the process did not survive.
pub(super) fn undo_interrupted_load(store: &Store) -> Result<(), EngineError> {
    let Some(view) = store.view()? else {
        return Ok(());
    };
    let Some(value) = view.meta(LOADING_KEY)? else {
        return Ok(());
    };
    let head = view.head().version;
    drop(view);
    let bytes: [u8; 8] = value
        .as_slice()
        .try_into()
        .map_err(|_| EngineError::Other("the mark of an interrupted load is damaged".into()))?;
    let version = u64::from_be_bytes(bytes);
    if version < head {
        store.revert_to(version)?;
    }
    Ok(store.put_meta(LOADING_KEY, None)?)
}

impl Engine {
    /// Writes the state that holds now.
    pub fn dump_state(&self, out: &mut dyn Write) -> Result<(), EngineError> {
        let failed = |error: &dyn std::fmt::Display| EngineError::Other(format!("the dump cannot be written: {error}"));
        let view = self.view()?;
        let head = view.head();
        let mut line = |value: &dyn ErasedLine| value.write(out).map_err(|error| failed(&error));
        line(&Heading {
            format: FORMAT.into(),
            version: VERSION,
            chain_id: self.spec.chain_id,
            number: head.header.number,
            hash: head.hash,
            state_root: head.state_root,
            timestamp: Some(head.header.timestamp),
            base_fee: head.header.base_fee_per_gas,
        })?;
        let latest = view.latest();
        let (mut accounts, mut failure) = (0u64, None);
        view.for_each_account(&mut |address, info, slots| {
            let code = match code_of(&latest, &info) {
                Ok(code) => code,
                Err(error) => {
                    failure = Some(error.into());
                    return false;
                }
            };
            let account = AccountLine {
                address,
                nonce: info.nonce,
                balance: info.balance,
                code,
                storage: slots.into_iter().collect(),
            };
            accounts += 1;
            match line(&account) {
                Ok(()) => true,
                Err(error) => {
                    failure = Some(error);
                    false
                }
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        line(&Closing { accounts })?;
        out.flush().map_err(|error| failed(&error))
    }

    /// Applies a dump over the present state.
    pub fn load_state<R: BufRead + Seek>(&self, input: &mut R) -> Result<(), EngineError> {
        let heading = for_each_line(input, &mut |_| Ok(()))?;
        input.rewind().map_err(|error| EngineError::Other(format!("the dump cannot be read: {error}")))?;
        let mut life = self.life.lock();
        self.check_open()?;
        let start = self.head.load().version;
        self.store.put_meta(LOADING_KEY, Some(&start.to_be_bytes()))?;
        let loaded = self.advance(&heading).and_then(|()| self.apply_dump(input));
        if loaded.is_err() {
            self.store.revert_to(start)?;
        }
        self.store.put_meta(LOADING_KEY, None)?;
        life.clear();
        let head = self.view()?.head().clone();
        self.rewound(head, Vec::new())?;
        loaded
    }

    /// Empty blocks up to the number and the time of the dump; nothing when the chain is as long already.
    fn advance(&self, heading: &Heading) -> Result<(), EngineError> {
        let missing = heading.number.saturating_sub(self.view()?.head().header.number);
        if missing > MAX_ADVANCE {
            return Err(EngineError::Other(format!(
                "the dump is of block {}, {missing} blocks ahead; at most {MAX_ADVANCE} can be bridged",
                heading.number
            )));
        }
        loop {
            let view = self.view()?;
            let mut head = view.head().clone();
            let end = heading.number.min(head.header.number + ADVANCE_BATCH);
            let latest = view.latest();
            let mut overlay = Overlay::new(&latest);
            let mut roots = view.root_calculator();
            let mut blocks = Vec::new();
            while head.header.number < end {
                let mut attributes = self.filler_attributes(&head);
                let left = heading.number - head.header.number;
                let time = heading.timestamp.unwrap_or(0).saturating_sub(head.header.timestamp);
                attributes.timestamp = head.header.timestamp + (time / left).max(1);
                attributes.base_fee = heading.base_fee;
                let parent = (&*head.header, head.hash);
                let block =
                    build_block(&self.spec, parent.0, parent.1, &attributes, &overlay, &mut *roots, &mut Nothing)?;
                overlay.apply(&block);
                head.hash = block.block.hash;
                head.header = Arc::new(block.block.header.clone());
                blocks.push(Arc::new(block));
            }
            if blocks.is_empty() {
                return Ok(());
            }
            self.store.commit_blocks(&blocks)?;
        }
    }

    fn apply_dump<R: BufRead>(&self, input: &mut R) -> Result<(), EngineError> {
        let (mut delta, mut entries) = (StateDelta::default(), 0);
        for_each_line(input, &mut |account| {
            entries += 1 + account.storage.len();
            insert(&mut delta, account);
            if entries >= BATCH_ENTRIES {
                self.store.commit_edit(&delta)?;
                delta = StateDelta::default();
                entries = 0;
            }
            Ok(())
        })?;
        if entries > 0 {
            self.store.commit_edit(&delta)?;
        }
        Ok(())
    }
}

fn code_of(state: &dyn StateRead, info: &AccountInfo) -> Result<Bytes, ReadError> {
    if info.code_hash == KECCAK256_EMPTY {
        return Ok(Bytes::new());
    }
    state.code(&info.code_hash)?.ok_or_else(|| ReadError::Store(format!("code {} is missing", info.code_hash)))
}

fn insert(delta: &mut StateDelta, account: AccountLine) {
    let code_hash = keccak256(&account.code);
    if !account.code.is_empty() {
        delta.code.insert(code_hash, account.code);
    }
    delta.accounts.insert(
        account.address,
        AccountDelta {
            info: Some(AccountInfo { nonce: account.nonce, balance: account.balance, code_hash }),
            storage_wiped: true,
            storage: account.storage,
        },
    );
}

/// Checks heading and closing line and hands every account over.
fn for_each_line<R: BufRead>(
    input: &mut R,
    f: &mut dyn FnMut(AccountLine) -> Result<(), EngineError>,
) -> Result<Heading, EngineError> {
    let mut lines = Lines { input, number: 0, text: String::new() };
    let heading: Heading = lines.next()?.ok_or_else(|| lines.fail("the file is empty"))?;
    if heading.format != FORMAT || heading.version != VERSION {
        return Err(lines.fail(format!(
            "format {:?} version {}; this node reads {FORMAT:?} version {VERSION}",
            heading.format, heading.version
        )));
    }
    let mut accounts = 0u64;
    let mut last: Option<Address> = None;
    loop {
        match lines.next::<Line>()? {
            Some(Line::Account(account)) => {
                if last.is_some_and(|last| last >= account.address) {
                    return Err(lines.fail(format!("address {} is out of order", account.address)));
                }
                last = Some(account.address);
                accounts += 1;
                f(account)?;
            }
            Some(Line::Closing(closing)) if closing.accounts == accounts => break,
            Some(Line::Closing(closing)) => {
                return Err(lines.fail(format!("accounts is {}, the file holds {accounts}", closing.accounts)))
            }
            None => return Err(lines.fail("the file ends without its closing line")),
        }
    }
    if lines.next::<serde_json::Value>()?.is_some() {
        return Err(lines.fail("text after the closing line"));
    }
    Ok(heading)
}

/// The source of a block without transactions.
struct Nothing;

impl TxSource for Nothing {
    fn next(&mut self) -> Option<Arc<SignedTx>> {
        None
    }

    fn reject(&mut self, _tx: &SignedTx, _reason: SkipReason) {}
}

enum Line {
    Account(AccountLine),
    Closing(Closing),
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Line, D::Error> {
        use serde::de::Error;
        // The raw text keeps the error of the one kind that it is: an untagged enum would lose it.
        let raw = <Box<serde_json::value::RawValue>>::deserialize(deserializer)?;
        if raw.get().starts_with("{\"accounts\"") {
            serde_json::from_str(raw.get()).map(Line::Closing).map_err(D::Error::custom)
        } else {
            serde_json::from_str(raw.get()).map(Line::Account).map_err(D::Error::custom)
        }
    }
}

struct Lines<'a, R> {
    input: &'a mut R,
    number: u64,
    text: String,
}

impl<R: BufRead> Lines<'_, R> {
    fn fail(&self, reason: impl std::fmt::Display) -> EngineError {
        EngineError::Other(format!("state dump, line {}: {reason}", self.number))
    }

    fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, EngineError> {
        self.text.clear();
        self.number += 1;
        let read =
            (&mut *self.input).take(MAX_LINE_BYTES).read_line(&mut self.text).map_err(|error| self.fail(error))?;
        if read == 0 {
            return Ok(None);
        }
        if read as u64 == MAX_LINE_BYTES {
            return Err(self.fail(format!("is longer than {MAX_LINE_BYTES} bytes")));
        }
        serde_json::from_str(&self.text).map(Some).map_err(|error| self.fail(error))
    }
}

/// One value as a line; object-safe, so that one closure writes all kinds.
trait ErasedLine {
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()>;
}

impl<T: Serialize> ErasedLine for T {
    fn write(&self, mut out: &mut dyn Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut out, self)?;
        out.write_all(b"\n")
    }
}
