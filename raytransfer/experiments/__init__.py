"""What each sweep runs and what it tells: from a configuration to a plan, from results to a report."""
