//! `zerog._native`: the native execution engine of zerog.
#![allow(clippy::todo, dead_code)]
pub mod engine;
pub mod execution;
pub mod pool;
pub mod primitives;
pub mod rpc;
pub mod state;
