//! The public vectors, and properties of what strangers may send.

use std::fs::File;
use std::io::Write;

use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::file::{FileTree, FileTreeBuilder};
use super::flow::FlowFrontier;
use super::merkle::{self, leaves_of, padded_leaves, zeros};
use super::pora::{self, Answer, Search, Task, SEAL};
use super::segment::Segment;
use super::{keccak, DataError, Hash, LEAF, SEGMENT};

const MERKLE: &str = include_str!("../../../tests/storage/vectors/merkle.json");
const FLOW: &str = include_str!("../../../tests/storage/vectors/flow.json");
const PORA: &str = include_str!("../../../tests/storage/vectors/pora.json");

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn hash(value: &Value) -> Hash {
    value.as_str().unwrap().parse::<alloy_primitives::B256>().unwrap().0
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().unwrap().iter().map(hash).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn prng(size: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..size.div_ceil(32) as u64).flat_map(|index| Sha256::digest(index.to_be_bytes())).collect();
    bytes.truncate(size);
    bytes
}

fn nodes(value: &Value) -> Vec<(Hash, u32)> {
    let list = value.as_array().unwrap();
    list.iter().map(|node| (hash(&node["root"]), number(&node["height"]) as u32)).collect()
}

fn streamed(data: &[u8], step: usize) -> FileTree {
    let mut builder = FileTreeBuilder::new(data.len() as u64).unwrap();
    for part in data.chunks(step) {
        builder.update(part).unwrap();
    }
    builder.finish().unwrap()
}

fn from_disk(data: &[u8], threads: usize) -> FileTree {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"head").unwrap();
    file.write_all(data).unwrap();
    file.write_all(b"foot").unwrap();
    let length = Some(data.len() as u64);
    FileTree::from_file(file.path(), 4, length, threads, &mut |_| true).unwrap()
}

#[test]
fn files_of_the_vectors_have_their_roots_nodes_and_proofs() {
    let vectors = json(MERKLE);
    for kind in ["prng", "mod251"] {
        for entry in vectors[kind].as_array().unwrap() {
            let size = number(&entry["size"]) as usize;
            let data = if kind == "prng" { prng(size) } else { (0..size).map(|i| (i % 251) as u8).collect() };
            let trees = [
                FileTree::from_bytes(&data).unwrap(),
                streamed(&data, 100_001),
                from_disk(&data, 1),
                from_disk(&data, 3),
            ];
            for tree in trees {
                assert_eq!(tree.root(), hash(&entry["fileRoot"]), "{kind} {size}");
                assert_eq!(tree.nodes(), nodes(&entry["nodes"]));
                assert_eq!(tree.segment_roots(), hashes(&entry["segmentRoots"]));
                for proof in entry["proofs"].as_array().unwrap() {
                    let path: Vec<bool> =
                        proof["path"].as_array().unwrap().iter().map(|side| side.as_bool().unwrap()).collect();
                    let found = tree.proof(number(&proof["segment"])).unwrap();
                    assert_eq!(found, (hashes(&proof["lemma"]), path));
                }
            }
        }
    }
    assert_eq!(zeros()[..64], hashes(&vectors["emptyTreeRoots"]));
}

#[test]
fn the_flow_of_the_vectors_has_its_positions_and_roots() {
    let (files, flow) = (json(MERKLE), json(FLOW));
    let mut frontier = FlowFrontier::default();
    assert_eq!(frontier.root(), [0; 32]);
    for (step, file) in flow["submissions"].as_array().unwrap().iter().zip(files["prng"].as_array().unwrap()) {
        let position = frontier.append(&nodes(&file["nodes"])).unwrap();
        assert_eq!(position, number(&step["startPos"]));
        assert_eq!(frontier.length(), number(&step["currentLength"]));
        assert_eq!(frontier.root(), hash(&step["flowRoot"]));
        assert_eq!(FlowFrontier::from_state(&frontier.state()).unwrap(), frontier);
    }
}

