"""What is told of an outcome, a drift or a status: sentences, diffs, fields, and JSON."""
