"""Storage that pyarrow.fs can reach: its addresses, and repeating requests that fail."""
