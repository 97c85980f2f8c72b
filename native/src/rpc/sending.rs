//! Submitting transactions: raw ones, and those that the node completes and signs itself.

use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction, TxEip4844, TxType, TypedTransaction};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind, B256, U256};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer_local::PrivateKeySigner;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::Semaphore;

use super::dispatch::{Context, Scope};
use super::error::RpcError;
use super::eth::call::transaction_argument;
use super::json::Json;
use super::params::{invalid, Params};
use super::wallet::{self, unknown_account};
use crate::engine::ChainEvent;
use crate::execution::{self, CallOptions, Fork};
use crate::primitives::{SignedTx, StateRead, Transaction};

/// Tip of a transaction that names none, in wei.
const DEFAULT_TIP: u128 = 1_000_000_000;
/// Submissions up to this many and this size are handled where they arrive: some 50 µs each.
const INLINE_COUNT: usize = 4;
const INLINE_BYTES: usize = 64 << 10;
/// EIP-7966: the transaction is in the pool but not in a block within the time.
const NOT_MINED_YET: i64 = 4;

/// What concurrent submissions share.
pub struct Sending {
    /// Held from the choice of a nonce until its transaction is in the pool.
    nonces: Mutex<()>,
    /// Large submissions under way.
    submissions: Semaphore,
}

impl Default for Sending {
    fn default() -> Sending {
        Sending { nonces: Mutex::new(()), submissions: Semaphore::new(2) }
    }
}

/// eth_sendRawTransaction.
pub async fn send_raw(context: &Context, params: Option<&RawValue>, out: &mut Json) -> Result<(), RpcError> {
    let raw = raw_of(params)?;
    let hash = submit(context, vec![raw]).await.pop().unwrap_or_else(|| Err(no_answer()))?;
    wait_for_block(context, hash).await?;
    out.hex(hash);
    Ok(())
}

/// Several eth_sendRawTransaction of one batch: one submission, one answer each.
pub async fn send_raw_many(context: &Context, params: &[Option<&RawValue>]) -> Vec<Result<B256, RpcError>> {
    let decoded: Vec<Result<Bytes, RpcError>> = params.iter().map(|params| raw_of(*params)).collect();
    let raws: Vec<Bytes> = decoded.iter().filter_map(|raw| raw.as_ref().ok()).cloned().collect();
    let mut submitted = submit(context, raws).await.into_iter();
    let outcomes: Vec<Result<B256, RpcError>> =
        decoded.into_iter().map(|raw| raw.and_then(|_| submitted.next().unwrap_or_else(|| Err(no_answer())))).collect();
    if context.engine.automine() {
        let deadline = Instant::now() + mine_wait(context);
        for hash in outcomes.iter().flatten() {
            let left = deadline.saturating_duration_since(Instant::now());
            context.engine.wait_mined(*hash, left).await;
        }
    }
    outcomes.into_iter().map(|outcome| outcome.and_then(|hash| committable(context, &hash).map(|()| hash))).collect()
}

