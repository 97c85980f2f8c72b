//! The kernels of storage.

use std::fs::File;
use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::{error, work};
use crate::data::pora::{self, Answer, Search, Task};
use crate::data::segment::{Segment, MAX_PATH};
use crate::data::{file, flow, keccak, merkle, DataError, Hash};

/// Between two looks for Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(100);

impl From<DataError> for PyErr {
    fn from(failure: DataError) -> PyErr {
        match failure {
            DataError::Segment { field, detail } => {
                let result = error("segment", detail);
                match Python::attach(|py| result.value(py).setattr("field", field)) {
                    Ok(()) => result,
                    Err(failure) => failure,
                }
            }
            other => error("storage", other),
        }
    }
}

/// Contiguous bytes of a Python object, held while native code reads them.
struct Input(PyBuffer<u8>);

impl<'a, 'py> FromPyObject<'a, 'py> for Input {
    type Error = PyErr;
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Input> {
        let buffer = PyBuffer::<u8>::get(&object)?;
        if buffer.is_c_contiguous() {
            Ok(Input(buffer))
        } else {
            Err(error("storage", "the bytes must be contiguous"))
        }
    }
}

impl Input {
    fn bytes(&self) -> &[u8] {
        if self.0.len_bytes() == 0 {
            return &[];
        }
        // SAFETY: the buffer is contiguous and stays exported, so that its memory lives and keeps its size as long as
        // `self`. As with hashlib, a caller that writes into it meanwhile gets the hash of something in between.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), self.0.len_bytes()) }
    }
}

fn hash_of(name: &str, bytes: &[u8]) -> PyResult<Hash> {
    Hash::try_from(bytes).map_err(|_| error("storage", format!("{name} has 32 bytes, not {}", bytes.len())))
}

fn hashes_of(bytes: &[u8]) -> PyResult<Vec<Hash>> {
    match bytes.as_chunks::<32>() {
        (hashes, []) if !hashes.is_empty() => Ok(hashes.to_vec()),
        _ => Err(error("storage", format!("hashes have 32 bytes each; {} bytes are none", bytes.len()))),
    }
}

type PyProof<'py> = (Vec<Bound<'py, PyBytes>>, Vec<bool>);

fn proof_object(py: Python<'_>, (lemma, path): merkle::Proof) -> PyProof<'_> {
    (lemma.iter().map(|hash| PyBytes::new(py, hash)).collect(), path)
}

#[pyfunction]
fn keccak256_each<'py>(py: Python<'py>, data: Input, length: usize) -> PyResult<Bound<'py, PyBytes>> {
    let size = data.bytes().len();
    if length == 0 || !size.is_multiple_of(length) {
        return Err(error("storage", format!("{size} bytes are not messages of {length} bytes each")));
    }
    let mut hashes = vec![[0; 32]; size / length];
    work(py, || {
        keccak::many(data.bytes(), length, &mut hashes);
        Ok::<_, DataError>(())
    })?;
    Ok(PyBytes::new(py, hashes.as_flattened()))
}

#[pyfunction]
#[pyo3(signature = (data, leaves=0))]
fn merkle_root<'py>(py: Python<'py>, data: Input, leaves: u64) -> PyResult<Bound<'py, PyBytes>> {
    let root = work(py, || merkle::root(data.bytes(), leaves))?;
    Ok(PyBytes::new(py, &root))
}

#[pyfunction]
fn fold_roots<'py>(py: Python<'py>, roots: Input) -> PyResult<Bound<'py, PyBytes>> {
    let hashes = hashes_of(roots.bytes())?;
    let root = py.detach(|| merkle::fold(&hashes));
    Ok(PyBytes::new(py, &root))
}

#[pyfunction]
fn file_proof<'py>(py: Python<'py>, segment_roots: Input, index: u64) -> PyResult<PyProof<'py>> {
    let roots = hashes_of(segment_roots.bytes())?;
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    let proof = work(py, || merkle::proof(&merkle::levels(roots), index))?;
    Ok(proof_object(py, proof))
}

