"""Who is told: the journal, the metrics, a unit."""
