//! The `eth` and `debug` methods that read, call and trace.

use super::dispatch::Method;

/// Every method of this room, for the dispatcher's table.
pub const METHODS: &[Method] = &[];
