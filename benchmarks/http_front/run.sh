#!/bin/sh
# Builds the three fronts and loads each with wrk: single calls and batches of 100 over 16 connections, alternating,
# ROUNDS times. Prints one line per run: front, shape, calls per second, server CPU microseconds per call, peak memory.
set -eu
cd "$(dirname "$0")"
rounds=${ROUNDS:-3}
seconds=${SECONDS_PER_RUN:-4}
cargo build --release --quiet
binary=${CARGO_TARGET_DIR:-target}/release/http-front
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
call='{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}'
batch=$(python3 -c "print('[' + ','.join(['$call'] * 100) + ']')")
printf 'wrk.method="POST"\nwrk.headers["Content-Type"]="application/json"\nwrk.body=[[%s]]\n' "$call" > "$scratch/single.lua"
printf 'wrk.method="POST"\nwrk.headers["Content-Type"]="application/json"\nwrk.body=[==[%s]==]\n' "$batch" > "$scratch/batch.lua"
ticks=$(getconf CLK_TCK)
for round in $(seq "$rounds"); do
  for front in hyper axum jsonrpsee; do
    for shape in single batch; do
      port=$((18600 + round))
      "$binary" "$front" "$port" & server=$!
      until curl -s -o /dev/null -d "$call" -H 'Content-Type: application/json' "http://127.0.0.1:$port/"; do sleep 0.05; done
      wrk -t1 -c16 -d"${seconds}s" -s "$scratch/$shape.lua" "http://127.0.0.1:$port/" > "$scratch/out"
      cpu=$(awk '{print $14+$15}' "/proc/$server/stat")
      memory=$(awk '/VmHWM/{print $2}' "/proc/$server/status")
      kill "$server"; wait "$server" 2>/dev/null || true
      requests=$(awk '/requests in/{print $1}' "$scratch/out")
      rate=$(awk '/Requests\/sec/{print $2}' "$scratch/out")
      size=1; [ "$shape" = batch ] && size=100
      awk -v f="$front" -v s="$shape" -v r="$rate" -v n="$requests" -v c="$cpu" -v t="$ticks" -v z="$size" -v m="$memory" \
        'BEGIN{printf "%-10s %-7s %9.0f calls/s %7.2f us CPU/call %6.1f MiB\n", f, s, r*z, c/t*1e6/(n*z), m/1024}'
    done
  done
done
