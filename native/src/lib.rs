//! `zerog._native`: the native execution engine of zerog.
//!
//! The rooms: [`state`] stores, [`execution`] runs blocks and calls, [`pool`] holds what waits, [`engine`] moves the
//! chain, [`rpc`] serves it, [`keys`] signs, [`data`] hashes what storage keeps. They meet through the plain values of [`primitives`]. The Python surface
//! is in `python` and does nothing but translate.

#[cfg(all(feature = "python", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod data;
mod decode;
pub mod engine;
pub mod execution;
pub mod keys;
pub mod pool;
pub mod primitives;
#[cfg(feature = "python")]
mod python;
pub mod rpc;
pub mod state;
