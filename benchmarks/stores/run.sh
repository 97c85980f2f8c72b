#!/bin/sh
# Measures the stores and prints the table of benchmarks/results/stores.md.
# usage: benchmarks/stores/run.sh [--build-times] [STORE...]
set -eu
cd "$(dirname "$0")"

if [ "${1:-}" = "--build-times" ]; then
    shift
    for store in "${@:-mdbx lmdb redb fjall}"; do
        for feature in $store; do
            target=$(mktemp -d)
            # Without and with the store: the difference is its clean build.
            times=$( { /bin/sh -c 'cargo build --quiet --release --no-default-features --features "$1" --target-dir "$2" 2>/dev/null; times' _ "$feature" "$target"; } | tail -1)
            echo "$feature: processor time of a clean release build (user, system): $times"
            rm -rf "$target"
        done
    done
    exit
fi

cargo build --quiet --release
echo "load before the run: $(cut -d' ' -f1 /proc/loadavg)"
cat <<'HEAD'
| store | 1,000 transfers, deferred sync: µs processor / wall, each | 1 transfer, deferred sync: µs processor / wall | 1,000, fsync: µs wall, each | 1, fsync: ms wall | get: µs | snapshot + get: µs | snapshot + 4 gets while writing: µs median / worst | disk: MiB | confirmed commits after kill -9 |
|---|---|---|---|---|---|---|---|---|---|
HEAD
cargo run --quiet --release -- "$@"
echo "load after the run: $(cut -d' ' -f1 /proc/loadavg)"
