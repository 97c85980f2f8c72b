//! Public fixture files, case by case as JSON lines `{name, fork, pass, stateRoot, error}`.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;

use super::errors::error;
use crate::execution::fixtures::{self, FixtureError};

fn lines(
    py: Python<'_>,
    path: PathBuf,
    run: fn(&Path) -> Result<Vec<String>, FixtureError>,
) -> PyResult<Vec<String>> {
    py.detach(|| run(&path)).map_err(|failure| error("other", failure))
}

#[pyfunction]
fn state_test(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    lines(py, path, fixtures::state_test)
}

#[pyfunction]
fn block_test(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    lines(py, path, fixtures::block_test)
}

#[pyfunction]
fn transaction_test(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    lines(py, path, fixtures::transaction_test)
}

#[pyfunction]
fn trie_test(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    lines(py, path, fixtures::trie_test)
}

#[pyfunction]
fn rlp_test(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    lines(py, path, fixtures::rlp_test)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(state_test, module)?)?;
    module.add_function(wrap_pyfunction!(block_test, module)?)?;
    module.add_function(wrap_pyfunction!(transaction_test, module)?)?;
    module.add_function(wrap_pyfunction!(trie_test, module)?)?;
    module.add_function(wrap_pyfunction!(rlp_test, module)?)
}
