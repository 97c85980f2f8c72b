//! Results and errors of the EVM in plain types, with geth's texts.

use alloy_primitives::TxKind;
use revm::context_interface::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction, Output};

use crate::primitives::*;

/// How a transaction that was executed ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub success: bool,
    /// Return data, deployed code or revert data.
    pub output: Bytes,
    /// After refunds: what the receipt shows.
    pub gas_used: u64,
    /// The most gas that was held at any time: before refunds.
    pub gas_spent: u64,
    pub logs: Vec<Log>,
    pub created: Option<Address>,
    /// Why execution failed without reverting.
    pub halt: Option<Halt>,
}

impl Outcome {
    pub fn reverted(&self) -> bool {
        !self.success && self.halt.is_none()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    pub out_of_gas: bool,
    pub message: String,
}

/// Which rule of validity a transaction breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKind {
    NonceTooLow,
    NonceTooHigh,
    NonceMax,
    Funds,
    IntrinsicGas,
    FloorDataGas,
    FeeCapBelowBaseFee,
    TipAboveFeeCap,
    BlockGasLimit,
    GasCap,
    SenderHasCode,
    InitCodeSize,
    ChainId,
    Blobs,
    Authorizations,
    UnsupportedType,
    Other,
}

impl InvalidKind {
    /// A higher gas limit may cure it.
    pub fn is_gas(self) -> bool {
        matches!(self, InvalidKind::IntrinsicGas | InvalidKind::FloorDataGas)
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum EvmError {
    #[error("{message}")]
    Invalid { kind: InvalidKind, message: String },
    #[error("execution timeout")]
    Timeout,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{0}")]
    Other(String),
}

pub(super) fn outcome(result: ExecutionResult) -> Outcome {
    let gas_used = result.tx_gas_used();
    match result {
        ExecutionResult::Success { gas, logs, output, .. } => {
            let (output, created) = match output {
                Output::Call(data) => (data, None),
                Output::Create(code, address) => (code, address),
            };
            Outcome { success: true, output, gas_used, gas_spent: gas.total_gas_spent(), logs, created, halt: None }
        }
        ExecutionResult::Revert { gas, output, .. } => {
            Outcome { output, gas_used, gas_spent: gas.total_gas_spent(), ..Outcome::default() }
        }
        ExecutionResult::Halt { reason, gas, .. } => Outcome {
            gas_used,
            gas_spent: gas.total_gas_spent(),
            halt: Some(Halt { out_of_gas: matches!(reason, HaltReason::OutOfGas(_)), message: halt_text(&reason) }),
            ..Outcome::default()
        },
    }
}

/// geth's text for an exceptional halt.
pub(super) fn halt_text(reason: &HaltReason) -> String {
    let text = match reason {
        HaltReason::OutOfGas(_) => "out of gas",
        HaltReason::OpcodeNotFound | HaltReason::NotActivated => "invalid opcode",
        HaltReason::InvalidFEOpcode => "invalid opcode: INVALID",
        HaltReason::InvalidJump => "invalid jump destination",
        HaltReason::StackUnderflow => "stack underflow",
        HaltReason::StackOverflow => "stack limit reached 1024 (1023)",
        HaltReason::OutOfOffset => "return data out of bounds",
        HaltReason::CreateCollision => "contract address collision",
        HaltReason::NonceOverflow => "nonce uint64 overflow",
        HaltReason::CreateContractSizeLimit => "max code size exceeded",
        HaltReason::CreateContractStartingWithEF => "invalid code: must not begin with 0xef",
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded",
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => "write protection",
        HaltReason::OutOfFunds | HaltReason::OverflowPayment => "insufficient balance for transfer",
        HaltReason::CallTooDeep => "max call depth exceeded",
        HaltReason::PrecompileError => "precompile failed",
        HaltReason::PrecompileErrorWithContext(message) => return message.clone(),
    };
    text.to_owned()
}

/// What the texts of validity errors name beside the rule itself.
pub(super) struct Facts {
    pub from: Address,
    pub to: TxKind,
    pub gas_price: u128,
    pub priority_fee: Option<u128>,
    pub base_fee: u64,
    pub input_len: usize,
}

pub(super) fn error(error: EVMError<ReadError>, timed_out: bool, facts: Facts) -> EvmError {
    match error {
        EVMError::Transaction(invalid) => invalid_transaction(invalid, facts),
        EVMError::Database(error) => EvmError::Read(error),
        EVMError::Custom(_) if timed_out => EvmError::Timeout,
        EVMError::Header(error) => EvmError::Other(error.to_string()),
        EVMError::Custom(error) => EvmError::Other(error),
        EVMError::CustomAny(error) => EvmError::Other(error.to_string()),
    }
}

fn invalid_transaction(invalid: InvalidTransaction, facts: Facts) -> EvmError {
    use InvalidKind as Kind;
    use InvalidTransaction as Invalid;
    let from = facts.from;
    let (kind, message) = match invalid {
        Invalid::NonceTooLow { tx, state } => (
            Kind::NonceTooLow,
            format!("nonce too low: address {from}, tx: {tx} state: {state}"),
        ),
        Invalid::NonceTooHigh { tx, state } => (
            Kind::NonceTooHigh,
            format!("nonce too high: address {from}, tx: {tx} state: {state}"),
        ),
        Invalid::NonceOverflowInTransaction => {
            (Kind::NonceMax, format!("nonce has max value: address {from}"))
        }
        Invalid::LackOfFundForMaxFee { fee, balance } => (
            Kind::Funds,
            format!("insufficient funds for gas * price + value: address {from} have {balance} want {fee}"),
        ),
        Invalid::OverflowPaymentInTransaction => (
            Kind::Funds,
            format!("insufficient funds for gas * price + value: address {from} required balance exceeds 256 bits"),
        ),
        Invalid::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => (
            Kind::IntrinsicGas,
            format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}"),
        ),
        Invalid::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => (
            Kind::FloorDataGas,
            format!("insufficient gas for floor data gas cost: have {gas_limit}, want {gas_floor}"),
        ),
        Invalid::GasPriceLessThanBasefee => (
            Kind::FeeCapBelowBaseFee,
            format!(
                "max fee per gas less than block base fee: address {from}, maxFeePerGas: {}, baseFee: {}",
                facts.gas_price, facts.base_fee
            ),
        ),
        Invalid::PriorityFeeGreaterThanMaxFee => (
            Kind::TipAboveFeeCap,
            format!(
                "max priority fee per gas higher than max fee per gas: address {from}, maxPriorityFeePerGas: {}, maxFeePerGas: {}",
                facts.priority_fee.unwrap_or_default(),
                facts.gas_price
            ),
        ),
        Invalid::CallerGasLimitMoreThanBlock => {
            (Kind::BlockGasLimit, "gas limit reached".to_owned())
        }
        Invalid::TxGasLimitGreaterThanCap { gas_limit, cap } => (
            Kind::GasCap,
            format!("transaction gas limit too high (cap: {cap}, tx: {gas_limit})"),
        ),
        Invalid::RejectCallerWithCode => (
            Kind::SenderHasCode,
            format!("sender not an eoa: address {from}"),
        ),
        Invalid::CreateInitCodeSizeLimit => (
            Kind::InitCodeSize,
            format!("max initcode size exceeded: code size {}", facts.input_len),
        ),
        Invalid::InvalidChainId | Invalid::MissingChainId => {
            (Kind::ChainId, "invalid chain id for signer".to_owned())
        }
        Invalid::BlobGasPriceGreaterThanMax { block_blob_gas_price, tx_max_fee_per_blob_gas } => (
            Kind::Blobs,
            format!(
                "max fee per blob gas less than block blob gas fee: address {from} blobGasFeeCap: {tx_max_fee_per_blob_gas}, blobBaseFee: {block_blob_gas_price}"
            ),
        ),
        Invalid::EmptyBlobs => (Kind::Blobs, "blob transaction missing blob hashes".to_owned()),
        Invalid::BlobCreateTransaction => {
            (Kind::Blobs, "blob transaction of type create".to_owned())
        }
        Invalid::TooManyBlobs { max, have } => (
            Kind::Blobs,
            format!("blob transaction has too many blobs: have {have}, max {max}"),
        ),
        Invalid::BlobVersionNotSupported => (
            Kind::Blobs,
            "blob has an invalid hash version".to_owned(),
        ),
        Invalid::EmptyAuthorizationList => (
            Kind::Authorizations,
            format!("EIP-7702 transaction with empty auth list (sender {from})"),
        ),
        Invalid::AuthorizationListInvalidFields if facts.to.is_create() => (
            Kind::Authorizations,
            format!("input string too short for common.Address: EIP-7702 transaction cannot create (sender {from})"),
        ),
        Invalid::Eip2930NotSupported
        | Invalid::Eip1559NotSupported
        | Invalid::Eip4844NotSupported
        | Invalid::Eip7702NotSupported
        | Invalid::AccessListNotSupported
        | Invalid::MaxFeePerBlobGasNotSupported
        | Invalid::BlobVersionedHashesNotSupported
        | Invalid::AuthorizationListNotSupported => {
            (Kind::UnsupportedType, "transaction type not supported".to_owned())
        }
        other => (Kind::Other, other.to_string()),
    };
    EvmError::Invalid { kind, message }
}
