//! The latest state as the pool must see it.

use std::cell::OnceCell;

use super::Engine;
use crate::primitives::*;
use crate::state::View;

/// The latest state at the time of the first read.
///
/// The pool reads accounts while it holds its lock. A view opened before that could miss a block whose `on_block` the
/// pool has already seen, and a transaction would wait behind a nonce that is used up.
pub(super) struct FreshState<'a> {
    engine: &'a Engine,
    view: OnceCell<View>,
}

impl<'a> FreshState<'a> {
    pub(super) fn new(engine: &'a Engine) -> FreshState<'a> {
        FreshState { engine, view: OnceCell::new() }
    }

    fn view(&self) -> Result<&View, ReadError> {
        if let Some(view) = self.view.get() {
            return Ok(view);
        }
        let view = self.engine.view()?;
        Ok(self.view.get_or_init(|| view))
    }
}

impl StateRead for FreshState<'_> {
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, ReadError> {
        self.view()?.latest().account(address)
    }

    fn storage(&self, address: &Address, slot: &U256) -> Result<U256, ReadError> {
        self.view()?.latest().storage(address, slot)
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, ReadError> {
        self.view()?.latest().code(hash)
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, ReadError> {
        self.view()?.latest().block_hash(number)
    }
}
