//! `web3_*` and `net_*`.

use alloy_primitives::keccak256;

use super::dispatch::{method, Class, Method, Scope};
use super::error::RpcError;
use super::json::Json;
use super::params::Params;

pub const METHODS: &[Method] = &[
    method("web3_clientVersion", Class::Inline, client_version),
    method("web3_sha3", Class::Inline, sha3),
    method("net_version", Class::Inline, version),
    method("net_listening", Class::Inline, listening),
    method("net_peerCount", Class::Inline, peer_count),
];

/// Name, version and platform, in the form that clients parse.
pub fn client() -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("zerog/v{}/{os}-{arch}/rust", env!("CARGO_PKG_VERSION"))
}

fn client_version(_: &Scope<'_>, _: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.string(&client());
    Ok(())
}

fn sha3(_: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    out.hex(keccak256(params.data(0)?));
    Ok(())
}

fn version(scope: &Scope<'_>, _: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.byte(b'"');
    out.raw(itoa::Buffer::new().format(scope.engine().spec().chain_id));
    out.byte(b'"');
    Ok(())
}

fn listening(_: &Scope<'_>, _: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.bool(true);
    Ok(())
}

fn peer_count(_: &Scope<'_>, _: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.quantity(0);
    Ok(())
}
