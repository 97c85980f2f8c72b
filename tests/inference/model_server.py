"""llama.cpp's own OpenAI-compatible server in a process of its own.

Never imported into the tests' process: two builds of llama.cpp there disturb each other.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SERVER = """
import sys, xllamacpp as x
p = x.CommonParams()
p.model.path, p.hostnames, p.port = sys.argv[1], ["127.0.0.1"], 0
p.n_ctx, p.n_batch, p.n_ubatch, p.n_parallel, p.n_gpu_layers = 4096, 512, 512, 2, 0
p.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
p.api_keys = [sys.argv[2]]
server = x.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def model_server(weights: Path, key: str) -> Iterator[str]:
    """Its URL; on other kernels than the embedded engine's: flash attention off, micro-batch 512."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(weights), key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "the server did not start"
        yield url
    finally:
        process.kill()
        process.wait()
