"""What a storage node answers: `zgs_*`, `admin_*` and `miner_*` as 0G's node does, and binary transfer routes."""
