//! What the EVM runs and how strictly it checks it, in plain types.

use alloy_eips::eip2930::AccessList;
use alloy_eips::eip7702::SignedAuthorization;
use alloy_evm::FromRecoveredTx;
use alloy_primitives::TxKind;
use revm::context::TxEnv;
use revm::context_interface::either::Either;

use crate::primitives::*;

/// A message call or contract creation that is not (yet) a signed transaction.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// EIP-2718 type, 0 to 4.
    pub tx_type: u8,
    pub from: Address,
    pub to: TxKind,
    pub value: U256,
    pub input: Bytes,
    pub nonce: u64,
    pub gas_limit: u64,
    /// Gas price of types 0 and 1, maximum fee of the others, in wei.
    pub gas_price: u128,
    pub priority_fee: Option<u128>,
    pub chain_id: Option<u64>,
    pub access_list: AccessList,
    pub blob_hashes: Vec<B256>,
    pub max_fee_per_blob_gas: u128,
    pub authorizations: Vec<SignedAuthorization>,
}

impl From<Message> for TxEnv {
    fn from(message: Message) -> TxEnv {
        TxEnv {
            tx_type: message.tx_type,
            caller: message.from,
            gas_limit: message.gas_limit,
            gas_price: message.gas_price,
            kind: message.to,
            value: message.value,
            data: message.input,
            nonce: message.nonce,
            chain_id: message.chain_id,
            access_list: message.access_list,
            gas_priority_fee: message.priority_fee,
            blob_hashes: message.blob_hashes,
            max_fee_per_blob_gas: message.max_fee_per_blob_gas,
            authorization_list: message.authorizations.into_iter().map(Either::Left).collect(),
        }
    }
}

pub(super) fn signed_env(tx: &Transaction, sender: Address) -> TxEnv {
    TxEnv::from_recovered_tx(tx, sender)
}

/// Which rules of transaction validity hold. `true`: the rule is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    pub nonce: bool,
    /// The sender can pay for gas and value. Off: the value alone is made available.
    pub balance: bool,
    /// The fee cap is at least the base fee. Off: BASEFEE still reads the block's value.
    pub base_fee: bool,
    /// EIP-3607: senders have no code.
    pub sender_is_eoa: bool,
    /// The gas limit fits into the block's.
    pub block_gas_limit: bool,
    /// EIP-7825: the gas limit is at most 2^24 from Osaka on.
    pub gas_cap: bool,
    /// The sender pays for gas and the beneficiary earns.
    pub fees: bool,
}

impl Checks {
    /// A transaction of a block.
    pub const STRICT: Checks = Checks {
        nonce: true,
        balance: true,
        base_fee: true,
        sender_is_eoa: true,
        block_gas_limit: true,
        gas_cap: true,
        fees: true,
    };
    /// `eth_call` and its kin: anything may be asked, only funds for the value and a given gas price are needed.
    pub const CALL: Checks = Checks {
        nonce: false,
        balance: true,
        base_fee: false,
        sender_is_eoa: false,
        block_gas_limit: false,
        gas_cap: false,
        fees: true,
    };
}