/// eth_sendRawTransactionSync (EIP-7966) up to the point where the receipt can be read.
pub async fn send_raw_sync(context: &Context, params: Option<&RawValue>) -> Result<B256, RpcError> {
    let params = Params::parse(params)?;
    params.at_most(2)?;
    let raw = params.data(0)?;
    let wanted: Option<u64> = params.optional(1)?;
    let limit = wanted.map_or(mine_wait(context), Duration::from_millis).min(mine_wait(context));
    let mut events = context.engine.subscribe();
    let hash = submit(context, vec![raw]).await.pop().unwrap_or_else(|| Err(no_answer()))?;
    let mined = async {
        // The store is asked first and after every gap; between them the events are complete.
        while !is_mined(context, &hash)? {
            loop {
                match events.recv().await {
                    Ok(ChainEvent::Committed(block)) if block.block.transactions.iter().any(|tx| tx.hash == hash) => {
                        break
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Err(RpcError::internal("the chain has shut down")),
                }
            }
        }
        Ok(())
    };
    match tokio::time::timeout(limit, mined).await {
        Ok(outcome) => outcome.map(|()| hash),
        Err(_) => Err(RpcError::new(
            NOT_MINED_YET,
            format!("The transaction was added to the transaction pool but wasn't processed in {limit:?}"),
        )
        .with_bytes(hash.as_slice())),
    }
}

fn is_mined(context: &Context, hash: &B256) -> Result<bool, RpcError> {
    Ok(context.engine.view()?.locate(hash)?.is_some())
}

/// With automine the client finds its receipt as soon as it has the hash.
///
/// # Errors
/// While blocks cannot be committed: the transaction is in the pool, but the client must not take it for done.
pub async fn wait_for_block(context: &Context, hash: B256) -> Result<(), RpcError> {
    if context.engine.automine() {
        context.engine.wait_mined(hash, mine_wait(context)).await;
    }
    committable(context, &hash)
}

fn committable(context: &Context, hash: &B256) -> Result<(), RpcError> {
    match context.engine.trouble() {
        Some(trouble) if !is_mined(context, hash)? => {
            Err(RpcError::server(format!("transaction {hash} waits in the pool: no block can be committed: {trouble}")))
        }
        _ => Ok(()),
    }
}

fn mine_wait(context: &Context) -> Duration {
    Duration::from_millis(context.config.mine_wait_ms)
}

fn no_answer() -> RpcError {
    RpcError::internal("the pool gave no answer")
}

fn raw_of(params: Option<&RawValue>) -> Result<Bytes, RpcError> {
    let params = Params::parse(params)?;
    params.at_most(1)?;
    params.data(0)
}

async fn submit(context: &Context, raws: Vec<Bytes>) -> Vec<Result<B256, RpcError>> {
    let count = raws.len();
    let small = count <= INLINE_COUNT && raws.iter().map(|raw| raw.len()).sum::<usize>() <= INLINE_BYTES;
    let outcomes = if small {
        context.engine.submit(&raws)
    } else {
        // Recovery uses all cores by itself: more submissions at a time would only wait for one another.
        let Ok(_turn) = context.sending.submissions.acquire().await else { return Vec::new() };
        let engine = context.engine.clone();
        match tokio::task::spawn_blocking(move || engine.submit(&raws)).await {
            Ok(outcomes) => outcomes,
            Err(_) => return (0..count).map(|_| Err(RpcError::internal("the submission crashed"))).collect(),
        }
    };
    outcomes.into_iter().map(|outcome| outcome.map_err(RpcError::from)).collect()
}

/// A transaction that wants only its signature.
#[derive(Debug)]
pub struct Filled {
    pub sender: Address,
    pub tx: TypedTransaction,
}

/// eth_sendTransaction up to the pool: signs with the node's key, or submits for an impersonated sender.
pub fn fill_and_submit(context: &Context, params: Option<&RawValue>) -> Result<B256, RpcError> {
    let params = Params::parse(params)?;
    params.at_most(1)?;
    let scope = Scope::new(context);
    let (request, kind) = fill_but_nonce(&scope, transaction_argument(&params, 0)?)?;
    // Calls that come at the same time must not take the same nonce. The slow part is behind us.
    let _turn = context.sending.nonces.lock();
    let filled = finish(&Scope::new(context), request, kind)?;
    match context.wallet.signer(&filled.sender) {
        Some(signer) => {
            let raw = sign(signer, filled.tx)?;
            let outcome = context.engine.submit(&[raw]).pop();
            outcome.ok_or_else(no_answer)?.map_err(RpcError::from)
        }
        None => {
            let controls = context.engine.controls();
            if !controls.auto_impersonate && !controls.impersonated.contains(&filled.sender) {
                return Err(unknown_account());
            }
            Ok(context.engine.submit_impersonated(impersonate(filled))?)
        }
    }
}

/// Signs and encodes in the network form (blob transactions with their sidecar).
pub fn sign(signer: &PrivateKeySigner, tx: TypedTransaction) -> Result<Bytes, RpcError> {
    let signature = wallet::sign_hash(signer, &tx.signature_hash())?;
    Ok(tx.into_envelope(signature).encoded_2718().into())
}

/// A stand-in signature that names the sender, so that equal transactions of two senders differ in their hashes.
fn impersonate(filled: Filled) -> SignedTx {
    let signature = Signature::new(U256::from_be_slice(filled.sender.as_slice()), U256::ONE, false);
    let tx: Transaction = match filled.tx.into_envelope(signature) {
        alloy_consensus::TxEnvelope::Legacy(tx) => Transaction::Legacy(tx),
        alloy_consensus::TxEnvelope::Eip2930(tx) => Transaction::Eip2930(tx),
        alloy_consensus::TxEnvelope::Eip1559(tx) => Transaction::Eip1559(tx),
        alloy_consensus::TxEnvelope::Eip7702(tx) => Transaction::Eip7702(tx),
        alloy_consensus::TxEnvelope::Eip4844(tx) => {
            let (tx, signature, _) = tx.into_parts();
            Transaction::Eip4844(TxEip4844::from(tx).into_signed(signature))
        }
    };
    let hash = *tx.tx_hash();
    let raw = tx.encoded_2718().into();
    SignedTx { tx, sender: filled.sender, hash, raw, impersonated: true }
}

/// Completes a request: sender, type, fees, gas, nonce.
pub fn fill(scope: &Scope<'_>, request: TransactionRequest) -> Result<Filled, RpcError> {
    let (request, kind) = fill_but_nonce(scope, request)?;
    finish(scope, request, kind)
}

fn fill_but_nonce(
    scope: &Scope<'_>,
    mut request: TransactionRequest,
) -> Result<(TransactionRequest, TxType), RpcError> {
    let context = scope.context();
    let chain = context.engine.pool_context();
    if request.from.is_none() {
        let first = context.wallet.first();
        request.from = Some(first.ok_or_else(|| invalid(0, "from is missing and the node has no accounts"))?);
    }
    check_shape(&request, chain.chain_id)?;
    // Signatures name the chain from EIP-155 (Spurious Dragon) on.
    request.chain_id = (chain.fork >= Fork::SpuriousDragon).then_some(chain.chain_id);
    request.normalize_input();
    let kind = type_of(&request, chain.fork)?;
    request.transaction_type = Some(kind as u8);
    request.to = Some(request.to.unwrap_or(TxKind::Create));
    if kind == TxType::Eip4844 {
        request.populate_blob_hashes();
    }
    if request.gas.is_none() {
        request.gas = Some(estimate(scope, &request)?);
    }
    fill_fees(&mut request, kind, chain.base_fee, chain.blob_base_fee)?;
    Ok((request, kind))
}

fn finish(scope: &Scope<'_>, request: TransactionRequest, kind: TxType) -> Result<Filled, RpcError> {
    let sender = request.from.unwrap_or_default();
    let nonce = match request.nonce {
        Some(nonce) => nonce,
        None => next_nonce(scope, &sender)?,
    };
    Ok(Filled { sender, tx: build(request.nonce(nonce), kind)? })
}

fn check_shape(request: &TransactionRequest, chain_id: u64) -> Result<(), RpcError> {
    if let Some(wanted) = request.chain_id.filter(|wanted| *wanted != chain_id) {
        return Err(RpcError::server(format!("chainId does not match node's (have={wanted}, want={chain_id})")));
    }
    if let (Some(input), Some(data)) = (&request.input.input, &request.input.data) {
        if input != data {
            let text =
                "both \"data\" and \"input\" are set and not equal. Please use \"input\" to pass transaction call data";
            return Err(RpcError::server(text));
        }
    }
    if request.gas_price.is_some() && (request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some())
    {
        return Err(RpcError::server("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
    }
    let data = request.input.input().map_or(0, |data| data.len());
    if !matches!(request.to, Some(TxKind::Call(_))) && data == 0 {
        return Err(RpcError::server("contract creation without any data provided"));
    }
    Ok(())
}

fn type_of(request: &TransactionRequest, fork: Fork) -> Result<TxType, RpcError> {
    if let Some(wanted) = request.transaction_type {
        return TxType::try_from(wanted).map_err(|_| invalid(0, format!("transaction type {wanted} is not supported")));
    }
    let preferred = request.preferred_type();
    // Before London nothing understands the type that is preferred by default.
    Ok(match preferred {
        TxType::Eip1559 if fork < Fork::London => match request.access_list {
            Some(_) => TxType::Eip2930,
            None => TxType::Legacy,
        },
        other => other,
    })
}

fn next_nonce(scope: &Scope<'_>, sender: &Address) -> Result<u64, RpcError> {
    if let Some(nonce) = scope.engine().pool().next_nonce(sender) {
        return Ok(nonce);
    }
    Ok(scope.view()?.latest().account(sender)?.map_or(0, |account| account.nonce))
}

fn estimate(scope: &Scope<'_>, request: &TransactionRequest) -> Result<u64, RpcError> {
    let engine = scope.engine();
    let options =
        CallOptions { gas_cap: scope.config().gas_cap, deadline: Some(scope.deadline()), ..CallOptions::default() };
    let state = scope.view()?.latest();
    Ok(execution::estimate_gas(&engine.spec(), &engine.pending_context(), &state, request, &options)?)
}

fn fill_fees(
    request: &mut TransactionRequest,
    kind: TxType,
    base_fee: u64,
    blob_base_fee: u128,
) -> Result<(), RpcError> {
    let base_fee = u128::from(base_fee);
    if matches!(kind, TxType::Legacy | TxType::Eip2930) {
        // A price per gas is both fees at once; someone who named them meant the cap.
        let price = request.gas_price.or(request.max_fee_per_gas).unwrap_or(base_fee + DEFAULT_TIP);
        request.gas_price = Some(price);
        request.max_fee_per_gas = None;
        request.max_priority_fee_per_gas = None;
        return Ok(());
    }
    if let Some(price) = request.gas_price.take() {
        request.max_fee_per_gas = Some(price);
        request.max_priority_fee_per_gas = Some(price);
    }
    let tip = request
        .max_priority_fee_per_gas
        .unwrap_or_else(|| request.max_fee_per_gas.map_or(DEFAULT_TIP, |cap| cap.min(DEFAULT_TIP)));
    let cap = request.max_fee_per_gas.unwrap_or(2 * base_fee + tip);
    if cap < tip {
        return Err(RpcError::server(format!("maxFeePerGas ({cap}) < maxPriorityFeePerGas ({tip})")));
    }
    request.max_priority_fee_per_gas = Some(tip);
    request.max_fee_per_gas = Some(cap);
    if kind == TxType::Eip4844 && request.max_fee_per_blob_gas.is_none() {
        request.max_fee_per_blob_gas = Some((2 * blob_base_fee).max(1));
    }
    Ok(())
}

fn build(request: TransactionRequest, kind: TxType) -> Result<TypedTransaction, RpcError> {
    let built = match kind {
        TxType::Legacy => request.build_legacy().map(TypedTransaction::Legacy),
        TxType::Eip2930 => request.build_2930().map(TypedTransaction::Eip2930),
        TxType::Eip1559 => request.build_1559().map(TypedTransaction::Eip1559),
        TxType::Eip4844 => request.build_4844_variant().map(TypedTransaction::Eip4844),
        TxType::Eip7702 => request.build_7702().map(TypedTransaction::Eip7702),
    };
    built.map_err(|error| invalid(0, error))
}
