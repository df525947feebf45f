"""Storage that pyarrow.fs reaches: what its addresses are, and what becomes of requests that fail."""
