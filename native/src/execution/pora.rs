//! The check of a proof of random access as a native contract, because in bytecode it costs 500 keccak and 34 BLAKE2b
//! calls. The Solidity verifier says what it computes and takes its place on other chains.

use super::evm::{Precompile, PrecompileCall, PrecompileResult};
use crate::data::pora::{Answer, Task, MAX_PROOF, SEAL};
use crate::primitives::*;

/// 0x…0A20.
pub const PORA_ADDRESS: Address = Address::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x20]);
/// Gas of a call, and of every hash of its proof.
const BASE_GAS: u64 = 12_000;
const GAS_PER_SIBLING: u64 = 60;
/// Words in front of the sealed data.
const WORDS: usize = 11;
const HEAD: usize = WORDS * 32 + SEAL;

pub(super) struct PoraVerifier;

impl Precompile for PoraVerifier {
    fn address(&self) -> Address {
        PORA_ADDRESS
    }

    fn name(&self) -> &'static str {
        "PORA_VERIFY"
    }

    fn call(&self, call: PrecompileCall<'_, '_>) -> PrecompileResult {
        let input = call.input;
        if input.len() < HEAD || !(input.len() - HEAD).is_multiple_of(32) || (input.len() - HEAD) / 32 > MAX_PROOF {
            return PrecompileResult::Fail(format!("{} bytes are no proof of random access", input.len()));
        }
        let gas_used = BASE_GAS + GAS_PER_SIBLING * ((input.len() - HEAD) / 32) as u64;
        if gas_used > call.gas {
            return PrecompileResult::OutOfGas;
        }
        match evaluate(input) {
            Ok(output) => PrecompileResult::Return { gas_used, output },
            Err(reason) => PrecompileResult::Fail(reason),
        }
    }
}

/// Words: miner, nonce, subtask, start, length, shard id, shard mask, recall position, seal offset, sealed context,
/// flags (1: unseal); then the sealed piece and the siblings. Answers hash, recovered root, expected position.
fn evaluate(input: &[u8]) -> Result<Bytes, String> {
    let (head, _) = input[..WORDS * 32].as_chunks::<32>();
    let (proof, _) = input[HEAD..].as_chunks::<32>();
    let number = |index: usize, name: &str| {
        let value = U256::from_be_bytes(head[index]);
        u64::try_from(value).map_err(|_| format!("{name} {value} is beyond 64 bits"))
    };
    let flags = number(10, "flags")?;
    if flags > 1 {
        return Err(format!("unknown flags {flags}"));
    }
    let answer = Answer {
        task: Task {
            miner: head[0],
            subtask: head[2],
            start: number(3, "start position")?,
            length: number(4, "mining length")?,
            shard_id: number(5, "shard id")?,
            shard_mask: number(6, "shard mask")?,
        },
        nonce: head[1],
        recall_position: number(7, "recall position")?,
        seal_offset: number(8, "seal offset")?,
        sealed_context: head[9],
        unseal: flags == 1,
        sealed: &input[WORDS * 32..HEAD],
        proof,
    };
    let verdict = answer.evaluate().map_err(|failure| failure.to_string())?;
    let position = U256::from(verdict.position).to_be_bytes::<32>();
    Ok([verdict.hash, verdict.root, position].as_flattened().to_vec().into())
}
