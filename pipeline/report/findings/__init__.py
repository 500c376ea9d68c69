"""What a run and cached features say about the data: likely label errors, near-duplicates, hard images."""