#[pyfunction]
fn subtree_roots<'py>(py: Python<'py>, data: Input, leaves: u64) -> PyResult<Bound<'py, PyBytes>> {
    let heap = work(py, || merkle::subtree(data.bytes(), leaves))?;
    Ok(PyBytes::new(py, heap.as_flattened()))
}

#[pyfunction]
fn empty_root(py: Python<'_>, height: usize) -> PyResult<Bound<'_, PyBytes>> {
    Ok(PyBytes::new(py, &merkle::empty_root(height)?))
}

#[pyfunction]
fn verify_segment<'py>(
    py: Python<'py>,
    root: &[u8],
    file_size: u64,
    index: u64,
    data: Input,
    lemma: &Bound<'py, PyAny>,
    path: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let refusal = |field| PyErr::from(DataError::Segment { field, detail: "invalid proof" });
    let root = Hash::try_from(root).map_err(|_| refusal("root"))?;
    // Counted before anything is copied: the sequences come from a stranger.
    if lemma.len()? > MAX_PATH + 2 || path.len()? > MAX_PATH {
        return Err(refusal("proof"));
    }
    let path: Vec<bool> = path.extract()?;
    let mut hashes = Vec::with_capacity(MAX_PATH + 2);
    for item in lemma.try_iter()? {
        let item = item?;
        let bytes: &[u8] = item.extract()?;
        hashes.push(Hash::try_from(bytes).map_err(|_| refusal("proof"))?);
    }
    let segment = Segment { root: &root, file_size, index, data: data.bytes(), lemma: &hashes, path: &path };
    let found = work(py, || segment.verify())?;
    Ok(PyBytes::new(py, &found))
}

/// Segment roots, nodes and proofs of one file.
#[pyclass(frozen, module = "zerog._native")]
struct FileTree(file::FileTree);

#[pymethods]
impl FileTree {
    #[staticmethod]
    #[pyo3(signature = (path, offset=0, length=None, threads=0, progress=None))]
    fn from_file(
        py: Python<'_>,
        path: PathBuf,
        offset: u64,
        length: Option<u64>,
        threads: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<FileTree> {
        let mut raised = None;
        let tree = work(py, || {
            let mut told = (0, Instant::now());
            let mut tell = |done: u64| {
                let is_news = progress.is_some() && done != told.0;
                if !is_news && told.1.elapsed() < SIGNALS {
                    return true;
                }
                told = (done, Instant::now());
                let outcome = Python::attach(|py| {
                    py.check_signals()?;
                    match &progress {
                        Some(progress) if is_news => progress.call1(py, (done,)).map(drop),
                        _ => Ok(()),
                    }
                });
                outcome.map_err(|failure| raised = Some(failure)).is_ok()
            };
            Ok::<_, PyErr>(file::FileTree::from_file(&path, offset, length, threads, &mut tell))
        })?;
        match raised {
            Some(failure) => Err(failure),
            None => Ok(FileTree(tree?)),
        }
    }

    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: Input) -> PyResult<FileTree> {
        work(py, || file::FileTree::from_bytes(data.bytes())).map(FileTree)
    }

    #[getter]
    fn size(&self) -> u64 {
        self.0.size()
    }

    #[getter]
    fn root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.root())
    }

    #[getter]
    fn segment_roots<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.segment_roots().as_flattened())
    }

    #[getter]
    fn nodes<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, u32)> {
        let nodes = py.detach(|| self.0.nodes());
        nodes.iter().map(|(root, height)| (PyBytes::new(py, root), *height)).collect()
    }

    fn proof<'py>(&self, py: Python<'py>, index: u64) -> PyResult<PyProof<'py>> {
        Ok(proof_object(py, self.0.proof(index)?))
    }
}

/// The same tree out of a stream.
#[pyclass(module = "zerog._native")]
struct FileTreeBuilder(Option<file::FileTreeBuilder>);

#[pymethods]
impl FileTreeBuilder {
    #[new]
    fn new(size: u64) -> PyResult<FileTreeBuilder> {
        Ok(FileTreeBuilder(Some(file::FileTreeBuilder::new(size)?)))
    }

