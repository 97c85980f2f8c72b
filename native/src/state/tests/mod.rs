//! Tests of the store through its public surface.

mod support;

mod codec;
mod directory;
mod history;
mod model;
mod reads;
