"""Labels in: formats, the ledger, edits and splits of a Data."""
