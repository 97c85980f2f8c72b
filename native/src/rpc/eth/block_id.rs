//! Block parameters: tags, numbers, hashes and EIP-1898 objects, and what they stand for in one view.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, B256, U256};
use serde_json::value::RawValue;

use crate::execution::BlockContext;
use crate::primitives::{AccountInfo, ExecutedBlock, ReadError, StateRead};
use crate::rpc::codec::{self, HexError};
use crate::rpc::params::{invalid, missing};
use crate::rpc::{Params, RpcError, Scope};
use crate::state::{StateAt, View};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockId {
    /// `latest`; `safe` and `finalized` are the same block on a chain whose commits are final.
    Latest,
    Pending,
    Number(u64),
    Hash(B256),
}

const MISSING_HEADER: &str = "header not found";

impl BlockId {
    /// Reads a tag, a number, a hash or an EIP-1898 object.
    pub fn parse(raw: &RawValue) -> Result<BlockId, String> {
        if raw.get().starts_with('{') {
            return BlockId::parse_object(raw);
        }
        let text = codec::string(raw).map_err(|error| error.to_string())?;
        if text.len() == 66 {
            return codec::parse_hash(&text).map(BlockId::Hash).map_err(|error| error.to_string());
        }
        BlockId::parse_text(&text)
    }

    /// Reads a tag or a number: methods "by number" take no hash.
    pub fn parse_number(raw: &RawValue) -> Result<BlockId, String> {
        let text = codec::string(raw).map_err(|error| error.to_string())?;
        BlockId::parse_text(&text)
    }

    fn parse_text(text: &str) -> Result<BlockId, String> {
        match text {
            "latest" | "safe" | "finalized" => Ok(BlockId::Latest),
            "pending" => Ok(BlockId::Pending),
            "earliest" => Ok(BlockId::Number(0)),
            _ => match codec::parse_u64(text) {
                Ok(number) if number > i64::MAX as u64 => Err("block number larger than int64".to_owned()),
                Ok(number) => Ok(BlockId::Number(number)),
                Err(HexError::Wide(_)) => Err("hex number > 64 bits".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    fn parse_object(raw: &RawValue) -> Result<BlockId, String> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Object<'a> {
            #[serde(borrow)]
            block_number: Option<&'a RawValue>,
            block_hash: Option<B256>,
            // Every known hash is canonical here: dropped blocks are not kept.
            #[serde(default)]
            #[allow(dead_code)]
            require_canonical: bool,
        }
        let object: Object<'_> = crate::decode::from_json(raw.get())?;
        match (object.block_number, object.block_hash) {
            (Some(_), Some(_)) => {
                Err("cannot specify both BlockHash and BlockNumber, choose one or the other".to_owned())
            }
            (Some(number), None) => BlockId::parse_number(number).map_err(|why| format!("blockNumber: {why}")),
            (None, Some(hash)) => Ok(BlockId::Hash(hash)),
            (None, None) => Err("must specify either BlockHash or BlockNumber".to_owned()),
        }
    }

    /// Argument `index`, `latest` when it is absent.
    pub fn argument(params: &Params<'_>, index: usize) -> Result<BlockId, RpcError> {
        match params.raw(index) {
            None => Ok(BlockId::Latest),
            Some(raw) => BlockId::parse(raw).map_err(|why| invalid(index, why)),
        }
    }

    /// Argument `index`, which must be there.
    pub fn required(params: &Params<'_>, index: usize) -> Result<BlockId, RpcError> {
        let raw = params.raw(index).ok_or_else(|| missing(index))?;
        BlockId::parse(raw).map_err(|why| invalid(index, why))
    }

    /// Argument `index`, which must be there and must not be a hash.
    pub fn required_number(params: &Params<'_>, index: usize) -> Result<BlockId, RpcError> {
        let raw = params.raw(index).ok_or_else(|| missing(index))?;
        BlockId::parse_number(raw).map_err(|why| invalid(index, why))
    }

    /// The number of the committed block meant, `None` when there is none. `Pending` is not a committed block.
    pub fn number(self, view: &View) -> Result<Option<u64>, RpcError> {
        let head = view.head().header.number;
        Ok(match self {
            BlockId::Latest => Some(head),
            BlockId::Pending => None,
            BlockId::Number(number) => (number <= head).then_some(number),
            BlockId::Hash(hash) => view.number(&hash)?,
        })
    }

    /// [`BlockId::number`] with geth's errors for a block that is not there.
    pub fn existing(self, view: &View) -> Result<u64, RpcError> {
        self.number(view)?.ok_or_else(|| match self {
            BlockId::Hash(_) => RpcError::server("header for hash not found"),
            _ => RpcError::server(MISSING_HEADER),
        })
    }
}

/// The next block executed over the state of a view.
pub struct PendingState<'v> {
    base: StateAt<'v>,
    block: Arc<ExecutedBlock>,
}

impl StateRead for PendingState<'_> {
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, ReadError> {
        match self.block.delta.accounts.get(address) {
            Some(change) => Ok(change.info.clone()),
            None => self.base.account(address),
        }
    }

