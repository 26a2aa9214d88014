"""How an outcome, a drift or a status is put: sentences, diffs, fields, and JSON."""
