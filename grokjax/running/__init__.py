"""A sweep as a whole: its pipeline, its processes and shards, what joins and audits them."""
