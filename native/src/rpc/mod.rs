//! JSON-RPC over HTTP and WebSocket: native namespaces, and a bridge to handlers registered from Python.
//!
//! A native method is a plain function `fn(&Scope, Params, &mut Json) -> Result<(), RpcError>`: it decodes its
//! arguments from the request's own bytes, reads through the scope's view and writes its result as JSON straight into
//! the response. Rooms publish their functions as a `METHODS` table; [`dispatch::Dispatcher`] owns the whole table.
//!
//! ```ignore
//! pub const METHODS: &[Method] = &[
//!     method("eth_blockNumber", Class::Inline, block_number),
//!     method("eth_call", Class::Adaptive, call),
//! ];
//!
//! fn block_number(scope: &Scope<'_>, _params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
//!     out.quantity(scope.view()?.head().header.number);
//!     Ok(())
//! }
//! ```
//!
//! Rules of the room: everything from outside is bounded before it is stored; a method that may take longer than a few
//! microseconds never runs where connections are served without a deadline; nothing here takes the GIL.

pub mod bridge;
pub mod codec;
pub mod config;
mod connection;
pub mod dispatch;
pub mod error;
pub mod eth;
pub mod execute;
mod filters;
pub mod http;
pub mod json;
mod net;
pub mod params;
mod pubsub;
mod request;
mod sending;
pub mod server;
#[cfg(test)]
mod tests;
mod txpool;
pub mod wallet;
mod ws;

pub use bridge::{Bridge, Caller, Reply};
pub use config::{Accounts, Listen, RpcConfig};
pub use dispatch::{method, Class, Context, Method, Scope};
pub use error::RpcError;
pub use execute::Dispatcher;
pub use json::Json;
pub use params::Params;
pub use pubsub::Push;
pub use server::{ServeError, Server};

/// Every native method.
const TABLES: &[&[Method]] = &[eth::METHODS, filters::METHODS, net::METHODS, txpool::METHODS, wallet::METHODS];
