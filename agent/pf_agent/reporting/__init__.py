"""What reports to the outside: the journal, the metrics, a unit to start."""
