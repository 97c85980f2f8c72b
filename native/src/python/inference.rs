//! What the native contracts of Proof-of-Inference share with Python.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::{error, work};
use crate::execution::{dcap, receipts};

/// Storage slots of the inference registry that the native contract reads, by the names of its members.
#[pyfunction]
fn receipt_slots() -> Vec<(&'static str, u64)> {
    receipts::SLOTS.to_vec()
}

/// Status, measurement, report data, expiry of a quote, as the native contract judges it at `now`.
#[pyfunction]
#[allow(clippy::type_complexity)]
fn verify_quote<'py>(
    py: Python<'py>,
    quote: &[u8],
    collateral: &[u8],
    now: u64,
) -> PyResult<(u8, Bound<'py, PyBytes>, Bound<'py, PyBytes>, u64)> {
    let verdict = work(py, || dcap::verify(quote, collateral, now).map_err(|reason| error("quote", reason)))?;
    let measurement = PyBytes::new(py, verdict.measurement.as_slice());
    Ok((verdict.status, measurement, PyBytes::new(py, &verdict.report_data), verdict.expires))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(receipt_slots, module)?)?;
    module.add_function(wrap_pyfunction!(verify_quote, module)?)
}