/// Root of a perfect tree of `height` over leaves, the missing of which are zeros.
fn perfect_root(leaves: &[Hash], height: usize) -> Hash {
    if leaves.is_empty() {
        return zeros()[height];
    }
    if height == 0 {
        return leaves[0];
    }
    let cut = leaves.len().min(1 << (height - 1));
    keccak::pair(&perfect_root(&leaves[..cut], height - 1), &perfect_root(&leaves[cut..], height - 1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_frontier_equals_a_perfect_tree(sizes in prop::collection::vec(1u64..200, 1..12)) {
        let mut frontier = FlowFrontier::default();
        let mut leaves = vec![[0; 32]];
        for (seq, size) in sizes.iter().enumerate() {
            let data = prng((*size as usize) * LEAF - 1 - seq);
            let tree = FileTree::from_bytes(&data).unwrap();
            let position = frontier.append(&tree.nodes()).unwrap() as usize;
            prop_assert!(position >= leaves.len());
            // Nodes of one submission follow each other without gaps.
            leaves.resize(position, zeros()[0]);
            let mut own = vec![[0; 32]; padded_leaves(data.len() as u64) as usize];
            merkle::leaf_hashes(&data, &mut own);
            leaves.extend(own);
            prop_assert_eq!(frontier.length(), leaves.len() as u64);
            let height = leaves.len().next_power_of_two().trailing_zeros() as usize;
            prop_assert_eq!(frontier.root(), perfect_root(&leaves, height));
        }
    }

    #[test]
    fn a_changed_segment_or_proof_is_refused(
        kilobytes in 1usize..2500,
        pick in any::<u64>(),
        change in 0usize..9,
        at in any::<prop::sample::Index>(),
    ) {
        let data = prng(kilobytes * 1024 - (pick % 700) as usize);
        let tree = FileTree::from_bytes(&data).unwrap();
        let index = pick % data.len().div_ceil(SEGMENT) as u64;
        let start = index as usize * SEGMENT;
        let mut bytes = data[start..data.len().min(start + SEGMENT)].to_vec();
        bytes.resize(bytes.len().next_multiple_of(LEAF), 0);
        let (mut lemma, mut path) = tree.proof(index).unwrap();
        let (root, mut size, mut claimed) = (tree.root(), data.len() as u64, index);
        let verify = |bytes: &[u8], lemma: &[Hash], path: &[bool], size, index| {
            Segment { root: &root, file_size: size, index, data: bytes, lemma, path }.verify()
        };
        prop_assert_eq!(verify(&bytes, &lemma, &path, size, claimed), Ok(lemma[0]));
        match change {
            0 => { let position = at.index(bytes.len()); bytes[position] ^= 1; }
            1 => { let position = at.index(lemma.len()); lemma[position][7] ^= 1; }
            2 => claimed += 1,
            3 => lemma.push([1; 32]),
            4 => path.push(true),
            5 => { path.extend([true; 64]); lemma.extend([[0; 32]; 64]); }
            6 => { bytes.truncate(at.index(bytes.len())); }
            7 => size += 16 * SEGMENT as u64,
            _ => { lemma.clear(); path.clear(); }
        }
        let refused = matches!(verify(&bytes, &lemma, &path, size, claimed), Err(DataError::Segment { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn nothing_that_a_stranger_sends_panics(
        size in any::<u64>(), index in any::<u64>(), length in 0usize..5, root in any::<[u8; 32]>(),
        lemma in prop::collection::vec(any::<[u8; 32]>(), 0..70), path in prop::collection::vec(any::<bool>(), 0..70),
        small in any::<bool>(),
    ) {
        let data = vec![7; length * LEAF];
        let (size, index) = if small { (size % 1_000_000, index % 4) } else { (size, index) };
        let segment = Segment { root: &root, file_size: size, index, data: &data, lemma: &lemma, path: &path };
        let refused = matches!(segment.verify(), Err(DataError::Segment { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn sealing_comes_undone(pieces in 1usize..20, position in 0u64..1000, secret in any::<[u8; 32]>()) {
        let raw = prng(pieces * SEAL);
        let mut bytes = raw.clone();
        pora::seal(&mut bytes, &secret, &[3; 32], position * 16).unwrap();
        prop_assert_ne!(&bytes, &raw);
        pora::unseal(&mut bytes, &secret, &[3; 32], position * 16).unwrap();
        prop_assert_eq!(bytes, raw);
    }
}

fn refusal(size: u64, index: u64, data: &[u8], lemma: &[Hash], path: &[bool]) -> (&'static str, &'static str) {
    let root = lemma.last().copied().unwrap_or_default();
    match (Segment { root: &root, file_size: size, index, data, lemma, path }).verify() {
        Err(DataError::Segment { field, detail }) => (field, detail),
        other => panic!("accepted: {other:?}"),
    }
}

#[test]
fn refusals_name_the_field_and_the_detail() {
    let one = [[1; 32]];
    assert_eq!(refusal(1, 0, &[], &one, &[]), ("", "data is empty"));
    assert_eq!(refusal(1, 0, &[0; 255], &one, &[]), ("", "invalid data length"));
    assert_eq!(refusal(0, 0, &[0; 256], &one, &[]), ("file_size", "file is empty"));
    assert_eq!(refusal(1, 1, &[0; 256], &one, &[]), ("index", "index out of bound"));
    assert_eq!(refusal(1, 0, &[0; 512], &one, &[]), ("data", "invalid data length"));
    assert_eq!(refusal(1, 0, &[0; 256], &[[1; 32]; 2], &[]), ("proof", "invalid proof"));
    assert_eq!(refusal(1, 0, &[0; 256], &one, &[]), ("proof", "validation failed"));
}

#[test]
fn a_sibling_in_the_padding_must_be_zeros() {
    // 33 segments and a byte: the padded file has 36, and the last two are one sibling of padding only.
    let size = 33 * SEGMENT + 1;
    let honest = FileTree::from_bytes(&prng(size)).unwrap();
    let mut roots = honest.segment_roots().to_vec();
    assert_eq!(roots.len(), 36);
    let last = prng(size)[33 * SEGMENT..].to_vec();
    let mut data = last;
    data.resize(LEAF, 0);
    roots[35] = [9; 32];
    let levels = merkle::levels(roots);
    let (lemma, path) = merkle::proof(&levels, 33).unwrap();
    let found = refusal(size as u64, 33, &data, &lemma, &path);
    assert_eq!(found, ("proof", "invalid proof node value in the padding range"));
}

#[test]
fn a_state_that_contradicts_itself_is_refused() {
    let state = FlowFrontier::default().state();
    assert_eq!(state[..9], [1, 0, 0, 0, 0, 0, 0, 0, 1]);
    for broken in [&[][..], &state[..8], &state[..40], &[&state[..], &[0]].concat(), &[2; 41]] {
        assert!(FlowFrontier::from_state(broken).is_err());
    }
}

#[test]
fn a_refused_submission_changes_nothing() {
    let mut frontier = FlowFrontier::default();
    for nodes in [&[][..], &[([1; 32], 2), ([2; 32], 2)], &[([1; 32], 63)], &[([1; 32], u32::MAX)]] {
        assert!(frontier.append(nodes).is_err());
    }
    assert_eq!(frontier, FlowFrontier::default());
}

#[test]
fn a_root_needs_data_and_room() {
    assert!(merkle::root(&[], 0).is_err());
    assert!(merkle::root(&[0; 257], 1).is_err());
    assert_eq!(merkle::root(&[0; 1], 1 << 30).unwrap(), zeros()[30]);
    let data = prng(3_000_000);
    let mut leaves = vec![[0; 32]; leaves_of(3_000_000) as usize];
    merkle::leaf_hashes(&data, &mut leaves);
    assert_eq!(merkle::root(&data, 0).unwrap(), merkle::fold(&leaves));
}

#[test]
fn a_file_that_is_short_or_cancelled_gives_no_tree() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[1; 1000]).unwrap();
    for (offset, length) in [(1001, None), (1, Some(1000)), (1000, None), (0, Some(0))] {
        assert!(FileTree::from_file(file.path(), offset, length, 0, &mut |_| true).is_err());
    }
    let cancelled = FileTree::from_file(file.path(), 0, None, 0, &mut |_| false);
    assert_eq!(cancelled.err(), Some(DataError::Cancelled));
    assert!(FileTreeBuilder::new(2).unwrap().finish().is_err());
    assert!(FileTreeBuilder::new(2).unwrap().update(&[0; 3]).is_err());
}

fn task(entry: &Value) -> Task {
    Task {
        miner: hash(&entry["minerId"]),
        subtask: hash(&entry["subtaskDigest"]),
        start: number(&entry["range"]["startPosition"]),
        length: number(&entry["range"]["mineLength"]),
        shard_id: number(&entry["range"]["shardId"]),
        shard_mask: number(&entry["range"]["shardMask"]),
    }
}

#[test]
fn answers_of_the_vectors_are_evaluated_to_the_bit() {
    let vectors = json(PORA);
    for entry in vectors["fixedInputs"].as_array().unwrap() {
        let mut sealed = prng(SEAL);
        let context = hash(&entry["sealedContextDigest"]);
        pora::seal(&mut sealed, &hash(&entry["minerId"]), &context, number(&entry["recallPosition"])).unwrap();
        assert_eq!(keccak::hash(&sealed), hash(&entry["sealedKeccak"]));
        let proof = hashes(&entry["merkleProof"]);
        let verdict = Answer {
            task: task(entry),
            nonce: hash(&entry["nonce"]),
            recall_position: number(&entry["recallPosition"]),
            seal_offset: number(&entry["sealOffset"]),
            sealed_context: context,
            unseal: true,
            sealed: &sealed,
            proof: &proof,
        }
        .evaluate()
        .unwrap();
        assert_eq!(verdict.hash, hash(&entry["poraHash"]));
        assert_eq!(verdict.root, hash(&entry["recoveredRoot"]));
        assert_eq!(verdict.position, number(&entry["recallPosition"]));
    }
    for entry in vectors["fixedInputs"].as_array().unwrap().iter().chain([&vectors["acceptedOnChain"]]) {
        let pad = pora::scratch_pad(&task(entry), &hash(&entry["nonce"])).unwrap();
        assert_eq!(keccak::hash(&pad.pad), hash(&entry["scratchPadKeccak"]));
        assert_eq!(pad.recall_seed, hash(&entry["recallSeed"]));
    }
}

#[test]
fn every_hit_of_a_search_is_what_the_check_computes() {
    const LOADS: u64 = 4;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let sealed = prng(LOADS as usize * SEGMENT);
    file.write_all(&sealed).unwrap();
    let task =
        Task { miner: [1; 32], subtask: [2; 32], start: 0, length: LOADS * 1024, shard_id: 0, shard_mask: u64::MAX };
    // About one try in 128 hits.
    let mut target = [0xff; 32];
    target[0] = 1;
    let opened = File::open(file.path()).unwrap();
    let search = |threads, available: Vec<u64>| {
        let (task, nonce) = (task.clone(), [7; 32]);
        Search { task, sealed: &opened, available, target, nonce, iterations: 200, threads }.run(&|| true).unwrap()
    };
    let hits = search(1, vec![u64::MAX; LOADS as usize]);
    assert!(!hits.is_empty());
    assert_eq!(hits, search(3, vec![u64::MAX; LOADS as usize]));
    for hit in &hits {
        let start = (hit.load as usize * SEGMENT) + hit.seal_offset as usize * SEAL;
        let verdict = Answer {
            task: task.clone(),
            nonce: hit.nonce,
            recall_position: hit.load * 1024 + hit.seal_offset * 16,
            seal_offset: hit.seal_offset,
            sealed_context: [0; 32],
            unseal: false,
            sealed: &sealed[start..start + SEAL],
            proof: &[],
        }
        .evaluate()
        .unwrap();
        assert_eq!((verdict.hash, verdict.position), (hit.hash, hit.load * 1024 + hit.seal_offset * 16));
        assert!(hit.hash <= target);
    }
    assert!(search(2, vec![0; LOADS as usize]).is_empty());
    assert!(search(2, vec![]).is_empty());
}