    fn storage(&self, address: &Address, slot: &U256) -> Result<U256, ReadError> {
        let Some(change) = self.block.delta.accounts.get(address) else {
            return self.base.storage(address, slot);
        };
        match change.storage.get(slot) {
            Some(value) => Ok(*value),
            None if change.storage_wiped || change.info.is_none() => Ok(U256::ZERO),
            None => self.base.storage(address, slot),
        }
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, ReadError> {
        match self.block.delta.code.get(hash) {
            Some(code) => Ok(Some(code.clone())),
            None => self.base.code(hash),
        }
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, ReadError> {
        if number == self.block.block.header.number {
            return Ok(Some(self.block.block.hash));
        }
        self.base.block_hash(number)
    }
}

/// The pending block on top of the view's head; `None` when the chain has moved on since the view was opened.
pub fn pending_block(scope: &Scope<'_>) -> Result<Option<Arc<ExecutedBlock>>, RpcError> {
    // It may have to be built first.
    scope.defer_large()?;
    let block = scope.engine().pending_block()?;
    let fits = block.block.header.parent_hash == scope.view()?.head().hash;
    Ok(fits.then_some(block))
}

/// Hands the state that `id` names to `read`.
pub fn with_state<T>(
    scope: &Scope<'_>,
    id: BlockId,
    read: impl FnOnce(&dyn StateRead) -> Result<T, RpcError>,
) -> Result<T, RpcError> {
    let view = scope.view()?;
    match id {
        BlockId::Latest => read(&view.latest()),
        BlockId::Pending => match pending_changes(scope)? {
            Some(block) => read(&PendingState { base: view.latest(), block }),
            None => read(&view.latest()),
        },
        _ => read(&view.state_at(id.existing(view)?)?),
    }
}

/// Hands the state that `id` names and the block context of a call on it to `run`.
pub fn with_context<T>(
    scope: &Scope<'_>,
    id: BlockId,
    run: impl FnOnce(&BlockContext, &dyn StateRead) -> Result<T, RpcError>,
) -> Result<T, RpcError> {
    let view = scope.view()?;
    match id {
        BlockId::Latest => run(&BlockContext::of(&view.head().header), &view.latest()),
        BlockId::Pending => {
            let context = scope.engine().pending_context();
            match pending_changes(scope)? {
                Some(block) => run(&context, &PendingState { base: view.latest(), block }),
                None => run(&context, &view.latest()),
            }
        }
        _ => {
            let number = id.existing(view)?;
            let header = view.header(number)?.ok_or_else(|| RpcError::server(MISSING_HEADER))?;
            run(&BlockContext::of(&header), &view.state_at(number)?)
        }
    }
}

/// The pending block where it changes anything: an empty pool leaves the latest state.
fn pending_changes(scope: &Scope<'_>) -> Result<Option<Arc<ExecutedBlock>>, RpcError> {
    if scope.engine().pool().status().0 == 0 {
        return Ok(None);
    }
    pending_block(scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<BlockId, String> {
        BlockId::parse(&RawValue::from_string(json.to_owned()).unwrap())
    }

    #[test]
    fn tags_numbers_and_hashes_are_told_apart() {
        assert_eq!(parse("\"latest\""), Ok(BlockId::Latest));
        assert_eq!(parse("\"finalized\""), Ok(BlockId::Latest));
        assert_eq!(parse("\"earliest\""), Ok(BlockId::Number(0)));
        assert_eq!(parse("\"pending\""), Ok(BlockId::Pending));
        assert_eq!(parse("\"0x10\""), Ok(BlockId::Number(16)));
        let hash = B256::repeat_byte(7);
        assert_eq!(parse(&format!("\"{hash}\"")), Ok(BlockId::Hash(hash)));
    }

    #[test]
    fn an_eip_1898_object_names_exactly_one_of_number_and_hash() {
        assert_eq!(parse(r#"{"blockNumber":"0x2"}"#), Ok(BlockId::Number(2)));
        let hash = B256::repeat_byte(9);
        assert_eq!(parse(&format!(r#"{{"blockHash":"{hash}","requireCanonical":true}}"#)), Ok(BlockId::Hash(hash)));
        assert!(parse("{}").unwrap_err().starts_with("must specify either"));
        assert!(parse(&format!(r#"{{"blockNumber":"0x1","blockHash":"{hash}"}}"#)).unwrap_err().starts_with("cannot"));
    }

    #[test]
    fn a_malformed_number_is_refused_with_its_reason() {
        assert_eq!(parse("\"2\"").unwrap_err(), "hex string without 0x prefix");
        assert_eq!(parse("\"0x01\"").unwrap_err(), "hex number with leading zero digits");
        assert_eq!(parse("\"0x8000000000000000\"").unwrap_err(), "block number larger than int64");
        assert_eq!(parse("5").unwrap_err(), "non-string");
    }
}
