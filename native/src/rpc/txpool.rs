//! `txpool_*`: what waits in the pool, by sender and nonce.

use alloy_consensus::Transaction as _;
use alloy_primitives::Address;

use super::dispatch::{method, Class, Method, Scope};
use super::error::RpcError;
use super::eth::encode;
use super::json::Json;
use super::params::Params;
use crate::pool::{PoolContent, PooledTx};

pub const METHODS: &[Method] = &[
    method("txpool_status", Class::Inline, status),
    method("txpool_content", Class::Heavy, content),
    method("txpool_contentFrom", Class::Heavy, content_from),
    method("txpool_inspect", Class::Heavy, inspect),
];

fn status(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(0)?;
    let (pending, queued) = scope.engine().pool().status();
    let mut object = out.object();
    object.field("pending").quantity(pending as u64);
    object.field("queued").quantity(queued as u64);
    object.end();
    Ok(())
}

fn content(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(0)?;
    by_sender(&scope.engine().pool().content(), out, full);
    Ok(())
}

fn inspect(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(0)?;
    by_sender(&scope.engine().pool().content(), out, |pooled, out| out.string(&summary(pooled)));
    Ok(())
}

fn content_from(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    let sender = params.address(0)?;
    let content = scope.engine().pool().content_from(&sender);
    let of = |list: &[(Address, Vec<PooledTx>)]| -> Vec<PooledTx> {
        list.iter().flat_map(|(_, transactions)| transactions.iter().cloned()).collect()
    };
    let mut object = out.object();
    by_nonce(&of(&content.pending), object.field("pending"), full);
    by_nonce(&of(&content.queued), object.field("queued"), full);
    object.end();
    Ok(())
}

fn by_sender(content: &PoolContent, out: &mut Json, write: fn(&PooledTx, &mut Json)) {
    let mut object = out.object();
    for (name, list) in [("pending", &content.pending), ("queued", &content.queued)] {
        let mut senders = object.field(name).object();
        for (sender, transactions) in list {
            by_nonce(transactions, senders.field(&sender.to_checksum(None)), write);
        }
        senders.end();
    }
    object.end();
}

fn by_nonce(transactions: &[PooledTx], out: &mut Json, write: fn(&PooledTx, &mut Json)) {
    let mut object = out.object();
    for pooled in transactions {
        write(pooled, object.field(itoa::Buffer::new().format(pooled.tx.tx.nonce())));
    }
    object.end();
}

fn full(pooled: &PooledTx, out: &mut Json) {
    encode::transaction(out, &pooled.tx, None);
}

/// geth's one-line form.
fn summary(pooled: &PooledTx) -> String {
    let tx = &pooled.tx.tx;
    let price = tx.max_fee_per_gas();
    match tx.to() {
        Some(to) => format!("{}: {} wei + {} gas × {price} wei", to.to_checksum(None), tx.value(), tx.gas_limit()),
        None => format!("contract creation: {} wei + {} gas × {price} wei", tx.value(), tx.gas_limit()),
    }
}