    fn update(&mut self, py: Python<'_>, data: Input) -> PyResult<()> {
        let Some(builder) = &mut self.0 else {
            return Err(error("storage", "the tree is finished"));
        };
        work(py, || builder.update(data.bytes()))
    }

    fn finish(&mut self, py: Python<'_>) -> PyResult<FileTree> {
        let Some(builder) = self.0.take() else {
            return Err(error("storage", "the tree is finished"));
        };
        work(py, || builder.finish()).map(FileTree)
    }
}

/// The append-only tree of the Flow contract.
#[pyclass(module = "zerog._native")]
struct FlowFrontier(flow::FlowFrontier);

#[pymethods]
impl FlowFrontier {
    #[new]
    #[pyo3(signature = (state=None))]
    fn new(state: Option<&[u8]>) -> PyResult<FlowFrontier> {
        let frontier = match state {
            Some(state) => flow::FlowFrontier::from_state(state)?,
            None => flow::FlowFrontier::default(),
        };
        Ok(FlowFrontier(frontier))
    }

    #[getter]
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn append(&mut self, nodes: Vec<(Vec<u8>, u32)>) -> PyResult<u64> {
        let nodes: Vec<(Hash, u32)> =
            nodes.iter().map(|(root, height)| Ok((hash_of("a root", root)?, *height))).collect::<PyResult<_>>()?;
        Ok(self.0.append(&nodes)?)
    }

    fn root<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.root())
    }

    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.state())
    }
}

type Transform = fn(&mut [u8], &Hash, &Hash, u64) -> Result<(), DataError>;

fn transform<'py>(
    py: Python<'py>,
    data: &Input,
    miner_id: &[u8],
    context_digest: &[u8],
    position: u64,
    change: Transform,
) -> PyResult<Bound<'py, PyBytes>> {
    let (miner, context) = (hash_of("a miner id", miner_id)?, hash_of("a context digest", context_digest)?);
    let changed = work(py, || {
        let mut bytes = data.bytes().to_vec();
        change(&mut bytes, &miner, &context, position).map(|()| bytes)
    })?;
    Ok(PyBytes::new(py, &changed))
}

#[pyfunction]
fn pora_seal<'py>(
    py: Python<'py>,
    data: Input,
    miner_id: &[u8],
    context_digest: &[u8],
    position: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    transform(py, &data, miner_id, context_digest, position, pora::seal)
}

#[pyfunction]
fn pora_unseal<'py>(
    py: Python<'py>,
    sealed: Input,
    miner_id: &[u8],
    context_digest: &[u8],
    position: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    transform(py, &sealed, miner_id, context_digest, position, pora::unseal)
}

fn task_of(
    miner_id: &[u8],
    subtask_digest: &[u8],
    range: (u64, u64),
    (shard_id, shard_mask): (u64, u64),
) -> PyResult<Task> {
    Ok(Task {
        miner: hash_of("a miner id", miner_id)?,
        subtask: hash_of("a subtask digest", subtask_digest)?,
        start: range.0,
        length: range.1,
        shard_id,
        shard_mask,
    })
}

type Triple<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn pora_scratch_pad<'py>(
    py: Python<'py>,
    miner_id: &[u8],
    nonce: &[u8],
    subtask_digest: &[u8],
    start: u64,
    length: u64,
    shard_id: u64,
    shard_mask: u64,
) -> PyResult<Triple<'py>> {
    let task = task_of(miner_id, subtask_digest, (start, length), (shard_id, shard_mask))?;
    let nonce = hash_of("a nonce", nonce)?;
    let pad = work(py, || pora::scratch_pad(&task, &nonce))?;
    Ok((PyBytes::new(py, &pad.pad), PyBytes::new(py, &pad.seed), PyBytes::new(py, &pad.recall_seed)))
}

type PyHit<'py> = (Bound<'py, PyBytes>, u64, u64, Bound<'py, PyBytes>);

