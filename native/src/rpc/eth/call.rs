//! Executions that leave no trace: calls, gas estimates, access lists, and completing a transaction's fields.

use alloy_consensus::{SignableTransaction, TypedTransaction};
use alloy_eips::eip2930::AccessList;
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, Bytes, Signature, TxKind, B256, U256};
use alloy_rpc_types_eth::state::StateOverride;
use alloy_rpc_types_eth::{BlockOverrides, TransactionInput, TransactionRequest};
use serde_json::value::RawValue;

use super::block_id::{with_context, BlockId};
use super::encode;
use crate::decode;
use crate::execution::{self, CallOptions};
use crate::rpc::params::{invalid, missing};
use crate::rpc::sending;
use crate::rpc::{Json, Params, RpcError, Scope};

/// A transaction object as clients send it. Differs from alloy's type by what it refuses and how fast it reads.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Request {
    from: Option<Address>,
    to: Option<TxKind>,
    #[serde(with = "alloy_serde::quantity::opt")]
    gas: Option<u64>,
    #[serde(with = "alloy_serde::quantity::opt")]
    gas_price: Option<u128>,
    #[serde(with = "alloy_serde::quantity::opt")]
    max_fee_per_gas: Option<u128>,
    #[serde(with = "alloy_serde::quantity::opt")]
    max_priority_fee_per_gas: Option<u128>,
    #[serde(with = "alloy_serde::quantity::opt")]
    max_fee_per_blob_gas: Option<u128>,
    value: Option<U256>,
    data: Option<Bytes>,
    input: Option<Bytes>,
    #[serde(with = "alloy_serde::quantity::opt")]
    nonce: Option<u64>,
    #[serde(with = "alloy_serde::quantity::opt")]
    chain_id: Option<u64>,
    access_list: Option<AccessList>,
    #[serde(rename = "type", with = "alloy_serde::quantity::opt")]
    kind: Option<u8>,
    blob_versioned_hashes: Option<Vec<B256>>,
    authorization_list: Option<Vec<SignedAuthorization>>,
}

impl Request {
    fn into_alloy(self) -> TransactionRequest {
        TransactionRequest {
            from: self.from,
            to: self.to,
            gas_price: self.gas_price,
            max_fee_per_gas: self.max_fee_per_gas,
            max_priority_fee_per_gas: self.max_priority_fee_per_gas,
            max_fee_per_blob_gas: self.max_fee_per_blob_gas,
            gas: self.gas,
            value: self.value,
            input: TransactionInput { input: self.input, data: self.data },
            nonce: self.nonce,
            chain_id: self.chain_id,
            access_list: self.access_list,
            transaction_type: self.kind,
            blob_versioned_hashes: self.blob_versioned_hashes,
            sidecar: None,
            authorization_list: self.authorization_list,
        }
    }
}

/// Reads a transaction object.
pub fn parse_request(raw: &RawValue) -> Result<TransactionRequest, String> {
    decode::from_json::<Request>(raw.get()).map(Request::into_alloy)
}

/// Argument `index` as a transaction to send or sign, which may bring blobs.
pub fn transaction_argument(params: &Params<'_>, index: usize) -> Result<TransactionRequest, RpcError> {
    // alloy's type reads some members late and cannot name them then.
    params.required(index).map_err(|error| request_argument(params, index).err().unwrap_or(error))
}

/// Argument `index` as a transaction object.
pub fn request_argument(params: &Params<'_>, index: usize) -> Result<TransactionRequest, RpcError> {
    let raw = params.raw(index).ok_or_else(|| missing(index))?;
    parse_request(raw).map_err(|why| invalid(index, why))
}

/// State and block overrides at `index` and `index + 1`, and the server's bounds.
fn call_options(scope: &Scope<'_>, params: &Params<'_>, index: usize) -> Result<CallOptions, RpcError> {
    let state: Option<StateOverride> = params.optional(index)?;
    let block: Option<BlockOverrides> = params.optional(index + 1)?;
    Ok(CallOptions { state, block, gas_cap: scope.config().gas_cap, deadline: Some(scope.deadline()) })
}

pub fn call(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(4)?;
    let request = request_argument(&params, 0)?;
    let options = call_options(scope, &params, 2)?;
    let spec = scope.engine().spec();
    let outcome = with_context(scope, BlockId::argument(&params, 1)?, |context, state| {
        Ok(execution::call(&spec, context, state, &request, &options)?)
    })?;
    out.hex(&outcome.output);
    Ok(())
}

pub fn estimate_gas(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(4)?;
    let request = request_argument(&params, 0)?;
    let options = call_options(scope, &params, 2)?;
    let spec = scope.engine().spec();
    let gas = with_context(scope, BlockId::argument(&params, 1)?, |context, state| {
        Ok(execution::estimate_gas(&spec, context, state, &request, &options)?)
    })?;
    out.quantity(gas);
    Ok(())
}

pub fn create_access_list(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(3)?;
    let request = request_argument(&params, 0)?;
    let options = call_options(scope, &params, 2)?;
    let spec = scope.engine().spec();
    let (list, gas, error) = with_context(scope, BlockId::argument(&params, 1)?, |context, state| {
        Ok(execution::create_access_list(&spec, context, state, &request, &options)?)
    })?;
    let mut object = out.object();
    encode::access_list(object.field("accessList"), &list);
    if let Some(error) = error {
        object.field("error").string(&error);
    }
    object.field("gasUsed").quantity(gas);
    object.end();
    Ok(())
}

/// The unsigned transaction with every field filled, as bytes and as an object.
pub fn fill_transaction(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    let mut request = request_argument(&params, 0)?;
    request.from.get_or_insert(Address::ZERO);
    let signature = Signature::new(U256::ZERO, U256::ZERO, false);
    let envelope = match sending::fill(scope, request)?.tx {
        TypedTransaction::Legacy(tx) => tx.into_signed(signature).into(),
        TypedTransaction::Eip2930(tx) => tx.into_signed(signature).into(),
        TypedTransaction::Eip1559(tx) => tx.into_signed(signature).into(),
        TypedTransaction::Eip4844(tx) => alloy_consensus::TxEip4844::from(tx).into_signed(signature).into(),
        TypedTransaction::Eip7702(tx) => tx.into_signed(signature).into(),
    };
    write_filled(&envelope, out);
    Ok(())
}

fn write_filled(envelope: &crate::primitives::Transaction, out: &mut Json) {
    use alloy_eips::eip2718::Encodable2718;
    let mut object = out.object();
    object.field("raw").hex(envelope.encoded_2718());
    let mut tx = object.field("tx").object();
    encode::transaction_members(&mut tx, envelope);
    tx.field("hash").hex(envelope.tx_hash());
    tx.end();
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_object_is_read_with_data_or_input() {
        let raw = RawValue::from_string(r#"{"to":null,"data":"0x01","gas":"0x5208","value":"0x0","extra":1}"#.into())
            .unwrap();
        let request = parse_request(&raw).unwrap();
        assert_eq!(request.gas, Some(21_000));
        assert_eq!(request.input.input(), Some(&Bytes::from_static(&[1])));
        let bad = RawValue::from_string(r#"{"gas":"hello"}"#.into()).unwrap();
        assert!(parse_request(&bad).is_err());
    }
}
