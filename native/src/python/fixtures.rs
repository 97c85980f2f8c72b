//! Public fixture files, case by case as JSON lines.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;

use super::errors::{error, work};
use crate::execution::fixtures::{self, FixtureError};

type Runner = fn(&Path) -> Result<Vec<String>, FixtureError>;

fn run(py: Python<'_>, runner: Runner, path: &Path) -> PyResult<Vec<String>> {
    work(py, || runner(path).map_err(|failure| error("other", failure)))
}

/// State tests of a file or folder: one JSON line per case and fork, in the order of the files.
#[pyfunction]
fn state_test(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    run(py, fixtures::state_test, &path)
}

/// Blockchain tests of a file or folder.
#[pyfunction]
fn block_test(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    run(py, fixtures::block_test, &path)
}

/// Transaction tests of a file or folder.
#[pyfunction]
fn transaction_test(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    run(py, fixtures::transaction_test, &path)
}

/// Trie tests of a file or folder.
#[pyfunction]
fn trie_test(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    run(py, fixtures::trie_test, &path)
}

/// RLP tests of a file or folder.
#[pyfunction]
fn rlp_test(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
    run(py, fixtures::rlp_test, &path)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(state_test, module)?)?;
    module.add_function(wrap_pyfunction!(block_test, module)?)?;
    module.add_function(wrap_pyfunction!(transaction_test, module)?)?;
    module.add_function(wrap_pyfunction!(trie_test, module)?)?;
    module.add_function(wrap_pyfunction!(rlp_test, module)?)
}
