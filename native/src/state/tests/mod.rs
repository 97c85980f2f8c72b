//! Tests of the store through its public surface.

mod support;

mod directory;
mod history;
mod model;
mod reads;
