"""What the ledger costs: requests, time, memory, bytes. `python -m benchmarks.ledger --help`."""
