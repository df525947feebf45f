"""What a sweep leaves for people."""
