//! The native contracts that every chain of ours has from its genesis.

use std::sync::Arc;

use super::dcap::QuoteVerifier;
use super::evm::PrecompileSet;
use super::pora::PoraVerifier;
use super::receipts::ReceiptVerifier;

pub fn native_contracts() -> PrecompileSet {
    PrecompileSet::new(vec![Arc::new(ReceiptVerifier), Arc::new(QuoteVerifier), Arc::new(PoraVerifier)])
}