#[pyfunction]
#[pyo3(signature = (fd, available, miner_id, subtask_digest, start, length, shard_id, shard_mask, target, nonce, iterations, threads=1))]
#[allow(clippy::too_many_arguments)]
fn pora_search<'py>(
    py: Python<'py>,
    fd: RawFd,
    available: Input,
    miner_id: &[u8],
    subtask_digest: &[u8],
    start: u64,
    length: u64,
    shard_id: u64,
    shard_mask: u64,
    target: &[u8],
    nonce: &[u8],
    iterations: u64,
    threads: usize,
) -> PyResult<Vec<PyHit<'py>>> {
    let (masks, rest) = available.bytes().as_chunks::<8>();
    if !rest.is_empty() {
        return Err(error("storage", "what is available is one 64-bit mask a load"));
    }
    if fd < 0 {
        return Err(error("storage", format!("{fd} is no open file")));
    }
    // SAFETY: the caller keeps the file open during this call, which the signature asks for; a closed descriptor makes
    // the duplication fail.
    let file = unsafe { BorrowedFd::borrow_raw(fd) }
        .try_clone_to_owned()
        .map_err(|failure| error("storage", format!("descriptor {fd}: {failure}")))?;
    let file = File::from(file);
    let search = Search {
        task: task_of(miner_id, subtask_digest, (start, length), (shard_id, shard_mask))?,
        sealed: &file,
        available: masks.iter().map(|mask| u64::from_le_bytes(*mask)).collect(),
        target: hash_of("a target", target)?,
        nonce: hash_of("a nonce", nonce)?,
        iterations,
        threads,
    };
    let hits = work(py, || search.run(&|| true))?;
    Ok(hits
        .iter()
        .map(|hit| (PyBytes::new(py, &hit.nonce), hit.load, hit.seal_offset, PyBytes::new(py, &hit.hash)))
        .collect())
}

#[pyfunction]
#[pyo3(signature = (miner_id, nonce, subtask_digest, start, length, shard_id, shard_mask, recall_position, seal_offset, sealed_context_digest, sealed, proof, unseal=true))]
#[allow(clippy::too_many_arguments)]
fn pora_verify<'py>(
    py: Python<'py>,
    miner_id: &[u8],
    nonce: &[u8],
    subtask_digest: &[u8],
    start: u64,
    length: u64,
    shard_id: u64,
    shard_mask: u64,
    recall_position: u64,
    seal_offset: u64,
    sealed_context_digest: &[u8],
    sealed: Input,
    proof: Input,
    unseal: bool,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>, u64)> {
    let (siblings, rest) = proof.bytes().as_chunks::<32>();
    if !rest.is_empty() {
        return Err(error("storage", "a proof is hashes of 32 bytes each"));
    }
    let answer = Answer {
        task: task_of(miner_id, subtask_digest, (start, length), (shard_id, shard_mask))?,
        nonce: hash_of("a nonce", nonce)?,
        recall_position,
        seal_offset,
        sealed_context: hash_of("a context digest", sealed_context_digest)?,
        unseal,
        sealed: sealed.bytes(),
        proof: siblings,
    };
    let verdict = work(py, || answer.evaluate())?;
    Ok((PyBytes::new(py, &verdict.hash), PyBytes::new(py, &verdict.root), verdict.position))
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<FileTree>()?;
    module.add_class::<FileTreeBuilder>()?;
    module.add_class::<FlowFrontier>()?;
    module.add_function(wrap_pyfunction!(keccak256_each, module)?)?;
    module.add_function(wrap_pyfunction!(merkle_root, module)?)?;
    module.add_function(wrap_pyfunction!(fold_roots, module)?)?;
    module.add_function(wrap_pyfunction!(file_proof, module)?)?;
    module.add_function(wrap_pyfunction!(subtree_roots, module)?)?;
    module.add_function(wrap_pyfunction!(empty_root, module)?)?;
    module.add_function(wrap_pyfunction!(verify_segment, module)?)?;
    module.add_function(wrap_pyfunction!(pora_seal, module)?)?;
    module.add_function(wrap_pyfunction!(pora_unseal, module)?)?;
    module.add_function(wrap_pyfunction!(pora_scratch_pad, module)?)?;
    module.add_function(wrap_pyfunction!(pora_search, module)?)?;
    module.add_function(wrap_pyfunction!(pora_verify, module)?)
}
