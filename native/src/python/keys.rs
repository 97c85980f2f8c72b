//! Keys, signatures, typed data.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::{error, work};
use crate::keys;
use crate::primitives::B256;

fn digest_of(digest: &[u8]) -> PyResult<B256> {
    B256::try_from(digest).map_err(|_| error("keystore", format!("a digest has 32 bytes, not {}", digest.len())))
}

/// keccak-256, 32 bytes.
#[pyfunction]
fn keccak256<'py>(py: Python<'py>, data: &[u8]) -> Bound<'py, PyBytes> {
    // 20 µs are about 8 KiB of input.
    let hash = if data.len() > 8192 {
        py.detach(|| alloy_primitives::keccak256(data))
    } else {
        alloy_primitives::keccak256(data)
    };
    PyBytes::new(py, hash.as_slice())
}

#[pyfunction]
fn derive_accounts<'py>(
    py: Python<'py>,
    mnemonic: &str,
    path: &str,
    count: u32,
) -> PyResult<Vec<(String, Bound<'py, PyBytes>)>> {
    let accounts = work(py, || keys::derive_accounts(mnemonic, path, count))?;
    Ok(accounts.iter().map(|(address, key)| (address.to_string(), PyBytes::new(py, &**key))).collect())
}

#[pyfunction]
#[pyo3(signature = (words=12))]
fn random_mnemonic(words: usize) -> PyResult<String> {
    Ok(keys::random_mnemonic(words)?)
}

#[pyfunction]
fn keystore_encrypt(py: Python<'_>, key: &[u8], password: &[u8]) -> PyResult<String> {
    work(py, || keys::encrypt(key, password))
}

#[pyfunction]
fn keystore_decrypt<'py>(py: Python<'py>, keystore: &str, password: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let key = work(py, || keys::decrypt(keystore, password))?;
    Ok(PyBytes::new(py, &*key))
}

#[pyfunction]
fn address_of(py: Python<'_>, key: &[u8]) -> PyResult<String> {
    Ok(work(py, || keys::address_of(key))?.to_string())
}

#[pyfunction]
fn sign_digest<'py>(py: Python<'py>, key: &[u8], digest: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let digest = digest_of(digest)?;
    let signature = work(py, || keys::sign_digest(key, &digest))?;
    Ok(PyBytes::new(py, &signature))
}

#[pyfunction]
fn recover(py: Python<'_>, digest: &[u8], signature: &[u8]) -> PyResult<String> {
    let digest = digest_of(digest)?;
    Ok(work(py, || keys::recover(&digest, signature))?.to_string())
}

#[pyfunction]
fn recover_many(py: Python<'_>, raws: Vec<Vec<u8>>) -> Vec<Option<String>> {
    py.detach(|| {
        keys::recover_many(&raws).into_iter().map(|sender| sender.map(|address| address.to_string())).collect()
    })
}

#[pyfunction]
fn eip712_digest<'py>(py: Python<'py>, typed_data_json: &str) -> PyResult<Bound<'py, PyBytes>> {
    let digest = work(py, || keys::eip712_digest(typed_data_json))?;
    Ok(PyBytes::new(py, digest.as_slice()))
}

#[pyfunction]
fn sign_transaction<'py>(py: Python<'py>, key: &[u8], tx_json: &str) -> PyResult<Bound<'py, PyBytes>> {
    let raw = work(py, || keys::sign_transaction(key, tx_json))?;
    Ok(PyBytes::new(py, &raw))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(keccak256, module)?)?;
    module.add_function(wrap_pyfunction!(derive_accounts, module)?)?;
    module.add_function(wrap_pyfunction!(random_mnemonic, module)?)?;
    module.add_function(wrap_pyfunction!(keystore_encrypt, module)?)?;
    module.add_function(wrap_pyfunction!(keystore_decrypt, module)?)?;
    module.add_function(wrap_pyfunction!(address_of, module)?)?;
    module.add_function(wrap_pyfunction!(sign_digest, module)?)?;
    module.add_function(wrap_pyfunction!(recover, module)?)?;
    module.add_function(wrap_pyfunction!(recover_many, module)?)?;
    module.add_function(wrap_pyfunction!(eip712_digest, module)?)?;
    module.add_function(wrap_pyfunction!(sign_transaction, module)?)
}
