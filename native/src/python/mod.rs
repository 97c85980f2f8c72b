//! The Python surface, nothing else. Structured values travel as JSON text, binary ones as bytes; what takes longer
//! than 20 µs runs without the GIL; every error is a [`errors::NativeError`] with a kind.

mod data;
mod engine;
mod errors;
mod exchange;
mod fixtures;
mod inference;
mod keys;
mod server;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("version", env!("CARGO_PKG_VERSION"))?;
    module.add("NativeError", module.py().get_type::<errors::NativeError>())?;
    module.add_class::<engine::Engine>()?;
    server::register(module)?;
    data::register(module)?;
    inference::register(module)?;
    keys::register(module)?;
    fixtures::register(module)
}
