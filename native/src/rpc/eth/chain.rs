//! Facts about the chain and this node.

use crate::rpc::{Json, Params, RpcError, Scope};

pub fn chain_id(scope: &Scope<'_>, _params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.quantity(scope.engine().spec().chain_id);
    Ok(())
}

pub fn block_number(scope: &Scope<'_>, _params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.quantity(scope.engine().head().header.number);
    Ok(())
}

/// Always `false`: a commit is final, there is nothing to catch up with.
pub fn syncing(_scope: &Scope<'_>, _params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.bool(false);
    Ok(())
}

pub fn coinbase(scope: &Scope<'_>, _params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.hex(scope.engine().controls().coinbase);
    Ok(())
}

/// Which history this node can serve.
pub fn capabilities(scope: &Scope<'_>, _params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    let view = scope.view()?;
    let oldest_state = view.oldest_state()?;
    let mut object = out.object();
    let mut head = object.field("head").object();
    head.field("number").quantity(view.head().header.number);
    head.field("hash").hex(view.head().hash);
    head.end();
    let resources = [
        ("state", oldest_state),
        ("tx", 0),
        ("logs", 0),
        ("receipts", 0),
        ("blocks", 0),
        ("stateproofs", oldest_state),
    ];
    for (name, oldest) in resources {
        let mut resource = object.field(name).object();
        resource.field("disabled").bool(false);
        resource.field("oldestBlock").quantity(oldest);
        resource.end();
    }
    object.end();
    Ok(())
}
