"""What the farm keeps and answers: store, ledger, source index, wheel index and API."""
